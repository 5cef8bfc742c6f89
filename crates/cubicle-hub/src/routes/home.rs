//! The first page: one's own workspaces, and what can be launched.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cubicle_core::problem::Problem;
use serde::Deserialize;

use super::rows::{ListQuery, notice, rows, searchable};
use super::visitor::{Member, Posted};
use super::{see_other, shown};
use crate::api::may_launch;
use crate::hub::Hub;
use crate::pages;

/// Own workspaces and the gallery.
pub(super) async fn show(State(hub): State<Arc<Hub>>, member: Member, Query(query): Query<ListQuery>) -> Response {
    page(&hub, member, StatusCode::OK, &query, None).await
}

async fn page(hub: &Hub, member: Member, status: StatusCode, query: &ListQuery, problem: Option<Problem>) -> Response {
    let caller = member.caller();
    let (workspaces, templates) = match tokio::join!(hub.engine.workspaces(), hub.engine.templates()) {
        (Ok(workspaces), Ok(templates)) => (workspaces, templates),
        (Err(problem), _) | (_, Err(problem)) => return member.refuse(problem).into_response(),
    };
    // Own ones only, for administrators too: everybody's are on another page.
    let own = workspaces.into_iter().filter(|workspace| caller.owns(workspace)).collect();
    let (paging, own) = query.cut(own, searchable);
    let rows = rows(hub, own, &templates).await;
    let view = pages::home::View {
        frame: member.visitor.frame(notice(&query.done)),
        paging,
        rows,
        templates: templates.into_iter().filter(|template| may_launch(&caller, template)).collect(),
        problem,
    };
    shown(status, pages::home::render(&view))
}

#[derive(Deserialize)]
pub(super) struct Launch {
    #[serde(default)]
    template: String,
    #[serde(default)]
    name: String,
}

/// Launches the template that the form names.
pub(super) async fn launch(State(hub): State<Arc<Hub>>, member: Member, Posted(form): Posted<Launch>) -> Response {
    start(&hub, member, &form.template, &form.name).await
}

/// Launches the template that the path names.
pub(super) async fn launch_named(
    State(hub): State<Arc<Hub>>,
    member: Member,
    Path(template): Path<String>,
    Posted(form): Posted<Launch>,
) -> Response {
    start(&hub, member, &template, &form.name).await
}

async fn start(hub: &Hub, member: Member, template: &str, name: &str) -> Response {
    let from = Some(member.visitor.address);
    match hub.launch(&member.caller(), from, &member.account, template, name).await {
        Ok(workspace) => see_other(&format!("/workspaces/{}", workspace.id)),
        Err(problem) => {
            let status = crate::problem::status(problem.kind);
            page(hub, member, status, &ListQuery::default(), Some(problem)).await
        }
    }
}
