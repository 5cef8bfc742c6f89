//! Entering a running sandbox: for commands of the tenant (`exec`) and for later proofs
//! (`verify`, and `ahead` for one whose plan comes later). The helper runs this program again for each, so that it has one thread.
//!
//! What enters equals the notebook in uid, capabilities, `no_new_privs`, filters, namespaces,
//! control groups and limits; a contract test compares. A later proof differs in one thing: its
//! pid namespace is a sibling, so that hostile code of the same uid cannot name it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::bundle::{self, NAMESPACES, OOM_SCORE, TENANT};
use crate::cgroup::Cgroup;
use crate::confine;
use crate::helper::PID_FILE;
use crate::mounts::{self, Allowed};
use crate::namespaces;
use crate::pipes;
use crate::protocol::SandboxSpec;
use crate::removal::removed;
use crate::runtime::LastWalls;

/// The descriptor at which a later proof finds a proc file system of its own pid namespace, as a
/// detached mount: `/proc` inside shows the workspace's.
pub const PROC_DESCRIPTOR: i32 = 5;

/// How long a later proof may take before it counts as disturbed.
const PATIENCE: Duration = Duration::from_secs(18);

/// Exit code when the sandbox could not be entered.
const CANNOT_ENTER: u8 = 125;

/// Exit code when the program is there but cannot be run, and when it is not there: what shells
/// use.
const CANNOT_RUN: i32 = 126;
const NOT_FOUND: i32 = 127;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Exec,
    /// A later proof.
    Verify,
    /// A later proof that enters now and is told what to try whenever it is.
    Ahead,
}

struct Entry {
    mode: Mode,
    dir: PathBuf,
    spec: SandboxSpec,
    pid: u32,
    pid_start: u64,
    command: Vec<OsString>,
}

/// The body of `cubicle internal-join exec|verify|ahead DIR PID START -- [COMMAND...]`; `arguments` is
/// what follows `internal-join`. Exits with the command's code, 128 + signal when it was killed.
pub fn run(arguments: &[OsString]) -> ExitCode {
    match parse(arguments).and_then(|entry| enter(&entry)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("cubicle: the sandbox cannot be entered: {error}");
            ExitCode::from(CANNOT_ENTER)
        }
    }
}

fn parse(arguments: &[OsString]) -> io::Result<Entry> {
    let usage = || io::Error::other("usage: internal-join exec|verify|ahead DIR PID START -- [COMMAND...]");
    let [mode, dir, pid, start, dashes, command @ ..] = arguments else { return Err(usage()) };
    let number = |text: &OsString| text.to_str().ok_or_else(usage).map(str::to_owned);
    let mode = match mode.to_str() {
        Some("exec") if !command.is_empty() => Mode::Exec,
        Some("verify") if command.is_empty() => Mode::Verify,
        Some("ahead") if command.is_empty() => Mode::Ahead,
        _ => return Err(usage()),
    };
    if dashes != "--" {
        return Err(usage());
    }
    let dir = PathBuf::from(dir);
    let spec = serde_json::from_slice(&fs::read(dir.join("sandbox.json"))?).map_err(io::Error::other)?;
    Ok(Entry {
        mode,
        dir,
        spec,
        pid: number(pid)?.parse().map_err(|_| usage())?,
        pid_start: number(start)?.parse().map_err(|_| usage())?,
        command: command.to_vec(),
    })
}

fn enter(entry: &Entry) -> io::Result<u8> {
    // Nobody may look into this process while it is root on one side and tenant on the other.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The signal is of deaths from now on (PR_SET_PDEATHSIG(2const)).
    if fs::read_to_string(entry.dir.join(PID_FILE))?.trim() != std::os::unix::process::parent_id().to_string() {
        return Err(io::Error::other("its helper has ended"));
    }
    // The helper blocks the signals that it waits for.
    confine::default_signals()?;
    crate::removal::check(&entry.spec.remove).map_err(io::Error::other)?;
    let cgroup = Cgroup::new(&entry.spec.cgroup)?;
    let pid_namespace =
        if entry.mode == Mode::Exec { Some(namespaces::open(entry.pid, entry.pid_start, "pid")?) } else { None };
    let inner = Inner::open(entry)?;
    match &pid_namespace {
        Some(namespace) => move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::ProcessID))?,
        // SAFETY: this process has one thread.
        None => unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWPID) }?,
    }
    // Forked before it is in the workspace's control group: a tenant that has used up its
    // processes cannot keep anybody out.
    // Until this process can pass it on: one that ended in between would leave its child alone.
    let mut termination = SigSet::empty();
    termination.add(nix::sys::signal::Signal::SIGTERM);
    termination.thread_block()?;
    // SAFETY: this process has one thread, so that the child's memory is whole.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let unblocked = termination.thread_unblock().map_err(io::Error::from);
            let error = match unblocked.and_then(|()| inner.become_tenant(entry, &cgroup)) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            eprintln!("cubicle: {error}");
            let code = match error.raw_os_error() {
                Some(libc::ENOENT) => NOT_FOUND,
                Some(_) => CANNOT_RUN,
                None => i32::from(CANNOT_ENTER),
            };
            // SAFETY: the child leaves without running anything of its parent's.
            unsafe { libc::_exit(code) }
        }
        child => {
            drop(inner);
            end_with_child(child)?;
            termination.thread_unblock()?;
            match entry.mode {
                Mode::Exec => await_command(child),
                Mode::Verify => await_probe(child),
                Mode::Ahead => {
                    await_plan(child)?;
                    await_probe(child)
                }
            }
        }
    }
}

