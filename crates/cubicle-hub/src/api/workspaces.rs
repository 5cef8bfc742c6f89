//! Workspaces: launch, watch, stop, prove, delete.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use cubicle_core::problem::Problem;
use cubicle_core::report::Report;
use cubicle_core::workspace::{Usage, Workspace};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::HttpMethod;

use super::Authenticated;
use super::document::{Answer, Doc, Documented};
use super::input::{Asked, Input, OptionalInput, Segment};
use crate::hub::{Caller, Hub};
use crate::problem::ApiProblem;
use crate::server::{Address, Host};

pub(super) fn routes(documented: Documented) -> Documented {
    let shown = (200, Answer::Json("Workspace"));
    documented
        .route(
            HttpMethod::Get,
            "/workspaces",
            list,
            Doc {
                id: "list_workspaces",
                summary: "Your workspaces, newest first; an administrator or auditor sees everybody's.",
                query: &[("user", "Only those of this user.")],
                answer: (200, Answer::List("Workspace")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Post,
            "/workspaces",
            launch,
            Doc {
                id: "launch_workspace",
                summary: "Launches a template; answers at once, the steps follow as events.",
                input: Some("Launch"),
                answer: (202, Answer::Json("Workspace")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Get,
            "/workspaces/{id}",
            show,
            Doc { id: "show_workspace", summary: "One workspace.", answer: shown, ..Doc::NONE },
        )
        .route(
            HttpMethod::Delete,
            "/workspaces/{id}",
            delete,
            Doc {
                id: "delete_workspace",
                summary: "Stops and forgets a workspace.",
                query: &[("volume", "`true`: the user's home too, unless another workspace of the user exists.")],
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Post,
            "/workspaces/{id}/start",
            start,
            Doc {
                id: "start_workspace",
                summary: "Launches a stopped, refused or failed workspace again.",
                answer: (202, Answer::Json("Workspace")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Post,
            "/workspaces/{id}/stop",
            stop,
            Doc {
                id: "stop_workspace",
                summary: "Stops a workspace; answers when nothing of it runs. Its home is kept.",
                answer: shown,
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Post,
            "/workspaces/{id}/verify",
            verify,
            Doc {
                id: "verify_workspace",
                summary: "Proves its walls again now, from inside.",
                input: Some("Verify"),
                answer: (200, Answer::Json("Report")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Get,
            "/workspaces/{id}/report",
            report,
            Doc {
                id: "report_workspace",
                summary: "The last report, with its evidence.",
                answer: (200, Answer::Json("Report")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Get,
            "/workspaces/{id}/usage",
            usage,
            Doc {
                id: "usage_workspace",
                summary: "What it uses now.",
                answer: (200, Answer::Json("Usage")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Get,
            "/workspaces/{id}/logs",
            logs,
            Doc {
                id: "logs_workspace",
                summary: "The last lines that the notebook server printed. Whoever owns the workspace chose them.",
                answer: (200, Answer::Text),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Get,
            "/workspaces/{id}/events",
            events,
            Doc {
                id: "watch_workspace",
                summary: "The steps of the last launch as they happen, until it is over.",
                answer: (200, Answer::Events("StepEvents")),
                ..Doc::NONE
            },
        )
}

/// A workspace as the interface shows it.
#[derive(Debug, Serialize)]
struct WorkspaceView {
    url: String,
    user: String,
    #[serde(flatten)]
    workspace: Workspace,
}

fn view(hub: &Hub, caller: &Caller, host: Option<&Host>, mut workspace: Workspace) -> WorkspaceView {
    if !caller.is_admin() {
        // A pid of the host means nothing to a tenant and is none of their business.
        workspace.pid = None;
    }
    let origin = hub.origins.workspace(&workspace.id, host.map(|Host(host)| host.as_str()));
    WorkspaceView { url: format!("{origin}/"), user: workspace.owner.name.to_string(), workspace }
}

type MaybeHost = Option<axum::Extension<Host>>;

fn named(host: &MaybeHost) -> Option<&Host> {
    host.as_ref().map(|axum::Extension(host)| host)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    user: Option<String>,
}

async fn list(
    State(hub): State<Arc<Hub>>,
    host: MaybeHost,
    Authenticated { caller, .. }: Authenticated,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Vec<WorkspaceView>>, ApiProblem> {
    let mut workspaces = hub.workspaces(&caller).await?;
    if let Some(user) = query.user {
        caller.require_sight()?;
        let account = hub.store.account(&user).await?;
        workspaces.retain(|workspace| workspace.owner.id == account.id);
    }
    Ok(Json(workspaces.into_iter().map(|workspace| view(&hub, &caller, named(&host), workspace)).collect()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Launch {
    template: String,
    #[serde(default)]
    name: String,
    /// For administrators: launch for somebody else.
    #[serde(default)]
    user: Option<String>,
}

async fn launch(
    State(hub): State<Arc<Hub>>,
    host: MaybeHost,
    Address(from): Address,
    Authenticated { caller, .. }: Authenticated,
    Input(input): Input<Launch>,
) -> Result<Response, ApiProblem> {
    let account = match (&caller, input.user) {
        (Caller::Account(account), None) => account.clone(),
        (_, Some(user)) => {
            caller.require_admin()?;
            let account = hub.store.account(&user).await?;
            if account.disabled {
                return Err(ApiProblem::from(Problem::conflict(
                    format!("the account \"{}\" is disabled", account.name),
                    "enable it first, or name another user",
                )));
            }
            account
        }
        (Caller::Root, None) => {
            return Err(ApiProblem::from(Problem::bad_input("root owns no workspace", "say for whom, with \"user\"")));
        }
    };
    let workspace = hub.launch(&caller, from, &account, &input.template, &input.name).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&hub, &caller, named(&host), workspace))).into_response())
}

async fn show(
    State(hub): State<Arc<Hub>>,
    host: MaybeHost,
    Authenticated { caller, .. }: Authenticated,
    Segment(id): Segment,
) -> Result<Json<WorkspaceView>, ApiProblem> {
    let workspace = hub.visible(&caller, &id).await?;
    Ok(Json(view(&hub, &caller, named(&host), workspace)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteQuery {
    #[serde(default)]
    volume: bool,
}

async fn delete(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(id): Segment,
    Asked(query): Asked<DeleteQuery>,
) -> Result<StatusCode, ApiProblem> {
    let workspace = hub.workspace(&caller, &id).await?;
    hub.delete(&workspace, query.volume).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn start(
    State(hub): State<Arc<Hub>>,
    host: MaybeHost,
    Address(from): Address,
    Authenticated { caller, .. }: Authenticated,
    Segment(id): Segment,
) -> Result<Response, ApiProblem> {
    let workspace = hub.workspace(&caller, &id).await?;
    let workspace = hub.start(&caller, from, &workspace).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&hub, &caller, named(&host), workspace))).into_response())
}

async fn stop(
    State(hub): State<Arc<Hub>>,
    host: MaybeHost,
    Authenticated { caller, .. }: Authenticated,
    Segment(id): Segment,
) -> Result<Json<WorkspaceView>, ApiProblem> {
    let workspace = hub.workspace(&caller, &id).await?;
    let workspace = hub.engine.stop(&workspace.id).await?;
    Ok(Json(view(&hub, &caller, named(&host), workspace)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verify {
    #[serde(default)]
    guarantees: Vec<String>,
}

async fn verify(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(id): Segment,
    OptionalInput(input): OptionalInput<Verify>,
) -> Result<Json<Report>, ApiProblem> {
    caller.require_work()?;
    let workspace = hub.workspace(&caller, &id).await?;
    Ok(Json(hub.engine.verify(&workspace.id, &input.guarantees).await?))
}

async fn report(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(id): Segment,
) -> Result<Json<Report>, ApiProblem> {
    let workspace = hub.visible(&caller, &id).await?;
    Ok(Json(hub.report(&workspace.id).await?))
}

async fn usage(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(id): Segment,
) -> Result<Json<Usage>, ApiProblem> {
    let workspace = hub.visible(&caller, &id).await?;
    Ok(Json(hub.engine.usage(&workspace.id).await?))
}

async fn logs(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(id): Segment,
) -> Result<Response, ApiProblem> {
    let workspace = hub.workspace(&caller, &id).await?;
    let text = hub.engine.logs(&workspace.id).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

async fn events(
    State(hub): State<Arc<Hub>>,
    authenticated: Authenticated,
    Segment(id): Segment,
) -> Result<Response, ApiProblem> {
    let workspace = hub.workspace(&authenticated.caller, &id).await?;
    let ending = authenticated.ending(&hub).await?;
    let steps = hub.engine.events(&workspace.id).await?;
    let events = steps.map(|step| {
        let text = serde_json::to_string(&step).unwrap_or_default();
        Ok::<_, Infallible>(Event::default().data(text))
    });
    let ended = async move {
        match ending {
            Some(ending) => ending.wait().await,
            None => std::future::pending().await,
        }
    };
    let stream = events.take_until(ended);
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}
