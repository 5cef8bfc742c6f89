//! How sandboxes begin and end, and what people do with them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cubicle_core::attempt::Role;
use cubicle_core::problem::ProblemKind;
use cubicle_core::template::EgressMode;
use cubicle_sandbox::protocol::{HomeBackend, Request, Response, RuntimeChoice, Stage};

use crate::inside::observed;
use crate::outside::{Sandbox, World};

pub(super) fn life(world: &World) {
    let sandbox = world.build(world.spec()).expect("a sandbox");
    let status = sandbox.status();
    assert_eq!(status.stage, Stage::Built);
    assert!(status.pid > 1 && status.pid_start > 0);
    let proof = sandbox.prove("n").expect("a proof");
    assert_eq!(proof.tenant.disturbed, None);
    assert_eq!((proof.control_before.role, proof.tenant.role), (Role::Control, Role::Tenant));
    assert_eq!(observed(&proof.control_before)["Uid"].split_whitespace().next(), Some("0"));
    assert_eq!(proof.control_after.disturbed, None);
    assert_eq!(sandbox.status().stage, Stage::Proven);
    assert_eq!(sandbox.ask(&Request::Go { nonce: "n".to_owned() }), Ok(Response::Started));
    while sandbox.dial().is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(sandbox.dial().expect("dial"), "hello");
    assert!(sandbox.log().contains("the notebook starts"));
    let Ok(Response::Usage { cgroup, home_limit: Some(limit), .. }) = sandbox.ask(&Request::Usage) else {
        panic!("usage")
    };
    assert_eq!(cgroup.memory_limit, Some(128 << 20));
    assert!(cgroup.pids >= 2 && limit > 30 << 20, "{cgroup:?} {limit}");
    let mut sandbox = sandbox;
    assert_eq!(sandbox.ask(&Request::Stop { grace_ms: 2000 }), Ok(Response::Stopped));
    assert_eq!(sandbox.remains(), Vec::<String>::new());
    assert!(sandbox.helper.wait().expect("end").success());
    assert!(sandbox.ask(&Request::Status).is_err());
}

pub(super) fn single_use_go(world: &World) {
    let sandbox = world.build(world.spec()).expect("a sandbox");
    let go = |nonce: &str| sandbox.ask(&Request::Go { nonce: nonce.to_owned() });
    assert_eq!(go("n").expect_err("no proof yet").kind, ProblemKind::NotAllowed);
    assert!(sandbox.verify("n").is_err());
    sandbox.prove("n").expect("a proof");
    assert!(sandbox.prove("m").is_err());
    assert!(go("m").is_err());
    assert!(go("").is_err());
    assert_eq!(go("n"), Ok(Response::Started));
    assert!(go("n").is_err());
    sandbox.stop();
}

pub(super) fn exec_behaves(world: &World) {
    let sandbox = world.open(world.spec());
    let ran = sandbox.run(&["sh", "-c", "cat; echo no >&2; exit 7"], "words");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (7, "words", "no\n"));
    assert_eq!(sandbox.run(&["sh", "-c", "kill -9 $$"], "").code, 137);
    assert_eq!(sandbox.run(&["no-such-program"], "").code, 127);
    assert_eq!(sandbox.run(&["/etc/passwd"], "").code, 126);
    assert_eq!(sandbox.run(&["id", "-u"], "").out, "1000\n");
    sandbox.stop();
}

pub(super) fn exec_ends_with_its_asker(world: &World) {
    let sandbox = world.open(world.spec());
    let nothing = || std::os::fd::OwnedFd::from(fs::File::open("/dev/null").expect("null"));
    let command = vec!["sleep".to_owned(), "600".to_owned()];
    let running = |sandbox: &Sandbox<'_>| sandbox.run(&["ps"], "").out.contains("sleep 600");
    world.block(async {
        let exec = cubicle_sandbox::client::exec(&sandbox.dir, command, [nothing(), nothing(), nothing()]);
        let _ = tokio::time::timeout(Duration::from_millis(700), exec).await;
    });
    let deadline = Instant::now() + Duration::from_secs(5);
    while running(&sandbox) {
        assert!(Instant::now() < deadline, "it runs on");
    }
    sandbox.stop();
}

pub(super) fn home_survives(world: &World) {
    let first = world.spec();
    let second = cubicle_sandbox::protocol::SandboxSpec { home: first.home.clone(), ..world.spec() };
    let sandbox = world.open(first);
    assert_eq!(
        sandbox.run(&["sh", "-c", "echo kept > /home/user/file && stat -c %u:%g /home/user/file"], "").out,
        "1000:1000\n"
    );
    sandbox.stop();
    // Another range of ids: what is on disk does not depend on it.
    let sandbox = world.open(second);
    assert_eq!(
        sandbox.run(&["sh", "-c", "cat file; stat -c %u:%g file; stat -c %u:%g ."], "").out,
        "kept\n1000:1000\n1000:1000\n"
    );
    sandbox.stop();
}

