use proptest::prelude::*;

use super::*;
use crate::attempt::{CgroupReading, Observation, Outcome, ProbePlan};
use crate::level::{EngineKind, Level};
use crate::plan::Limits;
use crate::quantity::{Bytes, MilliCpu};
use crate::template::{Egress, EgressMode};

fn situation() -> Situation {
    Situation {
        engine: EngineKind::Local,
        level: Level::Standard,
        limits: Limits {
            cpu: MilliCpu(1000),
            memory: Bytes(2 << 30),
            pids: 512,
            ephemeral_storage: Bytes(256 << 20),
            home: Some(Bytes(2 << 30)),
        },
        egress: Egress { mode: EgressMode::Walled, allow: Vec::new() },
        home_path: "/home/user".to_owned(),
        machine_addresses: vec!["192.0.2.10".parse().expect("valid")],
        platform_ports: vec![8000],
        notebook_port: 8888,
        id_base: 1_000_000,
        boot_id: "8c4f1f0e-0000-4000-8000-000000000000".to_owned(),
        cluster: None,
    }
}

fn run(plan: &ProbePlan, role: Role, outcome: Outcome) -> Observations {
    let observations = plan
        .attempts
        .iter()
        .map(|attempt| Observation {
            attempt: attempt.id.clone(),
            outcome,
            detail: "EPERM".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            duration_us: 10,
            silent: false,
        })
        .collect();
    Observations { nonce: plan.nonce.clone(), role, observations, disturbed: None }
}

fn proof(phase: Phase) -> Proof {
    let plan = catalogue::probe_plan(&situation(), &[], phase, "right");
    let limits = CgroupReading {
        memory_limit: Some(2 << 30),
        swap_limit: Some(0),
        memory_usage: 1 << 20,
        memory_kills: 1,
        cpu_limit: Some(1000),
        cpu_throttled: 3,
        cpu_usage_us: 9000,
        pids_limit: Some(512),
        pids_denied: 1,
        pids: 1,
    };
    Proof {
        control_before: run(&plan, Role::Control, Outcome::Succeeded),
        tenant: run(&plan, Role::Tenant, Outcome::Denied),
        control_after: run(&plan, Role::Control, Outcome::Succeeded),
        plan,
        cgroup_before: CgroupReading::default(),
        cgroup_after: limits.clone(),
        cgroup_final: limits,
        cgroup_reference: CgroupReading::default(),
    }
}

fn verdicts(proof: &Proof) -> Vec<GuaranteeReport> {
    judge(&situation(), &catalogue::promised(Level::Standard, EngineKind::Local), proof)
}

fn verdict(proof: &Proof, id: &str) -> Verdict {
    verdicts(proof).into_iter().find(|one| one.id == id).expect("exists").verdict
}

#[test]
fn a_perfect_proof_holds_everything_that_is_promised() {
    for guarantee in verdicts(&proof(Phase::Gate)) {
        let expected = if catalogue::promised(Level::Standard, EngineKind::Local).contains(&guarantee.id.as_str()) {
            Verdict::Held
        } else {
            Verdict::NotClaimed
        };
        assert_eq!(guarantee.verdict, expected, "{}: {}", guarantee.id, guarantee.reason);
        assert!(expected != Verdict::Held || !guarantee.evidence.is_empty(), "{}", guarantee.id);
    }
}

/// In a cluster an address may be nobody's, and the reference then says "missing". A canary is
/// somebody: when even the reference cannot reach it, the proof has lost its control.
#[test]
fn a_canary_that_does_not_answer_is_never_absent() {
    let canary: std::net::SocketAddr = "10.244.1.7:8888".parse().expect("valid");
    let nobody: std::net::SocketAddr = "10.244.1.9:8000".parse().expect("valid");
    let cluster =
        crate::plan::Cluster { same_node: vec![canary], platform: vec![nobody], ..crate::plan::Cluster::default() };
    let situation = Situation { engine: EngineKind::Kubernetes, cluster: Some(cluster), ..situation() };
    let plan = catalogue::probe_plan(&situation, &[], Phase::Gate, "right");
    let proof = Proof {
        control_before: run(&plan, Role::Control, Outcome::Missing),
        tenant: run(&plan, Role::Tenant, Outcome::Denied),
        control_after: run(&plan, Role::Control, Outcome::Missing),
        plan,
        ..proof(Phase::Gate)
    };
    let promised = catalogue::promised(Level::Standard, EngineKind::Kubernetes);
    let verdicts = judge(&situation, &promised, &proof);
    let of = |id: &str| verdicts.iter().find(|one| one.id == id).expect("exists").verdict;
    assert_eq!(of("network.other-workspace-same-node"), Verdict::Unproven);
    assert_eq!(of("network.platform-ports"), Verdict::Absent);
}

