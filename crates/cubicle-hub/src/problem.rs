//! Problems as answers: `application/problem+json` (RFC 9457) for programs, a page for people.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::{IntoResponse, Response as AxumResponse};
use cubicle_core::problem::{Problem, ProblemKind};
use serde_json::json;

/// The HTTP status of a kind of problem.
pub(crate) fn status(kind: ProblemKind) -> StatusCode {
    match kind {
        ProblemKind::BadInput => StatusCode::BAD_REQUEST,
        ProblemKind::NotFound => StatusCode::NOT_FOUND,
        ProblemKind::NotAllowed => StatusCode::FORBIDDEN,
        ProblemKind::Conflict => StatusCode::CONFLICT,
        ProblemKind::Exhausted => StatusCode::SERVICE_UNAVAILABLE,
        ProblemKind::Engine => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A few words for a kind of problem; the same for every problem of the kind, as RFC 9457 asks.
fn title(kind: ProblemKind) -> (&'static str, &'static str) {
    match kind {
        ProblemKind::BadInput => ("bad-input", "The request is not valid"),
        ProblemKind::NotFound => ("not-found", "Not found"),
        ProblemKind::NotAllowed => ("not-allowed", "Not allowed"),
        ProblemKind::Conflict => ("conflict", "Not possible in the present state"),
        ProblemKind::Exhausted => ("exhausted", "Not possible right now"),
        ProblemKind::Engine => ("engine", "Something failed"),
    }
}

/// A problem for programs.
pub(crate) fn json(status: StatusCode, problem: &Problem) -> Response<Body> {
    let (kind, title) = title(problem.kind);
    let document = json!({
        "type": format!("urn:cubicle:problem:{kind}"),
        "title": title,
        "status": status.as_u16(),
        "detail": problem.what,
        "remedy": problem.remedy,
    });
    let mut response = Response::new(Body::from(document.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110, 11.6.1 asks for a challenge; browsers show no dialogue for this scheme.
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A problem for people, with at most one way out.
pub(crate) fn page(status: StatusCode, problem: &Problem, way_out: Option<(&str, &str)>) -> Response<Body> {
    let (_, title) = title(problem.kind);
    let link = way_out
        .map(|(place, words)| format!("<p><a href=\"{}\">{}</a></p>", escape(place), escape(words)))
        .unwrap_or_default();
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title} - Cubicle</title></head>\
         <body><main><h1>{title}</h1><p>{}</p><p>{}</p>{link}</main></body></html>",
        escape(&problem.what),
        escape(&problem.remedy),
    );
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|character| match character {
            '&' => "&amp;".chars().collect::<Vec<_>>(),
            '<' => "&lt;".chars().collect(),
            '>' => "&gt;".chars().collect(),
            '"' => "&quot;".chars().collect(),
            '\'' => "&#39;".chars().collect(),
            other => vec![other],
        })
        .collect()
}

/// A problem on its way out of a handler of the API.
#[derive(Debug)]
pub(crate) struct ApiProblem {
    status: StatusCode,
    problem: Problem,
}

impl ApiProblem {
    /// A problem whose status says more than its kind.
    pub(crate) fn with_status(status: StatusCode, problem: Problem) -> Self {
        Self { status, problem }
    }
}

impl From<Problem> for ApiProblem {
    fn from(problem: Problem) -> Self {
        Self { status: status(problem.kind), problem }
    }
}

impl IntoResponse for ApiProblem {
    fn into_response(self) -> AxumResponse {
        if self.problem.kind == ProblemKind::Engine {
            tracing::warn!(what = %self.problem.what, "a request failed");
        }
        json(self.status, &self.problem)
    }
}
