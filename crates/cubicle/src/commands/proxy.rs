//! `cubicle proxy`

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cubicle_core::problem::Problem;
use cubicle_hub::TlsFiles;
use cubicle_hub::standalone::{self, Door, ProxyConfig, Redirect, Target};
use hyper::header::{HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;

use crate::context::Context;
use crate::exit::Outcome;
use crate::{hub_process, trace};

/// Run the proxy alone, in place of configurable-http-proxy
///
/// Options and REST API are those of configurable-http-proxy 5; called by that name it is this
/// command. CONFIGPROXY_AUTH_TOKEN is the API's token. What it does not have is refused, not
/// ignored: --ssl-ca and client certificates on its doors, --ssl-ciphers and the like,
/// --insecure, --storage-backend, metrics.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  CONFIGPROXY_AUTH_TOKEN=... cubicle proxy --port 8000 --api-port 8001 \\\n    --default-target http://127.0.0.1:8081 --routes routes.jsonl"
)]
pub(crate) struct Arguments {
    /// The public address [default: all]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "socket")]
    ip: Option<String>,
    /// The public port
    #[arg(long, value_name = "PORT", default_value_t = 8000, conflicts_with = "socket")]
    port: u16,
    /// A Unix socket instead of the public address and port
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The API's address
    #[arg(long, value_name = "ADDRESS", default_value = "localhost")]
    api_ip: String,
    /// The API's port [default: the public one and 1]
    #[arg(long, value_name = "PORT")]
    api_port: Option<u16>,
    /// A Unix socket instead of the API's address and port
    #[arg(long, value_name = "PATH", conflicts_with = "api_port")]
    api_socket: Option<PathBuf>,
    /// The key for https, PEM
    #[arg(long, value_name = "FILE", requires = "ssl_cert")]
    ssl_key: Option<PathBuf>,
    /// The certificate for https, PEM
    #[arg(long, value_name = "FILE", requires = "ssl_key")]
    ssl_cert: Option<PathBuf>,
    /// A port for plain HTTP that leads to https
    #[arg(long, value_name = "PORT", requires = "ssl_cert")]
    redirect_port: Option<u16>,
    /// The port of https that it leads to [default: the public one]
    #[arg(long, value_name = "PORT", requires = "redirect_port")]
    redirect_to: Option<u16>,
    /// The key of the API, PEM
    #[arg(long, value_name = "FILE", requires = "api_ssl_cert")]
    api_ssl_key: Option<PathBuf>,
    /// The certificate of the API, PEM
    #[arg(long, value_name = "FILE", requires = "api_ssl_key")]
    api_ssl_cert: Option<PathBuf>,
    /// The key that targets with https are shown, PEM
    #[arg(long, value_name = "FILE", requires = "client_ssl_cert")]
    client_ssl_key: Option<PathBuf>,
    /// The certificate that targets with https are shown, PEM
    #[arg(long, value_name = "FILE", requires = "client_ssl_key")]
    client_ssl_cert: Option<PathBuf>,
    /// Who may vouch for targets with https, PEM [default: the system's authorities]
    #[arg(long, value_name = "FILE")]
    client_ssl_ca: Option<PathBuf>,
    /// Where requests go that no route is for
    #[arg(long, value_name = "URL")]
    default_target: Option<Target>,
    /// A server of error pages: URL/404?url=...
    #[arg(long, value_name = "URL", conflicts_with = "error_path")]
    error_target: Option<Target>,
    /// A folder of error pages: 404.html, 503.html, error.html
    #[arg(long, value_name = "FOLDER")]
    error_path: Option<PathBuf>,
    /// Write the process id into this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Add no X-Forwarded- headers
    #[arg(long)]
    no_x_forward: bool,
    /// Leave a target's path out of what it is asked
    #[arg(long)]
    no_prepend_path: bool,
    /// Leave a route's own path out of what its target is asked
    #[arg(long)]
    no_include_prefix: bool,
    /// Lead redirects to a target's address to the client's
    #[arg(long)]
    auto_rewrite: bool,
    /// Host becomes the target's
    #[arg(long)]
    change_origin: bool,
    /// The scheme of redirects to a target's address
    #[arg(long, value_name = "SCHEME", value_parser = ["http", "https"])]
    protocol_rewrite: Option<String>,
    /// A header that every target gets; may be given again
    #[arg(long, value_name = "NAME:VALUE", value_parser = header)]
    custom_header: Vec<(HeaderName, HeaderValue)>,
    /// The host is the first segment of a route
    #[arg(long)]
    host_routing: bool,
    /// What is logged
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["debug", "info", "warn", "error"])]
    log_level: String,
    /// How long a client waits for a target, in milliseconds
    #[arg(long, value_name = "N")]
    timeout: Option<u64>,
    /// How long a target may take for the head of its answer, in milliseconds [default: an hour]
    #[arg(long, value_name = "N")]
    proxy_timeout: Option<u64>,
    /// How long a request's head may take, and an idle connection is kept, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    keep_alive_timeout: u64,
    /// Keep routes in this file over a restart
    #[arg(long, value_name = "FILE")]
    routes: Option<PathBuf>,
}

/// The longest that a target may take for the head of its answer.
const ANSWER_HEAD: u64 = 3_600_000;

