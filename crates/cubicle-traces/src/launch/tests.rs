//! A launch in memory, and what is told of it.

use cubicle_core::attempt::Action;
use cubicle_core::attempt::{Attempt, CgroupReading, Observation, Observations, Outcome, Phase, ProbePlan, Role};
use cubicle_core::report::{GuaranteeReport, Summary, Verdict};
use cubicle_core::workspace::{Owner, State};
use jiff::Timestamp;
use opentelemetry::trace::Status;

use super::*;
use crate::span::tests::{Kept, attribute};

pub(crate) fn workspace() -> Workspace {
    Workspace {
        id: WorkspaceId::from_random([7; 12]),
        name: "a-private-title".to_owned(),
        owner: Owner { id: "u-ba9876543210".parse().expect("an id"), name: "alice-the-owner".parse().expect("a name") },
        template: "lab".parse().expect("a name"),
        level: Level::Standard,
        engine: EngineKind::Local,
        state: State::Pending,
        reason: String::new(),
        pid: None,
        created_at: Timestamp::UNIX_EPOCH,
        opened_at: None,
        last_activity: None,
        stops_at: None,
        warnings: Vec::new(),
    }
}

fn side(role: Role, from_ms: i64, attempts: &[(&str, u64)]) -> Observations {
    let observations = attempts.iter().map(|(attempt, duration_us)| Observation {
        attempt: (*attempt).to_owned(),
        outcome: Outcome::Denied,
        detail: "a detail that nobody needs".to_owned(),
        at: Timestamp::from_millisecond(1_800_000_000_000 + from_ms).expect("a time"),
        duration_us: *duration_us,
        silent: false,
    });
    Observations { nonce: String::new(), role, observations: observations.collect(), disturbed: None }
}

pub(crate) fn proof() -> Proof {
    let attempts = ["network.internet/tcp 192.0.2.1:80", "network.internet/udp 192.0.2.1:53", "invented/x"];
    let attempts =
        attempts.map(|id| Attempt { id: id.to_owned(), action: Action::Read { path: String::new(), staged: false } });
    let reading = CgroupReading::default();
    Proof {
        plan: ProbePlan {
            nonce: "a-secret-nonce".to_owned(),
            phase: Phase::Gate,
            dial_deadline_ms: 100,
            attempts: attempts.to_vec(),
        },
        control_before: side(Role::Control, 10, &[("network.internet/tcp 192.0.2.1:80", 200)]),
        tenant: side(
            Role::Tenant,
            150,
            &[
                ("network.internet/tcp 192.0.2.1:80", 100_000),
                ("network.internet/udp 192.0.2.1:53", 20_000),
                ("invented/x", u64::MAX),
            ],
        ),
        control_after: side(Role::Control, 160, &[("network.internet/tcp 192.0.2.1:80", 300)]),
        cgroup_before: reading.clone(),
        cgroup_after: reading.clone(),
        cgroup_final: reading.clone(),
        cgroup_reference: reading,
    }
}

pub(crate) fn report() -> Report {
    let found = cubicle_core::catalogue::find("network.internet").expect("a guarantee");
    let guarantees = vec![GuaranteeReport { verdict: Verdict::Held, ..GuaranteeReport::of(found) }];
    let workspace = workspace();
    Report {
        workspace: workspace.id,
        engine: workspace.engine,
        level: workspace.level,
        template: workspace.template,
        started_at: Timestamp::UNIX_EPOCH,
        duration_ms: 1,
        summary: Summary::of(&guarantees),
        guarantees,
    }
}

fn launch(kept: &Kept, place: Option<TraceParent>) -> Launch {
    Launch { inner: Some(Box::new(Inner::begin(&kept.tracer, place, Instant::now()))) }
}

#[test]
fn nothing_is_told_when_traces_are_off() {
    assert!(!crate::are_on());
    let mut launch = Launch::begin(None, Instant::now());
    launch.about(&workspace(), true);
    launch.begins(Step::Prove, Instant::now());
    launch.observed(&proof());
    launch.judged(&report());
    launch.ended(None);
    assert!(launch.inner.is_none());
}

