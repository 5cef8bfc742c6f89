//! Whether the hub lives, and whether it can do its work.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cubicle_core::problem::Problem;

use super::plain;
use crate::hub::Hub;

/// How long database and engine may take together.
const PATIENCE: Duration = Duration::from_secs(3);

/// The process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// The database and the engine answer too. Details are for the log: anybody may ask this.
pub(super) async fn ready(State(hub): State<Arc<Hub>>) -> Response {
    let checked = tokio::time::timeout(PATIENCE, async {
        hub.store.ping().await?;
        hub.engine.templates().await.map(drop)
    })
    .await;
    match checked {
        Ok(Ok(())) => "ok\n".into_response(),
        other => {
            tracing::warn!(?other, "the hub is not ready");
            plain(
                StatusCode::SERVICE_UNAVAILABLE,
                &Problem::engine("the database or the engine does not answer", "look at the hub's log"),
            )
        }
    }
}
