//! What the hub itself says on a workspace's origin: that there is nothing to pass on, and why.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use cubicle_core::problem::{Problem, ProblemKind};

use super::Visit;
use crate::hub::Hub;
use crate::pages::not_running;
use crate::problem;

/// Where and to whom it is said.
pub(super) struct Notice<'a> {
    pub(super) hub: &'a Arc<Hub>,
    pub(super) visit: &'a Visit,
    /// Whether a person reads it.
    pub(super) wants_page: bool,
}

impl Notice<'_> {
    /// A problem, as a page or as `application/problem+json`.
    pub(super) fn problem(&self, status: StatusCode, problem: &Problem) -> Response<Body> {
        if self.wants_page {
            ours(problem::page(status, problem, Some((&self.back(), "Go to this workspace on the hub"))))
        } else {
            ours(problem::json(status, problem))
        }
    }

    /// The workspace's page on the hub.
    fn back(&self) -> String {
        format!("{}/workspaces/{}", self.hub.origins.hub(Some(&self.visit.host)), self.visit.workspace)
    }

    /// The engine gave no connection.
    pub(super) async fn not_connected(&self, problem: &Problem) -> Response<Body> {
        let status = match problem.kind {
            ProblemKind::NotFound => StatusCode::NOT_FOUND,
            ProblemKind::Engine => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        if !self.wants_page {
            return self.problem(status, problem);
        }
        let state = self.hub.engine.workspace(&self.visit.workspace).await.map(|workspace| workspace.state);
        let view = not_running::View { state: state.ok(), hub_link: self.back() };
        match not_running::render(&view) {
            Ok(page) => {
                let mut response = Response::new(Body::from(page));
                *response.status_mut() = status;
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
                ours(response)
            }
            Err(_) => self.problem(status, problem),
        }
    }

    /// The notebook answered something that cannot be passed on.
    pub(super) fn garbage(&self, why: &str) -> Response<Body> {
        tracing::info!(workspace = %self.visit.workspace, why, "a notebook's answer was not passed on");
        self.problem(
            StatusCode::BAD_GATEWAY,
            &Problem::engine(
                format!("the notebook's answer cannot be shown: {why}"),
                "load the page again; stop and start the workspace if that does not help",
            ),
        )
    }
}

/// Marks an answer as the hub's own: nothing of ours on the tenant's origin runs, and it is
/// framed by nobody else.
fn ours(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'self'; base-uri 'none'; \
             form-action 'none'",
        ),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