#[test]
fn a_launch_has_its_steps_and_its_proof() {
    let kept = Kept::new();
    let place = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
    let mut launch = launch(&kept, place);
    let began = Instant::now();
    launch.about(&workspace(), false);
    launch.waited(began);
    launch.done(began, Duration::from_millis(3));
    for step in [Step::Plan, Step::Build, Step::Prove] {
        launch.begins(step, Instant::now());
        if step == Step::Prove {
            launch.observed(&proof());
            launch.judged(&report());
        }
        launch.done(Instant::now(), Duration::ZERO);
    }
    launch.begins(Step::Open, Instant::now());
    launch.ended(None);
    drop(launch);
    let mut paths = kept.paths();
    paths.sort();
    let proof = "launch > prove > proof";
    let mut expected = vec![
        "launch".to_owned(),
        "launch > build".to_owned(),
        "launch > open".to_owned(),
        "launch > plan".to_owned(),
        "launch > prove".to_owned(),
        proof.to_owned(),
        format!("{proof} > control after"),
        format!("{proof} > control before"),
        format!("{proof} > tenant"),
        format!("{proof} > tenant > network.internet"),
        "launch > request".to_owned(),
        "launch > request > queue".to_owned(),
    ];
    expected.sort();
    assert_eq!(paths, expected);
    let spans = kept.spans();
    let place = place.expect("a place");
    for span in &spans {
        assert_eq!(u128::from_be_bytes(span.span_context.trace_id().to_bytes()), place.trace(), "{}", span.name);
        assert!(span.end_time >= span.start_time, "{}", span.name);
        assert_eq!(span.status, Status::Unset, "{}", span.name);
        let text = format!("{span:?}");
        for secret in ["alice", "private-title", "nonce", "detail", "u-ba9876543210"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    let find = |name: &str| spans.iter().find(|span| span.name == name).expect("a span");
    let tried = find("network.internet");
    let lasted = tried.end_time.duration_since(tried.start_time).expect("in order");
    assert_eq!(lasted, Duration::from_millis(100), "from the first attempt to the end of the last");
    assert_eq!(attribute(tried, "cubicle.verdict").as_deref(), Some("held"));
    assert_eq!(attribute(tried, "cubicle.attempts").as_deref(), Some("2"));
    assert_eq!(attribute(find("launch"), "cubicle.outcome").as_deref(), Some("open"));
    assert_eq!(attribute(find("launch"), "cubicle.warm").as_deref(), Some("false"));
}

#[test]
fn what_stops_a_launch_is_an_error_with_its_reason() {
    let kept = Kept::new();
    let mut launch = launch(&kept, None);
    launch.begins(Step::Prove, Instant::now());
    launch.observed(&proof());
    let mut report = report();
    report.guarantees[0].verdict = Verdict::Breached;
    report.guarantees[0].reason = "alice reached 192.0.2.1".to_owned();
    launch.judged(&report);
    launch.ended(Some(End::Refused));
    let spans = kept.spans();
    let status = |name: &str| &spans.iter().find(|span| span.name == name).expect("a span").status;
    assert_eq!(status("network.internet"), &Status::error("breached"));
    assert_eq!(status("prove"), &Status::error("breached: network.internet"));
    assert_eq!(status("launch"), &Status::error("breached: network.internet"));
    assert!(!format!("{spans:?}").contains("192.0.2.1"));
}

#[test]
fn a_launch_that_is_given_up_was_stopped() {
    let kept = Kept::new();
    let mut begun = launch(&kept, None);
    begun.goes_the_long_way();
    drop(begun);
    let mut failed = launch(&kept, None);
    failed.begins(Step::Build, Instant::now());
    failed.ended(Some(End::Failed(ProblemKind::Exhausted)));
    let spans = kept.spans();
    let launches: Vec<_> = spans.iter().filter(|span| span.name == "launch").collect();
    assert_eq!(attribute(launches[0], "cubicle.outcome").as_deref(), Some("stopped"));
    assert_eq!(launches[0].status, Status::Unset);
    assert_eq!(launches[1].status, Status::error("build failed: exhausted"));
}
