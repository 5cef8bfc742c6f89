//! The helper: one process per sandbox that builds it, keeps it, and lets proofs in.
//!
//! It has one thread while it builds, because libcontainer clones without `exec` in between, and
//! a clone of a threaded process can hang on a lock that nobody holds any more. Afterwards its
//! main thread takes requests, and every request has a thread of its own.

mod claim;
mod control;
mod egress;
mod end;
mod freeze;
mod log;
mod proof;
mod ready;
mod serve;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use cubicle_core::problem::Problem;
use cubicle_core::template::EgressMode;

use crate::bundle;
use crate::cgroup::{Cgroup, Settings};
use crate::client::SOCKET;
use crate::confine;
use crate::home::{self, Home};
use crate::namespaces;
use crate::pipes;
use crate::protocol::{HomeBackend, HomeSpec, SandboxSpec, Stage};
use crate::removal::{self, removed};
use crate::runtime;
use crate::stage;

/// The port of the egress proxy inside.
pub const EGRESS_PORT: u16 = 3128;

/// Where the helper's process number is, in the workspace's directory.
pub(crate) const PID_FILE: &str = "helper.pid";

/// A built sandbox.
struct Sandbox {
    dir: PathBuf,
    spec: SandboxSpec,
    cgroup: Cgroup,
    pid: u32,
    pid_start: u64,
    /// The mount namespace that the helper came from; what it starts besides the sandbox runs
    /// there and sees no home.
    outer_mounts: File,
    home: Mutex<Mounted>,
    egress: Option<TcpListener>,
    gate: Mutex<proof::Gate>,
    prepared: Mutex<Option<control::Control>>,
    freezer: freeze::Freezer,
    ready: ready::Ready,
    state: Mutex<State>,
    changed: Condvar,
    /// Written to when the helper shall end.
    over: OwnedFd,
}

/// Whose files are in the sandbox.
struct Mounted {
    backend: HomeBackend,
    /// What identifies the image behind a loop device.
    image: Option<(u64, u64)>,
}

struct State {
    stage: Stage,
    /// The nonce of the proof, until it is used.
    nonce: Option<String>,
    exit: Option<String>,
    stopping: bool,
    cleaned: bool,
    /// Whether it was handed to somebody. Never undone.
    claimed: bool,
}

impl Sandbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn home(&self) -> MutexGuard<'_, Mounted> {
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of `cubicle internal-sandbox DIR`.
///
/// Reads `DIR/sandbox.json`, builds the sandbox, prints one JSON line (`{"ready":true}` or
/// `{"problem":{...}}`) on stdout, and serves `DIR/helper.sock` until the sandbox has ended.
/// Must be the first thing that the process does: it closes every descriptor from 3 on.
pub fn run(dir: &Path) -> ExitCode {
    let (over_read, result) = match detach(dir).and_then(|()| build(dir)) {
        Ok(built) => built,
        Err(problem) => {
            forget_own_pid(dir);
            let line = serde_json::json!({ "problem": problem }).to_string();
            let _ = pipes::write_line(&mut io::stdout().lock(), &line);
            return ExitCode::FAILURE;
        }
    };
    serve::run(result, &over_read)
}

/// Removes this process's number, and nobody else's.
fn forget_own_pid(dir: &Path) {
    let path = dir.join(PID_FILE);
    if fs::read_to_string(&path).is_ok_and(|pid| pid == std::process::id().to_string()) {
        let _ = fs::remove_file(path);
    }
}

/// Makes this process independent of whoever started it.
fn detach(dir: &Path) -> Result<(), Problem> {
    let prepare = || -> io::Result<()> {
        pipes::close_from(3)?;
        // Fails when this process already leads a session, which is just as well.
        let _ = rustix::process::setsid();
        confine::default_signals()?;
        ignore_broken_pipes();
        rustix::thread::set_thread_groups(&[])?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        // A service manager may have given the engine a better priority; workspaces get none of it.
        let priority = rustix::process::getpriority_process(None)?;
        rustix::process::setpriority_process(None, priority.max(0))?;
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join("helper.log"))?;
        pipes::place(&OwnedFd::from(log), 2)
    };
    prepare().map_err(|error| Problem::engine(format!("the helper cannot start in {}: {error}", dir.display()), ""))
}

