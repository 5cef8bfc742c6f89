//! Passes a request on to the target of its route.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::uri::{self, PathAndQuery};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::{Frame, Incoming, SizeHint};

use super::table::{Route, decoded};
use super::{Proxy, ProxyConfig, failure, reuse};
use crate::fetch;
use crate::proxy::exchange;
use crate::proxy::outbound::without_connection;
use crate::proxy::websocket::{self, Hold};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Answers one request of a client. `secure` says whether it came by TLS.
pub(super) async fn answer(
    proxy: Arc<Proxy>,
    client: Option<SocketAddr>,
    secure: bool,
    request: Request<Incoming>,
) -> Response<Body> {
    // Most requests have no body, and need no room for one.
    let mut request = request.map(|body| if body.is_end_stream() { Body::empty() } else { Body::new(body) });
    if request.uri().path() == "/_chp_healthz" {
        let mut response = Response::new(Body::from(r#"{"status":"OK"}"#));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return response;
    }
    let uri = request.uri().clone();
    let asked = uri.path_and_query().map_or("/", |target| target.as_str());
    let found = routed(&proxy, &request).map(|path| proxy.table.find(&path));
    let route = match found {
        None => return failure::page(&proxy, StatusCode::BAD_REQUEST, asked).await,
        Some(None) => return failure::page(&proxy, StatusCode::NOT_FOUND, asked).await,
        Some(Some(route)) => route,
    };
    let host = request.headers().get(header::HOST).cloned();
    let browser = websocket::browser_side(&mut request);
    let websocket = browser.is_some();
    let Some(request) = outbound(&proxy, &route, client, secure, request) else {
        return failure::page(&proxy, StatusCode::BAD_REQUEST, asked).await;
    };
    let unreachable = |why: &str| tracing::warn!(route = route.path, target = %route.target, why, "a target failed");
    let patience = proxy.config.answer_head;
    if !websocket {
        let answer = reuse::ask(&route.idle, &route.target, proxy.config.client_tls.as_ref(), request, patience).await;
        return match answer {
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                unreachable("it switched to a protocol that nobody asked for");
                unavailable(&proxy, websocket, StatusCode::SERVICE_UNAVAILABLE, asked).await
            }
            Ok(answer) => relay(&proxy, route, host.as_ref(), secure, answer),
            Err(failure) => {
                unreachable(failure.why());
                unavailable(&proxy, websocket, StatusCode::SERVICE_UNAVAILABLE, asked).await
            }
        };
    }
    let stream = match route.target.connect(proxy.config.client_tls.as_ref()).await {
        Ok(stream) => stream,
        Err(error) => {
            unreachable(&error.to_string());
            return unavailable(&proxy, websocket, StatusCode::SERVICE_UNAVAILABLE, asked).await;
        }
    };
    let answer = match exchange::ask(stream, request, patience).await {
        Ok(answer) => answer,
        Err(failure) => {
            unreachable(failure.why());
            return unavailable(&proxy, websocket, StatusCode::SERVICE_UNAVAILABLE, asked).await;
        }
    };
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let in_use = Arc::clone(&route);
        let hold = Hold { messages_only: false, on_message: move || in_use.touch(), ending: std::future::pending() };
        let spliced = browser.and_then(|browser| websocket::splice(browser, answer, hold));
        let Some(spliced) = spliced else {
            unreachable("it switched to a protocol that nobody asked for");
            return unavailable(&proxy, websocket, StatusCode::SERVICE_UNAVAILABLE, asked).await;
        };
        route.touch();
        return spliced;
    }
    relay(&proxy, route, host.as_ref(), secure, answer)
}

/// A browser's WebSocket sees no page.
async fn unavailable(proxy: &Proxy, websocket: bool, status: StatusCode, asked: &str) -> Response<Body> {
    if !websocket {
        return failure::page(proxy, status, asked).await;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The path by which the route is found: decoded, after the host where hosts are routed. None when
/// it is no path, when a target could read another one out of it than the table did, or when the request names two
/// hosts (RFC 9112, 3.2).
fn routed<'a, B>(proxy: &Proxy, request: &'a Request<B>) -> Option<Cow<'a, str>> {
    let path = decoded(request.uri().path())?;
    if path.split(['/', '\\']).any(|part| part == "." || part == "..") || path.contains('\0') {
        return None;
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let named = hosts.next().map(|host| host.to_str().unwrap_or_default());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let differ = named.zip(authority).is_some_and(|(named, authority)| !named.eq_ignore_ascii_case(authority));
    if hosts.next().is_some() || differ {
        return None;
    }
    let host = named.or(authority).unwrap_or_default();
    if !proxy.config.host_routing {
        return Some(path);
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    (!name.contains('/')).then(|| format!("/{name}{path}").into())
}

/// The request as the target sees it.
fn outbound(
    proxy: &Proxy,
    route: &Route,
    client: Option<SocketAddr>,
    secure: bool,
    from: Request<Body>,
) -> Option<Request<Body>> {
    let config = &proxy.config;
    let (parts, body) = from.into_parts();
    // CONNECT asks for a tunnel.
    if parts.method == Method::CONNECT {
        return None;
    }
    let websocket = fetch::is_websocket(&parts.headers);
    let given_host = parts.headers.get(header::HOST).cloned();
    let mut headers = parts.headers;
    without_connection(&mut headers);
    if websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if config.forwarded {
        let scheme = if secure { "https" } else { "http" };
        let host = given_host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
        let port = port.unwrap_or(if secure { "443" } else { "80" });
        let address = client.map(|client| client.ip().to_canonical().to_string());
        append(&mut headers, FORWARDED_FOR, address.as_deref().unwrap_or("unknown"))?;
        append(&mut headers, FORWARDED_PORT, port)?;
        append(&mut headers, FORWARDED_PROTO, scheme)?;
        if !headers.contains_key(&FORWARDED_HOST) && !host.is_empty() {
            headers.insert(FORWARDED_HOST, given_host.clone()?);
        }
    }
    for (name, value) in &config.custom_headers {
        headers.insert(name.clone(), value.clone());
    }
    // A request that names Host as a header of the connection has lost it.
    if config.change_origin || !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, HeaderValue::from_str(&route.target.host()).ok()?);
    }
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = asked_of(config, route, parts.uri)?;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    Some(request)
}

