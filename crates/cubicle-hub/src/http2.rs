//! HTTP/2 for browsers over TLS: one connection for all that a page of JupyterLab asks at once.
//!
//! What answers sees requests as HTTP/1.1 has them, with `Host`. WebSockets come over connections of their
//! own: extended CONNECT (RFC 8441) is not offered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::server;

/// The name by which TLS offers it (RFC 9113, 3.2).
pub(crate) const PROTOCOL: &[u8] = b"h2";
/// How many requests one connection may have at once.
const MOST_STREAMS: u32 = 64;
/// How long a client may take to say that it is there.
const ALIVE: Duration = Duration::from_secs(20);

/// Which requests a connection has. HTTP/2 knows no time for a request's head: a connection
/// without a request is idle, whatever it sends.
#[derive(Clone)]
struct Requests(Arc<Mutex<(usize, Instant)>>);

/// One request, from its head to the last byte of its answer.
struct Open(Requests);

impl Requests {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((0, Instant::now()))))
    }

    fn open(&self) -> Open {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        Open(self.clone())
    }

    /// Returns once there was none for so long.
    async fn none_for(&self, patience: Duration) {
        loop {
            let (open, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let left = if open > 0 { patience } else { patience.saturating_sub(since.elapsed()) };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut requests = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *requests = (requests.0 - 1, Instant::now());
    }
}

/// Serves one connection; it is closed once it had no request for `patience`.
pub(crate) async fn connection<S, A, F>(stream: S, patience: Duration, answer: A)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let requests = Requests::new();
    let counted = requests.clone();
    let service = service_fn(move |request| {
        let open = counted.open();
        let answer = answer.clone();
        async move {
            let response = server::caught(answer(as_http1(request))).await?;
            Ok::<_, std::convert::Infallible>(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _held = &open;
                    frame
                }))
            }))
        }
    });
    let most_head = u32::try_from(server::MOST_HEAD).unwrap_or(u32::MAX);
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(most_head)
        .keep_alive_interval(Some(patience))
        .keep_alive_timeout(ALIVE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = requests.none_for(patience) => {
            // It says so to the client, which may have sent a request just now.
            served.as_mut().graceful_shutdown();
            tokio::time::timeout(ALIVE, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// The request with the headers that HTTP/1.1 would have. The authority stays in its URI: whoever sends
/// another `Host` beside it is refused where hosts are looked at.
fn as_http1<B>(mut request: Request<B>) -> Request<B> {
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let headers = request.headers_mut();
    if let Some(authority) = authority
        && !headers.contains_key(header::HOST)
    {
        headers.insert(header::HOST, authority);
    }
    // RFC 9113, 8.2.3: a client may cut them up.
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, whole);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gets_the_headers_of_http1() {
        let request =
            Request::get("https://a.example/b").header(header::COOKIE, "c=1").header(header::COOKIE, "d=2; e=3");
        let request = as_http1(request.body(()).expect("a request"));
        assert_eq!(request.headers()[header::HOST], "a.example");
        let cookies: Vec<_> = request.headers().get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["c=1; d=2; e=3"]);
        // Whoever compares it with the authority has to see what came.
        let request = Request::get("https://a.example/").header(header::HOST, "other.example");
        let request = as_http1(request.body(()).expect("a request"));
        assert_eq!(request.headers()[header::HOST], "other.example");
        assert_eq!(request.uri().authority().expect("stays"), "a.example");
    }
}
