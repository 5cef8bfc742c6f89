//! Listening: one TCP listener for browsers, one Unix socket for the machine's administrator.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use cubicle_core::engine::Engine;
use cubicle_core::problem::{Problem, ProblemKind};
use futures::FutureExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::config::HubConfig;
use crate::crowd::Crowd;
use crate::hub::{Caller, Hub};
use crate::identity::Arrival;
use crate::origin::Place;
use crate::proxy::{self, Visit};
use crate::workers::Workers;
use crate::{api, http2, portal, problem, routes, tls};

/// How many connections are open at once, and how many of them from one address other than this
/// machine's own, behind which everybody may be.
pub(crate) const MOST_CONNECTIONS: usize = 4096;
const MOST_PER_ADDRESS: usize = 256;
/// The largest head of a request, in bytes. The most header lines in it are hyper's 100.
pub(crate) const MOST_HEAD: usize = 64 << 10;

/// Serves until the future is dropped. Dropping it closes everything.
///
/// `listener` is for browsers; `admin` is a Unix socket on which only the configured uids are answered
/// (by `SO_PEERCRED`), with the same API and no cookies.
///
/// # Errors
/// When the configuration contradicts itself, the database cannot be opened, or a listener breaks.
pub async fn serve(
    config: HubConfig,
    engine: Arc<dyn Engine>,
    listener: std::net::TcpListener,
    admin: StdUnixListener,
) -> Result<(), Problem> {
    let broken = |error: std::io::Error| Problem::engine(format!("the hub's listener: {error}"), "start the hub again");
    let address = listener.local_addr().map_err(broken)?;
    let acceptor = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let hub = Arc::new(Hub::new(&config, engine, address)?);
    listener.set_nonblocking(true).map_err(broken)?;
    admin.set_nonblocking(true).map_err(broken)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(broken)?;
    let admin = tokio::net::UnixListener::from_std(admin).map_err(broken)?;
    tracing::info!(%address, origin = %hub.origins.hub(None), "the hub listens");
    tokio::select! {
        () = browsers(Arc::clone(&hub), listener, acceptor) => {}
        () = administrators(Arc::clone(&hub), admin, config.administrators) => {}
        () = Arc::clone(&hub).tell_metrics(config.metrics.clone()) => {}
        () = hub.follow_others(&config.records) => {}
        () = Arc::clone(&hub).keep_house() => {}
    }
    Ok(())
}

async fn browsers(hub: Arc<Hub>, listener: tokio::net::TcpListener, acceptor: Option<tokio_rustls::TlsAcceptor>) {
    let (router, contract) = (routes::router(Arc::clone(&hub)), portal::router(Arc::clone(&hub)));
    let patience = hub.timing.request_head;
    accept(listener, acceptor, patience, &Workers::here(), move |peer, request| {
        dispatch(Arc::clone(&hub), [router.clone(), contract.clone()], peer, request)
    })
    .await;
}

/// Accepts connections and answers their requests, within bounds, until the listener is of no use.
pub(crate) async fn accept<A, F>(
    listener: tokio::net::TcpListener,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    patience: Duration,
    workers: &Workers,
    answer: A,
) where
    A: Fn(SocketAddr, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let crowd = Crowd::new(MOST_PER_ADDRESS);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(guest) = crowd.enter(peer.ip()) else {
            tracing::debug!(%peer, "too many connections from one address");
            continue;
        };
        let (answer, acceptor) = (answer.clone(), acceptor.clone());
        let _ = stream.set_nodelay(true);
        let Ok(stream) = stream.into_std() else { continue };
        let answered = async move {
            let _held = (permit, guest);
            // Its events come to the runtime of whoever takes it over.
            let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
            let answer = move |request| answer(peer, request);
            match acceptor {
                None => connection(stream, patience, answer).await,
                Some(acceptor) => match tokio::time::timeout(patience, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(http2::PROTOCOL) => {
                        http2::connection(stream, patience, answer).await;
                    }
                    Ok(Ok(stream)) => connection(stream, patience, answer).await,
                    _ => tracing::debug!(%peer, "a TLS handshake failed"),
                },
            }
        };
        connections.spawn_on(answered, workers.next());
    }
}

async fn administrators(hub: Arc<Hub>, listener: tokio::net::UnixListener, uids: Vec<u32>) {
    let counted = Arc::clone(&hub);
    let metrics = axum::routing::get(async move || counted.metrics().await);
    let router = api::router(Arc::clone(&hub)).route("/metrics", metrics).fallback(api::no_such_route);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the administrator's socket was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let root = stream.peer_cred().is_ok_and(|peer| uids.contains(&peer.uid()));
        let (router, patience) = (router.clone(), hub.timing.request_head);
        connections.spawn(async move {
            let answer = move |mut request: Request<Incoming>| {
                let router = router.clone();
                async move {
                    if !root {
                        return problem::json(
                            StatusCode::FORBIDDEN,
                            &Problem::new(ProblemKind::NotAllowed, "only root is answered on this socket", "use sudo"),
                        );
                    }
                    request.extensions_mut().insert(Caller::Root);
                    routed(router, request).await
                }
            };
            connection(stream, patience, answer).await;
        });
    }
}

