//! What the site tells everybody, and who used how much.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::rows::{ListQuery, notice as words_for};
use super::visitor::{Administrator, Observer, Posted};
use super::{see_other, shown};
use crate::api::{self, Period};
use crate::hub::Hub;
use crate::pages;

/// The announcement and the maintenance, to be changed.
pub(super) async fn notice(
    State(hub): State<Arc<Hub>>,
    Administrator(member): Administrator,
    Query(query): Query<ListQuery>,
) -> Response {
    match hub.store.notice().await {
        Ok(seen) => {
            let (text, maintenance) = seen.map(|seen| (seen.text, seen.maintenance)).unwrap_or_default();
            let frame = member.visitor.frame(words_for(&query.done));
            let view = pages::admin_notice::View { frame, text, maintenance, problem: None };
            shown(StatusCode::OK, pages::admin_notice::render(&view))
        }
        Err(problem) => member.refuse(problem).into_response(),
    }
}

#[derive(Deserialize)]
pub(super) struct NewNotice {
    #[serde(default)]
    text: String,
    #[serde(default)]
    maintenance: String,
}

/// Replaces both.
pub(super) async fn set_notice(
    State(hub): State<Arc<Hub>>,
    Administrator(member): Administrator,
    Posted(given): Posted<NewNotice>,
) -> Response {
    let maintenance = given.maintenance == "yes";
    match hub.set_notice(&given.text, maintenance).await {
        Ok(_) => see_other("/admin/notice?done=notice"),
        Err(problem) => {
            let status = crate::problem::status(problem.kind);
            let frame = member.visitor.frame(None);
            let view = pages::admin_notice::View { frame, text: given.text, maintenance, problem: Some(problem) };
            shown(status, pages::admin_notice::render(&view))
        }
    }
}

/// Who used how much.
pub(super) async fn usage(
    State(hub): State<Arc<Hub>>,
    Observer(member): Observer,
    Query(period): Query<Period>,
) -> Response {
    match api::used(&hub, &member.caller(), &period).await {
        Ok(used) => {
            let users = used
                .users
                .into_iter()
                .map(|row| pages::admin_usage::Row {
                    name: if row.name.is_empty() { row.id.to_string() } else { row.name },
                    amounts: [
                        row.workspace_hours,
                        row.cpu_hours,
                        row.used_cpu_hours,
                        row.memory_gib_hours,
                        row.storage_gib_hours,
                    ],
                    cost: row.cost,
                })
                .collect();
            let (from, to) = (used.from.to_string(), used.to.to_string());
            let currency = used.currency.unwrap_or_default();
            let view = pages::admin_usage::View { frame: member.visitor.frame(None), from, to, currency, users };
            shown(StatusCode::OK, pages::admin_usage::render(&view))
        }
        Err(problem) => member.refuse(problem).into_response(),
    }
}
