//! Whether the hub lives, and whether it can do its work.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cubicle_core::problem::Problem;

use super::plain;
use crate::hub::Hub;

/// The process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Which part does not work, if any. Why is for the log: anybody may ask this. A provider of identities that does not
/// answer is named, but the hub is ready: who is signed in goes on, and so do links.
pub(super) async fn ready(State(hub): State<Arc<Hub>>) -> Response {
    let parts = hub.not_ready().await;
    if parts.is_empty() {
        let silent = hub.identities.silent();
        if silent.is_empty() {
            return "ok\n".into_response();
        }
        return format!("ok\nno answer from providers: {}\n", silent.join(", ")).into_response();
    }
    let what = format!("not ready: {}", parts.join(", "));
    plain(StatusCode::SERVICE_UNAVAILABLE, &Problem::engine(what, "look at the hub's log"))
}