pub(super) fn shared_home(world: &World) {
    let first = world.spec();
    let second = cubicle_sandbox::protocol::SandboxSpec { home: first.home.clone(), ..world.spec() };
    let HomeBackend::Image(image) = &first.home.backend else { panic!("an image") };
    let image = image.display().to_string();
    let one = world.open(first);
    let two = world.open(second);
    let loops = fs::read_dir("/sys/block")
        .expect("/sys/block")
        .flatten()
        .filter(|block| fs::read_to_string(block.path().join("loop/backing_file")).unwrap_or_default().contains(&image))
        .count();
    assert_eq!(loops, 1);
    assert_eq!(one.run(&["sh", "-c", "echo from one > file"], "").code, 0);
    assert_eq!(two.run(&["cat", "file"], "").out, "from one\n");
    one.stop();
    assert_eq!(two.run(&["sh", "-c", "echo more >> file; cat file"], "").out, "from one\nmore\n");
    let mut two = two;
    assert_eq!(two.ask(&Request::Stop { grace_ms: 1000 }), Ok(Response::Stopped));
    assert_eq!(two.remains(), Vec::<String>::new());
    two.helper.wait().expect("end");
}

pub(super) fn datasets(world: &World) {
    let source = world.root.join("set");
    fs::create_dir_all(&source).expect("a directory");
    fs::write(source.join("table"), "1,2").expect("a file");
    let mut spec = world.spec();
    spec.datasets = vec![(source.clone(), "/data/deep/set".to_owned())];
    spec.home.mount_path = "/home/other".to_owned();
    let sandbox = world.open(spec);
    assert_eq!(sandbox.run(&["cat", "/data/deep/set/table"], "").out, "1,2");
    assert_ne!(sandbox.run(&["touch", "/data/deep/set/table"], "").code, 0);
    assert_ne!(sandbox.run(&["touch", "/data/x"], "").code, 0);
    assert_eq!(sandbox.run(&["touch", "/home/other/x"], "").code, 0);
    sandbox.stop();
    for bad in ["/opt/set", "relative", "/data", "/usr/x/y", "/data/../etc"] {
        let mut spec = world.spec();
        spec.datasets = vec![(source.clone(), bad.to_owned())];
        let result = world.build(spec).map(|sandbox| sandbox.stop());
        // The test's own root has /data, a real image may not.
        assert!(result.is_err() || bad == "/data", "{bad}");
    }
}

pub(super) fn egress(world: &World) {
    let sandbox = world.open(world.spec());
    assert_eq!(sandbox.status().egress, Some(([127, 0, 0, 1], 3128).into()));
    let said = || sandbox.run(&["/.cubicle/probe", "dial", "3128"], "").out;
    let said_first = said();
    assert!(said_first.contains("\"walled\"") && said_first.contains("192.0.2.0/24"), "{said_first}");
    let proxy = child_of(sandbox.helper.id(), "internal-egress").expect("a proxy");
    let status = fs::read_to_string(format!("/proc/{proxy}/status")).expect("status");
    assert!(status.contains("CapEff:\t0000000000000000") && status.contains("NoNewPrivs:\t1"), "{status}");
    Command::new("kill").args(["-9", &proxy.to_string()]).status().expect("kill");
    // The listener never goes away: a connection waits for the next proxy.
    assert!(said().contains("\"walled\""));
    assert_ne!(child_of(sandbox.helper.id(), "internal-egress"), Some(proxy));
    sandbox.stop();
    let mut spec = world.spec();
    spec.egress.mode = EgressMode::None;
    let sandbox = world.open(spec);
    assert_eq!(sandbox.status().egress, None);
    assert_ne!(sandbox.run(&["/.cubicle/probe", "dial", "3128"], "").code, 0);
    sandbox.stop();
}

fn child_of(parent: u32, word: &str) -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let ours = status.contains(&format!("PPid:\t{parent}\n"));
        (ours && String::from_utf8_lossy(&command).contains(word)).then_some(pid)
    })
}

pub(super) fn outlives_its_parent(world: &World) {
    let spec = world.spec();
    let dir = world.write(&spec);
    let started = Command::new("/proc/self/exe").arg("start").arg(&dir).status().expect("a starter");
    assert!(started.success());
    let ask = |request: &Request| world.block(cubicle_sandbox::client::request(&dir, request));
    assert!(matches!(ask(&Request::Status), Ok(Response::Status(status)) if status.stage == Stage::Built));
    assert_eq!(ask(&Request::Stop { grace_ms: 100 }), Ok(Response::Stopped));
}

