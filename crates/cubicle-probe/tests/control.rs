//! The control, run for real on this machine: what it cannot do, no proof can rest on.
//!
//! Needs root, like the engine. Nothing leaves the machine: the control makes a network
//! namespace of its own first, with a loopback interface only.

use std::io::Write;
use std::process::{Command, Stdio};

use cubicle_core::attempt::{Observations, Outcome, Phase, ProbePlan, Role};
use cubicle_core::catalogue;
use cubicle_core::level::{EngineKind, Level};
use cubicle_core::plan::{Limits, Situation};
use cubicle_core::quantity::{Bytes, MilliCpu};
use cubicle_core::template::{Egress, EgressMode};

fn situation(mode: EgressMode) -> Situation {
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
        egress: Egress { mode, allow: Vec::new() },
        home_path: "/home/user".to_owned(),
        machine_addresses: ["192.0.2.10", "10.0.0.5", "2001:db8::10"].map(|one| one.parse().expect("valid")).to_vec(),
        platform_ports: vec![8000, 8001],
        notebook_port: 8888,
        id_base: 1_000_000,
        boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux").trim().to_owned(),
        cluster: None,
    }
}

/// What one control answers to these plans, one after the other.
fn control(plans: &[&ProbePlan]) -> Vec<Observations> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cubicle-probe"))
        .arg("control")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the probe starts");
    let lines: String = plans.iter().map(|plan| serde_json::to_string(plan).expect("a plan is JSON") + "\n").collect();
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads its plans");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", output.status);
    let answers = String::from_utf8(output.stdout).expect("JSON is text");
    answers.lines().map(|line| serde_json::from_str(line).expect("it answers")).collect()
}

/// What a kernel, or a machine, may lack without a wall being untested: nothing stands there.
const MAY_BE_MISSING: &[&str] = &[
    "network.sctp/",
    "sockets.",
    "kernel.modules/",
    "kernel.reboot/kexec",
    "kernel.io-ports/",
    "container.device-nodes//dev/",
    "container.kernel-settings/",
    "container.cgroups//sys/fs/cgroup",
    // Machines whose root lacks CAP_SYS_RESOURCE or may not schedule in real time.
    "container.priority/sched_setscheduler",
    "container.priority/oom_score_adj",
    "container.cgroups/setrlimit",
    "node.process-files/",
    "node.kernel-log//dev/kmsg",
    "neighbour.swap/",
];

#[test]
fn the_control_can_do_everything_that_the_machine_has() {
    assert!(rustix::process::geteuid().is_root(), "the control needs root, as the engine does");
    for (mode, phase) in
        [(EgressMode::Walled, Phase::Gate), (EgressMode::AllowList, Phase::Later), (EgressMode::None, Phase::Gate)]
    {
        let plan = catalogue::probe_plan(&situation(mode), &[], phase, "test");
        // Its repetitions in parts see no less than the first run: nothing is used up.
        let [quick, spinning, waiting] = plan.gate_parts();
        let answers = control(&[&plan, &quick, &spinning, &waiting]);
        let asked = [&plan, &quick, &spinning, &waiting];
        assert_eq!(answers.len(), asked.len());
        for (plan, answer) in asked.into_iter().zip(&answers) {
            assert_eq!((answer.nonce.as_str(), answer.role), ("test", Role::Control));
            assert_eq!(answer.observations.len(), plan.attempts.len());
            assert_sees_everything(plan, answer);
        }
    }
}

fn assert_sees_everything(plan: &ProbePlan, answer: &Observations) {
    let mut wrong = Vec::new();
    for attempt in &plan.attempts {
        let found: Vec<_> = answer.observations.iter().filter(|one| one.attempt == attempt.id).collect();
        assert_eq!(found.len(), 1, "{}", attempt.id);
        let (outcome, detail) = (found[0].outcome, &found[0].detail);
        let may_be_missing = MAY_BE_MISSING.iter().any(|prefix| attempt.id.starts_with(prefix));
        if outcome == Outcome::Missing && may_be_missing {
            println!("missing: {}: {detail}", attempt.id);
        } else if outcome != Outcome::Succeeded {
            wrong.push(format!("{}: {outcome:?}: {detail}", attempt.id));
        }
    }
    assert!(wrong.is_empty(), "{:?}: {wrong:#?}", plan.phase);
}
