//! A user's notebook below the portal's path. The portal's cookies and tokens stop here, and what a
//! notebook answers stays below its path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use cubicle_core::name::{UserId, WorkspaceId};
use cubicle_core::problem::{Problem, ProblemKind};
use hyper::upgrade::OnUpgrade;

use super::answers::error;
use super::identity::{connections_of, who};
use super::{PROXY, is_remote_user};
use crate::activity;
use crate::cookies;
use crate::hub::{Hub, from_now};
use crate::liveness::Ending;
use crate::proxy::bodies::Download;
use crate::proxy::exchange::{Failure, Notebook};
use crate::proxy::{self, answer, outbound, websocket};
use crate::server::{Client, Host};
use crate::store::Account;

/// How long it is remembered which workspace is whose: a page asks for a hundred files.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How many are remembered.
const MOST: usize = 10_000;

/// Which workspace a user's door leads to.
#[derive(Default)]
pub(crate) struct Doors {
    known: Mutex<HashMap<UserId, (Door, Instant)>>,
}

#[derive(Clone)]
struct Door {
    workspace: WorkspaceId,
    /// Below which path the notebook serves.
    base: String,
}

impl Doors {
    async fn of(&self, hub: &Hub, account: &Account) -> Result<Option<Door>, Problem> {
        let known = |doors: &HashMap<UserId, (Door, Instant)>| {
            let (door, since) = doors.get(&account.id)?;
            (since.elapsed() < REMEMBERED).then(|| door.clone())
        };
        if let Some(door) = known(&self.known.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(Some(door));
        }
        let Some(workspace) = hub.of_portal(account).await? else { return Ok(None) };
        let templates = hub.engine.templates().await?;
        let template = templates.into_iter().find(|template| template.metadata.name == workspace.template);
        let base = template.map_or_else(|| "/".to_owned(), |template| template.spec.base_path);
        let door = Door { workspace: workspace.id, base };
        let mut doors = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if doors.len() >= MOST {
            doors.clear();
        }
        doors.insert(account.id.clone(), (door.clone(), Instant::now()));
        Ok(Some(door))
    }

    fn forget(&self, account: &Account) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&account.id);
    }
}

/// Passes one request on.
pub(super) async fn pass(State(hub): State<Arc<Hub>>, request: Request) -> Response {
    let since = hub.liveness.epoch();
    let account = match who(&hub, request.headers()).await {
        Ok(Some(account)) => account,
        Ok(None) => return error(StatusCode::UNAUTHORIZED, "Please login"),
        Err(refused) => return *refused,
    };
    let Some(rest) = request.uri().path().strip_prefix(PROXY).filter(|rest| means_one_place(rest)).map(str::to_owned)
    else {
        return error(StatusCode::BAD_REQUEST, "a path with . or .. segments or backslashes is not passed on");
    };
    // Ended meanwhile: whoever asks again is looked up again.
    let Some(ending) = hub.liveness.follow(connections_of(&account), from_now(hub.timing.session), since) else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "sessions were ended just now; ask again");
    };
    let Some(portal) = &hub.portal else { return error(StatusCode::NOT_FOUND, "Not Found") };
    let mut connected = None;
    // What is remembered may be gone.
    for _ in 0..2 {
        let door = match portal.doors.of(&hub, &account).await {
            Ok(Some(door)) => door,
            Ok(None) => return error(StatusCode::NOT_FOUND, "Not Found"),
            Err(problem) => return unavailable(&problem),
        };
        match hub.engine.connect(&door.workspace).await.and_then(Notebook::over) {
            Ok(notebook) => {
                connected = Some((door, notebook));
                break;
            }
            Err(problem) => {
                portal.doors.forget(&account);
                connected = None;
                tracing::debug!(workspace = %door.workspace, %problem, "a door does not open");
            }
        }
    }
    let Some((door, notebook)) = connected else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "the workspace is not running");
    };
    exchange(&hub, request, &rest, door, notebook, ending).await
}

