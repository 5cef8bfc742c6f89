//! One request to a notebook and its answer, over a socket that the engine connected.

use std::net::TcpStream as StdStream;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use cubicle_core::engine::Connection;
use cubicle_core::problem::Problem;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::bodies::{Progress, Upload};

/// The largest head of an answer, in bytes. The most header lines in it are hyper's 100.
const MOST_HEAD: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody listens, or the connection broke, or what came is not HTTP.
    Garbage(String),
    /// The head of the answer did not come in time.
    Late,
}

impl Failure {
    /// In words.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Garbage(why) => why,
            Self::Late => "no answer in time",
        }
    }
}

/// A notebook's side of a fresh connection.
pub(crate) struct Notebook {
    stream: TcpStream,
    /// The notebook's own token.
    pub(crate) token: SecretString,
}

impl Notebook {
    /// Takes over the socket that the engine connected.
    pub(crate) fn over(connection: Connection) -> Result<Self, Problem> {
        let broken = |error: std::io::Error| {
            Problem::engine(format!("the connection to the notebook cannot be used: {error}"), "stop and start it")
        };
        let stream = StdStream::from(connection.stream);
        stream.set_nonblocking(true).map_err(broken)?;
        let stream = TcpStream::from_std(stream).map_err(broken)?;
        // Kernel messages are small and wait for each other; not every socket knows the option.
        let _ = stream.set_nodelay(true);
        Ok(Self { stream, token: connection.token })
    }

    /// Sends one request and waits for the head of its answer. `patience` counts from the last
    /// byte of the request's body.
    pub(crate) async fn ask(self, request: Request<Body>, patience: Duration) -> Result<Response<Incoming>, Failure> {
        ask(self.stream, request, patience).await
    }
}

/// How others are asked: what they answer is bounded.
pub(crate) fn client() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MOST_HEAD);
    builder
}

/// Sends one request over a fresh connection to whoever serves it, and waits for the head of the
/// answer. `patience` counts from the last byte of the request's body.
pub(crate) async fn ask<S>(stream: S, request: Request<Body>, patience: Duration) -> Result<Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let garbage = |error: hyper::Error| Failure::Garbage(error.to_string());
    let (mut sender, connection) = client().handshake(TokioIo::new(stream)).await.map_err(garbage)?;
    // Ends with the exchange: when the answer is read to its end, dropped half-way, or the
    // upgraded connection is closed.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a notebook ended");
        }
    });
    let progress = Progress::new();
    let request = request.map(|body| Upload { body, progress: progress.clone() });
    tokio::select! {
        answer = sender.send_request(request) => answer.map_err(garbage),
        () = progress.stalled(patience) => Err(Failure::Late),
    }
}