impl Arguments {
    pub(crate) fn run(self, _: &Context) -> Result<Outcome, Problem> {
        trace::start_at(&self.log_level);
        hub_process::allow_many_files();
        let token = std::env::var("CONFIGPROXY_AUTH_TOKEN").ok().filter(|token| !token.is_empty());
        let public = match &self.socket {
            Some(path) => unix(path)?,
            None => network("--port", self.ip.as_deref().unwrap_or(""), self.port)?,
        };
        let api = match &self.api_socket {
            Some(path) => unix(path)?,
            None => {
                let next = self.port.checked_add(1).unwrap_or(8001);
                network("--api-port", &self.api_ip, self.api_port.unwrap_or(next))?
            }
        };
        let redirect = match self.redirect_port {
            None => None,
            Some(plain) => Some(Redirect {
                door: network("--redirect-port", self.ip.as_deref().unwrap_or(""), plain)?,
                port: self.redirect_to.unwrap_or(self.port),
            }),
        };
        if token.is_none() {
            let near = match &api {
                Door::Network(listener) => listener.local_addr().is_ok_and(|address| address.ip().is_loopback()),
                Door::Unix(_) => true,
            };
            if !near {
                return Err(Problem::bad_input(
                    "the API would change routes for anybody who reaches it: CONFIGPROXY_AUTH_TOKEN is not set",
                    "set it to the token that the hub has, or leave --api-ip at localhost",
                ));
            }
            tracing::warn!("CONFIGPROXY_AUTH_TOKEN is not set: everybody on this machine may change routes");
        }
        if let Some(path) = &self.pid_file {
            std::fs::write(path, std::process::id().to_string()).map_err(|error| {
                Problem::bad_input(format!("--pid-file {}: {error}", path.display()), "name another file")
            })?;
        }
        // For the API and what is seldom; requests are answered by threads of their own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
            Problem::engine(format!("no runtime: {error}"), "check the limits of this shell (`ulimit -a`)")
        })?;
        let pid_file = self.pid_file.clone();
        let config = self.config(token.map(SecretString::from))?;
        let served = runtime.block_on(async {
            tokio::select! {
                served = standalone::serve(config, public, api, redirect) => served,
                stopped = stopped() => stopped,
            }
        });
        if let Some(path) = pid_file {
            let _ = std::fs::remove_file(path);
        }
        // What is open is closed: nobody waits for a WebSocket.
        runtime.shutdown_background();
        served.map(|()| Outcome::Done)
    }

    fn config(self, token: Option<SecretString>) -> Result<ProxyConfig, Problem> {
        let files = |certificate: Option<PathBuf>, key: Option<PathBuf>| {
            certificate.zip(key).map(|(certificate, key)| TlsFiles { certificate, key })
        };
        let client_tls = client_tls(self.client_ssl_ca.as_deref(), self.client_ssl_cert.zip(self.client_ssl_key))?;
        let patience = [self.timeout, self.proxy_timeout].into_iter().flatten().filter(|patience| *patience > 0).min();
        Ok(ProxyConfig {
            token,
            default_target: self.default_target,
            error_target: self.error_target,
            error_path: self.error_path,
            host_routing: self.host_routing,
            include_prefix: !self.no_include_prefix,
            prepend_path: !self.no_prepend_path,
            forwarded: !self.no_x_forward,
            change_origin: self.change_origin,
            auto_rewrite: self.auto_rewrite,
            protocol_rewrite: self.protocol_rewrite,
            custom_headers: self.custom_header,
            request_head: Duration::from_millis(self.keep_alive_timeout.max(1)),
            answer_head: Duration::from_millis(patience.unwrap_or(ANSWER_HEAD)),
            routes_file: self.routes,
            tls: files(self.ssl_cert, self.ssl_key),
            api_tls: files(self.api_ssl_cert, self.api_ssl_key),
            client_tls: Some(client_tls),
        })
    }
}

/// Ends when the process is told to.
async fn stopped() -> Result<(), Problem> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Problem::engine(format!("no signals: {error}"), "start it again");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written NAME:VALUE")?;
    let name = name.trim().parse().map_err(|_| "this is not the name of a header")?;
    let value = value.trim().parse().map_err(|_| "this is not the value of a header")?;
    Ok((name, value))
}

fn network(option: &str, address: &str, port: u16) -> Result<Door, Problem> {
    let bound = match address {
        // Both families where the machine has both.
        "" | "*" => TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))),
        address => TcpListener::bind((address, port)),
    };
    bound.map(Door::Network).map_err(|error| {
        Problem::bad_input(format!("{option}: {address}:{port} cannot be listened on: {error}"), "choose another")
    })
}

fn unix(path: &Path) -> Result<Door, Problem> {
    let failed = |error: std::io::Error| {
        Problem::bad_input(format!("the socket {} cannot be made: {error}", path.display()), "name another path")
    };
    // A socket that nobody answers on is left over; anything else is not ours to remove.
    let left_over = std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    if left_over {
        std::fs::remove_file(path).map_err(failed)?;
    }
    UnixListener::bind(path).map(Door::Unix).map_err(failed)
}

/// How targets with https are asked: their certificates are always checked.
fn client_tls(
    authorities: Option<&Path>,
    own: Option<(PathBuf, PathBuf)>,
) -> Result<Arc<rustls::ClientConfig>, Problem> {
    let refuse = |path: &Path, why: &dyn std::fmt::Display| {
        Problem::bad_input(format!("{}: {why}", path.display()), "give PEM files, the key unencrypted")
    };
    let chain = |path: &Path| -> Result<Vec<CertificateDer<'static>>, Problem> {
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| refuse(path, &error))
    };
    let mut roots = rustls::RootCertStore::empty();
    match authorities {
        Some(path) => {
            for certificate in chain(path)? {
                roots.add(certificate).map_err(|error| refuse(path, &error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let failed = |error: rustls::Error| Problem::engine(format!("TLS cannot be set up: {error}"), "");
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(&key).map_err(|error| refuse(&key, &error))?;
            builder.with_client_auth_cert(chain(&certificate)?, private).map_err(|error| refuse(&key, &error))?
        }
    };
    Ok(Arc::new(config))
}
