//! Proofs, and code that tries to disturb them.

use std::fs;
use std::time::Duration;

use cubicle_core::attempt::{GATE_CPU_LIMIT, GATE_MEMORY_LIMIT};
use cubicle_sandbox::protocol::Request;

use super::walls::value;
use crate::inside::observed;
use crate::outside::World;

pub(super) fn proof_limits(world: &World) {
    let sandbox = world.build(world.spec()).expect("a sandbox");
    let proof = sandbox.prove("n").expect("a proof");
    let during = &proof.cgroup_before;
    assert_eq!((during.memory_limit, during.swap_limit), (Some(GATE_MEMORY_LIMIT), Some(0)));
    assert_eq!((during.cpu_limit, during.pids_limit), (Some(GATE_CPU_LIMIT), Some(64)));
    assert!(during.pids >= 1 && proof.cgroup_after.cpu_usage_us >= during.cpu_usage_us);
    let last = &proof.cgroup_final;
    assert_eq!((last.memory_limit, last.swap_limit), (Some(128 << 20), Some(0)));
    assert_eq!((last.cpu_limit, last.pids_limit), (Some(1000), Some(64)));
    let reference = &proof.cgroup_reference;
    assert_eq!((reference.memory_limit, reference.cpu_limit, reference.pids_limit), (None, None, None));
    sandbox.stop();
}

pub(super) fn later_proof(world: &World) {
    let sandbox = world.build(world.spec()).expect("a sandbox");
    let gate = observed(&sandbox.prove("n").expect("a proof").tenant);
    sandbox.ask(&Request::Go { nonce: "n".to_owned() }).expect("a go");
    let proof = sandbox.verify("later").expect("a proof");
    assert_eq!(proof.tenant.disturbed, None);
    let later = observed(&proof.tenant);
    // /proc shows the workspace's pid namespace, in which the later proof does not exist.
    assert_eq!(value(&later, "visible-self"), "false");
    for key in [
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "Uid",
        "Gid",
        "Groups",
    ] {
        assert_eq!(value(&later, &format!("own-{key}")), value(&gate, key), "{key}");
    }
    assert_eq!(value(&later, "own-TracerPid"), "0");
    assert_eq!(value(&later, "pid"), "1");
    assert_eq!(proof.cgroup_before.memory_limit, Some(128 << 20));
    assert!(
        proof.cgroup_after.cpu_usage_us > proof.cgroup_before.cpu_usage_us,
        "it ran in the workspace's control group"
    );
    sandbox.stop();
}

pub(super) fn hostile_neighbour(world: &World) {
    let sandbox = world.open(world.spec());
    std::thread::scope(|scope| {
        let dir = sandbox.dir.clone();
        scope.spawn(move || {
            let runner = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let nothing = || std::os::fd::OwnedFd::from(fs::File::open("/dev/null").expect("null"));
            let command = vec!["/.cubicle/probe".to_owned(), "hostile".to_owned()];
            let _ = runner.block_on(cubicle_sandbox::client::exec(&dir, command, [nothing(), nothing(), nothing()]));
        });
        std::thread::sleep(Duration::from_millis(300));
        for round in 0..3 {
            let proof = sandbox.verify(&format!("round {round}"));
            assert_eq!(proof.expect("a proof").tenant.disturbed, None);
        }
    });
    sandbox.stop();
    // A tenant that has used up its processes keeps no proof out.
    let spec = world.spec();
    let sandbox = world.open(spec);
    std::thread::scope(|scope| {
        let dir = sandbox.dir.clone();
        let (stdin, keep) = std::io::pipe().expect("a pipe");
        let (read, stdout) = std::io::pipe().expect("a pipe");
        scope.spawn(move || {
            let runner = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let nothing = std::os::fd::OwnedFd::from(fs::File::open("/dev/null").expect("null"));
            let command = vec!["/.cubicle/probe".to_owned(), "forks".to_owned()];
            let _ =
                runner.block_on(cubicle_sandbox::client::exec(&dir, command, [stdin.into(), stdout.into(), nothing]));
        });
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(read), &mut line).expect("a line");
        let proof = sandbox.verify("crowded").expect("a proof");
        assert_eq!(proof.tenant.disturbed, None);
        drop(keep);
    });
    sandbox.stop();
}

pub(super) fn silent_gate(world: &World) {
    let sandbox = world.build(world.spec()).expect("a sandbox");
    let proof = sandbox.prove("silent").expect("a proof");
    assert!(proof.tenant.disturbed.is_some());
    assert!(sandbox.ask(&Request::Go { nonce: "silent".to_owned() }).is_err());
    sandbox.stop();
}
