//! The state of a workspace in Hatchery's words.

use cubicle_core::template::Template;
use cubicle_core::workspace::{State, Workspace};
use serde::Serialize;
use serde_json::{Value, json};

/// As Go marshals Hatchery's `WorkspaceStatus`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    status: &'static str,
    conditions: Option<Vec<Condition>>,
    container_states: Option<Vec<ContainerState>>,
    /// In milliseconds.
    idle_time_limit: i64,
    /// In milliseconds since the epoch.
    last_activity_time: i64,
    workspace_type: &'static str,
}

#[derive(Debug, Serialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
}

#[derive(Debug, Serialize)]
struct ContainerState {
    name: &'static str,
    state: Value,
    ready: bool,
}

impl Status {
    /// What a portal is told.
    pub(super) fn of(workspace: Option<&Workspace>, templates: &[Template]) -> Self {
        let mut status = Self {
            status: word(workspace.map(|workspace| workspace.state)),
            conditions: None,
            container_states: None,
            idle_time_limit: 0,
            last_activity_time: 0,
            workspace_type: "Kubernetes",
        };
        match workspace {
            Some(workspace) if workspace.state == State::Running => {
                let template = templates.iter().find(|template| template.metadata.name == workspace.template);
                let limit = template.map(|template| template.spec.idle.after.0.saturating_mul(1000));
                status.idle_time_limit = limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(-1);
                let last = workspace.last_activity.or(workspace.opened_at).unwrap_or(workspace.created_at);
                status.last_activity_time = last.as_millisecond();
            }
            Some(workspace) if matches!(workspace.state, State::Pending | State::Proving) => {
                // A pod is placed when it is asked for, and its walls stand when it is proven.
                let built = workspace.state == State::Proving;
                let truth = |truth: bool| if truth { "True" } else { "False" };
                status.conditions = Some(vec![
                    Condition { kind: "Initialized", status: truth(built) },
                    Condition { kind: "Ready", status: truth(false) },
                    Condition { kind: "ContainersReady", status: truth(false) },
                    Condition { kind: "PodScheduled", status: truth(true) },
                ]);
                status.container_states = Some(vec![ContainerState {
                    name: "hatchery-container",
                    state: json!({"waiting": {"reason": "ContainerCreating"}}),
                    ready: false,
                }]);
            }
            _ => {}
        }
        status
    }
}

/// A workspace that was stopped is a deleted pod: the home is there, and it can be launched again.
fn word(state: Option<State>) -> &'static str {
    match state {
        None | Some(State::Stopped) => "Not Found",
        Some(State::Pending | State::Proving) => "Launching",
        Some(State::Running) => "Running",
        Some(State::Stopping) => "Terminating",
        Some(State::Refused | State::Failed) => "Stopped",
    }
}