#[test]
fn success_is_a_breach_and_names_itself() {
    let mut proof = proof(Phase::Gate);
    for one in proof.tenant.observations.iter_mut().filter(|one| one.attempt.starts_with("kernel.bpf/")) {
        one.outcome = Outcome::Succeeded;
    }
    let breached: Vec<String> =
        verdicts(&proof).into_iter().filter(|one| one.verdict == Verdict::Breached).map(|one| one.id).collect();
    assert_eq!(breached, ["kernel.bpf"]);
}

#[test]
fn nothing_there_even_for_the_control_is_absent_and_never_blocks() {
    let mut proof = proof(Phase::Gate);
    for run in [&mut proof.control_before, &mut proof.control_after] {
        for one in run.observations.iter_mut().filter(|one| one.attempt.starts_with("sockets.crypto/")) {
            one.outcome = Outcome::Missing;
        }
    }
    assert_eq!(verdict(&proof, "sockets.crypto"), Verdict::Absent);
    proof.control_after.observations.retain(|one| !one.attempt.starts_with("sockets.crypto/"));
    assert_eq!(verdict(&proof, "sockets.crypto"), Verdict::Unproven);
}

#[test]
fn a_control_that_fails_once_proves_nothing() {
    for outcome in [Outcome::Denied, Outcome::Failed, Outcome::Missing] {
        for before in [true, false] {
            let mut proof = proof(Phase::Gate);
            let run = if before { &mut proof.control_before } else { &mut proof.control_after };
            for one in run.observations.iter_mut().filter(|one| one.attempt.starts_with("kernel.mount/")) {
                one.outcome = outcome;
            }
            assert_eq!(verdict(&proof, "kernel.mount"), Verdict::Unproven, "{outcome:?} {before}");
        }
    }
}

#[test]
fn silence_needs_a_fast_control_and_a_late_refusal_does_not() {
    let mail = |one: &&mut Observation| one.attempt.starts_with("network.mail/");
    let mut proof = proof(Phase::Gate);
    for one in proof.tenant.observations.iter_mut().filter(mail) {
        (one.silent, one.duration_us) = (true, 100_000);
    }
    assert_eq!(verdict(&proof, "network.mail"), Verdict::Held);
    for one in proof.control_after.observations.iter_mut().filter(mail) {
        one.duration_us = 30_000;
    }
    assert_eq!(verdict(&proof, "network.mail"), Verdict::Unproven);
    for one in proof.tenant.observations.iter_mut().filter(mail) {
        one.silent = false;
    }
    assert_eq!(verdict(&proof, "network.mail"), Verdict::Held);
}

#[test]
fn an_attempt_observed_twice_is_unproven() {
    let mut proof = proof(Phase::Gate);
    let twice = proof.tenant.observations[0].clone();
    let id = twice.attempt.split('/').next().expect("has a guarantee").to_owned();
    proof.tenant.observations.push(twice);
    assert_eq!(verdict(&proof, &id), Verdict::Unproven);
}

#[test]
fn a_plan_that_tries_less_than_the_catalogue_is_unproven() {
    let mut proof = proof(Phase::Gate);
    proof.plan.attempts.retain(|attempt| attempt.id != "kernel.mount/mount");
    assert_eq!(verdict(&proof, "kernel.mount"), Verdict::Unproven);
}

#[test]
fn later_proofs_leave_what_only_the_gate_can_try_unproven() {
    let proof = proof(Phase::Later);
    assert_eq!(verdict(&proof, "network.start-up-window"), Verdict::Unproven);
    assert!(!catalogue::is_tried("network.start-up-window", &proof.plan));
    assert_eq!(verdict(&proof, "neighbour.memory"), Verdict::Held);
}

