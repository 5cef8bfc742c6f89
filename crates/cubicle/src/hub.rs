//! The hub's REST interface: over the administrator's Unix socket of this machine, or over the
//! web with a token.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cubicle_core::problem::{Problem, ProblemKind};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use crate::web::Site;

/// Answers above this size are refused, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// How long the hub may take for one answer. Proving takes longest, and the hub itself gives up
/// on it after 180 seconds.
const PATIENCE: Duration = Duration::from_secs(200);

/// A door to the hub.
#[derive(Debug)]
pub(crate) enum Hub {
    /// The administrator's, on this machine.
    Socket(PathBuf),
    /// A user's, from anywhere.
    Web(Site),
}

/// A problem document after RFC 9457, with the hub's `remedy`.
#[derive(Deserialize)]
struct ProblemDocument {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    remedy: String,
}

impl Hub {
    /// The hub that listens at this socket.
    pub(crate) fn at(socket: &Path) -> Self {
        Self::Socket(socket.to_owned())
    }

    /// One request that is answered with JSON: `path` begins with a slash and is already
    /// percent-encoded. An empty answer reads as JSON's null.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Problem> {
        let body = self.text(method, path, body).await?;
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body)
            .map_err(|error| Problem::engine(format!("the hub's answer could not be read: {error}"), "see its log"))
    }

    /// The same, answered with bytes.
    pub(crate) async fn text(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes, Problem> {
        let exchange = async {
            let answer = self.open(method, path, body).await?;
            collect(answer).await
        };
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| {
            Problem::engine(format!("the hub did not answer within {} seconds", PATIENCE.as_secs()), "see its log")
        })?
    }

    /// One request whose answer is read as it comes. A refusal is an error here already.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Problem> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(ACCEPT, "application/json, application/problem+json, text/event-stream, text/plain");
        if let Some(place) = crate::trace::place() {
            request = request.header("traceparent", place.to_string());
        }
        let body = match body {
            Some(value) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(value.to_string())
            }
            None => Bytes::new(),
        };
        let request = match self {
            Self::Socket(_) => request.header(HOST, "localhost"),
            Self::Web(site) => request.header(HOST, site.authority()).header(AUTHORIZATION, bearer(site)?),
        };
        let request = request.body(Full::new(body)).map_err(|error| self.silent(&error))?;
        let answer = match self {
            Self::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|error| self.silent(&error))?;
                self.exchange(stream, request).await?
            }
            Self::Web(site) => match site.connect().await? {
                crate::web::Stream::Plain(stream) => self.exchange(stream, request).await?,
                crate::web::Stream::Tls(stream) => self.exchange(stream, request).await?,
            },
        };
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        Err(refused(status, &collect(answer).await.unwrap_or_default()))
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Problem> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.silent(&error))?;
        // Ends with the answer, because the sender is dropped.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.silent(&error))
    }

    fn silent(&self, error: &dyn std::fmt::Display) -> Problem {
        match self {
            Self::Socket(socket) => Problem::engine(
                format!("the hub does not answer at {}: {error}", socket.display()),
                "start it with `./up`",
            ),
            Self::Web(site) => Problem::engine(
                format!("the hub does not answer at {}: {error}", site.url()),
                "check CUBICLE_URL and that the hub runs there",
            ),
        }
    }
}

fn bearer(site: &Site) -> Result<HeaderValue, Problem> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", site.token().expose_secret()))
        .map_err(|_| Problem::bad_input("CUBICLE_TOKEN is not a token", "copy it again from the hub's account page"))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn collect(answer: Response<Incoming>) -> Result<Bytes, Problem> {
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    body.map(|body| body.to_bytes())
        .map_err(|error| Problem::engine(format!("the hub's answer broke off: {error}"), "try again, and see its log"))
}

/// Turns an HTTP error into a problem of the same kind as the engine's.
fn refused(status: StatusCode, body: &[u8]) -> Problem {
    let kind = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ProblemKind::NotAllowed,
        StatusCode::NOT_FOUND => ProblemKind::NotFound,
        StatusCode::CONFLICT => ProblemKind::Conflict,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS | StatusCode::INSUFFICIENT_STORAGE => {
            ProblemKind::Exhausted
        }
        StatusCode::REQUEST_TIMEOUT => ProblemKind::Engine,
        status if status.is_client_error() => ProblemKind::BadInput,
        _ => ProblemKind::Engine,
    };
    match serde_json::from_slice::<ProblemDocument>(body) {
        Ok(ProblemDocument { title, detail, remedy }) if !(title.is_empty() && detail.is_empty()) => {
            Problem::new(kind, if detail.is_empty() { title } else { detail }, remedy)
        }
        _ => Problem::new(kind, format!("the hub answered {status}"), "see its log"),
    }
}

/// Percent-encodes one segment of a path after RFC 3986: everything but unreserved characters.
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_words_and_its_kind() {
        let body =
            br#"{"type":"about:blank","title":"Not found","status":404,"detail":"no user \"x\"","remedy":"add it"}"#;
        let problem = refused(StatusCode::NOT_FOUND, body);
        assert_eq!(problem, Problem::not_found("no user \"x\"", "add it"));
        assert_eq!(refused(StatusCode::BAD_GATEWAY, b"<html>").kind, ProblemKind::Engine);
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("a/b?c#d%e é@"), "a%2Fb%3Fc%23d%25e%20%C3%A9%40");
    }
}
