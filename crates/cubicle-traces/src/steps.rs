//! The controller's part: a launch told from what was recorded of it, when it is over. Its steps may have been
//! made by several controllers, one after the other, and the record is all that they share.

use std::time::{Duration, SystemTime};

use cubicle_core::report::GuaranteeReport;
use cubicle_core::trace::TraceParent;
use cubicle_core::workspace::{Progress, Step};
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanKind};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use crate::launch::{About, End, failure, outcome};
use crate::proof::{self, Observed};
use crate::span::{self, Parent};

/// An event of a launch: how far which step was, so long after the launch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedStep {
    /// Which step.
    pub step: Step,
    /// How far.
    pub state: Progress,
    /// How long after the launch began.
    pub elapsed: Duration,
}

/// A launch that is over.
#[derive(Debug)]
pub struct Recorded<'a> {
    /// Where it belongs: the hub's request.
    pub place: Option<TraceParent>,
    /// What was launched.
    pub about: About,
    /// Whether a sandbox was ready for it.
    pub warm: bool,
    /// When it began.
    pub began: SystemTime,
    /// What happened, in order.
    pub steps: Vec<RecordedStep>,
    /// When what was tried, if it was this controller that tried it.
    pub observed: Option<&'a Observed>,
    /// What was judged, as far as this controller knows.
    pub guarantees: &'a [GuaranteeReport],
    /// How it ended; none when the notebook is open.
    pub end: Option<End>,
}

/// Tells a launch that is over; nothing when traces are off.
pub fn tell(recorded: &Recorded<'_>) {
    if let Some(tracer) = crate::tracer() {
        tell_with(tracer, recorded);
    }
}

fn tell_with(tracer: &SdkTracer, recorded: &Recorded<'_>) {
    let wall = |elapsed: Duration| recorded.began.checked_add(elapsed).unwrap_or(recorded.began);
    let parent = recorded.place.map_or(Parent::None, Parent::There);
    let mut launch = span::open(tracer, "launch", SpanKind::Consumer, parent, recorded.began, Vec::new());
    launch.set_attributes(recorded.about.attributes());
    launch.set_attribute(KeyValue::new("cubicle.warm", recorded.warm));
    let (mut since, mut open): (Duration, Option<(Step, Span)>) = (Duration::ZERO, None);
    let mut failed = None;
    for one in &recorded.steps {
        // A step begins with its first event, or where the one before it ended.
        let same = open.as_ref().is_some_and(|(step, _)| *step == one.step);
        if !same {
            if let Some((_, mut span)) = open.take() {
                span.end_with_timestamp(wall(since));
            }
            let from = if one.state == Progress::Running { one.elapsed } else { since };
            open = Some((one.step, span::below(tracer, &launch, one.step.as_str(), wall(from))));
        }
        since = one.elapsed;
        if one.state == Progress::Running {
            continue;
        }
        if let Some((step, mut span)) = open.take() {
            if let (Step::Prove, Some(observed)) = (step, recorded.observed) {
                observed.tell(tracer, &span, recorded.guarantees);
            }
            if one.state == Progress::Failed {
                failed = Some(step);
                if let Some((kind, reason)) = failed_as(recorded, Some(step)) {
                    span::fail(&mut span, kind, reason);
                }
            }
            span.end_with_timestamp(wall(one.elapsed));
        }
    }
    if let Some((_, mut span)) = open.take() {
        span.end_with_timestamp(wall(since));
    }
    launch.set_attribute(KeyValue::new("cubicle.outcome", outcome(recorded.end)));
    if let Some((kind, reason)) = failed_as(recorded, failed) {
        span::fail(&mut launch, kind, reason);
    }
    launch.end_with_timestamp(wall(since));
}

fn failed_as(recorded: &Recorded<'_>, step: Option<Step>) -> Option<(&'static str, String)> {
    failure(recorded.end?, step, || proof::refusal(recorded.guarantees))
}

