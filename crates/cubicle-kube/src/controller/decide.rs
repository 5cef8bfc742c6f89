//! The next step of a workspace, from what is wanted, what was written and what is there: a
//! function of these three and of the time alone.
//!
//! It must be asked with the objects as they are now. A controller's cache stands still while its
//! watches are broken, which after an outage of the API server is many seconds; whoever decides
//! from it launches once more what has ended already.

use cubicle_core::template::Duration;
use cubicle_core::workspace::State;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::resources::Workspace;

/// The annotation of a pod that says which launch it was made for.
const LAUNCH: &str = "cubicle.dev/launch";

/// What is to be done now. Nothing else is done until the objects were read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// The launch is over and nothing of it is left.
    Rest,
    /// A pod is on its way: in, or out. Nothing is made beside it, nothing is asked of it.
    Wait,
    /// The pod that is there has no place in this launch.
    Remove,
    /// It is to stop; that is written before its pod goes.
    Stopping,
    /// It has stopped.
    Stopped,
    /// A new launch, from nothing.
    Begin,
    /// A go was given, and the pod that it was given to is gone: that go is void.
    Forget,
    /// Walls and pod are to be made.
    Make,
    /// The gate runs, and no go was ever given to it.
    Prove,
    /// The launch has failed for this reason.
    Fail(String),
    /// It runs, in the pod that was judged.
    Look,
    /// It was proven before anybody asked, and somebody has claimed it.
    Claim,
    /// Somebody has claimed it, and what they were to get is not there: it is launched like any other.
    Anew,
}

/// Whether a launch was asked for that nothing was done about.
pub(super) fn is_fresh(workspace: &Workspace) -> bool {
    workspace.status.as_ref().is_none_or(|status| status.state.is_none() || status.launch < workspace.spec.launch)
}

/// Decides. `pod` is the one that has the workspace's name, whoever made it; `patience` is how long one may take until
/// its gate runs.
pub(super) fn next(workspace: &Workspace, pod: Option<&Pod>, now: Timestamp, patience: Duration) -> Next {
    let status = workspace.status.as_ref();
    let state = status.and_then(|status| status.state);
    let fresh = is_fresh(workspace);
    let over = !fresh && matches!(state, Some(State::Refused | State::Failed | State::Stopped));
    let leaving = pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    let away = if leaving { Next::Wait } else { Next::Remove };
    if over {
        return pod.map_or(Next::Rest, |_| away);
    }
    // A stop that has begun is finished: another launch has another number.
    if !workspace.spec.run || (!fresh && state == Some(State::Stopping)) {
        return match pod {
            None => Next::Stopped,
            Some(_) if state != Some(State::Stopping) => Next::Stopping,
            Some(_) => away,
        };
    }
    if fresh {
        return pod.map_or(Next::Begin, |_| away);
    }
    if state == Some(State::Running) {
        let judged = status.and_then(|status| status.pod_uid.clone());
        return look(pod, judged.as_deref());
    }
    if let Some(status) = status.filter(|status| status.ready_at.is_some()) {
        return match (look(pod, status.pod_uid.as_deref()), workspace.spec.member) {
            (Next::Look, true) => Next::Rest,
            (Next::Look, false) => Next::Claim,
            (other, true) => other,
            (_, false) => Next::Anew,
        };
    }
    let given = status.is_some_and(|status| status.nonce.is_some());
    let Some(pod) = pod else { return if given { Next::Forget } else { Next::Make } };
    if leaving {
        return Next::Wait;
    }
    // A go was on its way when an earlier attempt ended. Whether the notebook runs cannot be told
    // from outside for sure, so this pod is never opened.
    if given || pod.annotations().get(LAUNCH) != Some(&workspace.spec.launch.to_string()) {
        return Next::Remove;
    }
    match phase(pod) {
        Phase::Runs => Next::Prove,
        Phase::Ended(why) => Next::Fail(format!("the pod ended before it was open: {why}")),
        Phase::Never(why) => Next::Fail(format!("the pod cannot start: {why}")),
        Phase::Starting(why) => {
            if age(pod, now) > patience.0 {
                Next::Fail(format!("the pod did not start within {}: {why}", String::from(patience)))
            } else {
                Next::Wait
            }
        }
    }
}

