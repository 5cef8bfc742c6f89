//! Plain `http://` requests: one request out, one answer back, hop by hop.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE, VIA};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::refusal::{Refusal, Rule};
use crate::serve::{Body, MAX_HEAD};
use crate::target::Target;

/// Fields that belong to one connection (RFC 9110 section 7.6.1, and what clients send anyway).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("te"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Sends the request over this stream and gives the answer, whose body still flows through it.
/// The conversation is driven by a task in `tasks`.
pub(crate) async fn forward<S>(
    request: Request<Incoming>,
    target: &Target,
    stream: S,
    tasks: &mut JoinSet<()>,
) -> Result<Response<Body>, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |what: &str, error: &hyper::Error| Refusal::of(target, Rule::Unreachable, format!("{what}: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed("the connection was lost", &error))?;
    tasks.spawn(async move {
        // Its errors reach the answer or its body.
        let _ = connection.await;
    });
    let answer = sender
        .send_request(outgoing(request, target))
        .await
        .map_err(|error| failed("the host gave no HTTP answer", &error))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let reason = "the host switched the protocol, which nobody asked for";
        return Err(Refusal::of(target, Rule::Unreachable, reason));
    }
    let (mut head, body) = answer.into_parts();
    strip(&mut head.headers);
    head.headers.append(VIA, HeaderValue::from_static("1.1 cubicle"));
    head.version = Version::HTTP_11;
    Ok(Response::from_parts(head, body.boxed()))
}

fn outgoing(request: Request<Incoming>, target: &Target) -> Request<Incoming> {
    let (mut head, body) = request.into_parts();
    strip(&mut head.headers);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    // OPTIONS of a whole server has no path (RFC 9112 section 3.2.4).
    let path = if head.method == Method::OPTIONS && matches!(path, "" | "/") { "*" } else { path };
    head.uri = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    // The target decides, not what the client wrote into Host (RFC 9112 section 3.2.2).
    let host = if target.port == 80 { target.host.to_string() } else { target.to_string() };
    if let Ok(host) = HeaderValue::try_from(host) {
        head.headers.insert(HOST, host);
    }
    head.headers.append(VIA, HeaderValue::from_static("1.1 cubicle"));
    head.version = Version::HTTP_11;
    Request::from_parts(head, body)
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Secret"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
            ("authorization", "Bearer for-the-host"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "authorization"]);
    }
}