/// The process that entered, for the signal handler.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// Makes SIGTERM kill the child, so that this process stays to bury it: an unburied child keeps
/// the workspace's pid namespace from ending.
fn end_with_child(child: i32) -> io::Result<()> {
    extern "C" fn kill_child(_: i32) {
        // SAFETY: kill is async-signal-safe; the child is not reaped while this can run, because
        // only this thread reaps it and leaves at once afterwards.
        unsafe { libc::kill(CHILD.load(Ordering::SeqCst), libc::SIGKILL) };
    }
    CHILD.store(child, Ordering::SeqCst);
    let action = SigAction::new(SigHandler::Handler(kill_child), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only makes one async-signal-safe call.
    unsafe { sigaction(nix::sys::signal::Signal::SIGTERM, &action) }?;
    Ok(())
}

fn exit_code(status: i32) -> u8 {
    let code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn await_command(child: i32) -> io::Result<u8> {
    loop {
        let mut status = 0;
        // SAFETY: waitpid fills the integer, which lives through the call.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            return Ok(exit_code(status));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(error);
        }
    }
}

/// Waits until the probe's plan comes, nobody can send one any more, or the probe has ended. What it reads stays its own.
fn await_plan(child: i32) -> io::Result<()> {
    let end = end_of(child)?;
    match poll(&mut [PollFd::new(&io::stdin(), PollFlags::IN), PollFd::new(&end, PollFlags::IN)], None) {
        // The signal has killed the probe.
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What becomes readable with the end of a child (pidfd_open(2)).
fn end_of(child: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(child).ok_or_else(|| io::Error::other("no child"))?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Waits for a later proof and watches that nobody stops or traces it.
fn await_probe(child: i32) -> io::Result<u8> {
    let deadline = Instant::now() + PATIENCE;
    let end = end_of(child)?;
    let pause = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    let disturbed = loop {
        let mut status = 0;
        // SAFETY: waitpid fills the integer, which lives through the call.
        let result = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
        if result == child && libc::WIFSTOPPED(status) {
            break "it was stopped by a signal".to_owned();
        }
        if result == child && libc::WIFSIGNALED(status) {
            return Err(io::Error::other(format!("the probe was killed by signal {}", libc::WTERMSIG(status))));
        }
        if result == child {
            return Ok(exit_code(status));
        }
        if let Some(tracer) = tracer(child) {
            break format!("it was traced by process {tracer}");
        }
        if Instant::now() >= deadline {
            break format!("it did not end within {} s", PATIENCE.as_secs());
        }
        // Until its end, or for a moment; a signal has killed it.
        let _ = poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&pause));
    };
    // SAFETY: kill and waitpid on the child made above, which is not reaped yet.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    Err(io::Error::other(disturbed))
}

/// Who traces a process (proc(5), `TracerPid`).
fn tracer(pid: i32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?.trim().to_owned();
    (tracer != "0").then_some(tracer)
}

enum Never {}

/// What is opened before the namespaces change.
struct Inner {
    namespaces: Vec<(File, LinkNameSpaceType)>,
    probe: (u64, u64),
}

impl Inner {
    fn open(entry: &Entry) -> io::Result<Self> {
        // The user namespace first: it gives the rights to enter the others.
        let kinds = [
            ("user", LinkNameSpaceType::User),
            ("mnt", LinkNameSpaceType::Mount),
            ("net", LinkNameSpaceType::Network),
            ("ipc", LinkNameSpaceType::InterProcessCommunication),
            ("uts", LinkNameSpaceType::HostNameAndNISDomainName),
            ("cgroup", LinkNameSpaceType::ControlGroup),
        ];
        let taken = |kind: &str| {
            NAMESPACES.iter().any(|(_, kernel, mechanism)| *kernel == kind && removed(&entry.spec.remove, mechanism))
        };
        let namespaces = kinds
            .into_iter()
            .filter(|(kind, _)| !taken(kind))
            .map(|(kind, link)| Ok((namespaces::open(entry.pid, entry.pid_start, kind)?, link)))
            .collect::<io::Result<_>>()?;
        let data = fs::metadata(&entry.spec.probe)?;
        Ok(Self { namespaces, probe: (data.dev(), data.ino()) })
    }

    /// Turns this process into the tenant and runs the program.
    fn become_tenant(&self, entry: &Entry, cgroup: &Cgroup) -> io::Result<Never> {
        let spec = &entry.spec;
        let walls = LastWalls::of(spec);
        let proc_mount = if entry.mode != Mode::Exec {
            // Only the owner of the mount namespace may make a new proc, and the workspace's own
            // view of it is masked, so that this happens before any namespace is entered.
            Some(mounts::create("proc", "proc", &[], Allowed::READ)?)
        } else {
            None
        };
        // A session of its own: the terminal of whoever asked is not the tenant's to control.
        rustix::process::setsid()?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        cgroup.join(entry.pid)?;
        fs::write("/proc/thread-self/oom_score_adj", OOM_SCORE.to_string())?;
        for (_, resource, soft, hard) in bundle::resource_limits(&spec.remove) {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            // SAFETY: setrlimit reads the structure, which lives through the call.
            if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        rustix::thread::set_thread_groups(&[])?;
        for (namespace, kind) in &self.namespaces {
            move_into_link_name_space(namespace.as_fd(), Some(*kind))?;
        }
        rustix::process::chdir(if entry.mode == Mode::Exec { spec.home.mount_path.as_str() } else { "/" })?;
        let probe = if entry.mode == Mode::Exec { None } else { Some(self.open_probe()?) };
        let program = self.program(entry)?;

        if !removed(&spec.remove, "capabilities") {
            confine::drop_bounding_and_ambient()?;
        }
        confine::change_identity(TENANT, TENANT)?;
        // Both are set anew by the change of identity. A dead helper takes its proofs and commands along.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        if !removed(&spec.remove, "no-new-privs") {
            rustix::thread::set_no_new_privs(true)?;
        }
        if let Some(mount) = &proc_mount {
            pipes::place(mount, PROC_DESCRIPTOR)?;
        }
        walls.build(proc_mount.as_ref())?;
        if !removed(&spec.remove, "capabilities") {
            confine::drop_capabilities()?;
        }
        program.run(probe.as_ref())
    }

    /// The probe as the workspace sees it, which must be the host's own file.
    fn open_probe(&self) -> io::Result<OwnedFd> {
        use rustix::fs::{Mode, OFlags};
        let probe =
            rustix::fs::open("/.cubicle/probe", OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
        let data = rustix::fs::fstat(&probe)?;
        if (data.st_dev, data.st_ino) == self.probe {
            Ok(probe)
        } else {
            Err(io::Error::other("the probe inside is not the engine's"))
        }
    }

    fn program(&self, entry: &Entry) -> io::Result<Program> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::other);
        if entry.mode != Mode::Exec {
            return Ok(Program {
                paths: Vec::new(),
                arguments: vec![c"/.cubicle/probe".to_owned(), c"later".to_owned()],
                environment: vec![CString::new(format!("PATH={}", bundle::PATH)).map_err(io::Error::other)?],
            });
        }
        let arguments = entry.command.iter().map(|word| text(word)).collect::<io::Result<Vec<_>>>()?;
        let environment = &entry.spec.environment;
        let path = environment.iter().find(|(name, _)| name == "PATH").map_or(bundle::PATH, |(_, value)| value);
        let name = &entry.command[0];
        let paths = if name.as_bytes().contains(&b'/') {
            vec![text(name)?]
        } else {
            std::env::split_paths(path)
                .map(|dir| text(Path::new(&dir).join(name).as_os_str()))
                .collect::<io::Result<_>>()?
        };
        let environment = environment
            .iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")).map_err(io::Error::other))
            .collect::<io::Result<_>>()?;
        Ok(Program { paths, arguments, environment })
    }
}

/// What is run at the end; made before the filter is installed.
struct Program {
    paths: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    fn run(&self, open: Option<&OwnedFd>) -> io::Result<Never> {
        let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
            list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        if let Some(open) = open {
            // SAFETY: both lists end with a null pointer and point to strings that live on.
            unsafe {
                libc::syscall(
                    libc::SYS_execveat,
                    open.as_raw_fd(),
                    c"".as_ptr(),
                    arguments.as_ptr(),
                    environment.as_ptr(),
                    libc::AT_EMPTY_PATH,
                );
            }
            return Err(io::Error::last_os_error());
        }
        let mut refused = None;
        for path in &self.paths {
            // SAFETY: as above.
            unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => refused = Some(error),
                _ => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT)))
    }
}
