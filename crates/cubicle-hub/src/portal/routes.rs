//! The contract's paths. The order of checks is Hatchery's, but for one: a claim of identity that is
//! not proven is refused before anything else.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::any;
use cubicle_core::problem::ProblemKind;
use cubicle_core::template::Template;
use cubicle_core::workspace::State as Life;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::answers::{error, honest_json, json as as_text, text};
use super::identity::who;
use super::status::Status;
use super::{NAME, door};
use crate::api::may_launch;
use crate::fetch;
use crate::hub::{Caller, Hub};
use crate::journal;
use crate::server::Host;
use crate::store::Account;

/// The largest body of a request, in bytes.
const MOST_BODY: usize = 64 << 10;

/// Everything on a portal's origin.
pub(crate) fn router(hub: Arc<Hub>) -> Router {
    let control = Router::new()
        .route("/lw-workspace/launch", any(launch))
        .route("/lw-workspace/terminate", any(terminate))
        .route("/lw-workspace/status", any(status))
        .route("/lw-workspace/options", any(options))
        .route("/lw-workspace/paymodels", any(pay_models))
        .route("/lw-workspace/allpaymodels", any(all_pay_models))
        .route("/lw-workspace/setpaymodel", any(set_pay_model))
        .route("/lw-workspace/resetpaymodels", any(reset_pay_models))
        .route("/lw-workspace/mount-files", any(mount_files))
        .route("/lw-workspace/allCosts", any(costs))
        .route("/lw-workspace/timetracker", any(time_tracker))
        .route("/lw-workspace/_status", any(healthy))
        .route("/lw-workspace/_version", any(version))
        .route_layer(from_fn(crate::traces::follow))
        .route_layer(from_fn_with_state(Arc::clone(&hub), journal::record))
        .layer(DefaultBodyLimit::max(MOST_BODY));
    Router::new()
        .merge(control)
        .route("/lw-workspace/proxy/", any(door::pass))
        .route("/lw-workspace/proxy/{*rest}", any(door::pass))
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::clone(&hub), admit))
        .layer(axum::middleware::from_fn(crate::server::note_route))
        .with_state(hub)
}

async fn nothing() -> Response {
    error(StatusCode::NOT_FOUND, "Not Found")
}

/// Refuses what another site makes a browser ask for. The portal's front turns its cookie into a token,
/// so a token alone does not show who made the request; programs say nothing of origins.
async fn admit(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let by_browser = ["origin", "sec-fetch-site"].iter().any(|name| request.headers().contains_key(*name));
    let own = request.extensions().get::<Host>().map(|Host(host)| hub.origins.of_portal(host)).unwrap_or_default();
    match fetch::admit(request.method(), request.headers(), &own) {
        Err(problem) if by_browser => error(StatusCode::FORBIDDEN, &problem.what),
        _ => next.run(request).await,
    }
}

/// Who asks, or the answer to who claims to be somebody.
macro_rules! asked {
    ($hub:expr, $headers:expr) => {
        match who($hub, $headers).await {
            Ok(account) => account,
            Err(refused) => return *refused,
        }
    };
}

#[derive(Debug, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    id: String,
    #[serde(default)]
    file_path: String,
}

type Given = Result<Query<Asked>, axum::extract::rejection::QueryRejection>;

fn given(query: Given) -> Asked {
    query.map(|Query(asked)| asked).unwrap_or_default()
}

