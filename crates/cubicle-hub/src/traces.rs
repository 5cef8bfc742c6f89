//! The hub's part of the trace of a launch: the request that asked for it.
//!
//! A layer around all routes knows method, route and answer; the one way to a launch ([`crate::launching`]) says
//! that there is one, and for whom. Requests that launch nothing leave no span.

use std::cell::RefCell;
use std::time::SystemTime;

use axum::extract::{MatchedPath, Request};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use cubicle_core::name::WorkspaceId;
use cubicle_core::trace::TraceParent;
use cubicle_traces::Asked;

use crate::fetch;
use crate::hub::Caller;
use crate::store::Role;

struct Now {
    asked: Asked,
    span: Option<cubicle_traces::Request>,
}

tokio::task_local! {
    static NOW: RefCell<Now>;
}

/// Follows what may become a launch. Innermost, where the route is known.
pub(crate) async fn follow(request: Request, next: Next) -> Response {
    if !cubicle_traces::are_on() || fetch::is_safe(request.method()) {
        return next.run(request).await;
    }
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let asked = Asked {
        began: SystemTime::now(),
        method: request.method().to_string(),
        route,
        given: given(request.headers()),
    };
    let now = RefCell::new(Now { asked, span: None });
    let (response, span) = NOW
        .scope(now, async move {
            let response = next.run(request).await;
            (response, NOW.with(|now| now.borrow_mut().span.take()))
        })
        .await;
    if let Some(span) = span {
        span.answered(response.status().as_u16());
    }
    response
}

/// The one place in a trace that a request names; of two, nobody knows which was meant.
fn given(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all("traceparent").iter();
    let first = values.next()?.to_str().ok()?;
    if values.next().is_some() { None } else { first.parse().ok() }
}

/// The present request asks for a launch: where that belongs, when traces are told.
pub(crate) fn launching(caller: &Caller) -> Option<TraceParent> {
    let begun = NOW.try_with(|now| {
        let mut now = now.borrow_mut();
        let span = cubicle_traces::Request::begin(&now.asked, is_believed(caller))?;
        let place = span.place();
        now.span = Some(span);
        place
    });
    // Outside of a request that is followed nothing is told.
    begun.ok().flatten()
}

/// What came of it.
pub(crate) fn launched(workspace: Option<&WorkspaceId>) {
    let _ = NOW.try_with(|now| {
        if let Some(span) = &mut now.borrow_mut().span {
            span.launched(workspace);
        }
    });
}

/// Whose traces launches are part of: those of the site's own programs and administrators. An ordinary user's
/// request is linked with the trace that it names, and a trace of the site's own begins: a user could otherwise
/// choose what is recorded, or add to a trace of somebody else.
fn is_believed(caller: &Caller) -> bool {
    match caller {
        Caller::Root => true,
        Caller::Account(account) => account.service || account.role == Role::Admin,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PLACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_request_names_one_place_or_none() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("traceparent", HeaderValue::from_str(value).expect("a value"));
            }
            given(&headers).map(|place| place.to_string())
        };
        assert_eq!(headers(&[]), None);
        assert_eq!(headers(&[PLACE]).as_deref(), Some(PLACE));
        assert_eq!(headers(&[PLACE, PLACE]), None);
        assert_eq!(headers(&["<script>"]), None);
        assert_eq!(headers(&["caf\u{e9}"]), None);
    }

    #[tokio::test]
    async fn outside_of_a_request_nothing_is_told() {
        assert_eq!(launching(&Caller::Root), None);
        launched(None);
    }
}
