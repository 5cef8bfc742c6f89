//! Templates: everybody may look, administrators may change them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cubicle_core::name::TemplateName;
use cubicle_core::problem::Problem;
use cubicle_core::template::Template;
use utoipa::openapi::path::HttpMethod;

use super::Authenticated;
use super::document::{Answer, Doc, Documented};
use super::input::{Input, Segment};
use crate::hub::{Caller, Hub};
use crate::problem::ApiProblem;
use crate::store::Role;

pub(super) fn routes(documented: Documented) -> Documented {
    documented
        .route(
            HttpMethod::Get,
            "/templates",
            list,
            Doc {
                id: "list_templates",
                summary: "The templates that you may launch, by name.",
                answer: (200, Answer::List("Template")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Get,
            "/templates/{name}",
            show,
            Doc { id: "show_template", summary: "One template.", answer: (200, Answer::Json("Template")), ..Doc::NONE },
        )
        .route(
            HttpMethod::Put,
            "/templates/{name}",
            apply,
            Doc {
                id: "apply_template",
                summary: "Creates or replaces a template. For administrators.",
                input: Some("Template"),
                answer: (200, Answer::Json("Template")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Delete,
            "/templates/{name}",
            delete,
            Doc {
                id: "delete_template",
                summary: "Deletes a template; its workspaces live on. For administrators.",
                ..Doc::NONE
            },
        )
}

/// Whether the caller may launch a template: it is for everybody, or for a group of the caller.
pub(crate) fn may_launch(caller: &Caller, template: &Template) -> bool {
    let groups = &template.spec.groups;
    match caller {
        Caller::Account(account) if account.role == Role::Auditor => false,
        _ if groups.is_empty() || caller.is_admin() => true,
        Caller::Account(account) => groups.iter().any(|group| account.groups.contains(group)),
        Caller::Root => true,
    }
}

async fn list(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
) -> Result<Json<Vec<Template>>, ApiProblem> {
    let mut templates = hub.engine.templates().await?;
    templates.retain(|template| may_launch(&caller, template));
    Ok(Json(templates))
}

async fn show(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(name): Segment,
) -> Result<Json<Template>, ApiProblem> {
    let name: TemplateName = name.parse()?;
    let templates = hub.engine.templates().await?;
    templates
        .into_iter()
        .find(|template| template.metadata.name == name && may_launch(&caller, template))
        .map(Json)
        .ok_or_else(|| {
            ApiProblem::from(Problem::not_found(
                format!("there is no template \"{name}\""),
                "list them with `cubicle template list`",
            ))
        })
}

async fn apply(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(name): Segment,
    Input(template): Input<Template>,
) -> Result<Json<Template>, ApiProblem> {
    caller.require_admin()?;
    let name: TemplateName = name.parse()?;
    if template.metadata.name != name {
        return Err(ApiProblem::from(Problem::bad_input(
            format!("the path names template \"{name}\", the document \"{}\"", template.metadata.name),
            "use one name in both",
        )));
    }
    template.validate()?;
    hub.engine.apply_template(template.clone()).await?;
    Ok(Json(template))
}

async fn delete(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(name): Segment,
) -> Result<StatusCode, ApiProblem> {
    caller.require_admin()?;
    hub.engine.delete_template(&name.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}
