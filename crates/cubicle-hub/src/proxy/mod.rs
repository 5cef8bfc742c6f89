//! A workspace's origin: lets in who holds its cookie, and passes requests to the notebook.

pub(crate) mod answer;
pub(crate) mod bodies;
mod enter;
pub(crate) mod exchange;
mod frames;
mod kernels;
mod notice;
pub(crate) mod outbound;
pub(crate) mod websocket;

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::{Problem, ProblemKind};
use hyper::upgrade::OnUpgrade;

use crate::activity;
use crate::cookies;
use crate::fetch;
use crate::hub::Hub;
use crate::identity::Word;
use crate::liveness::Ending;
use crate::secret::{Digest, Purpose};
use bodies::Download;
use exchange::{Failure, Notebook};
pub(crate) use kernels::busy as kernels_busy;
use notice::Notice;

/// Where a request was made to, and by whom.
pub(crate) struct Visit {
    /// The workspace whose origin it is.
    pub(crate) workspace: WorkspaceId,
    /// The `Host` that was used.
    pub(crate) host: String,
    /// The client.
    pub(crate) client: IpAddr,
}

/// Answers a request to a workspace's origin.
pub(crate) async fn serve(hub: Arc<Hub>, visit: Visit, request: Request<Body>) -> Response<Body> {
    let notice = Notice { hub: &hub, visit: &visit, wants_page: wants_page(request.headers()) };
    if let Err(problem) = fetch::admit(request.method(), request.headers(), &hub.origins.own(&visit.host)) {
        return notice.problem(StatusCode::FORBIDDEN, &problem);
    }
    if request.uri().path() == "/.cubicle/enter" {
        return enter::enter(&notice, request.method(), request.uri()).await;
    }
    if let Some(name) = request.uri().path().strip_prefix("/.cubicle/assets/") {
        return crate::routes::serve_asset(name);
    }
    if request.uri().path().starts_with("/.cubicle/") {
        return notice.problem(StatusCode::NOT_FOUND, &Problem::not_found("there is no such page", ""));
    }
    let word = request.extensions().get::<Word>();
    let ending = match admitted(&hub, &visit.workspace, request.headers(), word).await {
        Ok(Some(ending)) => ending,
        Ok(None) => return stranger(&notice, request.method(), request.uri()).await,
        Err(problem) => return notice.problem(StatusCode::INTERNAL_SERVER_ERROR, &problem),
    };
    pass(&notice, request, ending).await
}

fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accepted| accepted.contains("text/html"))
}

/// Follows the session behind the workspace's cookie; nothing without a good one, or when it does not count for a request
/// that came by way of a front. Past the front the cookie is enough.
async fn admitted(
    hub: &Hub,
    workspace: &WorkspaceId,
    headers: &HeaderMap,
    word: Option<&Word>,
) -> Result<Option<Ending>, Problem> {
    let Some(cookie) = cookies::read(headers, cookies::WORKSPACE, hub.origins.secure()) else { return Ok(None) };
    let grant = Digest::of(Purpose::Grant, cookie);
    loop {
        let since = hub.liveness.epoch();
        let Some(granted) = hub.store.granted(grant, workspace.clone()).await? else { return Ok(None) };
        if word.is_some() {
            let session = hub.store.session(granted.session).await?;
            if !session.is_some_and(|session| hub.identities.counts(&session, word)) {
                return Ok(None);
            }
        }
        if let Some(ending) = hub.liveness.follow(granted.session, granted.expires_at, since) {
            return Ok(Some(ending));
        }
    }
}

/// Somebody without a cookie of this workspace: a person is sent to the hub, which knows
/// whether this is their workspace; a program is refused.
async fn stranger(notice: &Notice<'_>, method: &Method, uri: &Uri) -> Response<Body> {
    let visit = notice.visit;
    if let Err(problem) = notice.hub.engine.workspace(&visit.workspace).await {
        let status = crate::problem::status(problem.kind);
        return notice.problem(status, &problem);
    }
    if !notice.wants_page || !matches!(*method, Method::GET | Method::HEAD) {
        return notice.problem(
            StatusCode::UNAUTHORIZED,
            &Problem::new(
                ProblemKind::NotAllowed,
                "this request carries no valid cookie of this workspace",
                "open the workspace from the hub",
            ),
        );
    }
    let next = uri.path_and_query().map_or("/", |target| target.as_str());
    let hub = notice.hub.origins.hub(Some(&visit.host));
    let place = format!("{hub}/workspaces/{}/open?next={}", visit.workspace, encode(next));
    enter::redirect(&place)
}