fn unavailable(problem: &Problem) -> Response {
    let status = match problem.kind {
        ProblemKind::Engine => StatusCode::BAD_GATEWAY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    error(status, &problem.what)
}

async fn exchange(
    hub: &Arc<Hub>,
    mut request: Request,
    rest: &str,
    door: Door,
    notebook: Notebook,
    ending: Ending,
) -> Response {
    let host = request.extensions().get::<Host>().map(|Host(host)| host.clone()).unwrap_or_default();
    let client = request.extensions().get::<Client>().map(|Client(address)| *address);
    let plain = format!("/{rest}");
    let browser = websocket::browser_side(&mut request);
    if browser.is_none() && activity::is_by_user(request.method(), &plain) {
        hub.activity.by_user(&door.workspace);
    }
    let target = match request.uri().query() {
        Some(query) => format!("{}{rest}?{query}", door.base),
        None => format!("{}{rest}", door.base),
    };
    let Ok(target) = target.parse::<Uri>() else { return error(StatusCode::BAD_REQUEST, "the path is not valid") };
    *request.uri_mut() = target;
    let kept = kept_cookies(request.headers());
    let told = outbound::Told {
        client: client.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
        host: &host,
        secure: hub.origins.of_portal(&host).starts_with("https:"),
        token: &notebook.token.clone(),
    };
    let Some(mut request) = outbound::request(request, &told) else {
        return error(StatusCode::BAD_REQUEST, "the request has a method or header that is not passed on");
    };
    let named: Vec<_> = request.headers().keys().filter(|name| is_remote_user(name.as_str())).cloned().collect();
    for name in named {
        request.headers_mut().remove(name);
    }
    request.headers_mut().remove(header::COOKIE);
    if let Some(kept) = kept {
        request.headers_mut().insert(header::COOKIE, kept);
    }
    match notebook.ask(request, hub.timing.answer_head).await {
        Ok(answer) => relay(hub, answer, browser, &plain, &host, door, ending),
        Err(Failure::Late) => error(StatusCode::GATEWAY_TIMEOUT, "the notebook did not answer in time"),
        Err(Failure::Garbage(why)) => garbage(&why),
    }
}

fn garbage(why: &str) -> Response {
    tracing::info!(why, "a notebook's answer was not passed on");
    error(StatusCode::BAD_GATEWAY, &format!("the notebook's answer cannot be shown: {why}"))
}

fn relay(
    hub: &Arc<Hub>,
    answer: Response<hyper::body::Incoming>,
    browser: Option<OnUpgrade>,
    path: &str,
    host: &str,
    door: Door,
    ending: Ending,
) -> Response {
    let (engine, workspace) = (Arc::clone(&hub.engine), door.workspace.clone());
    let ending = ending.or(async move { engine.closed(&workspace).await });
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return proxy::socket(hub, &door.workspace, path, browser, answer, ending)
            .unwrap_or_else(|| garbage("it switched to a protocol that nobody asked for"));
    }
    let (parts, body) = answer.into_parts();
    let Some(headers) = answer::clean(parts.status, &parts.headers, host).ok().and_then(|mut headers| {
        stay_below(&mut headers, &door.base)?;
        Some(headers)
    }) else {
        return garbage("it is malformed, or tried to send you away from the workspace");
    };
    let mut relayed = Response::new(Body::new(Download { body, ended: Box::pin(ending.wait()) }));
    *relayed.status_mut() = parts.status;
    *relayed.headers_mut() = headers;
    relayed
}

/// Whether a front and a notebook read the same place out of a path, however often they decode it.
fn means_one_place(rest: &str) -> bool {
    let decoded =
        rest.to_ascii_lowercase().replace("%25", "%").replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
    !decoded.contains('\\') && decoded.split('/').all(|part| part != "." && part != "..")
}

/// Cookies that a notebook may see and set on an origin that it shares: Jupyter's scripts read this one.
fn is_of_notebook(name: &str) -> bool {
    name == "_xsrf"
}

fn kept_cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let kept: Vec<&str> = cookies::pairs(headers)
        .filter(|pair| pair.split_once('=').is_some_and(|(name, _)| is_of_notebook(name.trim())))
        .collect();
    (!kept.is_empty()).then(|| HeaderValue::from_str(&kept.join("; ")).ok()).flatten()
}