#[cfg(test)]
mod tests {
    use cubicle_core::level::EngineKind;
    use cubicle_core::problem::ProblemKind;
    use opentelemetry::trace::Status;

    use super::*;
    use crate::launch::tests::{proof, report, workspace};
    use crate::span::tests::{Kept, attribute};

    fn step(step: Step, state: Progress, milliseconds: u64) -> RecordedStep {
        RecordedStep { step, state, elapsed: Duration::from_millis(milliseconds) }
    }

    #[test]
    fn a_launch_is_told_from_its_record() {
        let kept = Kept::new();
        let about = About { engine: EngineKind::Kubernetes, ..About::of(&workspace()) };
        let place: TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("a place");
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let observed = Observed::of(&proof());
        let report = report();
        tell_with(
            &kept.tracer,
            &Recorded {
                place: Some(place),
                about,
                warm: false,
                began,
                steps: vec![
                    step(Step::Request, Progress::Done, 1),
                    step(Step::Plan, Progress::Done, 2),
                    step(Step::Build, Progress::Running, 3),
                    step(Step::Build, Progress::Done, 900),
                    step(Step::Prove, Progress::Running, 900),
                    step(Step::Prove, Progress::Done, 1500),
                    step(Step::Open, Progress::Running, 1501),
                    step(Step::Open, Progress::Done, 2000),
                ],
                observed: Some(&observed),
                guarantees: &report.guarantees,
                end: None,
            },
        );
        let paths = kept.paths();
        for path in [
            "launch > request",
            "launch > plan",
            "launch > build",
            "launch > prove",
            "launch > prove > proof",
            "launch > prove > proof > tenant",
            "launch > prove > proof > tenant > network.internet",
            "launch > open",
        ] {
            assert!(paths.iter().any(|known| known == path), "{path} in {paths:?}");
        }
        let spans = kept.spans();
        let find = |name: &str| spans.iter().find(|span| span.name == name).expect("a span");
        let launch = find("launch");
        assert_eq!(u64::from_be_bytes(launch.parent_span_id.to_bytes()), place.span());
        assert_eq!(launch.start_time, began);
        assert_eq!(launch.end_time, began + Duration::from_secs(2));
        assert_eq!(attribute(launch, "cubicle.engine").as_deref(), Some("kubernetes"));
        assert_eq!(attribute(launch, "cubicle.outcome").as_deref(), Some("open"));
        assert_eq!(launch.status, Status::Unset);
        let lasted = |name: &str| {
            let span = find(name);
            span.end_time.duration_since(span.start_time).expect("in order").as_millis()
        };
        assert_eq!((lasted("plan"), lasted("build"), lasted("prove"), lasted("open")), (1, 897, 600, 499));
    }

    #[test]
    fn a_failure_is_its_step_s_and_the_launch_s() {
        let kept = Kept::new();
        let report = report();
        let recorded = |end, steps| Recorded {
            place: None,
            about: About::of(&workspace()),
            warm: true,
            began: SystemTime::UNIX_EPOCH,
            steps,
            observed: None,
            guarantees: &report.guarantees,
            end: Some(end),
        };
        let steps = vec![step(Step::Prove, Progress::Running, 1), step(Step::Prove, Progress::Failed, 5)];
        tell_with(&kept.tracer, &recorded(End::Failed(ProblemKind::Engine), steps));
        // What no controller has recorded is no reason to be silent, or to fail.
        tell_with(&kept.tracer, &recorded(End::Stopped, Vec::new()));
        let spans = kept.spans();
        let status = |name: &str| spans.iter().find(|span| span.name == name).map(|span| span.status.clone());
        assert_eq!(status("prove"), Some(Status::error("prove failed: engine")));
        assert_eq!(status("launch"), Some(Status::error("prove failed: engine")));
        let last = spans.last().expect("a span");
        assert_eq!((attribute(last, "cubicle.outcome").as_deref(), &last.status), (Some("stopped"), &Status::Unset));
    }
}
