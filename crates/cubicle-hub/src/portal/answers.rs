//! Answers as Go's `net/http` writes them for Hatchery: text, whatever is in it.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

fn answer(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `fmt.Fprint`: no newline at the end.
pub(super) fn text(body: &str) -> Response<Body> {
    answer(StatusCode::OK, TEXT, body.to_owned())
}

/// JSON that goes out as text.
pub(super) fn json(value: &impl Serialize) -> Response<Body> {
    text(&serde_json::to_string(value).unwrap_or_default())
}

/// The one answer that says that it is JSON.
pub(super) fn honest_json(value: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_string(value).unwrap_or_default();
    answer(StatusCode::OK, HeaderValue::from_static("application/json"), body)
}

/// `http.Error`: a newline at the end. What goes out is one line without control characters.
pub(super) fn error(status: StatusCode, what: &str) -> Response<Body> {
    let line: String = what.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(2000).collect();
    let mut response = answer(status, TEXT, format!("{line}\n"));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