/// Names a template as it is now: like Hatchery's, it changes with every edit.
fn id_of(template: &Template) -> String {
    let document = serde_json::to_string(template).unwrap_or_default();
    Sha256::digest(document.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Choice {
    name: String,
    cpu_limit: String,
    memory_limit: String,
    id: String,
    gpu: bool,
    /// In milliseconds.
    idle_time_limit: i64,
}

impl Choice {
    fn of(template: &Template) -> Self {
        let spec = &template.spec;
        let name = if spec.description.is_empty() { template.metadata.name.as_str() } else { &spec.description };
        Self {
            name: name.to_owned(),
            cpu_limit: spec.resources.cpu.to_string(),
            memory_limit: spec.resources.memory.to_string(),
            id: id_of(template),
            gpu: false,
            idle_time_limit: i64::try_from(spec.idle.after.0.saturating_mul(1000)).unwrap_or(-1),
        }
    }
}

fn invalid_id(id: &str) -> Response {
    error(StatusCode::BAD_REQUEST, &format!("Invalid 'id' parameter '{}'", shown(id)))
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn method_not_allowed() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// A problem of the engine as Hatchery passes errors on.
fn failed(problem: &cubicle_core::problem::Problem) -> Response {
    error(StatusCode::INTERNAL_SERVER_ERROR, &format!("{}; {}", problem.what, problem.remedy))
}

async fn options(State(hub): State<Arc<Hub>>, headers: HeaderMap, query: Given) -> Response {
    let Some(account) = asked!(&hub, &headers) else { return please_log_in() };
    let caller = Caller::Account(account);
    let mut templates = match hub.engine.templates().await {
        Ok(templates) => templates,
        Err(problem) => return failed(&problem),
    };
    templates.retain(|template| caller.require_work().is_ok() && may_launch(&caller, template));
    let id = given(query).id;
    if !id.is_empty() {
        return match templates.iter().find(|template| id_of(template) == id) {
            Some(template) => as_text(&Choice::of(template)),
            None => invalid_id(&id),
        };
    }
    // A nil slice in Go is `null`.
    let choices: Vec<Choice> = templates.iter().map(Choice::of).collect();
    as_text(&(!choices.is_empty()).then_some(choices))
}

async fn launch(State(hub): State<Arc<Hub>>, method: Method, headers: HeaderMap, query: Given) -> Response {
    let account = asked!(&hub, &headers);
    if method != Method::POST {
        return method_not_allowed();
    }
    let id = given(query).id;
    if id.is_empty() {
        return error(StatusCode::BAD_REQUEST, "Missing 'id' parameter");
    }
    let templates = match hub.engine.templates().await {
        Ok(templates) => templates,
        Err(problem) => return failed(&problem),
    };
    let Some(template) = templates.iter().find(|template| id_of(template) == id) else { return invalid_id(&id) };
    let Some(account) = account else {
        return error(StatusCode::BAD_REQUEST, "No username found. Launch forbidden");
    };
    let caller = Caller::Account(account.clone());
    if caller.require_work().is_err() || !may_launch(&caller, template) {
        return invalid_id(&id);
    }
    match start(&hub, &account, template).await {
        Ok(()) => text("Success"),
        Err(problem) if problem.kind == ProblemKind::NotAllowed => invalid_id(&id),
        Err(problem) => failed(&problem),
    }
}

async fn start(hub: &Hub, account: &Account, template: &Template) -> Result<(), cubicle_core::problem::Problem> {
    // Two launches of one person at once would both see no workspace.
    let _alone = match &hub.portal {
        Some(portal) => Some(portal.launching.lock().await),
        None => None,
    };
    match hub.of_portal(account).await? {
        // What was stopped is gone for a portal.
        Some(old) if old.state == Life::Stopped => hub.delete(&old, false).await?,
        Some(old) => {
            return Err(cubicle_core::problem::Problem::conflict(
                format!("workspace {} already exists", old.id),
                "terminate it first",
            ));
        }
        None => {}
    }
    // The address is the front's, and everybody's behind it.
    let caller = Caller::Account(account.clone());
    hub.launch(&caller, None, account, template.metadata.name.as_str(), NAME).await.map(drop)
}

async fn terminate(State(hub): State<Arc<Hub>>, method: Method, headers: HeaderMap) -> Response {
    let account = asked!(&hub, &headers);
    if method != Method::POST {
        return method_not_allowed();
    }
    let Some(account) = account else {
        return error(StatusCode::BAD_REQUEST, "No username found. Unable to terminate");
    };
    let absent =
        || error(StatusCode::INTERNAL_SERVER_ERROR, "a workspace pod was not found: there is none of this user");
    let workspace = match hub.of_portal(&account).await {
        Ok(Some(workspace)) => workspace,
        Ok(None) => return absent(),
        Err(problem) => return failed(&problem),
    };
    journal::about(format!("{} of {}", workspace.id, workspace.owner.id));
    match hub.delete(&workspace, false).await {
        Ok(()) if workspace.state == Life::Stopped => absent(),
        Ok(()) => text("Terminated workspace"),
        Err(problem) if problem.kind == ProblemKind::NotFound => absent(),
        Err(problem) => failed(&problem),
    }
}

async fn status(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Response {
    let Some(account) = asked!(&hub, &headers) else {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "no username sent in header");
    };
    let found = tokio::try_join!(hub.of_portal(&account), hub.engine.templates());
    match found {
        Ok((workspace, templates)) => as_text(&Status::of(workspace.as_ref(), &templates)),
        Err(problem) => failed(&problem),
    }
}

fn please_log_in() -> Response {
    error(StatusCode::UNAUTHORIZED, "Please login")
}

async fn pay_models(State(hub): State<Arc<Hub>>, method: Method, headers: HeaderMap) -> Response {
    let Some(_) = asked!(&hub, &headers) else { return please_log_in() };
    if method != Method::GET {
        return error(StatusCode::NOT_FOUND, "Not Found");
    }
    error(StatusCode::NOT_FOUND, "Current paymodel not set")
}

async fn all_pay_models(State(hub): State<Arc<Hub>>, method: Method, headers: HeaderMap) -> Response {
    let Some(_) = asked!(&hub, &headers) else { return please_log_in() };
    if method != Method::GET {
        return error(StatusCode::NOT_FOUND, "Not Found");
    }
    error(StatusCode::NOT_FOUND, "No paymodel set")
}

async fn runs(hub: &Hub, account: &Account) -> Result<bool, cubicle_core::problem::Problem> {
    Ok(hub.of_portal(account).await?.is_some_and(|workspace| workspace.state.is_live()))
}

async fn set_pay_model(State(hub): State<Arc<Hub>>, method: Method, headers: HeaderMap, query: Given) -> Response {
    let account = asked!(&hub, &headers);
    if method != Method::POST {
        return method_not_allowed();
    }
    let Some(account) = account else { return please_log_in() };
    let id = given(query).id;
    if id.is_empty() {
        return error(StatusCode::BAD_REQUEST, "Missing ID argument");
    }
    match runs(&hub, &account).await {
        Ok(true) => error(StatusCode::INTERNAL_SERVER_ERROR, "Can not update paymodel when workspace is running"),
        Ok(false) => error(StatusCode::INTERNAL_SERVER_ERROR, &format!("no paymodel with id {}", shown(&id))),
        Err(problem) => failed(&problem),
    }
}

async fn reset_pay_models(State(hub): State<Arc<Hub>>, method: Method, headers: HeaderMap) -> Response {
    let account = asked!(&hub, &headers);
    if method != Method::POST {
        return method_not_allowed();
    }
    let Some(account) = account else { return please_log_in() };
    match runs(&hub, &account).await {
        Ok(true) => error(StatusCode::INTERNAL_SERVER_ERROR, "Can not reset paymodels when workspace is running"),
        Ok(false) => text("Current Paymodel has been reset"),
        Err(problem) => failed(&problem),
    }
}

/// No file is mounted by a portal here: data sets belong to templates.
async fn mount_files(State(hub): State<Arc<Hub>>, headers: HeaderMap, query: Given) -> Response {
    let Some(_) = asked!(&hub, &headers) else { return please_log_in() };
    let path = given(query).file_path;
    if path.is_empty() { text("[]") } else { error(StatusCode::BAD_REQUEST, &format!("unknown id '{}'", shown(&path))) }
}

/// Hatchery tells everybody about everybody; here people see their own.
async fn costs(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Response {
    let Some(account) = asked!(&hub, &headers) else { return please_log_in() };
    let caller = Caller::Account(account);
    let found = tokio::try_join!(hub.workspaces(&caller), hub.engine.templates());
    let (workspaces, templates) = match found {
        Ok(found) => found,
        Err(problem) => return failed(&problem),
    };
    let pods: Vec<Value> = workspaces
        .iter()
        .filter(|workspace| workspace.state.is_live())
        .map(|workspace| {
            let template = templates.iter().find(|template| template.metadata.name == workspace.template);
            let resources = template.map(|template| template.spec.resources.clone()).unwrap_or_default();
            let since = jiff::Timestamp::now().duration_since(workspace.opened_at.unwrap_or(workspace.created_at));
            json!({
                "pod_name": workspace.id, "namespace": "cubicle", "runtime": since.as_secs_f64() / 3600.0,
                "cpu_cores": resources.cpu.0 as f64 / 1000.0, "memory_gb": resources.memory.0 as f64 / f64::from(1 << 30),
                "cpu_cost": 0.0, "memory_cost": 0.0, "total_cost": 0.0,
            })
        })
        .collect();
    honest_json(&json!({"namespace": "cubicle", "total_pods": pods.len(), "total_cost": 0.0, "pods": pods}))
}

/// Usage is counted by the engine; what a client counts is taken and not believed.
async fn time_tracker(
    State(hub): State<Arc<Hub>>,
    method: Method,
    headers: HeaderMap,
    body: Result<axum::body::Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    let Some(_) = asked!(&hub, &headers) else { return please_log_in() };
    let read = body.ok().and_then(|body| serde_json::from_slice::<Value>(&body).ok());
    match read {
        Some(_) if method == Method::POST => text(""),
        _ => error(StatusCode::BAD_REQUEST, "the body is not JSON, or it was not posted"),
    }
}

async fn healthy() -> Response<Body> {
    text("Healthy")
}

async fn version() -> Response<Body> {
    as_text(&json!({"commit": "", "version": env!("CARGO_PKG_VERSION")}))
}