/// For how many seconds the pod has been there.
pub(super) fn age(pod: &Pod, now: Timestamp) -> u64 {
    let made = pod.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    u64::try_from(now.as_second() - made.as_second()).unwrap_or(0)
}

/// For how many seconds a pod is said to be young.
const YOUNG: u64 = 2;

/// Whether an event of a pod is one to act on. A young pod has several on its way, and each look at it would take time
/// from the very node that starts it.
pub(super) fn is_news(pod: &Pod, now: Timestamp) -> bool {
    let starts = matches!(phase(pod), Phase::Starting(_)) && no_room(pod).is_none();
    !starts || pod.metadata.deletion_timestamp.is_some() || age(pod, now) > YOUNG
}

/// The shortest and the longest pause between two looks at a pod on its way, in seconds.
const LOOKS: (u64, u64) = (10, 300);

/// How many seconds later to look at a pod on its way that no event comes of. Its events come while the watches stand,
/// and where many wait for a node, looks at all of them would keep the API server busy: the longer it has waited the
/// rarer they are, but for the one when `patience` is over.
pub(super) fn next_look(pod: &Pod, now: Timestamp, patience: Duration) -> u64 {
    let age = age(pod, now);
    let over = patience.0.saturating_sub(age) + 1;
    // As soon as its events count: what an earlier one said may not be so any more.
    let soonest = if age <= YOUNG { YOUNG + 1 - age } else { LOOKS.0 };
    age.clamp(soonest, LOOKS.1.max(soonest)).min(over)
}

/// A running workspace: its pod is the one that was judged, and it runs.
fn look(pod: Option<&Pod>, judged: Option<&str>) -> Next {
    let why = match pod {
        None => "its pod is gone".to_owned(),
        Some(pod) if judged.is_none() || pod.metadata.uid.as_deref() != judged => {
            "its pod is not the one that was proven".to_owned()
        }
        Some(pod) if pod.metadata.deletion_timestamp.is_some() => "its pod is being deleted".to_owned(),
        Some(pod) => match phase(pod) {
            Phase::Runs => return Next::Look,
            Phase::Starting(why) | Phase::Never(why) | Phase::Ended(why) => format!("its pod ended: {why}"),
        },
    };
    Next::Fail(why)
}

/// Why a container waits for what nobody is on the way with (kubelet's `images` and `kuberuntime` packages): an image
/// that is not on the node and is not to be fetched, a name that is none, a Secret or ConfigMap that is not there.
const NEVER: [&str; 3] = ["ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"];

/// How far a pod is.
enum Phase {
    Starting(String),
    /// It waits for what does not come by itself.
    Never(String),
    Runs,
    Ended(String),
}

fn phase(pod: &Pod) -> Phase {
    let Some(status) = &pod.status else { return Phase::Starting("it was not looked at".to_owned()) };
    let container = status.container_statuses.iter().flatten().next().and_then(|one| one.state.as_ref());
    if let Some(ended) = container.and_then(|state| state.terminated.as_ref()) {
        let why = ended.reason.clone().unwrap_or_default();
        return Phase::Ended(format!("exit code {} {why}", ended.exit_code));
    }
    match status.phase.as_deref() {
        Some("Failed" | "Succeeded") => {
            let why = status.message.clone().or_else(|| status.reason.clone());
            Phase::Ended(why.unwrap_or_else(|| "without a reason".to_owned()))
        }
        Some("Running") if container.is_some_and(|state| state.running.is_some()) => Phase::Runs,
        _ => {
            let waiting = container.and_then(|state| state.waiting.as_ref());
            let scheduled =
                status.conditions.iter().flatten().find(|one| one.type_ == "PodScheduled" && one.status == "False");
            let text = |reason: &Option<String>, message: &Option<String>| {
                format!("{} {}", reason.clone().unwrap_or_default(), message.clone().unwrap_or_default())
            };
            let why = waiting
                .map(|one| text(&one.reason, &one.message))
                .or_else(|| scheduled.map(|one| text(&one.reason, &one.message)));
            let why = why.unwrap_or_else(|| "no reason is known".to_owned()).chars().take(300).collect();
            let never = waiting.and_then(|one| one.reason.as_deref()).is_some_and(|reason| NEVER.contains(&reason));
            if never { Phase::Never(why) } else { Phase::Starting(why) }
        }
    }
}

