//! One workspace: its launch, its walls, its door.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_core::workspace::{State as Life, StepEvent, Workspace};
use futures::StreamExt as _;
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::rows::{notice, row};
use super::visitor::{Member, NoFields, Posted};
use super::{Refused, see_other, shown};
use crate::hub::{Hub, from_now};
use crate::origin::safe_next;
use crate::pages;
use crate::proxy::encode;
use crate::secret::{self, Digest, Purpose};

/// How long the page waits for one more event of the past.
const PAUSE: Duration = Duration::from_millis(30);
/// More events than any launch has.
const MOST_EVENTS: usize = 200;
/// The end of the log that the page shows, in characters.
const MOST_LOG: usize = 20_000;

async fn found(hub: &Hub, member: Member, id: &str, look: bool) -> Result<(Member, Workspace), Box<Refused>> {
    let caller = member.caller();
    match if look { hub.visible(&caller, id).await } else { hub.workspace(&caller, id).await } {
        Ok(workspace) => Ok((member, workspace)),
        Err(problem) => Err(Box::new(member.refuse(problem))),
    }
}

/// Looks the workspace up or answers with the page that says why not; `look` for who only looks.
macro_rules! workspace_or_refuse {
    ($hub:expr, $member:expr, $id:expr) => {
        workspace_or_refuse!($hub, $member, $id, false)
    };
    ($hub:expr, $member:expr, $id:expr, $look:expr) => {
        match found($hub, $member, $id, $look).await {
            Ok(found) => found,
            Err(refused) => return (*refused).into_response(),
        }
    };
}

/// The events so far, without waiting for those to come.
async fn events_so_far(hub: &Hub, id: &WorkspaceId) -> Vec<StepEvent> {
    let mut events = Vec::new();
    let Ok(mut stream) = hub.engine.events(id).await else { return events };
    while let Ok(Some(event)) = tokio::time::timeout(PAUSE, stream.next()).await {
        events.push(event);
        if events.len() >= MOST_EVENTS {
            break;
        }
    }
    events
}

/// Whether it is more than a look: an auditor sees no log, which its user wrote, and changes nothing.
fn may_change(member: &Member, workspace: &Workspace) -> bool {
    let caller = member.caller();
    caller.is_admin() || (caller.owns(workspace) && caller.require_work().is_ok())
}

/// The page of one workspace.
pub(super) async fn show(State(hub): State<Arc<Hub>>, member: Member, Path(id): Path<String>) -> Response {
    let (member, workspace) = workspace_or_refuse!(&hub, member, &id, true);
    let own = member.caller().owns(&workspace);
    let failed = may_change(&member, &workspace) && matches!(workspace.state, Life::Failed | Life::Refused);
    let (events, templates, report, log) =
        tokio::join!(events_so_far(&hub, &workspace.id), hub.engine.templates(), hub.report(&workspace.id), async {
            if failed { hub.engine.logs(&workspace.id).await.unwrap_or_default() } else { String::new() }
        },);
    let templates = templates.unwrap_or_default();
    let template = templates.iter().find(|template| template.metadata.name == workspace.template).cloned();
    let view = pages::launch::View {
        frame: member.visitor.frame(None),
        row: row(&hub, workspace, &templates).await,
        template,
        events,
        report: report.ok(),
        log: end_of(&log, MOST_LOG),
        own,
    };
    shown(StatusCode::OK, pages::launch::render(&view))
}

fn end_of(text: &str, most: usize) -> String {
    let skipped = text.chars().count().saturating_sub(most);
    text.chars().skip(skipped).collect()
}

#[derive(Deserialize)]
pub(super) struct Opening {
    #[serde(default)]
    next: String,
}

/// Issues a ticket for the workspace's own origin and sends the browser there.
pub(super) async fn open(
    State(hub): State<Arc<Hub>>,
    member: Member,
    Path(id): Path<String>,
    Query(opening): Query<Opening>,
) -> Response {
    let (member, workspace) = workspace_or_refuse!(&hub, member, &id);
    if let Err(problem) = member.caller().require_work() {
        return member.refuse(problem).into_response();
    }
    if !member.caller().owns(&workspace) {
        // What stands in a notebook belongs to its user; an administrator may stop it, not enter.
        let problem = Problem::new(
            ProblemKind::NotAllowed,
            format!("this workspace belongs to \"{}\"", workspace.owner.name),
            "only its owner can open it",
        );
        return member.refuse(problem).into_response();
    }
    if workspace.state != Life::Running {
        return see_other(&format!("/workspaces/{}", workspace.id));
    }
    let Some(session) = &member.visitor.session else { return see_other("/sign-in") };
    let ticket = secret::generate();
    let issued = hub
        .store
        .issue_ticket(
            Digest::of(Purpose::Ticket, ticket.expose_secret()),
            session.digest,
            workspace.id.clone(),
            from_now(hub.timing.ticket),
        )
        .await;
    if let Err(problem) = issued {
        return member.refuse(problem).into_response();
    }
    let origin = hub.origins.workspace(&workspace.id, Some(&member.visitor.host));
    let mut response = see_other(&format!(
        "{origin}/.cubicle/enter?ticket={}&next={}",
        ticket.expose_secret(),
        encode(&safe_next(Some(&opening.next)))
    ));
    response
        .headers_mut()
        .insert(axum::http::header::REFERRER_POLICY, axum::http::HeaderValue::from_static("no-referrer"));
    response
}

