//! What of a browser's request a notebook gets to see.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use secrecy::{ExposeSecret as _, SecretString};

use crate::cookies;
use crate::fetch;

/// Headers that belong to one connection (RFC 9110, 7.6.1). Names that are parsed: looking for them is a
/// part of every request.
const PER_CONNECTION: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Headers that only the hub may set.
const NEVER_FORWARDED: [&str; 7] = [
    "authorization",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-real-ip",
];

/// Headers that `Connection` names; they belong to one connection too.
pub(crate) fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect()
}

/// Takes off what belongs to one connection.
pub(crate) fn without_connection(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    for name in &PER_CONNECTION {
        headers.remove(name);
    }
    for name in named {
        headers.remove(name);
    }
}

/// Facts about the request that the notebook is told.
pub(crate) struct Told<'a> {
    /// The client.
    pub(crate) client: IpAddr,
    /// The `Host` that the client used.
    pub(crate) host: &'a str,
    /// Whether the client used https.
    pub(crate) secure: bool,
    /// The notebook server's own token.
    pub(crate) token: &'a SecretString,
}

/// The request for the notebook: without anything of the hub's, with the notebook's own token.
/// Nothing when a header cannot be written.
pub(crate) fn request<B>(from: Request<B>, told: &Told<'_>) -> Option<Request<B>> {
    let (parts, body) = from.into_parts();
    let websocket = fetch::is_websocket(&parts.headers);
    let foreign: Vec<&str> = cookies::pairs(&parts.headers)
        .filter(|pair| !cookies::is_ours(pair.split_once('=').map_or(pair, |(name, _)| name)))
        .collect();
    let foreign = (!foreign.is_empty()).then(|| HeaderValue::from_str(&foreign.join("; ")));
    let mut headers = parts.headers;
    without_connection(&mut headers);
    for name in NEVER_FORWARDED {
        headers.remove(name);
    }
    headers.remove(header::COOKIE);
    if let Some(foreign) = foreign {
        headers.insert(header::COOKIE, foreign.ok()?);
    }
    if websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    // A client of HTTP/1.0 may have come without one; the host was checked before.
    headers.insert(header::HOST, HeaderValue::from_str(told.host).ok()?);
    let mut authorization = HeaderValue::from_str(&format!("token {}", told.token.expose_secret())).ok()?;
    authorization.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, authorization);
    headers.insert("x-forwarded-for", HeaderValue::from_str(&told.client.to_canonical().to_string()).ok()?);
    headers.insert("x-forwarded-host", HeaderValue::from_str(told.host).ok()?);
    headers.insert("x-forwarded-proto", HeaderValue::from_static(if told.secure { "https" } else { "http" }));

    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = target.parse::<Uri>().ok()?;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    // CONNECT asks for a tunnel and TRACE for an echo of the injected token.
    (!matches!(*request.method(), Method::CONNECT | Method::TRACE)).then_some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut request = Request::builder().uri("/lab?x=1").body(()).expect("a request");
        for (name, value) in pairs {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let told = Told {
            client: IpAddr::from([127, 0, 0, 1]),
            host: "w-000000000000.localhost:8000",
            secure: false,
            token: &SecretString::from("notebook"),
        };
        super::request(request, &told).expect("forwarded").headers().clone()
    }

    #[test]
    fn nothing_of_the_hub_is_forwarded() {
        let headers = forwarded(&[
            ("cookie", "cubicle_session=s; _xsrf=x; cubicle_workspace=w"),
            ("cookie", "__Host-cubicle_session=s; lone; CUBICLE_x=1"),
            ("authorization", "Bearer hub"),
            ("proxy-authorization", "Basic x"),
        ]);
        assert_eq!(headers["cookie"], "_xsrf=x; lone");
        assert_eq!(headers["authorization"], "token notebook");
        assert!(!headers.contains_key("proxy-authorization"));
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let headers = forwarded(&[
            ("connection", "keep-alive, x-mine"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-forwarded-for", "203.0.113.9"),
        ]);
        for name in ["connection", "x-mine", "te", "transfer-encoding", "upgrade"] {
            assert!(!headers.contains_key(name), "{name}");
        }
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    }

    #[test]
    fn a_connection_header_cannot_remove_what_the_hub_sets() {
        let headers = forwarded(&[("connection", "authorization, x-forwarded-for, host")]);
        assert_eq!(headers["authorization"], "token notebook");
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
        assert_eq!(headers["host"], "w-000000000000.localhost:8000");
    }
}
