//! What the site tells everybody.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::HttpMethod;

use super::Authenticated;
use super::document::{Answer, Doc, Documented};
use super::input::Input;
use crate::hub::Hub;
use crate::notice::Notice;
use crate::problem::ApiProblem;

pub(super) fn routes(documented: Documented) -> Documented {
    let shown = (200, Answer::Json("Notice"));
    documented
        .route(
            HttpMethod::Get,
            "/notice",
            show,
            Doc {
                id: "show_notice",
                summary: "The announcement, and whether the site is closed for maintenance.",
                answer: shown,
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Put,
            "/notice",
            set,
            Doc {
                id: "set_notice",
                summary: "Replaces the announcement; with maintenance, only administrators launch. For administrators.",
                input: Some("NewNotice"),
                answer: shown,
                ..Doc::NONE
            },
        )
}

#[derive(Debug, Serialize)]
struct NoticeView {
    text: String,
    maintenance: bool,
    at: Option<Timestamp>,
}

impl From<Option<Notice>> for NoticeView {
    fn from(notice: Option<Notice>) -> Self {
        match notice {
            Some(Notice { text, maintenance, at }) => Self { text, maintenance, at: Some(at) },
            None => Self { text: String::new(), maintenance: false, at: None },
        }
    }
}

async fn show(State(hub): State<Arc<Hub>>, _: Authenticated) -> Result<Json<NoticeView>, ApiProblem> {
    Ok(Json(hub.store.notice().await?.into()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNotice {
    #[serde(default)]
    text: String,
    #[serde(default)]
    maintenance: bool,
}

async fn set(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Input(input): Input<NewNotice>,
) -> Result<Json<NoticeView>, ApiProblem> {
    caller.require_admin()?;
    Ok(Json(hub.set_notice(&input.text, input.maintenance).await?.into()))
}
