//! `/.cubicle/enter`: exchanges a single-use ticket of the hub for a cookie of this origin alone.

use axum::body::Body;
use axum::http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use cubicle_core::problem::{Problem, ProblemKind};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::notice::Notice;
use crate::cookies;
use crate::origin::safe_next;
use crate::secret::{self, Digest, Purpose};

#[derive(Deserialize)]
struct Entrance {
    ticket: String,
    #[serde(default)]
    next: Option<String>,
}

/// Redeems the ticket of a request.
pub(super) async fn enter(notice: &Notice<'_>, method: &Method, uri: &Uri) -> Response<Body> {
    let (hub, visit) = (notice.hub, notice.visit);
    if *method != Method::GET {
        return notice.problem(StatusCode::METHOD_NOT_ALLOWED, &Problem::bad_input("only GET enters a workspace", ""));
    }
    let Ok(axum::extract::Query(entrance)) = axum::extract::Query::<Entrance>::try_from_uri(uri) else {
        return refused(notice);
    };
    let grant = secret::generate();
    let redeemed = hub
        .store
        .redeem_ticket(
            Digest::of(Purpose::Ticket, &entrance.ticket),
            visit.workspace.clone(),
            Digest::of(Purpose::Grant, grant.expose_secret()),
        )
        .await;
    match redeemed {
        Ok(true) => {}
        Ok(false) => return refused(notice),
        Err(problem) => return notice.problem(StatusCode::INTERNAL_SERVER_ERROR, &problem),
    }
    let mut response = redirect(&safe_next(entrance.next.as_deref()));
    // Lax, not strict: the browser comes here from the hub, which is another site, and follows
    // the redirect in the same navigation.
    if let Some(cookie) = cookies::write(cookies::WORKSPACE, grant.expose_secret(), hub.origins.secure()) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

fn refused(notice: &Notice<'_>) -> Response<Body> {
    notice.problem(
        StatusCode::FORBIDDEN,
        &Problem::new(
            ProblemKind::NotAllowed,
            "this ticket was used, is too old, or belongs to another workspace",
            "open the workspace from the hub again",
        ),
    )
}

/// Sends a browser on, leaving no trace of the address it came by.
pub(crate) fn redirect(place: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let place = HeaderValue::from_str(place).unwrap_or_else(|_| HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, place);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
