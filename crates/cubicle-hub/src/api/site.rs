//! What belongs to the site: the catalogue of guarantees, homes, the machine.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cubicle_core::catalogue;
use cubicle_core::engine::{DoctorFinding, Volume};
use cubicle_core::guarantee::Guarantee;
use cubicle_core::name::UserId;
use cubicle_core::problem::Problem;
use utoipa::openapi::path::HttpMethod;

use super::Authenticated;
use super::document::{Answer, Doc, Documented};
use super::input::Segment;
use crate::hub::{Caller, Hub};
use crate::problem::ApiProblem;

pub(super) fn routes(documented: Documented) -> Documented {
    documented
        .route(
            HttpMethod::Get,
            "/guarantees",
            guarantees,
            Doc {
                id: "list_guarantees",
                summary: "The catalogue: everything that a workspace cannot do, and how one knows.",
                answer: (200, Answer::List("Guarantee")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Get,
            "/volumes",
            volumes,
            Doc {
                id: "list_volumes",
                summary: "Your home; an administrator sees everybody's.",
                answer: (200, Answer::List("Volume")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Delete,
            "/volumes/{user_id}",
            delete_volume,
            Doc {
                id: "delete_volume",
                summary: "Deletes a user's home; refused while a workspace of that user exists.",
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Get,
            "/doctor",
            doctor,
            Doc {
                id: "doctor",
                summary: "What this machine can enforce, found by trying. For administrators.",
                answer: (200, Answer::List("DoctorFinding")),
                ..Doc::NONE
            },
        )
}

async fn guarantees(_: Authenticated) -> Json<Vec<&'static Guarantee>> {
    Json(catalogue::all().iter().collect())
}

async fn volumes(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
) -> Result<Json<Vec<Volume>>, ApiProblem> {
    let mut volumes = hub.engine.volumes().await?;
    volumes.retain(|volume| is_own(&caller, &volume.owner.id) || caller.is_admin());
    Ok(Json(volumes))
}

fn is_own(caller: &Caller, id: &UserId) -> bool {
    matches!(caller, Caller::Account(account) if account.id == *id)
}

async fn delete_volume(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(id): Segment,
) -> Result<StatusCode, ApiProblem> {
    let id: UserId = id.parse()?;
    if !is_own(&caller, &id) && !caller.is_admin() {
        return Err(ApiProblem::from(Problem::not_found(
            format!("there is no volume of \"{id}\""),
            "list them with `cubicle volume list`",
        )));
    }
    hub.engine.delete_volume(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn doctor(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
) -> Result<Json<Vec<DoctorFinding>>, ApiProblem> {
    caller.require_admin()?;
    Ok(Json(hub.engine.doctor().await?))
}
