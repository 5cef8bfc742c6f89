//! Everybody's workspaces, the templates and the machine, for administrators.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cubicle_core::name::TemplateName;
use cubicle_core::problem::Problem;
use cubicle_core::template::Template;
use serde::Deserialize;

use super::rows::{ListQuery, notice, rows, searchable};
use super::visitor::{Administrator, NoFields, Observer, Posted};
use super::{see_other, shown};
use crate::hub::Hub;
use crate::pages;

/// How many entries of the record are found at most.
const MOST_ENTRIES: usize = 1000;

/// Everybody's workspaces.
pub(super) async fn workspaces(
    State(hub): State<Arc<Hub>>,
    Observer(member): Observer,
    Query(query): Query<ListQuery>,
) -> Response {
    let (workspaces, templates) = match tokio::join!(hub.engine.workspaces(), hub.engine.templates()) {
        (Ok(workspaces), Ok(templates)) => (workspaces, templates),
        (Err(problem), _) | (_, Err(problem)) => return member.refuse(problem).into_response(),
    };
    let (paging, workspaces) = query.cut(workspaces, searchable);
    let rows = rows(&hub, workspaces, &templates).await;
    let view = pages::admin_workspaces::View { frame: member.visitor.frame(notice(&query.done)), paging, rows };
    shown(StatusCode::OK, pages::admin_workspaces::render(&view))
}

/// All templates, and a form for a new one.
pub(super) async fn templates(
    State(hub): State<Arc<Hub>>,
    administrator: Administrator,
    Query(query): Query<ListQuery>,
) -> Response {
    let edited = Edited { notice: notice(&query.done), ..Edited::default() };
    templates_page(&hub, administrator, StatusCode::OK, edited).await
}

/// What the text area of the page holds.
#[derive(Default)]
struct Edited {
    notice: Option<String>,
    selected: String,
    yaml: String,
    problem: Option<Problem>,
}

async fn templates_page(
    hub: &Hub,
    Administrator(member): Administrator,
    status: StatusCode,
    edited: Edited,
) -> Response {
    let templates = match hub.engine.templates().await {
        Ok(templates) => templates,
        Err(problem) => return member.refuse(problem).into_response(),
    };
    let view = pages::admin_templates::View {
        frame: member.visitor.frame(edited.notice),
        templates,
        selected: edited.selected,
        yaml: edited.yaml,
        problem: edited.problem,
    };
    shown(status, pages::admin_templates::render(&view))
}

async fn named(hub: &Hub, name: &str) -> Result<Template, Problem> {
    let name: TemplateName = name.parse()?;
    let templates = hub.engine.templates().await?;
    templates
        .into_iter()
        .find(|template| template.metadata.name == name)
        .ok_or_else(|| Problem::not_found(format!("there is no template \"{name}\""), "look at the list of templates"))
}

/// All templates, with the document of one.
pub(super) async fn template(
    State(hub): State<Arc<Hub>>,
    administrator: Administrator,
    Path(name): Path<String>,
) -> Response {
    let document = async {
        let template = named(&hub, &name).await?;
        serde_norway::to_string(&template)
            .map_err(|error| Problem::engine(format!("the template cannot be written as YAML: {error}"), ""))
    };
    match document.await {
        Ok(yaml) => {
            let edited = Edited { selected: name, yaml, ..Edited::default() };
            templates_page(&hub, administrator, StatusCode::OK, edited).await
        }
        Err(problem) => administrator.0.refuse(problem).into_response(),
    }
}

#[derive(Deserialize)]
pub(super) struct Document {
    yaml: String,
}

/// Creates or replaces a template.
pub(super) async fn apply_template(
    State(hub): State<Arc<Hub>>,
    administrator: Administrator,
    Posted(Document { yaml }): Posted<Document>,
) -> Response {
    let applied = async {
        let template: Template = serde_norway::from_str(&yaml).map_err(|error| {
            Problem::bad_input(format!("the document is not a template: {error}"), "compare it with an existing one")
        })?;
        template.validate()?;
        hub.engine.apply_template(template).await
    };
    match applied.await {
        Ok(()) => see_other("/admin/templates?done=template-saved"),
        Err(problem) => {
            let status = crate::problem::status(problem.kind);
            let edited = Edited { yaml: yaml.clone(), problem: Some(problem), ..Edited::default() };
            templates_page(&hub, administrator, status, edited).await
        }
    }
}

/// Asks before deleting a template.
pub(super) async fn confirm_delete_template(
    State(hub): State<Arc<Hub>>,
    Administrator(member): Administrator,
    Path(name): Path<String>,
) -> Response {
    let template = match named(&hub, &name).await {
        Ok(template) => template,
        Err(problem) => return member.refuse(problem).into_response(),
    };
    let name = template.metadata.name;
    let all = hub.engine.workspaces().await.unwrap_or_default();
    let workspaces = all.iter().filter(|workspace| workspace.template == name).count();
    let action = pages::confirm::Action::DeleteTemplate { name, workspaces };
    let view = pages::confirm::View { frame: member.visitor.frame(None), action };
    shown(StatusCode::OK, pages::confirm::render(&view))
}

/// Deletes a template.
pub(super) async fn delete_template(
    State(hub): State<Arc<Hub>>,
    Administrator(member): Administrator,
    Path(name): Path<String>,
    Posted(NoFields {}): Posted<NoFields>,
) -> Response {
    let deleted = async { hub.engine.delete_template(&name.parse()?).await };
    match deleted.await {
        Ok(()) => see_other("/admin/templates?done=template-deleted"),
        Err(problem) => member.refuse(problem).into_response(),
    }
}

/// Who did what, newest first.
pub(super) async fn audit_log(
    State(hub): State<Arc<Hub>>,
    Observer(member): Observer,
    Query(query): Query<ListQuery>,
) -> Response {
    match Arc::clone(&hub.journal).search(query.search().to_owned(), MOST_ENTRIES).await {
        Ok(entries) => {
            let (paging, entries) = query.cut_found(entries);
            let rows = entries.into_iter().map(pages::admin_log::Row::from).collect();
            let view = pages::admin_log::View { frame: member.visitor.frame(None), paging, rows };
            shown(StatusCode::OK, pages::admin_log::render(&view))
        }
        Err(problem) => member.refuse(problem).into_response(),
    }
}

/// What this machine can enforce.
pub(super) async fn machine(State(hub): State<Arc<Hub>>, Administrator(member): Administrator) -> Response {
    match hub.engine.doctor().await {
        Ok(findings) => {
            let view = pages::admin_machine::View { frame: member.visitor.frame(None), findings };
            shown(StatusCode::OK, pages::admin_machine::render(&view))
        }
        Err(problem) => member.refuse(problem).into_response(),
    }
}
