//! Writing what is, for `kubectl get workspaces`, for the hub, and for the next reconciliation.

use cubicle_core::workspace::{Progress, State, Step};
use cubicle_metrics::launches;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::Status;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use std::time::Duration;

use super::traces::{self, Proof};
use super::{Context, MANAGER};
use crate::names::SCHEDULED;
use crate::resources::{Condition, StepEntry, Workspace, WorkspaceStatus};

/// Reasons of conditions and events.
pub(super) mod reason {
    pub(crate) const ACCEPTED: &str = "Accepted";
    pub(crate) const REFUSED: &str = "GuaranteeNotHeld";
    pub(crate) const BUILT: &str = "Built";
    pub(crate) const UNSCHEDULABLE: &str = "Unschedulable";
    pub(crate) const PROVEN: &str = "EveryPromiseHeld";
    pub(crate) const READY: &str = "WaitsForItsUser";
    pub(crate) const OPEN: &str = "NotebookAnswers";
    pub(crate) const STOPPED: &str = "Stopped";
    pub(crate) const FAILED: &str = "Failed";
    pub(crate) const DRIFT: &str = "WallsChanged";
    pub(crate) const CLOSED: &str = "ClosedByBreach";
}

/// Sets a condition; its time changes only with its status.
pub(super) fn set(
    status: &mut WorkspaceStatus,
    generation: Option<i64>,
    name: &str,
    holds: bool,
    reason: &str,
    message: &str,
) {
    let value = if holds { "True" } else { "False" };
    let known = status.conditions.iter().find(|one| one.type_ == name && one.status == value);
    let last_transition_time = known.map_or_else(|| Time(Timestamp::now()), |one| one.last_transition_time.clone());
    status.conditions.retain(|one| one.type_ != name);
    status.conditions.push(Condition {
        type_: name.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.chars().take(1024).collect(),
        observed_generation: generation,
        last_transition_time,
    });
    status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}

/// More steps than any launch has.
const MOST_STEPS: usize = 32;

/// Tells how far a launch is.
pub(super) fn say(status: &mut WorkspaceStatus, step: Step, state: Progress, message: &str) {
    // A step that is tried again is told once.
    let told = status.steps.iter().any(|one| one.step == step && one.state == state && one.message == message);
    if told || status.steps.len() >= MOST_STEPS {
        return;
    }
    let begun = status.begun_at.as_ref().map_or_else(Timestamp::now, |time| time.0);
    let elapsed_ms = u64::try_from(Timestamp::now().duration_since(begun).as_millis()).unwrap_or(0);
    let message = message.chars().take(2000).collect();
    if state == Progress::Done {
        let before = status.steps.iter().rev().find(|one| one.state == Progress::Done).map_or(0, |one| one.elapsed_ms);
        launches::step_done(step, Duration::from_millis(elapsed_ms.saturating_sub(before)));
    }
    status.steps.push(StepEntry { step, state, message, elapsed_ms });
}

/// How often a status is written again over another version of its object.
const MOST_WRITES: u32 = 5;

/// Whether this is the same object with the same status, whatever else was changed.
fn same(read: &Workspace, now: &Workspace) -> bool {
    read.metadata.uid == now.metadata.uid
        && read.status.clone().unwrap_or_default() == now.status.clone().unwrap_or_default()
}