#[test]
fn limits_are_judged_by_the_kernels_counters() {
    type Change = fn(&mut Proof);
    let cases: [(&str, Change, Verdict); 8] = [
        ("neighbour.memory", |proof| proof.cgroup_final.memory_limit = None, Verdict::Breached),
        ("neighbour.memory", |proof| proof.cgroup_final.memory_limit = Some(96 << 20), Verdict::Unproven),
        ("neighbour.memory", |proof| proof.cgroup_after.memory_kills = 0, Verdict::Unproven),
        ("neighbour.processes", |proof| proof.cgroup_final.pids_limit = Some(9999), Verdict::Breached),
        ("neighbour.processes", |proof| proof.cgroup_after.pids_denied = 0, Verdict::Unproven),
        ("neighbour.cpu", |proof| proof.cgroup_after.cpu_throttled = 0, Verdict::Unproven),
        ("neighbour.cpu", |proof| proof.cgroup_reference.cpu_limit = Some(1000), Verdict::Unproven),
        ("neighbour.swap", |proof| proof.cgroup_final.swap_limit = None, Verdict::Breached),
    ];
    for (id, change, expected) in cases {
        let mut proof = proof(Phase::Gate);
        change(&mut proof);
        assert_eq!(verdict(&proof, id), expected, "{id}");
    }
}

#[test]
fn what_the_level_does_not_promise_is_not_claimed() {
    let reports = judge(&situation(), &["kernel.bpf"], &proof(Phase::Gate));
    assert_eq!(reports.iter().filter(|one| one.verdict == Verdict::Held).count(), 1);
    assert!(reports.iter().all(|one| matches!(one.verdict, Verdict::Held | Verdict::NotClaimed)));
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::Succeeded), Just(Outcome::Denied), Just(Outcome::Missing), Just(Outcome::Failed)]
}

/// A run with any outcomes, with some observations missing, and perhaps of another proof.
fn any_run(attempts: usize) -> impl Strategy<Value = (Vec<Option<Outcome>>, bool, Option<String>)> {
    (
        proptest::collection::vec(proptest::option::weighted(0.95, outcome()), attempts),
        proptest::bool::weighted(0.1),
        proptest::option::weighted(0.1, Just("killed".to_owned())),
    )
}

fn apply(run: &mut Observations, (outcomes, forged, disturbed): &(Vec<Option<Outcome>>, bool, Option<String>)) {
    let mut outcomes = outcomes.iter();
    run.observations.retain_mut(|one| match outcomes.next() {
        Some(Some(outcome)) => {
            one.outcome = *outcome;
            true
        }
        _ => false,
    });
    if *forged {
        run.nonce = "old".to_owned();
    }
    run.disturbed.clone_from(disturbed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_held_without_a_control_that_passed(
        before in any_run(400), tenant in any_run(400), after in any_run(400),
    ) {
        let mut proof = proof(Phase::Gate);
        apply(&mut proof.control_before, &before);
        apply(&mut proof.tenant, &tenant);
        apply(&mut proof.control_after, &after);
        let trusted = !before.1 && !tenant.1 && !after.1
            && before.2.is_none() && tenant.2.is_none() && after.2.is_none();
        for guarantee in verdicts(&proof) {
            if guarantee.verdict != Verdict::Held || guarantee.id == "neighbour.swap" {
                prop_assert!(trusted || guarantee.verdict != Verdict::Held);
                continue;
            }
            prop_assert!(trusted);
            let outcomes = |run: &Observations| -> Vec<Outcome> {
                run.observations
                    .iter()
                    .filter(|one| one.attempt.starts_with(&format!("{}/", guarantee.id)))
                    .map(|one| one.outcome)
                    .collect()
            };
            let (before, tenant, after) =
                (outcomes(&proof.control_before), outcomes(&proof.tenant), outcomes(&proof.control_after));
            let passed = |one: &Outcome| matches!(one, Outcome::Succeeded | Outcome::Missing);
            prop_assert!(before.contains(&Outcome::Succeeded) && after.contains(&Outcome::Succeeded));
            prop_assert!(before.iter().all(passed) && after.iter().all(passed));
            prop_assert!(!tenant.contains(&Outcome::Succeeded) && !tenant.contains(&Outcome::Failed));
        }
    }

    #[test]
    fn a_replayed_answer_is_never_held(nonce in "[a-z]{0,12}", which in 0usize..3) {
        prop_assume!(nonce != "right");
        let mut proof = proof(Phase::Gate);
        let run = [&mut proof.control_before, &mut proof.tenant, &mut proof.control_after].into_iter().nth(which);
        run.expect("one of three").nonce = nonce;
        prop_assert!(verdicts(&proof).iter().all(|one| one.verdict != Verdict::Held));
    }
}