/// Keeps what an answer says below the workspace's path; nothing when it leads elsewhere.
fn stay_below(headers: &mut HeaderMap, base: &str) -> Option<()> {
    headers.remove("service-worker-allowed");
    headers.remove(header::CONTENT_LOCATION);
    let cookies: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().filter_map(own_cookie).collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
    if let Some(place) = headers.get(header::LOCATION) {
        let place = inside(place.to_str().ok()?, base)?;
        headers.insert(header::LOCATION, HeaderValue::from_str(&place).ok()?);
    }
    Some(())
}

fn own_cookie(value: &HeaderValue) -> Option<HeaderValue> {
    let cookie = cookie::Cookie::parse(value.to_str().ok()?.to_owned()).ok()?;
    if !is_of_notebook(cookie.name()) {
        return None;
    }
    let (name, kept) = (cookie.name().to_owned(), cookie.value().to_owned());
    let cookie = cookie::Cookie::build((name, kept)).path(PROXY).same_site(cookie::SameSite::Lax);
    HeaderValue::from_str(&cookie.to_string()).ok()
}

/// Where a redirect leads, as a path of the portal.
fn inside(place: &str, base: &str) -> Option<String> {
    let path = place.split(['?', '#']).next().unwrap_or_default();
    if !means_one_place(path) || path.starts_with("//") {
        return None;
    }
    match place.strip_prefix('/') {
        // Relative to where the browser is: without dot segments it stays below.
        None => Some(place.to_owned()),
        Some(_) => {
            // The base with and without its last slash.
            let rest = match place.strip_prefix(base) {
                Some(rest) => rest,
                None if path == base.trim_end_matches('/') => &place[path.len()..],
                None => return None,
            };
            Some(format!("{PROXY}{rest}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_are_seen_in_every_spelling() {
        for good in ["", "lab", "api/contents/a%2Fb", "a..b/.c", "x%20y", "files/%E2%82%AC.txt"] {
            assert!(means_one_place(good), "{good}");
        }
        for bad in ["..", "./x", "a/../b", "%2e%2e/launch", "a/%2E./b", "..%2flaunch", "%252e%252e/x", "a\\b", "..%5cx"]
        {
            assert!(!means_one_place(bad), "{bad}");
        }
    }

    #[test]
    fn redirects_stay_below_the_workspace() {
        for (place, base, expected) in [
            ("/lw-workspace/proxy/lab?x#y", PROXY, Some("/lw-workspace/proxy/lab?x#y")),
            ("/lw-workspace/proxy", PROXY, Some("/lw-workspace/proxy/")),
            ("lab", PROXY, Some("lab")),
            ("/lab", "/", Some("/lw-workspace/proxy/lab")),
            ("/", PROXY, None),
            ("/user/profile", PROXY, None),
            ("/lw-workspace/launch", PROXY, None),
            ("../launch", PROXY, None),
            ("/lw-workspace/proxy/../launch", PROXY, None),
            ("/lw-workspace/proxy/%2e%2e/launch", PROXY, None),
            ("//evil.example", "/", None),
        ] {
            assert_eq!(inside(place, base).as_deref(), expected, "{place} below {base}");
        }
    }

    #[test]
    fn cookies_of_the_portal_are_nobodys_but_its_own() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("access_token=secret; _xsrf=1; fence=x"));
        headers.append("cookie", HeaderValue::from_static("_xsrf_=2; csrftoken=3"));
        assert_eq!(kept_cookies(&headers).expect("kept"), "_xsrf=1");
        let set = |text: &'static str| own_cookie(&HeaderValue::from_static(text));
        assert_eq!(
            set("_xsrf=1; Path=/; Expires=x").expect("kept"),
            "_xsrf=1; SameSite=Lax; Path=/lw-workspace/proxy/"
        );
        for planted in ["access_token=1; Path=/", "fence=1", "__Host-x=1", "=_xsrf=1"] {
            assert!(set(planted).is_none(), "{planted}");
        }
    }
}
