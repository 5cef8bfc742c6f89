//! Where a route leads, and how to get there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use cubicle_core::problem::Problem;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::table::decoded;

/// How long a connection to a target may take to stand.
const CONNECT: Duration = Duration::from_secs(10);

/// A server to which requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As it was given; the REST API shows it so.
    text: String,
    place: Place,
    /// The path and query, which begin with a slash.
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Network { host: String, port: u16, secure: bool },
    Unix(PathBuf),
}

/// Both directions of a connection to a target.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl FromStr for Target {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let shown: String = text.chars().take(200).flat_map(char::escape_default).collect();
        let refuse = || {
            Problem::bad_input(
                format!("\"{shown}\" is not a target"),
                "write http://HOST[:PORT][/PATH], https://..., or http+unix://%2Fpath%2Fof%2Fsocket",
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(refuse)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            "http+unix" | "unix+http" => {
                let socket = decoded(authority).filter(|socket| socket.starts_with('/')).ok_or_else(refuse)?;
                return Ok(Self { text: text.to_owned(), place: Place::Unix(socket.into_owned().into()), path });
            }
            _ => return Err(refuse()),
        };
        let parsed: Uri = format!("http://{authority}{path}").parse().map_err(|_| refuse())?;
        let host = parsed.host().filter(|host| !host.is_empty()).ok_or_else(refuse)?;
        if authority.contains('@') {
            return Err(refuse());
        }
        // A port that is written and not one would otherwise become the default.
        let port = match authority.rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => port.parse().map_err(|_| refuse())?,
            _ if secure => 443,
            _ => 80,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { text: text.to_owned(), place: Place::Network { host, port, secure }, path })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Target {
    /// The path without a slash at its end.
    pub(super) fn path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default().trim_end_matches('/')
    }

    /// What belongs into `Host` for it.
    pub(super) fn host(&self) -> String {
        match &self.place {
            Place::Unix(_) => "localhost".to_owned(),
            Place::Network { host, port, secure } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                if *port == if *secure { 443 } else { 80 } { host } else { format!("{host}:{port}") }
            }
        }
    }

    /// The server without the path: what a connection leads to.
    pub(super) fn server(&self) -> &str {
        self.text.strip_suffix(self.path.as_str()).unwrap_or(&self.text)
    }

    /// Connects.
    pub(super) async fn connect(&self, tls: Option<&Arc<rustls::ClientConfig>>) -> std::io::Result<Box<dyn Stream>> {
        let late = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection in time");
        match &self.place {
            Place::Unix(path) => {
                let stream = tokio::time::timeout(CONNECT, UnixStream::connect(path)).await.map_err(late)??;
                Ok(Box::new(stream))
            }
            Place::Network { host, port, secure } => {
                let connect = TcpStream::connect((host.as_str(), *port));
                let stream = tokio::time::timeout(CONNECT, connect).await.map_err(late)??;
                let _ = stream.set_nodelay(true);
                if !secure {
                    return Ok(Box::new(stream));
                }
                let config =
                    tls.ok_or_else(|| std::io::Error::other("no certificates to check an https target with"))?;
                let name = ServerName::try_from(host.clone()).map_err(std::io::Error::other)?;
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
                let stream = tokio::time::timeout(CONNECT, connector.connect(name, stream)).await.map_err(late)??;
                Ok(Box::new(stream))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_servers_and_nothing_else() {
        let parsed = |text: &str| text.parse::<Target>().map(|target| (target.host(), target.path().to_owned()));
        assert_eq!(parsed("http://127.0.0.1:8081").expect("one"), ("127.0.0.1:8081".into(), String::new()));
        assert_eq!(parsed("https://host/a/?x").expect("one"), ("host".into(), "/a".into()));
        assert_eq!(parsed("http://[::1]:1/").expect("one"), ("[::1]:1".into(), String::new()));
        assert_eq!(parsed("http+unix://%2Frun%2Fa/b").expect("one"), ("localhost".into(), "/b".into()));
        for text in [
            "",
            "host",
            "/a",
            "http://",
            "http:///a",
            "ftp://a",
            "http://a:b",
            "http://a:99999",
            "http+unix://a",
            "http://a b/",
            "http://u:p@a/",
            "http://a\r\n/",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
