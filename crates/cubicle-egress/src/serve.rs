//! The connections of the workspace: accepted, bounded in number, size and time.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, PROXY_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::activity::{Activity, Tracked};
use crate::callers::{Callers, Judged};
use crate::dial::dial;
use crate::forward::forward;
use crate::journal::Journal;
use crate::refusal::{Refusal, Rule};
use crate::room::Room;
use crate::target::Target;

/// The body of an answer.
pub(crate) type Body = BoxBody<Bytes, hyper::Error>;

/// The largest head of a request or an answer, in bytes; also what is buffered of a body.
pub(crate) const MAX_HEAD: usize = 32 << 10;

/// What is buffered per direction of a tunnel, in bytes.
const TUNNEL_BUFFER: usize = 16 << 10;

/// Connections above the limit that are told so; more are closed at once.
const TOLD_BUSY: usize = 16;

/// How much a workspace may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at a time of one workspace.
    pub(crate) connections: usize,
    /// Connections at a time of all that use this proxy.
    pub(crate) all: usize,
    /// For the head of a request to arrive, and between requests.
    pub(crate) head: Duration,
    /// Without a byte in any direction.
    pub(crate) idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, all: 256, head: Duration::from_secs(30), idle: Duration::from_secs(15 * 60) }
    }
}

impl Limits {
    /// Where many workspaces share the proxy.
    pub(crate) fn shared() -> Self {
        Self { all: 16_384, ..Self::default() }
    }
}

/// Serves for ever.
pub(crate) async fn serve(listener: TcpListener, callers: Callers, journal: Journal, limits: Limits) -> Infallible {
    let shared = Arc::new(Shared { callers, journal, limits });
    let mut served = Room::new(limits.connections, limits.all);
    let mut told = Room::new(TOLD_BUSY, limits.all.min(64 * TOLD_BUSY));
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors or memory: both come back when connections end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let peer = peer.ip().to_canonical();
        let (place, busy) = match served.take(peer) {
            Some(place) => (place, false),
            None => match told.take(peer) {
                Some(place) => (place, true),
                None => continue,
            },
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            shared.connection(stream, peer, busy).await;
            drop(place);
        });
    }
}

struct Shared {
    callers: Callers,
    journal: Journal,
    limits: Limits,
}

/// What one connection holds besides its stream. Dropping it ends all of it.
#[derive(Default)]
struct Conversation {
    /// Conversations with hosts, of plain requests.
    tasks: JoinSet<()>,
    /// The tunnel that begins when hyper hands the stream over.
    tunnel: Option<(OnUpgrade, Tracked<TcpStream>)>,
}

impl Shared {
    async fn connection(&self, stream: TcpStream, peer: IpAddr, busy: bool) {
        let activity = Activity::new();
        let idle = if busy { self.limits.head.min(Duration::from_secs(5)) } else { self.limits.idle };
        tokio::select! {
            () = self.converse(stream, peer, &activity, busy) => {}
            () = activity.silent_for(idle) => {}
        }
    }