/// Serves one connection. `patience` bounds the time for a request's head, which is also how
/// long an idle connection is kept.
pub(crate) async fn connection<S, A, F>(stream: S, patience: Duration, answer: A)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send,
{
    let service = service_fn(move |request| {
        let answer = answer.clone();
        async move { caught(answer(request)).await }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

/// The answer, also when what should give one fails.
pub(crate) async fn caught(answer: impl Future<Output = Response<Body>>) -> Result<Response<Body>, Infallible> {
    let caught = AssertUnwindSafe(answer).catch_unwind().await;
    Ok(caught.unwrap_or_else(|_| {
        tracing::error!("a handler panicked");
        problem::json(
            StatusCode::INTERNAL_SERVER_ERROR,
            &Problem::engine("the hub failed on this request", "this is a bug; please report it"),
        )
    }))
}

async fn routed(router: Router, request: Request<Incoming>) -> Response<Body> {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The client's address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub(crate) IpAddr);

/// The client's address where there is one: none on the administrator's socket.
pub(crate) struct Address(pub(crate) Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for Address {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<Client>().map(|Client(address)| *address)))
    }
}

/// The `Host` that the client used, checked to be the hub's.
#[derive(Debug, Clone)]
pub(crate) struct Host(pub(crate) String);

/// Answers a request, and counts it.
async fn dispatch(hub: Arc<Hub>, routers: [Router; 2], peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let _open = cubicle_metrics::hub::request_begins();
    let (began, method) = (std::time::Instant::now(), request.method().clone());
    let response = answer(hub, routers, peer, request).await;
    let route = response.extensions().get::<Answering>();
    let route = route.map_or("(none)", |Answering(route)| route.as_ref());
    cubicle_metrics::hub::answered(method.as_str(), route, response.status().as_u16(), began.elapsed());
    response
}

/// Which template of a route has answered; travels with the answer.
#[derive(Debug, Clone)]
struct Answering(Cow<'static, str>);

/// Notes which route answers. A layer of routers: there the route is known.
pub(crate) async fn note_route(request: axum::extract::Request, next: axum::middleware::Next) -> Response<Body> {
    let matched = request.extensions().get::<axum::extract::MatchedPath>();
    let route = matched.map(|path| Answering(Cow::Owned(path.as_str().to_owned())));
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// Decides by the host who answers: the hub, a portal's contract or a workspace.
async fn answer(
    hub: Arc<Hub>,
    [router, contract]: [Router; 2],
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let headers = request.headers();
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        // RFC 9112, 6.1: somebody on the way may have read another request than we do.
        let what = "the request has both Content-Length and Transfer-Encoding";
        let mut refused = problem::json(StatusCode::BAD_REQUEST, &Problem::bad_input(what, "send one of them"));
        refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return refused;
    }
    let probe = matches!(request.uri().path(), "/healthz" | "/readyz");
    let place = host(&request).and_then(|host| Some((hub.origins.place(&host)?, host)));
    let client = match arrival(&hub, peer, &mut request) {
        Ok(client) => client,
        Err(problem) => {
            tracing::info!(%peer, why = %problem, "a request was refused");
            return problem::json(StatusCode::UNAUTHORIZED, &problem);
        }
    };
    if portal::names_somebody(request.headers()) && !matches!(place, Some((Place::Portal, _))) {
        return problem::json(
            StatusCode::UNAUTHORIZED,
            &Problem::new(
                ProblemKind::NotAllowed,
                "the request says by REMOTE_USER who its user is, and nobody is believed by it here",
                "sign in, or send a token; a front's REMOTE_USER is taken on a portal's origin, beside its token",
            ),
        );
    }
    match place {
        Some((Place::Portal, host)) => {
            request.extensions_mut().insert(Client(client));
            request.extensions_mut().insert(Host(host));
            routed(contract, request).await
        }
        Some((Place::Workspace(workspace), host)) => {
            let visit = Visit { workspace, host, client };
            let mut response = proxy::serve(hub, visit, request.map(Body::new)).await;
            response.extensions_mut().insert(Answering(Cow::Borrowed("(workspace)")));
            response
        }
        Some((Place::Hub, host)) => {
            request.extensions_mut().insert(Client(client));
            request.extensions_mut().insert(Host(host));
            routed(router, request).await
        }
        // Whoever watches over the hub's health may know it by address only.
        None if probe => {
            request.extensions_mut().insert(Client(client));
            request.extensions_mut().insert(Host("localhost".to_owned()));
            routed(router, request).await
        }
        None => problem::json(
            StatusCode::MISDIRECTED_REQUEST,
            &Problem::bad_input(
                "the Host of this request is neither the hub nor a workspace",
                "use the address that the hub printed when it started, or set CUBICLE_URL",
            ),
        ),
    }
}

/// The client's address, with what a front says of it, and of who it is, taken off the request.
fn arrival(hub: &Hub, peer: SocketAddr, request: &mut Request<Incoming>) -> Result<IpAddr, Problem> {
    let Some(front) = &hub.identities.front else { return Ok(peer.ip()) };
    let Some(Arrival { word, client }) = front.take(request.headers_mut())? else { return Ok(peer.ip()) };
    request.extensions_mut().insert(word);
    Ok(client.unwrap_or(peer.ip()))
}

/// The one host that a request names. A request that names two is nobody's (RFC 9112, 3.2).
fn host(request: &Request<Incoming>) -> Option<String> {
    let given = |headers: &HeaderMap| {
        let mut values = headers.get_all(header::HOST).iter();
        let first = values.next()?.to_str().ok()?.to_owned();
        values.next().is_none().then_some(first)
    };
    let host = given(request.headers())?;
    match request.uri().authority() {
        Some(authority) if !authority.as_str().eq_ignore_ascii_case(&host) => None,
        _ => Some(host),
    }
}