/// What the target is asked.
fn asked_of(config: &ProxyConfig, route: &Route, asked: Uri) -> Option<Uri> {
    let before = if config.prepend_path { route.target.path() } else { "" };
    if config.include_prefix && before.is_empty() {
        let mut parts = uri::Parts::default();
        parts.path_and_query = Some(asked.into_parts().path_and_query.unwrap_or(PathAndQuery::from_static("/")));
        return Uri::from_parts(parts).ok();
    }
    let asked = asked.path_and_query().map_or("/", |target| target.as_str());
    if config.include_prefix {
        return format!("{before}{asked}").parse().ok();
    }
    format!("{before}{}", without_prefix(asked, &route.path, config.host_routing)).parse().ok()
}

/// What is asked without the route's own path. Cut by segments: the request may write it encoded.
fn without_prefix(asked: &str, route: &str, host_routing: bool) -> String {
    let segments = route.split('/').filter(|part| !part.is_empty()).count().saturating_sub(usize::from(host_routing));
    let (path, query) = asked.split_at(asked.find('?').unwrap_or(asked.len()));
    let mut rest = path.trim_start_matches('/');
    for _ in 0..segments {
        rest = rest.split_once('/').map_or("", |(_, rest)| rest);
    }
    format!("/{rest}{query}")
}

/// Adds to a list that another proxy may have begun.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Option<()> {
    if !headers.contains_key(&name) {
        headers.insert(name, HeaderValue::from_str(value).ok()?);
        return Some(());
    }
    let before: Vec<&str> = headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()).collect();
    let list = before.into_iter().chain([value]).collect::<Vec<_>>().join(",");
    headers.insert(name, HeaderValue::from_str(&list).ok()?);
    Some(())
}

/// Passes the answer on. Only an answer that went well says that the route is in use.
fn relay<B>(
    proxy: &Proxy,
    route: Arc<Route>,
    host: Option<&HeaderValue>,
    secure: bool,
    answer: Response<B>,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes, Error = hyper::Error> + Unpin + Send + 'static,
{
    let (mut parts, body) = answer.into_parts();
    without_connection(&mut parts.headers);
    if parts.status.is_redirection()
        && let Some(place) =
            parts.headers.get(header::LOCATION).and_then(|place| rewritten(proxy, &route, host, secure, place))
    {
        parts.headers.insert(header::LOCATION, place);
    }
    let counts = parts.status.as_u16() < 300;
    let mut response = Response::new(Body::new(Counted { body, route: counts.then_some(route) }));
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    response
}

/// A redirect to the target's own address, led to the client's.
fn rewritten(
    proxy: &Proxy,
    route: &Route,
    host: Option<&HeaderValue>,
    secure: bool,
    place: &HeaderValue,
) -> Option<HeaderValue> {
    let config = &proxy.config;
    if !config.auto_rewrite && config.protocol_rewrite.is_none() {
        return None;
    }
    let place = place.to_str().ok()?;
    let (scheme, rest) = place.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !authority.eq_ignore_ascii_case(&route.target.host()) {
        return None;
    }
    let own = if secure { "https" } else { "http" };
    let scheme = config.protocol_rewrite.as_deref().unwrap_or(if config.auto_rewrite { own } else { scheme });
    let authority = match host.and_then(|host| host.to_str().ok()) {
        Some(host) if config.auto_rewrite => host,
        _ => authority,
    };
    HeaderValue::from_str(&format!("{scheme}://{authority}{path}")).ok()
}

/// An answer that says, whenever a part of it passes, that its route is in use.
struct Counted<B> {
    body: B,
    route: Option<Arc<Route>>,
}

impl<B: HttpBody<Data = Bytes, Error = hyper::Error> + Unpin> HttpBody for Counted<B> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(_), Some(route)) = (&polled, &self.route) {
            route.touch();
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

impl<B> Drop for Counted<B> {
    fn drop(&mut self) {
        if let Some(route) = &self.route {
            route.touch();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_cut_by_segments() {
        for (asked, route, rest) in [
            ("/user/a/b?c", "/user/a", "/b?c"),
            ("/us%65r/a/", "/user/a", "/"),
            ("/user/a", "/user/a", "/"),
            ("/a/b", "/", "/a/b"),
            ("/user/a?x=/y/z", "/user/a", "/?x=/y/z"),
        ] {
            assert_eq!(without_prefix(asked, route, false), rest, "{asked}");
        }
        assert_eq!(without_prefix("/a/b", "/host/a", true), "/b");
    }
}
