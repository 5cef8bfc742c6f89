//! The REST API: `/api/routes`, as JupyterHub uses it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Proxy;
use super::dial::Target;
use super::table::decoded;

/// The largest body of a request, in bytes. A route is a few hundred.
const MOST_BODY: usize = 1 << 20;

/// Answers a request to the API.
pub(super) async fn answer(proxy: Arc<Proxy>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    let rest = match path.strip_prefix("/api/routes") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.to_owned(),
        _ => return text(StatusCode::NOT_FOUND, "Not Found"),
    };
    if !matches!(*request.method(), Method::GET | Method::POST | Method::DELETE) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Method not supported");
    }
    // Before anything of the request is looked at.
    if let Some(token) = &proxy.config.token
        && !authorized(&request, token)
    {
        tracing::debug!("a request to the API without the token was refused");
        return text(StatusCode::FORBIDDEN, "");
    }
    let Some(route) = decoded(&rest) else {
        return text(StatusCode::BAD_REQUEST, "The path is not percent-encoded UTF-8");
    };
    match *request.method() {
        Method::GET if route.trim_matches('/').is_empty() => all(&proxy, request.uri().query().unwrap_or_default()),
        Method::GET => match proxy.table.get(&route) {
            Some(route) => json(&route.shown()),
            None => text(StatusCode::NOT_FOUND, ""),
        },
        Method::POST => add(&proxy, &route, request).await,
        _ => match proxy.table.remove(&route) {
            Ok(true) => text(StatusCode::NO_CONTENT, ""),
            Ok(false) => text(StatusCode::NOT_FOUND, ""),
            Err(problem) => text(StatusCode::INTERNAL_SERVER_ERROR, &problem.what),
        },
    }
}

fn authorized(request: &Request<Incoming>, token: &SecretString) -> bool {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some((scheme, given)) = given.trim().split_once(char::is_whitespace) else { return false };
    // Digests, so that not even the length shows in the time it takes.
    let (given, token) = (Sha256::digest(given.trim()), Sha256::digest(token.expose_secret()));
    scheme.eq_ignore_ascii_case("token") && bool::from(given.ct_eq(&token))
}

fn all(proxy: &Proxy, query: &str) -> Response<Body> {
    // `inactive_since` is what older hubs write.
    let asked = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        Some(decoded(&value.replace('+', "%20"))?.into_owned())
    };
    let since = match asked("inactiveSince").or_else(|| asked("inactive_since")).filter(|text| !text.is_empty()) {
        None => None,
        Some(written) => match timestamp(&written) {
            Some(since) => Some(since),
            None => {
                let shown: String = written.chars().take(80).flat_map(char::escape_default).collect();
                let what = format!("Invalid datestamp '{shown}' must be ISO8601.");
                return text(StatusCode::BAD_REQUEST, &what);
            }
        },
    };
    let routes = proxy.table.all();
    let wanted = routes.iter().filter(|route| since.is_none_or(|since| route.last_activity() < since));
    json(&Value::Object(wanted.map(|route| (route.path.clone(), route.shown())).collect()))
}

/// ISO 8601 with an offset, without one (UTC), or a date alone.
fn timestamp(text: &str) -> Option<Timestamp> {
    // A plus sign of an offset that nobody encoded arrives as white space.
    let text = text.trim().replace(' ', "+");
    let in_utc = |date: jiff::civil::DateTime| jiff::tz::TimeZone::UTC.to_timestamp(date).ok();
    text.parse::<Timestamp>()
        .ok()
        .or_else(|| in_utc(text.parse::<jiff::civil::DateTime>().ok()?))
        .or_else(|| in_utc(text.parse::<jiff::civil::Date>().ok()?.at(0, 0, 0, 0)))
}

async fn add(proxy: &Proxy, path: &str, request: Request<Incoming>) -> Response<Body> {
    let Ok(body) = Limited::new(request.into_body(), MOST_BODY).collect().await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large, or broke off");
    };
    let data: Map<String, Value> = match serde_json::from_slice(&body.to_bytes()) {
        Ok(data) => data,
        Err(error) => return text(StatusCode::BAD_REQUEST, &format!("Body not valid JSON: {error}")),
    };
    let Some(target) = data.get("target").and_then(Value::as_str) else {
        return text(StatusCode::BAD_REQUEST, "Must specify 'target' as string");
    };
    let target: Target = match target.parse() {
        Ok(target) => target,
        Err(problem) => return text(StatusCode::BAD_REQUEST, &problem.what),
    };
    tracing::info!(path, %target, "route added");
    match proxy.table.add(path, target, data) {
        Ok(()) => text(StatusCode::CREATED, ""),
        Err(problem) => text(StatusCode::INTERNAL_SERVER_ERROR, &problem.what),
    }
}

fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, what: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(what.to_owned()));
    *response.status_mut() = status;
    if !what.is_empty() {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_8601() {
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05.678",
            "2026-01-02",
            "2026-01-02T03:04:05+00:00",
            "2026-01-02T03:04:05 00:00",
        ] {
            assert!(timestamp(text).is_some(), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "endoftheuniverse"] {
            assert!(timestamp(text).is_none(), "{text}");
        }
    }
}