    async fn converse(&self, stream: TcpStream, peer: IpAddr, activity: &Activity, busy: bool) {
        let conversation = Mutex::new(Conversation::default());
        let service = service_fn(async |request| {
            if self.callers.shared() && request.uri().path() == "/readyz" && request.uri().authority().is_none() {
                return Ok::<_, Infallible>(self.ready());
            }
            let refused = |workspace: Option<&str>, refusal: &Refusal| {
                self.journal.refused(workspace, refusal);
                response(refusal)
            };
            if busy {
                let reason = format!("this workspace has {} connections open already", self.limits.connections);
                return Ok(refused(None, &Refusal::without_target(Rule::Busy, reason)));
            }
            let judged = match self.callers.judge(peer, request.headers()) {
                Ok(judged) => judged,
                Err(refusal) => return Ok(refused(None, &refusal)),
            };
            let answer = self.answer(request, &judged, activity, &mut *conversation.lock().await).await;
            Ok(answer.unwrap_or_else(|refusal| refused(judged.workspace.as_deref(), &refusal)))
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(MAX_HEAD)
            .keep_alive(!busy)
            .serve_connection(TokioIo::new(activity.track(stream)), service)
            .with_upgrades()
            .await;
        if served.is_err_and(|error| error.is_parse()) {
            let reason = "the request could not be read as HTTP/1.1";
            self.journal.refused(None, &Refusal::without_target(Rule::Malformed, reason));
        }
        let tunnel = conversation.lock().await.tunnel.take();
        if let Some((upgrade, mut host)) = tunnel
            && let Ok(client) = upgrade.await
        {
            let mut client = TokioIo::new(client);
            // Either side may break it off; there is nobody left to tell.
            let _ =
                tokio::io::copy_bidirectional_with_sizes(&mut client, &mut host, TUNNEL_BUFFER, TUNNEL_BUFFER).await;
        }
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        judged: &Judged,
        activity: &Activity,
        conversation: &mut Conversation,
    ) -> Result<Response<Body>, Refusal> {
        let target = target(&request)?;
        let (stream, address) = dial(&target, &judged.policy).await?;
        self.journal.allowed(judged.workspace.as_deref(), &target, address);
        let stream = activity.track(stream);
        if request.method() == Method::CONNECT {
            conversation.tunnel = Some((hyper::upgrade::on(&mut request), stream));
            return Ok(Response::new(Empty::new().map_err(|never| match never {}).boxed()));
        }
        while conversation.tasks.try_join_next().is_some() {}
        forward(request, &target, stream, &mut conversation.tasks).await
    }

    /// Whether this proxy knows whom to serve: for whoever sends callers to it.
    fn ready(&self) -> Response<Body> {
        let (status, text) = match self.callers.ready() {
            true => (StatusCode::OK, "ready\n"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "not ready: no table of workspaces has come yet\n"),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed());
        *response.status_mut() = status;
        response
    }
}

/// What a request asks to be connected to.
fn target(request: &Request<Incoming>) -> Result<Target, Refusal> {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let (authority, default_port) = match (*request.method() == Method::CONNECT, request.uri().scheme_str(), authority)
    {
        (true, None, Some(authority)) => (authority, None),
        (false, Some("http"), Some(authority)) => (authority, Some(80)),
        (false, Some(_), Some(_)) => {
            let reason = "of absolute addresses only http:// is forwarded; https goes through CONNECT";
            return Err(Refusal::without_target(Rule::NotForAProxy, reason));
        }
        _ => return Err(Refusal::without_target(Rule::NotForAProxy, "it names no host to connect to")),
    };
    Target::parse(authority, default_port).map_err(|why| Refusal::malformed(authority, why))
}

fn response(refusal: &Refusal) -> Response<Body> {
    let body = Full::new(Bytes::from(refusal.body())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = refusal.rule.status();
    // Only texts of our own: `phrase` is a fixed table.
    if let Ok(phrase) = ReasonPhrase::try_from(refusal.rule.phrase()) {
        response.extensions_mut().insert(phrase);
    }
    let headers = response.headers_mut();
    if refusal.rule == Rule::Stranger {
        headers.insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"cubicle\""));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Ok(status) = HeaderValue::try_from(format!("cubicle; error={}", refusal.rule.proxy_error())) {
        headers.insert(HeaderName::from_static("proxy-status"), status);
    }
    response
}

#[cfg(test)]
mod tests {
    use cubicle_core::template::EgressMode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;
    use crate::config::{Config, LogDetail};

    #[tokio::test]
    async fn a_head_that_never_ends_is_ended() {
        let config = Config { mode: EgressMode::Walled, allow: Vec::new(), refused: Vec::new(), log: LogDetail::All };
        let log = Journal::new(tempfile::tempfile().expect("a file"), LogDetail::All).expect("a journal");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("its address");
        let limits = Limits { head: Duration::from_millis(300), ..Limits::default() };
        let callers = Callers::One(Arc::new(config.policy().expect("valid")));
        let server = tokio::spawn(serve(listener, callers, log, limits));
        for beginning in ["", "CONNECT 8.8.8.8:443 HTTP/1.1\r\nX: "] {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(beginning.as_bytes()).await.expect("sent");
            let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut Vec::new())).await;
            assert!(ended.is_ok(), "still open after {beginning:?}");
        }
        server.abort();
    }
}