/// Percent-encodes all but unreserved characters (RFC 3986, 2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Passes one request to the notebook.
async fn pass(notice: &Notice<'_>, mut request: Request<Body>, ending: Ending) -> Response<Body> {
    let (hub, visit) = (notice.hub, notice.visit);
    let path = request.uri().path().to_owned();
    let notebook = match hub.engine.connect(&visit.workspace).await.and_then(Notebook::over) {
        Ok(notebook) => notebook,
        Err(problem) => return notice.not_connected(&problem).await,
    };
    let browser = websocket::browser_side(&mut request);
    if browser.is_none() && activity::is_by_user(request.method(), &path) {
        hub.activity.by_user(&visit.workspace);
    }
    let told = outbound::Told {
        client: visit.client,
        host: &visit.host,
        secure: hub.origins.secure(),
        token: &notebook.token.clone(),
    };
    let Some(request) = outbound::request(request, &told) else {
        return notice.problem(
            StatusCode::BAD_REQUEST,
            &Problem::bad_input("the request has a method or header that is not passed on", ""),
        );
    };
    match notebook.ask(request, hub.timing.answer_head).await {
        Ok(answer) => {
            let (engine, workspace) = (Arc::clone(&hub.engine), visit.workspace.clone());
            let ending = ending.or(async move { engine.closed(&workspace).await });
            relay(notice, answer, browser, path, ending)
        }
        Err(Failure::Late) => notice.problem(
            StatusCode::GATEWAY_TIMEOUT,
            &Problem::engine(
                format!("the notebook did not answer within {} seconds", hub.timing.answer_head.as_secs()),
                "wait and load the page again; stop and start the workspace if that does not help",
            ),
        ),
        Err(Failure::Garbage(why)) => notice.garbage(&why),
    }
}

/// Passes a WebSocket on, and notes what its user does there; none when nobody asked for the switch.
pub(crate) fn socket(
    hub: &Arc<Hub>,
    workspace: &WorkspaceId,
    path: &str,
    browser: Option<OnUpgrade>,
    answer: Response<hyper::body::Incoming>,
    ending: Ending,
) -> Option<Response<Body>> {
    let (hub, workspace) = (Arc::clone(hub), workspace.clone());
    let by_user = activity::is_user_socket(path);
    let on_message = move || {
        if by_user {
            hub.activity.by_user(&workspace);
        }
    };
    let hold = websocket::Hold { messages_only: true, on_message, ending: ending.wait() };
    websocket::splice(browser?, answer, hold)
}

/// Passes the notebook's answer on, as far as it may be.
fn relay(
    notice: &Notice<'_>,
    answer: Response<hyper::body::Incoming>,
    browser: Option<OnUpgrade>,
    path: String,
    ending: Ending,
) -> Response<Body> {
    let visit = notice.visit;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return socket(notice.hub, &visit.workspace, &path, browser, answer, ending)
            .unwrap_or_else(|| notice.garbage("it switched to a protocol that nobody asked for"));
    }
    let (parts, body) = answer.into_parts();
    match answer::clean(parts.status, &parts.headers, &visit.host) {
        Ok(headers) => {
            let ended = Box::pin(ending.wait());
            let mut relayed = Response::new(Body::new(Download { body, ended }));
            *relayed.status_mut() = parts.status;
            *relayed.headers_mut() = headers;
            relayed
        }
        Err(answer::Refusal::LeadsAway) => notice.garbage("it tried to send you to another site"),
        Err(answer::Refusal::Malformed) => notice.garbage("its answer is malformed"),
    }
}