/// A reader that has gone away is an error of one write and not the end of the helper.
fn ignore_broken_pipes() {
    // SAFETY: ignoring a signal touches no memory of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

fn read_spec(dir: &Path) -> Result<SandboxSpec, Problem> {
    let path = dir.join("sandbox.json");
    let text = fs::read(&path).map_err(|error| Problem::engine(format!("{}: {error}", path.display()), ""))?;
    let mut spec: SandboxSpec = serde_json::from_slice(&text).map_err(|error| {
        Problem::bad_input(format!("{}: {error}", path.display()), "write it with this version's engine")
    })?;
    removal::check(&spec.remove)?;
    if spec.id_base < 65_536 && !removed(&spec.remove, "user-namespace") {
        return Err(Problem::bad_input(
            format!("uid range {} of {} overlaps the machine's own users", spec.id_base, spec.id),
            "give workspaces ranges from 65536 on",
        ));
    }
    if removed(&spec.remove, "home-quota") {
        let unlimited = dir.join("unlimited-home");
        let make = || {
            fs::create_dir_all(&unlimited)?;
            std::os::unix::fs::chown(&unlimited, Some(bundle::TENANT), Some(bundle::TENANT))
        };
        make().map_err(|error| Problem::engine(format!("{}: {error}", unlimited.display()), ""))?;
        spec.home = HomeSpec { backend: HomeBackend::Directory(unlimited), ..spec.home };
    }
    Ok(spec)
}

/// The limits under which user code runs.
fn final_limits(spec: &SandboxSpec) -> Settings {
    let all = Settings::from(spec.limits);
    let keep = |mechanism: &str, value: Option<u64>| value.filter(|_| !removed(&spec.remove, mechanism));
    Settings {
        memory: keep("memory-limit", all.memory),
        swap: keep("swap-limit", all.swap),
        cpu: keep("cpu-limit", all.cpu),
        cpu_period: all.cpu_period,
        pids: keep("pids-limit", all.pids),
    }
}

fn build(dir: &Path) -> Result<(OwnedFd, Sandbox), Problem> {
    let wrong = |what: &'static str| {
        move |error: io::Error| {
            Problem::engine(format!("{what}: {error}"), "look at cubicle doctor for what this machine lacks")
        }
    };
    // The gate's pipes must be at 3 and 4 when it starts; until then nothing else may be there.
    let slots = [File::open("/dev/null"), File::open("/dev/null")];
    let spec = read_spec(dir)?;
    let dir = fs::canonicalize(dir).map_err(wrong("the workspace's directory"))?;
    for left in [SOCKET, "exit.json"] {
        let _ = fs::remove_file(dir.join(left));
    }
    if home::live_helper(&dir).is_some() {
        return Err(Problem::conflict(format!("{} has a helper already", spec.id), "stop it first"));
    }
    // From here on whoever cleans up after an engine that was killed finds this process.
    fs::write(dir.join(PID_FILE), std::process::id().to_string()).map_err(wrong(PID_FILE))?;
    let cgroup = Cgroup::new(&spec.cgroup).map_err(wrong("the control group"))?;
    // What a helper that was killed may have left.
    cgroup.kill_all(std::time::Duration::from_secs(5));
    runtime::delete(&spec, &dir);
    let outer_mounts = File::open("/proc/self/ns/mnt").map_err(wrong("the mount namespace"))?;
    let prepared = control::Control::prepare(&spec).map_err(wrong("the proof's control"))?;
    home::private_mounts().map_err(wrong("the helper's own mounts"))?;
    let (plan_read, plan_write) = pipes::pipe().map_err(wrong("a pipe"))?;
    let (answer_read, answer_write) = pipes::pipe().map_err(wrong("a pipe"))?;
    let (output_read, output_write) = pipes::pipe().map_err(wrong("a pipe"))?;
    let (over_read, over) = pipes::pipe().map_err(wrong("a pipe"))?;

    let home = home::attach(&dir, &spec.home.backend, stage::home_allows(&spec))?;
    let image = home.as_ref().and_then(Home::image);
    let made = (|| {
        stage::set(&spec, home.as_ref())?;
        drop(home);
        cgroup.create().and_then(|()| cgroup.set(final_limits(&spec))).map_err(wrong("the control group"))?;
        let bundle_dir = dir.join("bundle");
        let config = bundle::config(&spec, &cgroup, runtime::is_own(&spec.runtime));
        fs::create_dir_all(&bundle_dir)
            .and_then(|()| fs::write(bundle_dir.join("config.json"), config.to_string()))
            .map_err(wrong("the bundle"))?;
        pipes::place(&plan_read, 3).and_then(|()| pipes::place(&answer_write, 4)).map_err(wrong("the gate's pipes"))?;
        let mut made = runtime::create(&spec, &dir, &output_write)?;
        drop(slots);
        finish(&spec, &mut made)
            .and_then(|finished| {
                log::keep(&dir, output_read).map_err(wrong("the notebook's log"))?;
                Ok(finished)
            })
            .inspect_err(|_| {
                cgroup.kill_all(std::time::Duration::from_secs(5));
            })
    })();
    let (pid, pid_start, egress) = match made {
        Ok(made) => made,
        Err(problem) => {
            // Nothing half-made stays behind.
            stage::strike();
            runtime::delete(&spec, &dir);
            let _ = cgroup.remove();
            Home::wait_detached(&dir, image, std::time::Duration::from_secs(5));
            return Err(problem);
        }
    };
    drop((plan_read, answer_write, output_write));
    let sandbox = Sandbox {
        dir,
        cgroup,
        pid,
        pid_start,
        outer_mounts,
        home: Mutex::new(Mounted { backend: spec.home.backend.clone(), image }),
        egress,
        gate: Mutex::new(proof::Gate::new(plan_write, answer_read)),
        prepared: Mutex::new(prepared),
        freezer: freeze::Freezer::default(),
        ready: ready::Ready::default(),
        state: Mutex::new(State {
            stage: Stage::Built,
            nonce: None,
            exit: None,
            stopping: false,
            cleaned: false,
            claimed: false,
        }),
        changed: Condvar::new(),
        over,
        spec,
    };
    Ok((over_read, sandbox))
}

