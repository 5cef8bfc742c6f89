//! The proxy alone, in front of an existing JupyterHub: options and REST API are those of
//! configurable-http-proxy 5 (its README and doc/rest-api.yml), what happens to a request is the
//! code that the hub uses for its workspaces.

mod dial;
mod failure;
mod forward;
mod journal;
mod redirect;
mod rest;
mod reuse;
mod table;

use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use cubicle_core::problem::Problem;
use secrecy::SecretString;

use crate::config::TlsFiles;
use crate::workers::Workers;
use crate::{server, tls};
pub use dial::Target;
use journal::Journal;
use table::Table;

/// What the proxy is told when it starts.
#[derive(Debug)]
pub struct ProxyConfig {
    /// The token that the REST API asks for; none leaves it open to whoever reaches it.
    pub token: Option<SecretString>,
    /// Where a request goes that no route is for.
    pub default_target: Option<Target>,
    /// Who is asked for the page of an error: `TARGET/404?url=...`.
    pub error_target: Option<Target>,
    /// The folder with `404.html`, `503.html` and `error.html`.
    pub error_path: Option<PathBuf>,
    /// The host is the first segment of a route.
    pub host_routing: bool,
    /// The route's own path is a part of what the target is asked.
    pub include_prefix: bool,
    /// The target's path is put before what it is asked.
    pub prepend_path: bool,
    /// `X-Forwarded-*` are added.
    pub forwarded: bool,
    /// `Host` becomes the target's.
    pub change_origin: bool,
    /// Redirects to the target's own address are led to the client's.
    pub auto_rewrite: bool,
    /// The scheme that such redirects get.
    pub protocol_rewrite: Option<String>,
    /// Headers that every forwarded request gets.
    pub custom_headers: Vec<(HeaderName, HeaderValue)>,
    /// How long a request's head may take, and how long an idle connection is kept.
    pub request_head: Duration,
    /// How long a target may take for the head of its answer.
    pub answer_head: Duration,
    /// Where routes are kept over a restart.
    pub routes_file: Option<PathBuf>,
    /// The certificate for browsers.
    pub tls: Option<TlsFiles>,
    /// The certificate of the REST API.
    pub api_tls: Option<TlsFiles>,
    /// How targets with https are asked.
    pub client_tls: Option<Arc<rustls::ClientConfig>>,
}

/// A door of plain HTTP that leads to the public one.
#[derive(Debug)]
pub struct Redirect {
    /// Where it listens.
    pub door: Door,
    /// The port of https that it leads to.
    pub port: u16,
}

/// Where to listen.
#[derive(Debug)]
pub enum Door {
    /// An address and port.
    Network(std::net::TcpListener),
    /// A Unix socket.
    Unix(StdUnixListener),
}

/// What all requests share.
pub(crate) struct Proxy {
    config: ProxyConfig,
    table: Table,
}

/// Serves until the future is dropped.
///
/// # Errors
/// When a certificate or the file of routes cannot be read, or a listener breaks.
pub async fn serve(config: ProxyConfig, public: Door, api: Door, redirect: Option<Redirect>) -> Result<(), Problem> {
    let acceptor = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let api_acceptor = config.api_tls.as_ref().map(tls::acceptor).transpose()?;
    let journal = config.routes_file.as_deref().map(Journal::open).transpose()?;
    let table = Table::new(journal, config.host_routing)?;
    if let Some(target) = &config.default_target {
        table.add("/", target.clone(), serde_json::Map::new())?;
    }
    let patience = config.request_head;
    let proxy = Arc::new(Proxy { config, table });
    let (for_public, for_api, swept) = (Arc::clone(&proxy), Arc::clone(&proxy), proxy);
    let secure = acceptor.is_some();
    let workers = Workers::one_per_processor().map_err(broken)?;
    // The API writes a file at each change, for which no connection of somebody else has to wait.
    let clerk = Workers::one().map_err(broken)?;
    let served = async {
        tokio::try_join!(
            listen(public, acceptor, patience, &workers, move |client, request| {
                forward::answer(Arc::clone(&for_public), client, secure, request)
            }),
            listen(api, api_acceptor, patience, &clerk, move |_, request| rest::answer(Arc::clone(&for_api), request)),
            lead(redirect, patience),
        )
    };
    tokio::select! {
        served = served => served.map(|_| ()),
        never = swept.table.sweep() => match never {},
    }
}

fn broken(error: std::io::Error) -> Problem {
    Problem::engine(format!("a listener of the proxy: {error}"), "start it again")
}

/// Leads from plain HTTP to https, where that is asked for.
async fn lead(redirect: Option<Redirect>, patience: Duration) -> Result<(), Problem> {
    let Some(Redirect { door, port }) = redirect else { return Ok(()) };
    listen(door, None, patience, &Workers::here(), move |_, request| {
        std::future::ready(redirect::answer(port, &request))
    })
    .await
}

/// Answers on one door. The address is none behind a Unix socket.
async fn listen<A, F>(
    door: Door,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    patience: Duration,
    workers: &Workers,
    answer: A,
) -> Result<(), Problem>
where
    A: Fn(Option<std::net::SocketAddr>, axum::http::Request<hyper::body::Incoming>) -> F
        + Clone
        + Send
        + Sync
        + 'static,
    F: Future<Output = axum::http::Response<axum::body::Body>> + Send + 'static,
{
    match door {
        Door::Network(listener) => {
            listener.set_nonblocking(true).map_err(broken)?;
            let listener = tokio::net::TcpListener::from_std(listener).map_err(broken)?;
            server::accept(listener, acceptor, patience, workers, move |peer, request| answer(Some(peer), request))
                .await;
        }
        Door::Unix(listener) => {
            listener.set_nonblocking(true).map_err(broken)?;
            let listener = tokio::net::UnixListener::from_std(listener).map_err(broken)?;
            let room = Arc::new(tokio::sync::Semaphore::new(server::MOST_CONNECTIONS));
            let mut connections = tokio::task::JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let answer = answer.clone();
                connections.spawn(async move {
                    let _held = permit;
                    server::connection(stream, patience, move |request| answer(None, request)).await;
                });
            }
        }
    }
    Ok(())
}
