//! Asks a notebook whether one of its kernels is busy.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use cubicle_core::name::WorkspaceId;
use http_body_util::{BodyExt as _, Limited};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::exchange::Notebook;
use crate::hub::Hub;

/// The longest that a notebook may take and the most that it may say.
const PATIENCE: Duration = Duration::from_secs(5);
const MOST: usize = 256 << 10;

/// The part of a kernel model that matters (jupyter_server, `GET /api/kernels`).
#[derive(Deserialize)]
struct Kernel {
    #[serde(default)]
    execution_state: String,
}

/// Whether the notebook, which serves below `base`, claims that a kernel is busy. No answer, or a strange one, is a no.
pub(crate) async fn busy(hub: &Hub, workspace: &WorkspaceId, base: &str) -> bool {
    // What stands still does nothing, and the question would make it go on.
    if hub.engine.usage(workspace).await.is_ok_and(|usage| usage.frozen) {
        return false;
    }
    tokio::time::timeout(PATIENCE, claimed(hub, workspace, base)).await.ok().flatten().unwrap_or(false)
}

async fn claimed(hub: &Hub, workspace: &WorkspaceId, base: &str) -> Option<bool> {
    let notebook = hub.engine.connect(workspace).await.and_then(Notebook::over).ok()?;
    let mut authorization = HeaderValue::from_str(&format!("token {}", notebook.token.expose_secret())).ok()?;
    authorization.set_sensitive(true);
    let request = Request::get(format!("{base}api/kernels"))
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, authorization)
        .header(header::ACCEPT, "application/json")
        .body(Body::empty())
        .ok()?;
    let answer = notebook.ask(request, PATIENCE).await.ok()?;
    if answer.status() != StatusCode::OK {
        return None;
    }
    let body = Limited::new(answer.into_body(), MOST).collect().await.ok()?.to_bytes();
    let kernels: Vec<Kernel> = serde_json::from_slice(&body).ok()?;
    Some(kernels.iter().any(|kernel| kernel.execution_state == "busy"))
}