/// Why no node takes a pod, as the scheduler says it.
pub(super) fn no_room(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let refused = conditions.into_iter().find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    (refused.reason.as_deref() == Some("Unschedulable")).then(|| refused.message.as_deref().unwrap_or_default())
}

/// Whether a pod's gate runs; an error when it ended.
pub(super) fn phase_of(pod: &Pod) -> Result<bool, String> {
    match phase(pod) {
        Phase::Runs => Ok(true),
        Phase::Starting(_) => Ok(false),
        Phase::Never(why) | Phase::Ended(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PATIENCE: Duration = Duration(120);
    const NOW: &str = "2026-01-01T00:01:00Z";
    const STATES: [&str; 7] = ["pending", "proving", "running", "stopping", "stopped", "refused", "failed"];

    fn workspace(spec: Value, status: Value) -> Workspace {
        let mut wanted = json!({
            "template": "desk",
            "owner": {"id": "u-ba9876543210", "name": "alice"},
            "launch": 3,
        });
        for (name, value) in spec.as_object().expect("fields") {
            wanted[name] = value.clone();
        }
        serde_json::from_value(json!({
            "apiVersion": "cubicle.dev/v1alpha1",
            "kind": "Workspace",
            "metadata": {"name": "w-0123456789ab", "uid": "workspace"},
            "spec": wanted,
            "status": status,
        }))
        .expect("a workspace")
    }

    fn written(state: &str) -> Value {
        json!({"state": state, "launch": 3, "podUid": "pod", "conditions": []})
    }

    /// A pod of launch 3 whose gate runs.
    fn runs() -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "w-0123456789ab",
                "uid": "pod",
                "annotations": {"cubicle.dev/launch": "3"},
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "status": {
                "phase": "Running",
                "containerStatuses": [{
                    "name": "notebook", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "state": {"running": {}},
                }],
            },
        }))
        .expect("a pod")
    }

    fn changed(mut pod: Pod, change: impl FnOnce(&mut Pod)) -> Pod {
        change(&mut pod);
        pod
    }

    fn leaving() -> Pod {
        changed(runs(), |pod| pod.metadata.deletion_timestamp = pod.metadata.creation_timestamp.clone())
    }

    fn decided(workspace: &Workspace, pod: Option<&Pod>) -> Next {
        next(workspace, pod, NOW.parse().expect("a time"), PATIENCE)
    }

    fn made_at(time: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"creationTimestamp": time}})).expect("a pod")
    }

    #[test]
    fn a_launch_goes_through_its_states() {
        let new = workspace(json!({}), json!({}));
        assert_eq!(decided(&new, None), Next::Begin);
        let pending = workspace(json!({}), written("pending"));
        assert_eq!(decided(&pending, None), Next::Make);
        let starting = changed(runs(), |pod| pod.status = None);
        assert_eq!(decided(&pending, Some(&starting)), Next::Wait);
        assert_eq!(decided(&pending, Some(&runs())), Next::Prove);
        let proving = workspace(json!({}), written("proving"));
        assert_eq!(decided(&proving, Some(&runs())), Next::Prove);
        let running = workspace(json!({}), written("running"));
        assert_eq!(decided(&running, Some(&runs())), Next::Look);
        let stopped = workspace(json!({"run": false}), written("running"));
        assert_eq!(decided(&stopped, Some(&runs())), Next::Stopping);
        let stopping = workspace(json!({"run": false}), written("stopping"));
        assert_eq!(decided(&stopping, Some(&runs())), Next::Remove);
        assert_eq!(decided(&stopping, Some(&leaving())), Next::Wait);
        assert_eq!(decided(&stopping, None), Next::Stopped);
    }

    #[test]
    fn what_is_over_is_never_launched_again_by_itself() {
        for state in ["stopped", "refused", "failed"] {
            let over = workspace(json!({}), written(state));
            assert_eq!(decided(&over, None), Next::Rest, "{state}");
            assert_eq!(decided(&over, Some(&runs())), Next::Remove, "{state}");
            assert_eq!(decided(&over, Some(&leaving())), Next::Wait, "{state}");
            let again = workspace(json!({"launch": 4}), written(state));
            assert_eq!(decided(&again, Some(&runs())), Next::Remove, "{state}");
            assert_eq!(decided(&again, None), Next::Begin, "{state}");
        }
    }

    #[test]
    fn what_runs_never_goes_back_to_an_earlier_state() {
        let running = workspace(json!({}), written("running"));
        let other = changed(runs(), |pod| pod.metadata.uid = Some("another".to_owned()));
        let ended = changed(runs(), |pod| {
            if let Some(status) = &mut pod.status {
                status.phase = Some("Failed".to_owned());
                status.container_statuses = None;
            }
        });
        for pod in [None, Some(&other), Some(&ended), Some(&leaving())] {
            assert!(matches!(decided(&running, pod), Next::Fail(_)), "{pod:?}");
        }
        // Nor is a stop turned back halfway.
        let stopping = workspace(json!({"run": true}), written("stopping"));
        assert_eq!(decided(&stopping, Some(&runs())), Next::Remove);
        assert_eq!(decided(&stopping, None), Next::Stopped);
    }

    #[test]
    fn a_pod_that_was_given_a_go_is_never_taken_for_a_gate() {
        let mut status = written("proving");
        status["nonce"] = json!("n");
        let given = workspace(json!({}), status);
        assert_eq!(decided(&given, Some(&runs())), Next::Remove);
        // Its notebook runs until it is gone, and so long the go is remembered.
        assert_eq!(decided(&given, Some(&leaving())), Next::Wait);
        assert_eq!(decided(&given, None), Next::Forget);
    }

    #[test]
    fn one_that_waits_is_claimed_once_and_never_opened_by_itself() {
        let mut status = written("proving");
        status["nonce"] = json!("n");
        status["readyAt"] = json!("2026-01-01T00:00:30Z");
        let other = changed(runs(), |pod| pod.metadata.uid = Some("another".to_owned()));
        let waiting = workspace(json!({"member": true}), status.clone());
        assert_eq!(decided(&waiting, Some(&runs())), Next::Rest);
        for pod in [None, Some(&other), Some(&leaving())] {
            assert!(matches!(decided(&waiting, pod), Next::Fail(_)), "{pod:?}");
        }
        let claimed = workspace(json!({}), status.clone());
        assert_eq!(decided(&claimed, Some(&runs())), Next::Claim);
        for pod in [None, Some(&other), Some(&leaving())] {
            assert_eq!(decided(&claimed, pod), Next::Anew, "{pod:?}");
        }
        let stopped = workspace(json!({"run": false}), status);
        assert_eq!(decided(&stopped, Some(&runs())), Next::Stopping);
    }

    #[test]
    fn nothing_is_proven_or_made_beside_a_pod_that_leaves() {
        for state in STATES {
            for run in [true, false] {
                for launch in [3, 4] {
                    let workspace = workspace(json!({"run": run, "launch": launch}), written(state));
                    let next = decided(&workspace, Some(&leaving()));
                    let fine = matches!(next, Next::Wait | Next::Stopping | Next::Fail(_));
                    assert!(fine, "{state}, run {run}, launch {launch}: {next:?}");
                }
            }
        }
    }

    #[test]
    fn a_pod_that_waits_for_what_does_not_come_is_not_waited_for() {
        let pending = workspace(json!({}), written("pending"));
        let waiting = |reason: &str| {
            changed(runs(), |pod| {
                let status = json!({"phase": "Pending", "containerStatuses": [
                    {"name": "notebook", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                     "state": {"waiting": {"reason": reason, "message": "because"}}}]});
                pod.status = serde_json::from_value(status).expect("a status");
            })
        };
        let failed = Next::Fail("the pod cannot start: ErrImageNeverPull because".to_owned());
        assert_eq!(decided(&pending, Some(&waiting("ErrImageNeverPull"))), failed);
        // A registry may answer yet, and a container is made in a moment.
        for reason in ["ErrImagePull", "ImagePullBackOff", "ContainerCreating", "PodInitializing"] {
            assert_eq!(decided(&pending, Some(&waiting(reason))), Next::Wait, "{reason}");
        }
    }

    #[test]
    fn no_room_is_what_the_scheduler_calls_so() {
        let pod = |conditions: Value| {
            changed(runs(), |pod| {
                pod.status = serde_json::from_value(json!({"conditions": conditions})).expect("a status");
            })
        };
        let scheduled = |status: &str, reason: &str| {
            pod(json!([{"type": "PodScheduled", "status": status, "reason": reason, "message": "0/2 nodes"}]))
        };
        assert_eq!(no_room(&scheduled("False", "Unschedulable")), Some("0/2 nodes"));
        for other in [scheduled("False", "SchedulerError"), scheduled("True", ""), pod(json!([])), runs()] {
            assert_eq!(no_room(&other), None);
        }
    }

    #[test]
    fn a_pod_is_made_only_where_none_is() {
        for state in STATES {
            for launch in [3, 4] {
                let workspace = workspace(json!({"launch": launch}), written(state));
                for pod in [runs(), leaving(), changed(runs(), |pod| pod.metadata.annotations = None)] {
                    let next = decided(&workspace, Some(&pod));
                    assert!(!matches!(next, Next::Make | Next::Begin | Next::Forget), "{state}, {launch}: {next:?}");
                }
            }
        }
    }

    #[test]
    fn a_pod_on_its_way_is_looked_at_ever_later_and_when_its_time_is_over() {
        let pod = made_at("2026-01-01T00:00:00Z");
        for (now, patience, seconds) in [
            ("2026-01-01T00:00:00Z", 3600, 3),
            ("2026-01-01T00:00:02Z", 3600, 2),
            ("2026-01-01T00:00:03Z", 3600, 10),
            ("2026-01-01T00:00:09Z", 3600, 10),
            ("2026-01-01T00:00:40Z", 3600, 40),
            ("2026-01-01T00:30:00Z", 3600, 300),
            ("2026-01-01T00:59:00Z", 3600, 61),
            ("2026-01-01T01:00:00Z", 3600, 1),
            ("2026-01-01T02:00:00Z", 3600, 1),
            // The clock was set back.
            ("2025-01-01T00:00:00Z", 3600, 3),
        ] {
            assert_eq!(next_look(&pod, now.parse().expect("a time"), Duration(patience)), seconds, "{now}");
        }
    }

    #[test]
    fn a_young_pod_on_its_way_is_no_news_unless_something_is_to_be_done() {
        let now = "2026-01-01T00:00:02Z".parse().expect("a time");
        let with =
            |status: Value| changed(runs(), |pod| pod.status = serde_json::from_value(status).expect("a status"));
        let starting = with(json!({"phase": "Pending"}));
        let placed = with(json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}));
        for pod in [&starting, &placed] {
            assert!(!is_news(pod, now), "{pod:?}");
            assert!(is_news(pod, "2026-01-01T00:00:03Z".parse().expect("a time")), "not young");
        }
        let refused = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2"}]);
        let waits = json!([{"name": "notebook", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImageNeverPull"}}}]);
        for pod in [
            runs(),
            with(json!({"phase": "Failed"})),
            with(json!({"phase": "Pending", "conditions": refused})),
            with(json!({"phase": "Pending", "containerStatuses": waits})),
            changed(starting, |pod| pod.metadata.deletion_timestamp = pod.metadata.creation_timestamp.clone()),
        ] {
            assert!(is_news(&pod, now), "{pod:?}");
        }
    }

    #[test]
    fn a_pod_of_another_launch_or_one_that_does_not_start_ends_in_time() {
        let pending = workspace(json!({}), written("pending"));
        let other = changed(runs(), |pod| {
            pod.metadata.annotations = Some([("cubicle.dev/launch".to_owned(), "2".to_owned())].into());
        });
        assert_eq!(decided(&pending, Some(&other)), Next::Remove);
        let late = "2026-01-01T00:02:01Z".parse().expect("a time");
        let starting = changed(runs(), |pod| pod.status = None);
        assert!(matches!(next(&pending, Some(&starting), late, PATIENCE), Next::Fail(_)));
        assert_eq!(next(&pending, Some(&starting), late, Duration(121)), Next::Wait);
        assert_eq!(next(&pending, Some(&runs()), late, PATIENCE), Next::Prove);
    }
}
