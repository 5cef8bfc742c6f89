//! WebSockets: after a checked handshake the bytes pass as they are.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::frames::Frames;
use crate::fetch;

/// How long both sides have to finish a handshake that was promised with 101.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes that are copied at once.
const CHUNK: usize = 16 << 10;

/// The headers of a 101 answer that mean something to the browser (RFC 6455, 4.2.2).
const HANDSHAKE_HEADERS: [&str; 3] = ["sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions"];

/// Takes the browser's side out of a request, if it asks for a WebSocket.
pub(crate) fn browser_side(request: &mut Request<Body>) -> Option<OnUpgrade> {
    fetch::is_websocket(request.headers()).then(|| hyper::upgrade::on(request))
}

/// What is done while a spliced connection lives.
pub(crate) struct Hold<M, E> {
    /// Whether `on_message` is for messages alone; otherwise a browser's pong counts too.
    pub(crate) messages_only: bool,
    /// Called for every read of what the browser sends.
    pub(crate) on_message: M,
    /// Ends it.
    pub(crate) ending: E,
}

/// Connects both sides and answers 101; nothing when the notebook's 101 is not for a WebSocket.
pub(crate) fn splice<M, E>(
    browser: OnUpgrade,
    mut answer: Response<Incoming>,
    hold: Hold<M, E>,
) -> Option<Response<Body>>
where
    M: Fn() + Send + Sync + 'static,
    E: Future<Output = ()> + Send + 'static,
{
    if !fetch::is_websocket(answer.headers()) {
        return None;
    }
    let mut head = Response::new(Body::empty());
    *head.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    head.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    head.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    for name in HANDSHAKE_HEADERS {
        if let Some(value) = answer.headers().get(name) {
            head.headers_mut().insert(name, value.clone());
        }
    }
    let notebook = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        let sides = tokio::time::timeout(HANDSHAKE, async { tokio::try_join!(browser, notebook) }).await;
        let Ok(Ok((browser, notebook))) = sides else { return };
        let _open = cubicle_metrics::hub::websocket_opens();
        let (browser_read, browser_write) = tokio::io::split(TokioIo::new(browser));
        let (notebook_read, notebook_write) = tokio::io::split(TokioIo::new(notebook));
        let watched = hold.messages_only.then(Frames::default);
        tokio::select! {
            // Either side closing closes both: a half-open WebSocket carries nothing.
            () = copy(browser_read, notebook_write, watched, hold.on_message) => {}
            () = copy(notebook_read, browser_write, None, || ()) => {}
            () = hold.ending => {}
        }
    });
    Some(head)
}

/// Copies until one side closes; calls `on_message` for every read, or with `frames` for every one
/// that holds a data frame's beginning.
async fn copy(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut frames: Option<Frames>,
    on_message: impl Fn(),
) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if frames.as_mut().is_none_or(|frames| frames.take(&buffer[..count])) {
            on_message();
        }
        if to.write_all(&buffer[..count]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    // The other side's last bytes are already written; a clean end tells it so.
    let _ = to.shutdown().await;
}