/// What is done to a made container before and right after its start.
fn finish(spec: &SandboxSpec, made: &mut runtime::Made) -> Result<(u32, u64, Option<TcpListener>), Problem> {
    let pid = made.pid;
    let wrong = |what: &'static str| move |error: io::Error| Problem::engine(format!("{what}: {error}"), "");
    let pid_start = namespaces::start_time(pid).map_err(wrong("the sandbox ended while it was made"))?;
    // Runtimes leave a way to the kernel's memory image, which is masked, in /dev.
    for left in ["kcore", "core"] {
        let _ = fs::remove_file(format!("/proc/{pid}/root/dev/{left}"));
    }
    let own_network = !removed(&spec.remove, "network-namespace");
    if own_network {
        namespaces::raise_loopback(pid, pid_start).map_err(wrong("the sandbox's loopback"))?;
    }
    if removed(&spec.remove, "lo-only") {
        namespaces::add_dummy_interface(pid, pid_start).map_err(wrong("a second interface"))?;
    }
    let egress = (spec.egress.mode != EgressMode::None && own_network)
        .then(|| namespaces::listen(pid, pid_start, EGRESS_PORT))
        .transpose()
        .map_err(wrong("the egress proxy's listener"))?;
    made.start()?;
    Ok((pid, pid_start, egress))
}

/// Opens the socket that only root can use.
fn open_socket(dir: &Path) -> io::Result<UnixListener> {
    let path = dir.join(SOCKET);
    // The name must not be usable before its mode is right.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(&path);
    rustix::process::umask(mask);
    let listener = listener?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Says that the sandbox is built, and lets go of the engine's pipe.
fn announce() {
    let _ = pipes::write_line(&mut io::stdout().lock(), r#"{"ready":true}"#);
    let _ = io::stdout().flush();
    if let Ok(nothing) = File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from) {
        let _ = pipes::place(&nothing, 0);
        let _ = pipes::place(&nothing, 1);
    }
}
