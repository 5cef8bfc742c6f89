//! Connections to a target that stay open between requests.
//!
//! A connection has no task of its own: whoever waits for its answer drives it, and between two
//! requests nobody does. It is used again for a request that may be sent twice without harm and has
//! no body (RFC 9110, 9.2.2), because a target may close it at the very moment when it is used; such a
//! request is then sent over a fresh one. Every other request has a fresh one from the start.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Method, Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::dial::{Stream, Target};
use crate::proxy::bodies::{Progress, Upload};
use crate::proxy::exchange::{self, Failure};

/// The most connections to one target that wait for a request, and how long one waits.
const MOST_IDLE: usize = 64;
const IDLE: Duration = Duration::from_secs(10);

type Client = SendRequest<Upload>;
type Driver = Connection<TokioIo<Box<dyn Stream>>, Upload>;

/// The connections of one target that wait for a request; the last one used is the first to be used.
#[derive(Default)]
pub(super) struct Idle(Mutex<Vec<Waiting>>);

/// A connection that waits. It is used by the thread that used it before: its events go there.
struct Waiting {
    line: Box<Line>,
    since: Instant,
    thread: ThreadId,
}

/// One connection.
struct Line {
    client: Client,
    driver: Driver,
}

impl Line {
    /// Moves what there is to move, without waiting; whether it can take a request.
    fn is_free(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        Pin::new(&mut self.driver).poll(&mut nobody).is_pending() && self.client.is_ready()
    }
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Idle").field(&self.lines().len()).finish()
    }
}

impl Idle {
    fn lines(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Box<Line>> {
        let here = thread::current().id();
        loop {
            let mut line = {
                let mut lines = self.lines();
                let last = lines.iter().rposition(|waiting| waiting.thread == here)?;
                lines.remove(last).line
            };
            if line.is_free() {
                return Some(line);
            }
        }
    }

    fn keep(&self, mut line: Box<Line>) {
        if line.is_free() {
            let mut lines = self.lines();
            if lines.len() < MOST_IDLE {
                lines.push(Waiting { line, since: Instant::now(), thread: thread::current().id() });
            }
        }
    }

    /// Closes those that waited too long, and those that their target closed.
    pub(super) fn sweep(&self) {
        self.lines().retain_mut(|waiting| waiting.since.elapsed() < IDLE && waiting.line.is_free());
    }
}

/// Asks a target. `patience` counts from the last byte of the request's body.
pub(super) async fn ask(
    idle: &Arc<Idle>,
    target: &Target,
    tls: Option<&Arc<rustls::ClientConfig>>,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<Answer>, Failure> {
    let again =
        matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && request.body().is_end_stream();
    let (parts, body) = request.into_parts();
    if again && let Some(line) = idle.take() {
        let request = Request::from_parts(parts.clone(), Body::empty());
        match over(line, idle, request, patience).await {
            Err(Failure::Garbage(why)) => tracing::debug!(%target, why, "a kept connection was of no use"),
            known => return known,
        }
    }
    let stream = target.connect(tls).await.map_err(|error| Failure::Garbage(error.to_string()))?;
    let (client, driver) = exchange::client().handshake(TokioIo::new(stream)).await.map_err(garbage)?;
    over(Box::new(Line { client, driver }), idle, Request::from_parts(parts, body), patience).await
}

fn garbage(error: hyper::Error) -> Failure {
    Failure::Garbage(error.to_string())
}

/// Sends a request and waits for the head of its answer.
async fn over(
    mut line: Box<Line>,
    idle: &Arc<Idle>,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<Answer>, Failure> {
    let Line { client, driver } = &mut *line;
    let progress = Progress::new();
    let request = request.map(|body| Upload { body, progress: progress.clone() });
    let mut open = true;
    let answer = {
        let answer = client.send_request(request);
        tokio::pin!(answer);
        let driven = std::future::poll_fn(|context| {
            if open && Pin::new(&mut *driver).poll(context).is_ready() {
                open = false;
            }
            answer.as_mut().poll(context)
        });
        tokio::select! {
            biased;
            answer = driven => answer.map_err(garbage)?,
            () = progress.stalled(patience) => return Err(Failure::Late),
        }
    };
    let line = open.then_some(line);
    Ok(answer.map(|body| Answer { body, line, ended: false, idle: Arc::clone(idle) }))
}

/// The body of an answer. Whoever reads it drives the connection; read to its end, it gives it back.
pub(super) struct Answer {
    body: Incoming,
    line: Option<Box<Line>>,
    ended: bool,
    idle: Arc<Idle>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.body).poll_frame(context);
        if polled.is_pending() {
            if let Some(line) = &mut this.line
                && Pin::new(&mut line.driver).poll(context).is_ready()
            {
                this.line = None;
            }
            polled = Pin::new(&mut this.body).poll_frame(context);
        }
        if let Poll::Ready(frame) = &polled {
            match frame {
                None => this.ended = true,
                Some(Ok(_)) => {}
                Some(Err(_)) => this.line = None,
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(line) = self.line.take()
            && (self.ended || self.body.is_end_stream())
        {
            self.idle.keep(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A target that answers so many requests on each connection, then closes it without a word.
    async fn target(most: usize) -> (Target, Arc<std::sync::atomic::AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let place = format!("http://{}", listener.local_addr().expect("an address"));
        let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    for _ in 0..most {
                        if !matches!(stream.read(&mut buffer).await, Ok(1..)) {
                            return;
                        }
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("written");
                    }
                    // The request is read, and never answered.
                    let _ = stream.read(&mut buffer).await;
                });
            }
        });
        (place.parse().expect("a target"), accepted)
    }

    async fn asked(idle: &Arc<Idle>, target: &Target, method: Method, body: &'static str) -> Result<Bytes, Failure> {
        let request = Request::builder().method(method).uri("/").header("host", "a").body(body.into()).expect("one");
        let answer = ask(idle, target, None, request, Duration::from_secs(5)).await?;
        Ok(answer.into_body().collect().await.expect("a body").to_bytes())
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_one_that_broke_is_not_noticed() {
        let (target, accepted) = target(3).await;
        let idle = Arc::default();
        for _ in 0..7 {
            assert_eq!(asked(&idle, &target, Method::GET, "").await.expect("an answer"), "ok");
        }
        assert_eq!(accepted.load(std::sync::atomic::Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn what_cannot_be_repeated_has_a_connection_of_its_own() {
        let (target, accepted) = target(1).await;
        let idle = Arc::default();
        for _ in 0..3 {
            assert_eq!(asked(&idle, &target, Method::POST, "").await.expect("an answer"), "ok");
            assert_eq!(asked(&idle, &target, Method::GET, "x").await.expect("an answer"), "ok");
        }
        assert_eq!(accepted.load(std::sync::atomic::Ordering::SeqCst), 6);
    }

    #[tokio::test]
    async fn half_an_answer_is_no_connection_to_keep() {
        let (target, _) = target(3).await;
        let idle = Arc::new(Idle::default());
        let request = Request::get("/").header("host", "a").body(Body::empty()).expect("one");
        drop(ask(&idle, &target, None, request, Duration::from_secs(5)).await.expect("an answer"));
        assert!(idle.take().is_none());
        asked(&idle, &target, Method::GET, "").await.expect("an answer");
        assert!(idle.take().is_some());
        assert!(idle.take().is_none());
    }
}
