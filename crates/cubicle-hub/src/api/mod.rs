//! The REST interface, `/api/v1`: for programs with a token, for the hub's own pages with the
//! session's cookie, and for the machine's administrator on the root-only socket.

mod document;
mod input;
mod notice;
mod reservations;
mod site;
mod templates;
mod tokens;
mod usage;
mod users;
mod workspaces;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use cubicle_core::problem::{Problem, ProblemKind};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::cookies;
use crate::fetch;
use crate::hub::{Caller, Hub};
use crate::identity::Word;
use crate::journal;
use crate::liveness::Ending;
use crate::problem::{self, ApiProblem};
use crate::secret::{Digest, Purpose};
use crate::server::Host;
use crate::store::{Scope, Session};
use document::Documented;
pub(crate) use templates::may_launch;
pub(crate) use tokens::TokenUses;
pub(crate) use tokens::make as make_token;
use tokens::token_id;
pub(crate) use usage::{Period, used};
pub(crate) use users::refuse_own;

/// The largest body of a request, in bytes.
const MOST_BODY: usize = 256 << 10;
/// How long one request may take to be read and answered; proving takes the longest.
const LONGEST: Duration = Duration::from_secs(180);

/// The whole interface, below `/api/v1`.
pub(crate) fn router(hub: Arc<Hub>) -> Router {
    let documented = Documented::new();
    let documented = templates::routes(documented);
    let documented = workspaces::routes(documented);
    let documented = users::routes(documented);
    let documented = tokens::routes(documented);
    let documented = site::routes(documented);
    let documented = notice::routes(documented);
    let documented = usage::routes(documented);
    let documented = reservations::routes(documented);
    documented
        .into_router()
        .method_not_allowed_fallback(wrong_method)
        .route_layer(axum::middleware::from_fn(crate::traces::follow))
        .route_layer(axum::middleware::from_fn_with_state(Arc::clone(&hub), journal::record))
        .layer(axum::middleware::from_fn(in_time))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .layer(SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox"),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        ))
        .with_state(hub)
}

async fn in_time(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    match tokio::time::timeout(LONGEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => problem::json(
            StatusCode::REQUEST_TIMEOUT,
            &Problem::engine(
                format!("the request was not finished within {} seconds", LONGEST.as_secs()),
                "look at the workspace's state, then try again",
            ),
        ),
    }
}

/// What no route matches.
pub(crate) async fn no_such_route(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(100).flat_map(char::escape_default).collect();
    ApiProblem::from(Problem::not_found(
        format!("there is nothing at \"{path}\""),
        "GET /api/v1/openapi.json lists every route",
    ))
    .into_response()
}

/// What a route is there for, but not with this method.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> Response {
    let path: String = uri.path().chars().take(100).flat_map(char::escape_default).collect();
    ApiProblem::with_status(
        StatusCode::METHOD_NOT_ALLOWED,
        Problem::bad_input(format!("\"{path}\" does not take {method}"), "GET /api/v1/openapi.json lists every route"),
    )
    .into_response()
}

/// Who asks, by socket, token or cookie.
pub(crate) struct Authenticated {
    /// Who.
    pub(crate) caller: Caller,
    /// The session, when it was a cookie.
    pub(crate) session: Option<Session>,
}

impl FromRequestParts<Arc<Hub>> for Authenticated {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, ApiProblem> {
        if let Some(caller @ Caller::Root) = parts.extensions.get::<Caller>() {
            journal::acting(caller, "socket");
            return Ok(Self { caller: caller.clone(), session: None });
        }
        if parts.headers.contains_key(header::AUTHORIZATION) {
            return by_token(parts, hub).await;
        }
        let Some(Host(host)) = parts.extensions.get::<Host>() else { return Err(nobody()) };
        let own = hub.origins.own(host);
        let session = session(parts, hub).await?.filter(|(_, counts)| *counts).map(|(session, _)| session);
        let session = session.ok_or_else(nobody)?;
        fetch::admit(&parts.method, &parts.headers, &own)?;
        let caller = Caller::Account(session.account.clone());
        journal::acting(&caller, "session");
        Ok(Self { caller, session: Some(session) })
    }
}

/// The live session of a request's cookie, and whether it counts for this request.
pub(crate) async fn session(parts: &Parts, hub: &Hub) -> Result<Option<(Session, bool)>, Problem> {
    let Some(cookie) = cookies::read(&parts.headers, cookies::SESSION, hub.origins.secure()) else { return Ok(None) };
    let Some(session) = hub.store.session(Digest::of(Purpose::Session, cookie)).await? else { return Ok(None) };
    let counts = hub.identities.counts(&session, parts.extensions.get::<Word>());
    Ok(Some((session, counts)))
}

async fn by_token(parts: &Parts, hub: &Hub) -> Result<Authenticated, ApiProblem> {
    let mut given = parts.headers.get_all(header::AUTHORIZATION).iter();
    let token = given.next().and_then(|value| value.to_str().ok()).and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let (Some(token), None) = (token, given.next()) else { return Err(nobody()) };
    let digest = Digest::of(Purpose::Token, token);
    let Some((account, scope)) = hub.store.token(digest).await? else { return Err(nobody()) };
    hub.token_uses.note(hub, digest).await;
    let caller = Caller::Account(account);
    journal::acting(&caller, &format!("token {}", token_id(&digest)));
    if scope == Scope::Read && !fetch::is_safe(&parts.method) {
        return Err(ApiProblem::from(Problem::new(
            ProblemKind::NotAllowed,
            "this token may only read",
            "make a token with scope write",
        )));
    }
    Ok(Authenticated { caller, session: None })
}

/// Nobody is signed in.
fn nobody() -> ApiProblem {
    ApiProblem::with_status(
        StatusCode::UNAUTHORIZED,
        Problem::new(
            ProblemKind::NotAllowed,
            "nobody is signed in, or the token is not valid any more",
            "sign in on the hub's page, or send Authorization: Bearer TOKEN",
        ),
    )
}

impl Authenticated {
    /// Resolves when the caller's session ends; never for a token or the root-only socket.
    pub(crate) async fn ending(&self, hub: &Hub) -> Result<Option<Ending>, Problem> {
        let Some(session) = &self.session else { return Ok(None) };
        loop {
            let since = hub.liveness.epoch();
            if hub.store.session(session.digest).await?.is_none() {
                return Err(Problem::new(ProblemKind::NotAllowed, "the session ended", "sign in again"));
            }
            if let Some(ending) = hub.liveness.follow(session.digest, session.expires_at, since) {
                return Ok(Some(ending));
            }
        }
    }
}
