//! What a sandbox keeps its tenant from.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use cubicle_sandbox::protocol::{Request, Response};

use crate::inside::{Facts, observed};
use crate::outside::{Sandbox, World};

pub(super) fn value<'a>(facts: &'a Facts, key: &str) -> &'a str {
    facts.get(key).map_or("<absent>", String::as_str)
}

pub(super) fn walls(world: &World) {
    let spec = world.spec();
    let sandbox = world.build(spec.clone()).expect("a sandbox");
    let facts = observed(&sandbox.prove("n").expect("a proof").tenant);
    let host = crate::inside::facts();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(value(&facts, set), "0000000000000000", "{set}");
    }
    assert_eq!(value(&facts, "Uid").split_whitespace().collect::<Vec<_>>(), ["1000"; 4]);
    assert_eq!(value(&facts, "Gid").split_whitespace().collect::<Vec<_>>(), ["1000"; 4]);
    assert_eq!(value(&facts, "Groups"), "");
    assert_eq!(
        (value(&facts, "NoNewPrivs"), value(&facts, "Seccomp"), value(&facts, "Seccomp_filters")),
        ("1", "2", "1")
    );
    assert_eq!(value(&facts, "uid-map"), format!("0 {} 65536", spec.id_base));
    for kind in ["user", "mnt", "net", "ipc", "uts", "cgroup", "pid"] {
        assert_ne!(value(&facts, &format!("ns-{kind}")), value(&host, &format!("ns-{kind}")), "{kind}");
    }
    assert!(value(&facts, "cgroup").lines().all(|line| line.ends_with(":/")), "{}", value(&facts, "cgroup"));
    assert_eq!(value(&facts, "interfaces"), "lo");
    assert_eq!(value(&facts, "loopback"), "true");
    assert_eq!(value(&facts, "host-name"), spec.id.as_str());
    assert_eq!(value(&facts, "oom"), "500");
    assert_eq!(value(&facts, "pid"), "1");
    assert_eq!(value(&facts, "descriptors"), "0 1 2 3 4");
    assert_eq!(
        value(&facts, "devices"),
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
    assert!(value(&facts, "limits").lines().any(|line| line.starts_with("Max core file size        0")));
    for line in value(&facts, "mounts").lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (at, options) = (fields[4], fields[5]);
        let has = |option: &str| options.split(',').any(|one| one == option);
        // Device nodes are binds of the host's, one by one; they are what a device must be.
        let device = at.starts_with("/dev/") && !["/dev/pts", "/dev/shm", "/dev/mqueue"].contains(&at);
        // A masked file is the null device.
        let masked = at.starts_with("/proc/") && fields[3] == "/null";
        assert!(has("ro") || device || masked || has("nosuid"), "{line}");
        assert!(has("ro") || device || masked || has("nodev") || ["/dev", "/dev/pts"].contains(&at), "{line}");
        assert!(!line.contains(" shared:"), "{line}");
    }
    assert_eq!(fs::read_to_string("/proc/self/oom_score_adj").expect("own score").trim(), value(&host, "oom"));
    sandbox.stop();
}

/// Facts that two processes of one sandbox need not share are left out.
fn comparable(mut facts: Facts, also: &[&str]) -> Facts {
    for key in ["pid", "descriptors", "environment", "directory"].iter().chain(also) {
        facts.remove(*key);
    }
    facts
}

pub(super) fn exec_equals_gate(world: &World) {
    let sandbox = world.build(world.spec()).expect("a sandbox");
    let gate = observed(&sandbox.prove("n").expect("a proof").tenant);
    sandbox.ask(&Request::Go { nonce: "n".to_owned() }).expect("a go");
    let entered = sandbox.facts(&["facts"]);
    assert_eq!(comparable(entered.clone(), &[]), comparable(gate, &[]));
    assert_eq!(value(&entered, "descriptors"), "0 1 2");
    assert_eq!(value(&entered, "directory"), "/home/user");
    assert_eq!(value(&entered, "environment"), "HOME=/home/user\nPATH=/bin\nWORD=a b=c");
    sandbox.stop();
}

pub(super) fn refused_calls(world: &World) {
    let sandbox = world.open(world.spec());
    let calls = sandbox.facts(&["calls"]);
    for (name, result) in &calls {
        let expected = match name.as_str() {
            "clone3" | "future" => libc::ENOSYS.to_string(),
            "route-netlink" | "tcp" | "unix" => "done".to_owned(),
            _ => libc::EPERM.to_string(),
        };
        assert_eq!(*result, expected, "{name}");
    }
    sandbox.stop();
}

