//! Sandboxes that are built before anybody asks, and claimed by one user once.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cubicle_core::problem::ProblemKind;
use cubicle_sandbox::protocol::{HomeBackend, HomeSpec, Request, Response, SandboxSpec, Stage};

use crate::outside::{Sandbox, World};

/// A specification whose home comes later, and the home.
fn later(world: &World) -> (SandboxSpec, HomeSpec) {
    let spec = world.spec();
    let home = spec.home.clone();
    (SandboxSpec { home: HomeSpec { backend: HomeBackend::Later, ..home.clone() }, ..spec }, home)
}

/// Claims, and lets [`Sandbox::remains`] know of the home.
fn claim(sandbox: &mut Sandbox<'_>, home: &HomeSpec) {
    let proof = sandbox.claim(home).expect("a claim");
    assert_eq!((proof.tenant.disturbed.as_deref(), proof.control_after.disturbed.as_deref()), (None, None));
    sandbox.spec.home = home.clone();
}

fn end(mut sandbox: Sandbox<'_>) {
    assert_eq!(sandbox.ask(&Request::Stop { grace_ms: 1000 }), Ok(Response::Stopped));
    sandbox.helper.wait().expect("the helper ends");
    assert_eq!(sandbox.remains(), Vec::<String>::new());
}

pub(super) fn claimed(world: &World) {
    let (spec, home) = later(world);
    let mut sandbox = world.open(spec);
    let before = sandbox.status();
    assert_eq!(sandbox.run(&["sh", "-c", "ls /home/user; echo no > /home/user/file"], "").code, 1);
    assert!(matches!(sandbox.ask(&Request::Usage), Ok(Response::Usage { home_limit: None, .. })));
    claim(&mut sandbox, &home);
    assert_eq!(sandbox.status(), before, "the same processes, and the notebook goes on");
    assert_eq!(
        sandbox.run(&["sh", "-c", "echo mine > file; stat -c %u:%g file; pwd"], "").out,
        "1000:1000\n/home/user\n"
    );
    let written = sandbox.facts(&["writable", "/home/user/new", "/home/new", "/usr/new"]);
    assert_eq!(written["/home/user/new"], "open");
    assert!(written["/home/new"] != "open" && written["/usr/new"] != "open", "{written:?}");
    let Ok(Response::Usage { home_limit: Some(limit), .. }) = sandbox.ask(&Request::Usage) else { panic!("usage") };
    assert!(limit > 30 << 20);
    assert_eq!(sandbox.verify("n").expect("a later proof").tenant.disturbed, None);
    end(sandbox);
    // What was written is there for the next one, whoever that is built as.
    let (spec, _) = later(world);
    let mut sandbox = world.open(spec);
    claim(&mut sandbox, &home);
    assert_eq!(sandbox.run(&["sh", "-c", "cat file; stat -c %u:%g file"], "").out, "mine\n1000:1000\n");
    end(sandbox);
}

pub(super) fn once(world: &World) {
    let ((spec, home), (_, other)) = (later(world), later(world));
    let mut sandbox = world.open(spec);
    claim(&mut sandbox, &home);
    assert_eq!(sandbox.claim(&other).expect_err("once").kind, ProblemKind::NotAllowed);
    end(sandbox);
    // One that has its home from the start is nobody else's either.
    let sandbox = world.open(world.spec());
    assert_eq!(sandbox.claim(&other).expect_err("it has a home").kind, ProblemKind::NotAllowed);
    sandbox.stop();
    // Before its proof it is not for claiming.
    let (spec, home) = later(world);
    let sandbox = world.build(spec).expect("a sandbox");
    assert_eq!(sandbox.claim(&home).expect_err("not proven").kind, ProblemKind::Conflict);
    sandbox.stop();
}

pub(super) fn refused(world: &World) {
    let (_, home) = later(world);
    let wrong = [
        HomeSpec { mount_path: "/data".to_owned(), ..home.clone() },
        HomeSpec { backend: HomeBackend::Later, ..home.clone() },
        HomeSpec { backend: HomeBackend::Image(PathBuf::from("/nothing/here.ext4")), ..home.clone() },
    ];
    for wrong in wrong {
        let (spec, _) = later(world);
        let sandbox = world.open(spec);
        sandbox.claim(&wrong).expect_err("refused");
        assert!(sandbox.claim(&home).is_err(), "nobody gets one whose claim has failed");
        end(sandbox);
    }
    let (spec, _) = later(world);
    let root = HomeSpec { backend: HomeBackend::Later, mount_path: "/data".to_owned() };
    let problem = world.build(SandboxSpec { home: root, ..spec }).err().expect("the rules cannot name its place");
    assert!(problem.what.contains("/data"), "{problem}");
}

pub(super) fn held(world: &World) {
    let ends = |sandbox: &mut Sandbox<'_>| {
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(sandbox.helper.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        !matches!(sandbox.helper.try_wait(), Ok(None))
    };
    let (spec, _) = later(world);
    let mut sandbox = world.open(spec);
    let held = sandbox.hold();
    assert_eq!(sandbox.status().stage, Stage::Started);
    drop(held);
    assert!(ends(&mut sandbox), "it outlived its holder");
    assert_eq!(sandbox.remains(), Vec::<String>::new());
    let (spec, home) = later(world);
    let mut sandbox = world.open(spec);
    let held = sandbox.hold();
    claim(&mut sandbox, &home);
    drop(held);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(sandbox.run(&["sh", "-c", "echo here"], "").out, "here\n");
    end(sandbox);
}

pub(super) fn shared(world: &World) {
    let ((first, home), (second, _)) = (later(world), later(world));
    let mut one = world.open(first);
    let mut two = world.open(second);
    claim(&mut one, &home);
    claim(&mut two, &home);
    assert_eq!(one.run(&["sh", "-c", "echo from one > file"], "").code, 0);
    assert_eq!(two.run(&["cat", "file"], "").out, "from one\n");
    one.stop();
    assert_eq!(two.run(&["sh", "-c", "echo more >> file; cat file"], "").out, "from one\nmore\n");
    end(two);
}
