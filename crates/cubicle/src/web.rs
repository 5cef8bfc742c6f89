//! A hub elsewhere: its address, one's token, and the connection to it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cubicle_core::problem::Problem;
use hyper::Uri;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use secrecy::SecretString;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a connection may take, TLS included.
const PATIENCE: Duration = Duration::from_secs(20);

/// A hub elsewhere, and whom it knows us as.
#[derive(Debug)]
pub(crate) struct Site {
    secure: bool,
    host: String,
    port: u16,
    authority: String,
    token: SecretString,
}

/// A connection to a hub.
pub(crate) enum Stream {
    /// Over loopback.
    Plain(TcpStream),
    /// Over a network.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Site {
    /// Reads `CUBICLE_URL`. Plain http is refused but over loopback, where `ssh -L` ends: whoever
    /// is on the way would have the token.
    pub(crate) fn new(url: &str, token: SecretString) -> Result<Self, Problem> {
        let refuse = |why: &str| {
            let shown: String = url.chars().take(100).flat_map(char::escape_default).collect();
            Problem::bad_input(
                format!("CUBICLE_URL \"{shown}\" {why}"),
                "set it to the hub's address, for example https://hub.example.org",
            )
        };
        let uri: Uri = url.parse().map_err(|_| refuse("is not an address"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse("begins with neither https:// nor http://")),
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(refuse("is not the address of a hub alone"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(refuse("holds a user name or password"));
        }
        let loopback = host == "localhost"
            || host.ends_with(".localhost")
            || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if !secure && !loopback {
            return Err(refuse("would send your token unencrypted through the network"));
        }
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Self { secure, host, port, authority, token })
    }

    /// The address, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.authority)
    }

    /// Host and port as the address has them.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The token.
    pub(crate) fn token(&self) -> &SecretString {
        &self.token
    }

    /// Connects, and with https also authenticates the hub by the machine's certificates.
    pub(crate) async fn connect(&self) -> Result<Stream, Problem> {
        let failed = |error: &dyn std::fmt::Display| {
            Problem::engine(
                format!("the hub at {} cannot be connected: {error}", self.url()),
                "check CUBICLE_URL and that the hub runs there",
            )
        };
        let connect = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| failed(&error))?;
            if !self.secure {
                return Ok(Stream::Plain(stream));
            }
            let name = ServerName::try_from(self.host.clone()).map_err(|error| failed(&error))?;
            let connector = TlsConnector::from(Arc::new(configuration().map_err(|error| failed(&error))?));
            let stream = connector.connect(name, stream).await.map_err(|error| failed(&error))?;
            Ok(Stream::Tls(Box::new(stream)))
        };
        tokio::time::timeout(PATIENCE, connect)
            .await
            .map_err(|_| failed(&format!("no answer within {} seconds", PATIENCE.as_secs())))?
    }
}

fn configuration() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_crosses_a_network_in_the_clear() {
        let site = |url: &str| Site::new(url, SecretString::from("t")).map(|site| site.url());
        assert_eq!(site("https://hub.example.org/").expect("good"), "https://hub.example.org");
        assert_eq!(site("http://localhost:8000").expect("good"), "http://localhost:8000");
        assert_eq!(site("http://[::1]:8000").expect("good"), "http://[::1]:8000");
        for url in [
            "http://hub.example.org",
            "http://127.0.0.1.example.org",
            "ftp://hub.example.org",
            "hub.example.org",
            "https://",
            "https://hub.example.org/path",
            "https://hub.example.org?x",
            "https://user:word@hub.example.org",
            "",
        ] {
            assert!(site(url).is_err(), "{url}");
        }
    }
}
