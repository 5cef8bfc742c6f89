//! The line of those whose pods no node takes.

use std::time::{Duration, Instant};

use cubicle_core::workspace::{Progress, State, Step, StepEvent};
use jiff::Timestamp;
use kube::ResourceExt;

use super::{moment, state};
use crate::followed::Followed;
use crate::names::SCHEDULED;
use crate::resources::Workspace;

/// How often at most one place is counted: with every change there, it would be a count of everybody for everybody.
pub(super) const PACE: Duration = Duration::from_secs(1);

/// What somebody who follows a launch was told of its place.
#[derive(Default)]
pub(super) struct Line {
    told: Option<usize>,
    counted: Option<Instant>,
}

impl Line {
    /// Whether it has a place that may change.
    pub(super) fn waits(&self) -> bool {
        self.told.is_some()
    }

    /// What is new to tell.
    pub(super) fn news(&mut self, object: &Workspace, all: &Followed<Workspace>) -> Option<StepEvent> {
        let place = match waits_since(object) {
            None => None,
            Some(_) if self.counted.is_some_and(|counted| counted.elapsed() < PACE) => return None,
            Some(since) => {
                self.counted = Some(Instant::now());
                let own = (since, object.name_any());
                Some(all.count(|other| is_before_or_at(other, &own)))
            }
        };
        let new = place != self.told && state(object) == State::Pending;
        self.told = place;
        new.then(|| event(object, place))
    }
}

/// When the launch began of a workspace whose pod no node takes.
fn waits_since(object: &Workspace) -> Option<Timestamp> {
    let status = object.status.as_ref().filter(|status| status.launch == object.spec.launch)?;
    let waits = status.conditions.iter().any(|one| one.type_ == SCHEDULED && one.status == "False");
    let begun = status.begun_at.as_ref().filter(|_| waits && state(object) == State::Pending)?;
    Some(moment(begun.0))
}

/// Whether another one waits for at least as long: whoever was launched first is first, though the cluster may have room for
/// a smaller one before.
fn is_before_or_at(other: &Workspace, (since, name): &(Timestamp, String)) -> bool {
    let at = |other_since| (other_since, other.metadata.name.as_deref().unwrap_or_default()) <= (*since, name.as_str());
    !other.spec.member && waits_since(other).is_some_and(at)
}

/// What somebody is told who waits, or who has waited and is at no place of the line any more.
fn event(object: &Workspace, place: Option<usize>) -> StepEvent {
    let begun = object.status.as_ref().and_then(|status| status.begun_at.as_ref()).map(|begun| moment(begun.0));
    let elapsed = begun.map_or(0, |begun| Timestamp::now().duration_since(begun).as_millis());
    let message = match place {
        Some(number) => format!("number {number} in line: no node of the cluster has room yet"),
        None => "a node has room; its pod starts".to_owned(),
    };
    let elapsed_ms = u64::try_from(elapsed).unwrap_or(0);
    StepEvent { step: Step::Build, state: Progress::Running, message, elapsed_ms }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace(name: &str, begun: &str, scheduled: Option<&str>, launch: u32) -> Workspace {
        let conditions: Vec<_> = scheduled
            .map(|status| {
                json!({"type": "Scheduled", "status": status, "reason": "Unschedulable", "message": "",
                       "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .into_iter()
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "cubicle.dev/v1alpha1",
            "kind": "Workspace",
            "metadata": {"name": name},
            "spec": {"template": "desk", "owner": {"id": "u-ba9876543210", "name": "alice"}, "launch": 1},
            "status": {"state": "pending", "launch": launch, "begunAt": begun, "conditions": conditions},
        }))
        .expect("a workspace")
    }

    #[test]
    fn the_line_is_of_those_who_wait_by_when_they_came() {
        let own = workspace("w-2", "2026-01-01T00:00:02.000000Z", Some("False"), 1);
        let place = (waits_since(&own).expect("it waits"), own.name_any());
        for (other, counts) in [
            (own.clone(), true),
            (workspace("w-9", "2026-01-01T00:00:01.000000Z", Some("False"), 1), true),
            (workspace("w-1", "2026-01-01T00:00:02.000000Z", Some("False"), 1), true),
            (workspace("w-3", "2026-01-01T00:00:02.000000Z", Some("False"), 1), false),
            (workspace("w-9", "2026-01-01T00:00:01.000000Z", Some("True"), 1), false),
            (workspace("w-9", "2026-01-01T00:00:01.000000Z", None, 1), false),
            (workspace("w-9", "2026-01-01T00:00:01.000000Z", Some("False"), 0), false),
        ] {
            assert_eq!(is_before_or_at(&other, &place), counts, "{other:?}");
        }
    }
}
