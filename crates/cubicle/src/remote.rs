//! The engine behind a hub elsewhere, as far as the hub's REST interface reaches.

use async_trait::async_trait;
use cubicle_core::engine::{Activity, Connection, DoctorFinding, Engine, LaunchRequest, Volume};
use cubicle_core::level::EngineKind;
use cubicle_core::name::{TemplateName, UserId, WorkspaceId};
use cubicle_core::problem::Problem;
use cubicle_core::report::Report;
use cubicle_core::reservation::{NewReservation, Reservation};
use cubicle_core::template::Template;
use cubicle_core::trace::TraceParent;
use cubicle_core::workspace::{StepEvent, Usage, Workspace};
use futures::stream::{BoxStream, StreamExt, unfold};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::hub::{Hub, segment};

/// The longest event that is believed, in bytes.
const MAX_EVENT: usize = 1 << 20;

/// A hub's engine.
#[derive(Debug)]
pub(crate) struct RemoteEngine {
    hub: Hub,
}

impl RemoteEngine {
    /// The engine behind this hub.
    pub(crate) fn new(hub: Hub) -> Self {
        Self { hub }
    }

    async fn workspace_call(&self, method: Method, id: &WorkspaceId, rest: &str) -> Result<Workspace, Problem> {
        self.hub.call(method, &format!("/api/v1/workspaces/{id}{rest}"), None).await
    }
}

fn only_there(what: &str) -> Problem {
    Problem::bad_input(
        format!("{what} is not possible from another machine"),
        "run the command on the machine itself, without CUBICLE_TOKEN",
    )
}

#[async_trait]
impl Engine for RemoteEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Local
    }

    async fn templates(&self) -> Result<Vec<Template>, Problem> {
        self.hub.call(Method::GET, "/api/v1/templates", None).await
    }

    async fn apply_template(&self, template: Template) -> Result<(), Problem> {
        let path = format!("/api/v1/templates/{}", template.metadata.name);
        let document = serde_json::to_value(&template)
            .map_err(|error| Problem::bad_input(format!("the template is not JSON: {error}"), ""))?;
        let _: Value = self.hub.call(Method::PUT, &path, Some(&document)).await?;
        Ok(())
    }

    async fn delete_template(&self, name: &TemplateName) -> Result<(), Problem> {
        self.hub.call(Method::DELETE, &format!("/api/v1/templates/{name}"), None).await
    }

    async fn launch(&self, request: LaunchRequest) -> Result<Workspace, Problem> {
        let body = json!({ "template": request.template, "name": request.name, "user": request.owner.name });
        self.hub.call(Method::POST, "/api/v1/workspaces", Some(&body)).await
    }

    async fn workspaces(&self) -> Result<Vec<Workspace>, Problem> {
        self.hub.call(Method::GET, "/api/v1/workspaces", None).await
    }

    async fn workspace(&self, id: &WorkspaceId) -> Result<Workspace, Problem> {
        self.workspace_call(Method::GET, id, "").await
    }

    async fn events(&self, id: &WorkspaceId) -> Result<BoxStream<'static, StepEvent>, Problem> {
        let answer = self.hub.open(Method::GET, &format!("/api/v1/workspaces/{id}/events"), None).await?;
        let events = unfold(Lines::new(answer.into_body()), |mut lines| async {
            loop {
                let line = lines.next().await?;
                // Server-sent events: each of ours is one `data:` line; the others keep the
                // connection alive.
                let event = line.strip_prefix("data:").and_then(|data| serde_json::from_str(data.trim()).ok());
                if let Some(event) = event {
                    return Some((event, lines));
                }
            }
        });
        Ok(events.boxed())
    }

    async fn start(&self, id: &WorkspaceId, _: Option<TraceParent>) -> Result<Workspace, Problem> {
        self.workspace_call(Method::POST, id, "/start").await
    }

    async fn stop(&self, id: &WorkspaceId) -> Result<Workspace, Problem> {
        self.workspace_call(Method::POST, id, "/stop").await
    }

    async fn delete(&self, id: &WorkspaceId, volume: bool) -> Result<(), Problem> {
        self.hub.call(Method::DELETE, &format!("/api/v1/workspaces/{id}?volume={volume}"), None).await
    }

    async fn verify(&self, id: &WorkspaceId, only: &[String]) -> Result<Report, Problem> {
        let body = json!({ "guarantees": only });
        self.hub.call(Method::POST, &format!("/api/v1/workspaces/{id}/verify"), Some(&body)).await
    }

    async fn report(&self, id: &WorkspaceId) -> Result<Report, Problem> {
        self.hub.call(Method::GET, &format!("/api/v1/workspaces/{id}/report"), None).await
    }

    async fn usage(&self, id: &WorkspaceId) -> Result<Usage, Problem> {
        self.hub.call(Method::GET, &format!("/api/v1/workspaces/{id}/usage"), None).await
    }

    async fn logs(&self, id: &WorkspaceId) -> Result<String, Problem> {
        let text = self.hub.text(Method::GET, &format!("/api/v1/workspaces/{id}/logs"), None).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    async fn connect(&self, _id: &WorkspaceId) -> Result<Connection, Problem> {
        Err(only_there("connecting to a notebook"))
    }

    async fn record_activity(&self, _id: &WorkspaceId, _activity: Activity) -> Result<(), Problem> {
        Err(only_there("recording activity"))
    }

    async fn reservations(&self) -> Result<Vec<Reservation>, Problem> {
        self.hub.call(Method::GET, "/api/v1/reservations", None).await
    }

    async fn reserve(&self, reservation: NewReservation) -> Result<Reservation, Problem> {
        let body = json!(reservation);
        self.hub.call(Method::POST, "/api/v1/reservations", Some(&body)).await
    }

    async fn cancel_reservation(&self, id: &str) -> Result<(), Problem> {
        self.hub.call(Method::DELETE, &format!("/api/v1/reservations/{}", segment(id)), None).await
    }

    async fn volumes(&self) -> Result<Vec<Volume>, Problem> {
        self.hub.call(Method::GET, "/api/v1/volumes", None).await
    }

    async fn delete_volume(&self, user: &UserId) -> Result<(), Problem> {
        self.hub.call(Method::DELETE, &format!("/api/v1/volumes/{}", segment(user.as_str())), None).await
    }

    async fn doctor(&self) -> Result<Vec<DoctorFinding>, Problem> {
        self.hub.call(Method::GET, "/api/v1/doctor", None).await
    }
}

/// The lines of a body as they come.
struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    fn new(body: Incoming) -> Self {
        Self { body, buffer: Vec::new() }
    }

    /// The next line without its end; none at the end of the body, or when a line has none.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.buffer.len() > MAX_EVENT {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}
