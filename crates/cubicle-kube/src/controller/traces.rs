//! The controller's part of the trace of a launch, told when the launch is over from what the status says of it:
//! several controllers may have had a part in it, one after the other, and that is what they share.

use std::time::{Duration, SystemTime};

use cubicle_core::level::{EngineKind, Level};
use cubicle_core::problem::ProblemKind;
use cubicle_core::report::GuaranteeReport;
use cubicle_core::workspace::State;
use cubicle_traces::{About, End, Observed, Recorded, RecordedStep};

use crate::names;
use crate::resources::{Workspace, WorkspaceStatus};

/// What this controller knows of a launch's proof besides what the status keeps.
#[derive(Clone, Copy, Default)]
pub(super) struct Proof<'a> {
    /// When what was tried.
    pub(super) observed: Option<&'a Observed>,
    /// What was judged.
    pub(super) guarantees: &'a [GuaranteeReport],
}

/// Tells a launch that ended in this state, which is written already. `warm` says that it was claimed.
pub(super) fn tell(workspace: &Workspace, status: &WorkspaceStatus, state: State, warm: bool, proof: Proof<'_>) {
    if cubicle_traces::are_on()
        && let Some(recorded) = recorded(workspace, status, state, warm, proof)
    {
        cubicle_traces::tell(&recorded);
    }
}

/// How a launch ended; none for one that is not over, and for what is nobody's.
fn recorded<'a>(
    workspace: &Workspace,
    status: &WorkspaceStatus,
    state: State,
    warm: bool,
    proof: Proof<'a>,
) -> Option<Recorded<'a>> {
    let end = match state {
        State::Running => None,
        State::Refused => Some(End::Refused),
        State::Failed => Some(End::Failed(ProblemKind::Engine)),
        State::Stopped => Some(End::Stopped),
        State::Pending | State::Proving | State::Stopping => return None,
    };
    // A notebook that was open is no launch any more, and a member of the pool is nobody's.
    if workspace.spec.member || (end.is_some() && status.opened_at.is_some()) {
        return None;
    }
    let identity = workspace.identity().ok()?;
    let begun = status.begun_at.as_ref().and_then(|time| u64::try_from(time.0.as_microsecond()).ok());
    // What ended before it began has the steps of an earlier launch, or none.
    let (began, steps) = match begun {
        Some(begun) if status.launch == workspace.spec.launch => {
            let steps = status.steps.iter().map(|one| RecordedStep {
                step: one.step,
                state: one.state,
                elapsed: Duration::from_millis(one.elapsed_ms.min(MOST_MS)),
            });
            (SystemTime::UNIX_EPOCH + Duration::from_micros(begun), steps.collect())
        }
        _ => (SystemTime::now(), Vec::new()),
    };
    Some(Recorded {
        place: names::trace(workspace),
        about: About {
            id: identity.id,
            template: identity.template,
            level: status.level.unwrap_or(Level::Standard),
            engine: EngineKind::Kubernetes,
        },
        warm,
        began,
        steps,
        observed: proof.observed,
        guarantees: proof.guarantees,
        end,
    })
}

/// Longer than any launch, in milliseconds.
const MOST_MS: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use cubicle_core::workspace::{Progress, Step};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::resources::StepEntry;

    const PLACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn workspace(launch: i64, annotation: &str) -> Workspace {
        serde_json::from_value(json!({
            "apiVersion": "cubicle.dev/v1alpha1",
            "kind": "Workspace",
            "metadata": {"name": "w-0123456789ab", "annotations": {names::TRACE: annotation}},
            "spec": {"template": "desk", "owner": {"id": "u-ba9876543210", "name": "alice"}, "launch": launch},
        }))
        .expect("a workspace")
    }

    fn status() -> WorkspaceStatus {
        let entry = |step, state, elapsed_ms| StepEntry { step, state, message: "alice asked".to_owned(), elapsed_ms };
        WorkspaceStatus {
            launch: 2,
            level: Some(Level::Strict),
            begun_at: Some(MicroTime(Timestamp::from_microsecond(1_800_000_000_000_000).expect("a time"))),
            steps: vec![
                entry(Step::Request, Progress::Done, 1),
                entry(Step::Build, Progress::Running, 2),
                entry(Step::Build, Progress::Done, 900),
                entry(Step::Prove, Progress::Failed, u64::MAX),
            ],
            ..WorkspaceStatus::default()
        }
    }

    #[test]
    fn a_launch_is_read_from_its_status() {
        let workspace = workspace(2, &format!("2/{PLACE}"));
        let recorded = recorded(&workspace, &status(), State::Refused, false, Proof::default()).expect("a launch");
        assert_eq!(recorded.place.map(|place| place.to_string()).as_deref(), Some(PLACE));
        assert_eq!(recorded.began, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        assert_eq!(recorded.end, Some(End::Refused));
        assert_eq!(recorded.about.level, Level::Strict);
        let told: Vec<_> = recorded.steps.iter().map(|one| (one.step, one.state, one.elapsed.as_millis())).collect();
        assert_eq!(
            told,
            [
                (Step::Request, Progress::Done, 1),
                (Step::Build, Progress::Running, 2),
                (Step::Build, Progress::Done, 900),
                (Step::Prove, Progress::Failed, u128::from(MOST_MS)),
            ]
        );
        assert!(!format!("{recorded:?}").contains("alice"), "{recorded:?}");
    }

    #[test]
    fn garbage_in_the_annotation_changes_nothing_but_the_place() {
        for annotation in ["", "garbage", "2/garbage", "2/00-<script>", &format!("1/{PLACE}"), PLACE] {
            let workspace = workspace(2, annotation);
            let recorded = recorded(&workspace, &status(), State::Failed, true, Proof::default()).expect("a launch");
            assert_eq!(recorded.place, None, "{annotation:?}");
            assert_eq!((recorded.steps.len(), recorded.warm), (4, true));
        }
    }

    #[test]
    fn what_is_no_launch_is_not_told() {
        let told = |workspace: &Workspace, status: &WorkspaceStatus, state| {
            recorded(workspace, status, state, false, Proof::default()).is_some()
        };
        let (mut one, mut open) = (workspace(2, ""), status());
        open.opened_at = Some(Time(Timestamp::UNIX_EPOCH));
        assert!(told(&one, &open, State::Running));
        assert!(!told(&one, &open, State::Stopped), "a notebook that was open");
        assert!(!told(&one, &status(), State::Proving), "not over");
        assert!(told(&one, &status(), State::Stopped), "stopped before it was open");
        one.spec.member = true;
        assert!(!told(&one, &status(), State::Failed), "nobody's");
        let next = workspace(3, "");
        let early = recorded(&next, &status(), State::Failed, false, Proof::default()).expect("a launch");
        assert!(early.steps.is_empty(), "the steps are an earlier launch's");
    }
}
