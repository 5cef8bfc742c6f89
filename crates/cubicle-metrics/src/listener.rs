//! `/metrics` on a listener of its own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE as KIND, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// What the text is (OpenMetrics 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How many connections are open at once.
const MOST_CONNECTIONS: usize = 16;
/// How long a client may take to ask, and an idle connection lives.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers `GET /metrics` with what `scrape` gives, for ever.
pub async fn serve<S, F>(listener: TcpListener, scrape: S)
where
    S: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = String> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let scrape = scrape.clone();
        tokio::spawn(async move {
            let _held = permit;
            let service = service_fn(move |request| answer(request, scrape.clone()));
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection for metrics ended");
            }
        });
    }
}

async fn answer<S, F>(request: Request<Incoming>, scrape: S) -> Result<Response<Full<Bytes>>, Infallible>
where
    S: Fn() -> F,
    F: Future<Output = String>,
{
    let refuse = |status| {
        let mut response = Response::new(Full::new(Bytes::from("only GET /metrics is answered here\n")));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return Ok(refuse(StatusCode::NOT_FOUND));
    }
    if *request.method() != Method::GET {
        return Ok(refuse(StatusCode::METHOD_NOT_ALLOWED));
    }
    let mut response = Response::new(Full::new(Bytes::from(scrape().await)));
    response.headers_mut().insert(KIND, HeaderValue::from_static(CONTENT_TYPE));
    Ok(response)
}