impl Context {
    /// Writes the status, unless it is that already, and returns the workspace as it is then.
    ///
    /// Only over the status that `workspace` has: whoever decided from an older one would turn a
    /// launch back. What others write, the specification and the metadata, may have changed.
    ///
    /// # Errors
    /// A conflict, when the status or the object is another one meanwhile.
    pub(super) async fn write(
        &self,
        workspace: &Workspace,
        mut status: WorkspaceStatus,
    ) -> Result<Workspace, kube::Error> {
        status.observed_generation = workspace.metadata.generation;
        if workspace.status.as_ref() == Some(&status) {
            return Ok(workspace.clone());
        }
        let api = Api::<Workspace>::all(self.client.clone());
        let name = workspace.name_any();
        let mut version = workspace.resource_version();
        for _ in 0..MOST_WRITES {
            let patch = json!({
                "apiVersion": Workspace::api_version(&()),
                "kind": Workspace::kind(&()),
                "metadata": {"resourceVersion": version},
                "status": status,
            });
            let conflict =
                match api.patch_status(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&patch)).await {
                    Err(kube::Error::Api(answer)) if answer.is_conflict() => kube::Error::Api(answer),
                    other => return other,
                };
            let now = api.get(&name).await?;
            if !same(workspace, &now) {
                return Err(conflict);
            }
            version = now.resource_version();
        }
        Err(kube::Error::Api(Box::new(Status::failure("the workspace changes too often", "Conflict").with_code(409))))
    }

    /// Asks for the end of a running workspace, with the reason that its page will show.
    pub(super) async fn halt(&self, workspace: &Workspace, why: &str) -> Result<(), kube::Error> {
        let mut status = workspace.status.clone().unwrap_or_default();
        status.state = Some(State::Stopping);
        status.reason = why.chars().take(2000).collect();
        status.route = None;
        let patch = json!({"spec": {"run": false}});
        let api = Api::<Workspace>::all(self.client.clone());
        // First, so that a controller that ends in between leaves no live state without a pod.
        api.patch(&workspace.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        self.write(workspace, status).await?;
        Ok(())
    }

    /// Ends the launch in this state, with a reason for people, and tells it as an event.
    pub(super) async fn end(&self, workspace: &Workspace, state: State, why: &str) -> Result<(), kube::Error> {
        self.end_with(workspace, state, why, Proof::default()).await
    }

    /// The same, when its proof is known.
    pub(super) async fn end_with(
        &self,
        workspace: &Workspace,
        state: State,
        why: &str,
        proof: Proof<'_>,
    ) -> Result<(), kube::Error> {
        let mut status = workspace.status.clone().unwrap_or_default();
        let generation = workspace.metadata.generation;
        status.launch = workspace.spec.launch;
        status.state = Some(state);
        status.reason = why.chars().take(2000).collect();
        status.route = None;
        status.nonce = None;
        status.window = Vec::new();
        status.stops_at = None;
        status.warnings = Vec::new();
        status.conditions.retain(|one| one.type_ != SCHEDULED);
        let unfinished = status.steps.last().filter(|last| {
            last.state != Progress::Failed && !(last.step == Step::Open && last.state == Progress::Done)
        });
        if let Some(step) = unfinished.map(|last| last.step) {
            say(&mut status, step, Progress::Failed, why);
        }
        let (code, kind) = match state {
            State::Stopped => (reason::STOPPED, EventType::Normal),
            State::Refused => (reason::REFUSED, EventType::Warning),
            _ => (reason::FAILED, EventType::Warning),
        };
        if state == State::Refused {
            set(&mut status, generation, "Proven", false, code, why);
        }
        set(&mut status, generation, "Open", false, code, why);
        self.write(workspace, status.clone()).await?;
        let before = workspace.status.as_ref();
        let began = before.is_some_and(|before| before.launch == workspace.spec.launch && before.begun_at.is_some());
        if began && before.and_then(|before| before.state).is_some_and(State::is_live) {
            traces::tell(workspace, &status, state, false, proof);
        } else if !began && state != State::Stopped {
            // It ended before it began: what else the status says is an earlier launch's.
            let bare = WorkspaceStatus { level: status.level, ..WorkspaceStatus::default() };
            traces::tell(workspace, &bare, state, false, proof);
        }
        let was_open = workspace.status.as_ref().is_some_and(|status| status.opened_at.is_some());
        match state {
            State::Refused => launches::ended(launches::Outcome::Refused),
            State::Failed if !was_open => launches::ended(launches::Outcome::Failed),
            _ => {}
        }
        if let Err(error) = super::egress::dismiss(self, workspace).await {
            // It names a credential that nobody has any more, and goes with the workspace.
            tracing::warn!(%error, workspace = workspace.name_any(), "an entry of the egress list was not deleted");
        }
        self.tell(workspace, kind, code, why).await;
        Ok(())
    }

    /// Tells an event. One that is lost is no reason to stop: the status has it too.
    pub(super) async fn tell(&self, workspace: &Workspace, type_: EventType, code: &str, note: &str) {
        let event = Event {
            type_,
            reason: code.to_owned(),
            note: Some(note.chars().take(1000).collect()),
            action: "Launch".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &workspace.object_ref(&())).await {
            tracing::debug!(%error, "an event was not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_over_the_one_that_was_read_only() {
        let read: Workspace = serde_json::from_value(json!({
            "apiVersion": "cubicle.dev/v1alpha1",
            "kind": "Workspace",
            "metadata": {"name": "w-0123456789ab", "uid": "one", "resourceVersion": "1"},
            "spec": {"template": "desk", "owner": {"id": "u-ba9876543210", "name": "alice"}},
        }))
        .expect("a workspace");
        let mut now = read.clone();
        now.metadata.resource_version = Some("2".to_owned());
        now.spec.run = false;
        now.status = Some(WorkspaceStatus::default());
        assert!(same(&read, &now), "an empty status is none");
        now.status = Some(WorkspaceStatus { state: Some(State::Running), ..WorkspaceStatus::default() });
        assert!(!same(&read, &now), "somebody went on meanwhile");
        let other = Workspace {
            metadata: kube::core::ObjectMeta { uid: Some("two".to_owned()), ..read.metadata.clone() },
            ..read.clone()
        };
        assert!(!same(&read, &other), "another object of this name");
    }
}
