//! Launches that are announced, so that sandboxes are ready for them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cubicle_core::reservation::{NewReservation, Reservation};
use utoipa::openapi::path::HttpMethod;

use super::Authenticated;
use super::document::{Answer, Doc, Documented};
use super::input::{Input, Segment};
use crate::hub::Hub;
use crate::problem::ApiProblem;

pub(super) fn routes(documented: Documented) -> Documented {
    documented
        .route(
            HttpMethod::Get,
            "/reservations",
            list,
            Doc {
                id: "list_reservations",
                summary: "Launches that are announced, by time. For administrators.",
                answer: (200, Answer::List("Reservation")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Post,
            "/reservations",
            reserve,
            Doc {
                id: "add_reservation",
                summary: "Announces launches, so that warm sandboxes are ready for them. For administrators.",
                input: Some("NewReservation"),
                answer: (201, Answer::Json("Reservation")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Delete,
            "/reservations/{id}",
            cancel,
            Doc { id: "delete_reservation", summary: "Takes an announcement back. For administrators.", ..Doc::NONE },
        )
}

async fn list(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
) -> Result<Json<Vec<Reservation>>, ApiProblem> {
    caller.require_admin()?;
    Ok(Json(hub.engine.reservations().await?))
}

async fn reserve(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Input(asked): Input<NewReservation>,
) -> Result<(StatusCode, Json<Reservation>), ApiProblem> {
    caller.require_admin()?;
    Ok((StatusCode::CREATED, Json(hub.engine.reserve(asked).await?)))
}

async fn cancel(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(id): Segment,
) -> Result<StatusCode, ApiProblem> {
    caller.require_admin()?;
    hub.engine.cancel_reservation(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