pub(super) fn killed_helper(world: &World) {
    let mut sandbox = world.open(world.spec());
    let pid = sandbox.status().pid;
    sandbox.helper.kill().expect("kill");
    sandbox.helper.wait().expect("end");
    if matches!(world.runtime, RuntimeChoice::Command(_)) {
        // Only our own executor can tie the first process to the helper; the engine kills what
        // another runtime leaves.
        cubicle_sandbox::cgroup::kill_and_remove(&sandbox.spec.cgroup).expect("removed");
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while Path::new(&format!("/proc/{pid}/ns/pid")).exists() {
        assert!(Instant::now() < deadline, "the first process lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
    cubicle_sandbox::cgroup::kill_and_remove(&sandbox.spec.cgroup).expect("removed");
    let deadline = Instant::now() + Duration::from_secs(5);
    let left = loop {
        let left: Vec<String> = sandbox
            .remains()
            .into_iter()
            .filter(|one| !one.starts_with("helper") && one != "bundle" && one != "runtime")
            .collect();
        if left.is_empty() || Instant::now() > deadline {
            break left;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(left, Vec::<String>::new());
    // The same directory can be used again.
    let spec = sandbox.spec.clone();
    world.open(spec).stop();
}

pub(super) fn notebook_ends(world: &World) {
    let mut spec = world.spec();
    spec.command = vec!["/bin/sh".to_owned(), "-c".to_owned(), "echo bye; exit 3".to_owned()];
    let mut sandbox = world.build(spec).expect("a sandbox");
    sandbox.prove("n").expect("a proof");
    sandbox.ask(&Request::Go { nonce: "n".to_owned() }).expect("a go");
    sandbox.helper.wait().expect("the helper ends");
    assert_eq!(sandbox.remains(), Vec::<String>::new());
    let exit = fs::read_to_string(sandbox.dir.join("exit.json")).expect("exit.json");
    assert!(exit.contains("ended with code 3"), "{exit} {}", sandbox.log());
    assert!(sandbox.log().contains("bye"));
}

pub(super) fn failed_build(world: &World) {
    let mut spec = world.spec();
    spec.rootfs = "/no/such/image".into();
    let dir = world.write(&spec);
    let problem = world.build(spec.clone()).map(|_| ()).expect_err("no image");
    assert!(problem.what.contains("/no/such/image"), "{problem}");
    let mut sandbox = Sandbox {
        world,
        spec: spec.clone(),
        dir,
        helper: Command::new("true").stdout(Stdio::null()).spawn().expect("true"),
    };
    assert_eq!(sandbox.remains(), Vec::<String>::new());
    let broken = world.root.join("broken.img");
    fs::write(&broken, vec![0_u8; 1 << 20]).expect("a file");
    spec.rootfs.clone_from(&world.rootfs);
    spec.home.backend = HomeBackend::Image(broken.clone());
    let problem = world.build(spec.clone()).map(|_| ()).expect_err("no file system");
    assert!(problem.what.contains("broken.img"), "{problem}");
    sandbox.spec = spec.clone();
    assert_eq!(sandbox.remains(), Vec::<String>::new());
    // An image that somebody else holds is not mounted a second time.
    let held = world.image("held.img", 16 << 20);
    let device = Command::new("losetup").args(["--find", "--show"]).arg(&held).output().expect("losetup");
    spec.home.backend = HomeBackend::Image(held);
    let problem = world.build(spec).map(|_| ()).expect_err("held");
    Command::new("losetup").arg("-d").arg(String::from_utf8_lossy(&device.stdout).trim()).status().expect("losetup -d");
    assert_eq!(problem.kind, ProblemKind::Conflict, "{problem}");
}

pub(super) fn no_removal(world: &World) {
    let mut spec = world.spec();
    spec.remove = vec!["no-such-wall".to_owned()];
    assert!(world.build(spec.clone()).is_err());
    spec.remove = vec!["seccomp".to_owned()];
    if !cfg!(feature = "wall-removal") {
        assert!(world.build(spec).is_err());
        return;
    }
    for wall in cubicle_sandbox::removal::MECHANISMS {
        let mut spec = world.spec();
        spec.remove = vec![(*wall).to_owned()];
        let sandbox = world.build(spec).unwrap_or_else(|problem| panic!("without {wall}: {problem}"));
        let proof = sandbox.prove("n").expect("a proof");
        assert_eq!(proof.tenant.disturbed, None, "without {wall}");
        sandbox.ask(&Request::Go { nonce: "n".to_owned() }).expect("a go");
        assert_eq!(sandbox.run(&["true"], "").code, 0, "without {wall}");
        assert_eq!(sandbox.verify("v").expect("a proof").tenant.disturbed, None, "without {wall}");
        sandbox.stop();
    }
}
