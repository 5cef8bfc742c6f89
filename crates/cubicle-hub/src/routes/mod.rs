//! The hub's web pages: what each path reads, does and shows. How it looks is in [`crate::pages`].

mod account;
mod admin_institution;
mod admin_site;
mod admin_users;
mod health;
mod home;
mod provider;
mod rows;
mod session;
mod visitor;
mod workspace;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use cubicle_core::problem::{Problem, ProblemKind};

use crate::hub::Hub;
use crate::pages::{self, RenderError};
use crate::server::Host;
use crate::{api, fetch, journal, problem, traces};
pub(crate) use provider::account_of;
use visitor::Visitor;

/// The largest form, in bytes.
const MOST_FORM: usize = 128 << 10;
/// How long one page may take to be read and answered.
const LONGEST: Duration = Duration::from_secs(180);

/// Everything on the hub's origin.
pub(crate) fn router(hub: Arc<Hub>) -> Router {
    let pages = Router::new()
        .route("/", get(home::show))
        .route("/sign-in", get(session::show).post(session::sign_in))
        .route("/sign-in/link", get(session::show_link).post(session::use_link))
        .route("/sign-in/with/{provider}", get(provider::leave))
        .route("/sign-in/with/{provider}/back", get(provider::come_back))
        .route("/sign-in/with/{provider}/sign-out", get(provider::sign_out))
        .route("/sign-in/with/{provider}/ended", post(provider::ended))
        .route("/sign-out", post(session::sign_out))
        .route("/signed-out", get(provider::signed_out))
        .route("/account", get(account::show))
        .route("/account/password", post(account::set_password))
        .route("/account/tokens", post(account::add_token))
        .route("/account/tokens/{id}/delete", post(account::delete_token))
        .route("/workspaces", post(home::launch))
        .route("/launch/{template}", post(home::launch_named))
        .route("/workspaces/{id}", get(workspace::show))
        .route("/workspaces/{id}/open", get(workspace::open))
        .route("/workspaces/{id}/start", post(workspace::start))
        .route("/workspaces/{id}/stop", post(workspace::stop))
        .route("/workspaces/{id}/delete", get(workspace::confirm_delete).post(workspace::delete))
        .route("/workspaces/{id}/isolation", get(workspace::isolation))
        .route("/workspaces/{id}/verify", post(workspace::verify))
        .route("/admin", get(admin_users::index))
        .route("/admin/users", get(admin_users::show).post(admin_users::add))
        .route("/admin/users/{id}/sign-in-link", post(admin_users::sign_in_link))
        .route("/admin/users/{id}/disable", get(admin_users::confirm_disable).post(admin_users::disable))
        .route("/admin/users/{id}/enable", post(admin_users::enable))
        .route("/admin/workspaces", get(admin_site::workspaces))
        .route("/admin/templates", get(admin_site::templates).post(admin_site::apply_template))
        .route("/admin/templates/{name}", get(admin_site::template))
        .route(
            "/admin/templates/{name}/delete",
            get(admin_site::confirm_delete_template).post(admin_site::delete_template),
        )
        .route("/admin/machine", get(admin_site::machine))
        .route("/admin/log", get(admin_site::audit_log))
        .route("/admin/notice", get(admin_institution::notice).post(admin_institution::set_notice))
        .route("/admin/usage", get(admin_institution::usage))
        .route("/assets/{name}", get(asset))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route_layer(from_fn(traces::follow))
        .route_layer(from_fn_with_state(Arc::clone(&hub), journal::record))
        .fallback(nothing_here)
        .method_not_allowed_fallback(api::wrong_method)
        .layer(from_fn(in_time))
        .layer(DefaultBodyLimit::max(MOST_FORM))
        .with_state(Arc::clone(&hub));
    Router::new()
        .merge(api::router(Arc::clone(&hub)))
        .merge(pages)
        .layer(from_fn_with_state(Arc::clone(&hub), admit))
        .layer(from_fn_with_state(hub, secure))
        .layer(from_fn(crate::server::note_route))
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(LONGEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            plain(StatusCode::REQUEST_TIMEOUT, &Problem::engine("the request was not finished in time", "try again"))
        }
    }
}