/// Launches it again.
pub(super) async fn start(
    State(hub): State<Arc<Hub>>,
    member: Member,
    Path(id): Path<String>,
    Posted(NoFields {}): Posted<NoFields>,
) -> Response {
    let (member, workspace) = workspace_or_refuse!(&hub, member, &id);
    match hub.start(&member.caller(), Some(member.visitor.address), &workspace).await {
        Ok(workspace) => see_other(&format!("/workspaces/{}", workspace.id)),
        Err(problem) => member.refuse(problem).into_response(),
    }
}

/// Stops it; the home is kept.
pub(super) async fn stop(
    State(hub): State<Arc<Hub>>,
    member: Member,
    Path(id): Path<String>,
    Posted(NoFields {}): Posted<NoFields>,
) -> Response {
    let (member, workspace) = workspace_or_refuse!(&hub, member, &id);
    match hub.engine.stop(&workspace.id).await {
        Ok(workspace) => see_other(&format!("/workspaces/{}", workspace.id)),
        Err(problem) => member.refuse(problem).into_response(),
    }
}

/// Asks before deleting.
pub(super) async fn confirm_delete(State(hub): State<Arc<Hub>>, member: Member, Path(id): Path<String>) -> Response {
    let (member, workspace) = workspace_or_refuse!(&hub, member, &id);
    let (all, volumes) = tokio::join!(hub.engine.workspaces(), hub.engine.volumes());
    let all = match all {
        Ok(all) => all,
        Err(problem) => return member.refuse(problem).into_response(),
    };
    let others = all.iter().filter(|other| other.owner.id == workspace.owner.id && other.id != workspace.id).count();
    let home = volumes
        .unwrap_or_default()
        .into_iter()
        .find(|volume| volume.owner.id == workspace.owner.id)
        .map(|volume| volume.used);
    let action = pages::confirm::Action::DeleteWorkspace { workspace: Box::new(workspace), others, home };
    let view = pages::confirm::View { frame: member.visitor.frame(None), action };
    shown(StatusCode::OK, pages::confirm::render(&view))
}

#[derive(Deserialize)]
pub(super) struct Deletion {
    #[serde(default)]
    volume: String,
}

/// Deletes it, and the home if that was asked for.
pub(super) async fn delete(
    State(hub): State<Arc<Hub>>,
    member: Member,
    Path(id): Path<String>,
    Posted(form): Posted<Deletion>,
) -> Response {
    let (member, workspace) = workspace_or_refuse!(&hub, member, &id);
    let volume = form.volume == "yes";
    match hub.delete(&workspace, volume).await {
        Ok(()) => see_other(if volume { "/?done=deleted-with-home" } else { "/?done=deleted" }),
        Err(problem) => member.refuse(problem).into_response(),
    }
}

#[derive(Deserialize)]
pub(super) struct Filter {
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    done: String,
}

/// "What isolates me".
pub(super) async fn isolation(
    State(hub): State<Arc<Hub>>,
    member: Member,
    Path(id): Path<String>,
    Query(filter): Query<Filter>,
) -> Response {
    let (member, workspace) = workspace_or_refuse!(&hub, member, &id, true);
    let report = match hub.report(&workspace.id).await {
        Ok(report) => Some(report),
        Err(problem) if problem.kind == ProblemKind::NotFound => None,
        Err(problem) => return member.refuse(problem).into_response(),
    };
    let view = pages::isolation::View {
        frame: member.visitor.frame(notice(&filter.done)),
        can_verify: workspace.state == Life::Running && may_change(&member, &workspace),
        workspace,
        report,
        only: pages::isolation::verdict_of_query(&filter.verdict),
    };
    shown(StatusCode::OK, pages::isolation::render(&view))
}

/// Proves the walls again.
pub(super) async fn verify(
    State(hub): State<Arc<Hub>>,
    member: Member,
    Path(id): Path<String>,
    Posted(NoFields {}): Posted<NoFields>,
) -> Response {
    let (member, workspace) = workspace_or_refuse!(&hub, member, &id);
    if let Err(problem) = member.caller().require_work() {
        return member.refuse(problem).into_response();
    }
    match hub.engine.verify(&workspace.id, &[]).await {
        Ok(_) => see_other(&format!("/workspaces/{}/isolation?done=proven", workspace.id)),
        Err(problem) => member.refuse(problem).into_response(),
    }
}