pub(super) fn written_places(world: &World) {
    let sandbox = world.open(world.spec());
    let paths = [
        "/x",
        "/bin/x",
        "/etc/passwd",
        "/usr/x",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/kcore",
        "/sys/x",
        "/sys/fs/cgroup/x",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/memory/cgroup.procs",
        "/dev/x",
        "/.cubicle/probe",
        "/.cubicle/x",
        "/home/x",
        "/tmp/x",
        "/dev/shm/x",
        "/home/user/x",
        "/dev/null",
    ];
    let found = sandbox.facts(&[["writable"].as_slice(), &paths].concat());
    for path in paths {
        let open = found[path] == "open";
        let expected = ["/tmp/x", "/dev/shm/x", "/home/user/x", "/dev/null"].contains(&path);
        // A masked file is the null device: writing to it reaches nothing.
        assert!(
            open == expected || path == "/proc/kcore",
            "{path}: {} {}",
            found[path],
            sandbox.run(&["sh", "-c", "stat /tmp /dev/shm; cat /proc/self/mountinfo"], "").out
        );
    }
    // The engine's program cannot be read, so that it can be neither copied nor traced.
    assert_eq!(sandbox.run(&["cat", "/.cubicle/probe"], "").code, 1);
    for masked in ["/proc/kcore", "/proc/keys", "/proc/timer_list"] {
        assert_eq!(sandbox.run(&["cat", masked], "").out, "", "{masked}");
    }
    sandbox.stop();
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

pub(super) fn limits_bite(world: &World) {
    let mut spec = world.spec();
    // Little, so that it bites on a busy machine too.
    spec.limits.cpu = cubicle_core::quantity::MilliCpu(200);
    let sandbox = world.open(spec);
    let before = world_reading(&sandbox);
    let forks = number(&sandbox.run(&["/.cubicle/probe", "forks"], "").out);
    assert!((32..64).contains(&forks), "{forks} forks");
    assert!(world_reading(&sandbox).pids_denied > before.pids_denied);
    assert_eq!(sandbox.run(&["/.cubicle/probe", "hog"], "").code, 137);
    assert!(world_reading(&sandbox).memory_kills > before.memory_kills);
    assert_eq!(sandbox.dial().expect("the notebook lives"), "hello");
    let fill = |path: &str| {
        let ran = sandbox.run(&["/.cubicle/probe", "fill", path], "");
        let (bytes, error) = ran.out.trim().split_once(' ').map(|(a, b)| (number(a), number(b))).expect("two numbers");
        assert_eq!(error, libc::ENOSPC as u64, "{path}");
        bytes >> 20
    };
    assert_eq!(fill("/tmp/full"), 16);
    assert_eq!(fill("/dev/shm/full"), 64);
    let home = fill("/home/user/full");
    assert!((20..48).contains(&home), "{home} MiB of home");
    let before = world_reading(&sandbox);
    sandbox.run(
        &["sh", "-c", "(while :; do :; done) & (while :; do :; done) & (while :; do :; done) & sleep 1; kill 0"],
        "",
    );
    let after = world_reading(&sandbox);
    assert!(after.cpu_throttled > before.cpu_throttled, "{before:?} {after:?}");
    sandbox.stop();
}

fn world_reading(sandbox: &Sandbox<'_>) -> cubicle_core::attempt::CgroupReading {
    match sandbox.ask(&Request::Usage) {
        Ok(Response::Usage { cgroup, .. }) => cgroup,
        other => panic!("usage: {other:?}"),
    }
}

pub(super) fn confined(_: &World) {
    for kind in ["hub", "egress", "customer"] {
        let output = Command::new("/proc/self/exe").args(["confined", kind]).output().expect("it runs");
        let facts: Facts = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(value(&facts, "Uid").split_whitespace().next(), Some("65533"));
        assert_eq!((value(&facts, "Groups"), value(&facts, "NoNewPrivs"), value(&facts, "Seccomp")), ("", "1", "2"));
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(value(&facts, set), "0000000000000000", "{set}");
        }
        for call in [
            "unshare-user",
            "setns",
            "clone-user",
            "mount",
            "ptrace",
            "process-vm-readv",
            "bpf",
            "perf",
            "io-uring",
            "userfaultfd",
            "keyctl",
            "open-by-handle",
        ] {
            assert_eq!(value(&facts, call), libc::EPERM.to_string(), "{call}");
        }
        assert_eq!(value(&facts, "program"), (kind == "hub").to_string(), "{kind}");
        assert_eq!((value(&facts, "thread"), value(&facts, "tcp")), ("true", "done"));
    }
    let own = fs::metadata("/proc/self/exe").expect("this program");
    assert_eq!(own.uid(), 0);
}