/// Refuses what another site makes a browser ask for. Requests with a token of their own are
/// not made by a browser on another site's behalf.
async fn admit(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let own = request.extensions().get::<Host>().map(|Host(host)| hub.origins.own(host)).unwrap_or_default();
    let by_token = request.headers().contains_key(header::AUTHORIZATION) || is_from_provider(request.uri().path());
    let admitted = fetch::admit(request.method(), request.headers(), &own);
    match admitted {
        Err(problem) if !by_token => refusal(request.headers(), StatusCode::FORBIDDEN, &problem),
        _ => next.run(request).await,
    }
}

/// Where providers themselves send signed tokens, without a browser.
fn is_from_provider(path: &str) -> bool {
    path.strip_prefix("/sign-in/with/")
        .and_then(|rest| rest.strip_suffix("/ended"))
        .is_some_and(|name| !name.contains('/'))
}

/// Headers that every answer on the hub's origin carries.
async fn secure(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let host = request.extensions().get::<Host>().map(|Host(host)| host.clone());
    let started = std::time::Instant::now();
    let mut response = next.run(request).await;
    // The path only: queries carry secrets of one-time links.
    tracing::debug!(%method, path, status = response.status().as_u16(), elapsed = ?started.elapsed(), "answered");
    // Chromium applies form-action to redirects too, and signing in may lead to a workspace.
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
         connect-src 'self'; manifest-src 'self'; form-action 'self' {}; frame-ancestors 'none'; base-uri 'none'",
        hub.origins.workspaces_pattern(host.as_deref())
    );
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        if let (false, Ok(value)) = (headers.contains_key(&name), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_SECURITY_POLICY, &policy);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    // Not no-referrer: that would make browsers send `Origin: null` with our own forms.
    set(header::REFERRER_POLICY, "same-origin");
    set(header::CACHE_CONTROL, "no-store");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(
        HeaderName::from_static("permissions-policy"),
        "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()",
    );
    if hub.origins.secure() {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    response
}

/// A problem without a frame: for programs, and where there is nothing to frame.
fn plain(status: StatusCode, shown: &Problem) -> Response {
    problem::json(status, shown)
}

/// A problem for whoever asked: a page without links into the hub, or JSON.
fn refusal(headers: &HeaderMap, status: StatusCode, shown: &Problem) -> Response {
    if wants_page(headers) { problem::page(status, shown, Some(("/", "Go to Cubicle"))) } else { plain(status, shown) }
}

fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accepted| accepted.contains("text/html"))
}

/// A rendered page.
fn shown(status: StatusCode, rendered: Result<String, RenderError>) -> Response {
    match rendered {
        Ok(page) => (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response(),
        Err(error) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            &Problem::engine(format!("the page cannot be shown: {error}"), "this is a bug; please report it"),
        ),
    }
}

/// What a handler of a page gives up with: a framed page that says why.
pub(crate) struct Refused {
    visitor: Box<Visitor>,
    status: StatusCode,
    problem: Problem,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        if self.problem.kind == ProblemKind::Engine {
            tracing::warn!(what = %self.problem.what, "a page failed");
        }
        let view = pages::problem::View {
            frame: self.visitor.frame(None),
            status: self.status.as_u16(),
            problem: self.problem,
        };
        self.visitor.answer(shown(self.status, pages::problem::render(&view)))
    }
}

/// Sends the browser to a path on this origin after a form was accepted.
fn see_other(place: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let place = HeaderValue::from_str(place).unwrap_or_else(|_| HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, place);
    response
}

async fn asset(Path(name): Path<String>) -> Response {
    serve_asset(&name)
}

/// The stylesheet, the script or the logo.
pub(crate) fn serve_asset(name: &str) -> Response {
    match pages::assets::find(name) {
        Some(asset) => (
            [
                (header::CONTENT_TYPE, asset.content_type),
                (header::CACHE_CONTROL, pages::assets::CACHE_CONTROL),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ],
            asset.content,
        )
            .into_response(),
        None => plain(StatusCode::NOT_FOUND, &Problem::not_found("there is no such file", "")),
    }
}

async fn nothing_here(uri: Uri, visitor: Visitor) -> Response {
    if uri.path().starts_with("/api/") {
        return api::no_such_route(uri).await;
    }
    visitor
        .refuse_with(StatusCode::NOT_FOUND, Problem::not_found("there is no such page", "go back to the first page"))
        .into_response()
}
