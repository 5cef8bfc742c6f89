//! What executes the bundle: libcontainer in this process, or an OCI runtime's command line.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cubicle_core::problem::Problem;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

use crate::confine;
use crate::files;
use crate::protocol::{HomeBackend, RuntimeChoice, SandboxSpec};
use crate::removal::removed;
use crate::seccomp::{self, Instruction};
use crate::stage;

/// A container that was made and waits for its start.
pub(crate) struct Made {
    /// The host's pid of its first process.
    pub(crate) pid: u32,
    start: Start,
}

enum Start {
    Container(Box<libcontainer::container::Container>),
    Command { runtime: PathBuf, state: PathBuf, id: String },
}

/// Whether this runtime's first process installs our compiled filter itself, and Landlock.
pub(crate) fn is_own(choice: &RuntimeChoice) -> bool {
    matches!(choice, RuntimeChoice::Libcontainer)
}

fn failed(what: &str, error: &dyn std::error::Error) -> Problem {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    Problem::engine(text, "look at cubicle doctor for what this machine lacks")
}

/// Makes the container of a bundle. The process must have one thread; descriptors 3 and 4 go to
/// the container's first process as they are, and `output` becomes its stdout and stderr.
pub(crate) fn create(spec: &SandboxSpec, dir: &Path, output: &OwnedFd) -> Result<Made, Problem> {
    let wrong = |error: io::Error| failed("the sandbox cannot be prepared", &error);
    let state = dir.join("runtime");
    fs::create_dir_all(&state).map_err(wrong)?;
    let bundle = dir.join("bundle");
    match &spec.runtime {
        RuntimeChoice::Libcontainer => {
            let nothing = OwnedFd::from(fs::File::open("/dev/null").map_err(wrong)?);
            let own_score = fs::read_to_string("/proc/self/oom_score_adj").map_err(wrong)?;
            let (stdout, stderr) = (output.try_clone().map_err(wrong)?, output.try_clone().map_err(wrong)?);
            let container = ContainerBuilder::new(spec.id.to_string(), SyscallType::default())
                .with_root_path(&state)
                .and_then(|builder| {
                    builder
                        .with_executor(Gate::new(spec))
                        .with_preserved_fds(2)
                        .with_stdin(nothing)
                        .with_stdout(stdout)
                        .with_stderr(stderr)
                        .validate_id()
                })
                .and_then(|builder| builder.as_init(&bundle).with_systemd(false).with_detach(true).build());
            // libcontainer writes the workspace's score to this process (builder_impl.rs).
            fs::write("/proc/self/oom_score_adj", own_score.trim()).map_err(wrong)?;
            let container = container.map_err(|error| failed("the sandbox cannot be made", &error))?;
            let pid = container.pid().map(nix::unistd::Pid::as_raw).and_then(|pid| u32::try_from(pid).ok());
            let pid = pid.ok_or_else(|| Problem::engine("the sandbox has no first process", ""))?;
            Ok(Made { pid, start: Start::Container(Box::new(container)) })
        }
        RuntimeChoice::Command(runtime) => {
            let pid_file = dir.join("runtime.pid");
            let log = dir.join("runtime.log");
            let mut command = Command::new(runtime);
            // What the runtime itself has to say goes to a file: the container inherits stdout
            // and stderr.
            command.arg("--log").arg(&log).arg("--root").arg(&state);
            command.args(["create", "--preserve-fds", "2", "--bundle"]).arg(&bundle);
            command.arg("--pid-file").arg(&pid_file).arg(spec.id.as_str());
            command.stdin(Stdio::null());
            command.stdout(output.try_clone().map_err(wrong)?).stderr(output.try_clone().map_err(wrong)?);
            // The runtime goes away, and its container must become our child, whose end we see.
            // Only here: whoever adopts a stranger's orphans has to bury them.
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(|error| wrong(error.into()))?;
            let status = command.status();
            rustix::process::set_child_subreaper(None).map_err(|error| wrong(error.into()))?;
            let status = status.map_err(wrong)?;
            if !status.success() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(Problem::engine(
                    format!("{} cannot make the sandbox: {}", runtime.display(), said.trim()),
                    "try it without the site's own runtime",
                ));
            }
            let pid = fs::read_to_string(&pid_file)
                .map_err(wrong)?
                .trim()
                .parse()
                .map_err(|_| Problem::engine(format!("{} wrote no process number", runtime.display()), ""))?;
            Ok(Made { pid, start: Start::Command { runtime: runtime.clone(), state, id: spec.id.to_string() } })
        }
    }
}

impl Made {
    /// Lets the first process run.
    pub(crate) fn start(&mut self) -> Result<(), Problem> {
        match &mut self.start {
            Start::Container(container) => {
                container.start().map_err(|error| failed("the sandbox cannot be started", &error))
            }
            Start::Command { runtime, state, id } => {
                let result = Command::new(&*runtime).arg("--root").arg(&*state).args(["start", id]).output();
                let output = result.map_err(|error| failed("the sandbox cannot be started", &error))?;
                if output.status.success() {
                    return Ok(());
                }
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(Problem::engine(format!("{} cannot start the sandbox: {said}", runtime.display()), ""))
            }
        }
    }
}

/// Forgets a container whose processes have ended.
pub(crate) fn delete(spec: &SandboxSpec, dir: &Path) {
    if let RuntimeChoice::Command(runtime) = &spec.runtime {
        let _ = Command::new(runtime)
            .arg("--root")
            .arg(dir.join("runtime"))
            .args(["delete", "-f", spec.id.as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
    // libcontainer's state is this directory alone; its control group is ours to remove.
    let _ = fs::remove_dir_all(dir.join("runtime"));
    let _ = fs::remove_dir_all(dir.join("bundle"));
    let _ = fs::remove_file(dir.join("runtime.pid"));
    let _ = fs::remove_file(dir.join("runtime.log"));
}

/// Runs in the container's first process right before its program: the last walls.
#[derive(Clone)]
struct Gate {
    walls: LastWalls,
}

impl Gate {
    fn new(spec: &SandboxSpec) -> Self {
        Self { walls: LastWalls::of(spec) }
    }
}

/// The walls that a process puts around itself between the namespaces and its program, the same
/// for the first process and for everything that joins it later.
#[derive(Clone)]
pub(crate) struct LastWalls {
    home: Option<String>,
    filter: Option<Vec<Instruction>>,
}

impl LastWalls {
    pub(crate) fn of(spec: &SandboxSpec) -> Self {
        let landlock = is_own(&spec.runtime) && !removed(&spec.remove, "landlock");
        let home = match spec.home.backend {
            // Of a mount that comes later nothing can be said yet but what holds it, which is read-only itself.
            HomeBackend::Later => stage::holder(&spec.home.mount_path).map(|path| path.to_string_lossy().into_owned()),
            HomeBackend::Image(_) | HomeBackend::Directory(_) => Some(spec.home.mount_path.clone()),
        };
        Self {
            home: home.filter(|_| landlock),
            filter: (!removed(&spec.remove, "seccomp")).then(|| seccomp::filter(&spec.remove)),
        }
    }

    /// Puts them up, after `no_new_privs`. `other` is one more mount that may be read.
    pub(crate) fn build(&self, other: Option<&OwnedFd>) -> io::Result<()> {
        if let Some(home) = &self.home {
            files::restrict(home, other).map_err(io::Error::other)?;
        }
        confine::default_signals()?;
        match &self.filter {
            Some(filter) => seccomp::install(filter),
            None => Ok(()),
        }
    }
}

impl Executor for Gate {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let other = |error: io::Error| ExecutorError::Other(error.to_string());
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let strings = |list: &Option<Vec<String>>| -> Result<Vec<CString>, ExecutorError> {
            list.iter()
                .flatten()
                .map(|text| CString::new(text.as_str()).map_err(|_| ExecutorError::InvalidArg))
                .collect()
        };
        let arguments = strings(process.args())?;
        let environment = strings(process.env())?;
        let program = arguments.first().ok_or(ExecutorError::InvalidArg)?;
        // A dead helper takes its workspace along: nobody would supervise it.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(|error| other(error.into()))?;
        self.walls.build(None).map_err(other)?;
        nix::unistd::execve(program, &arguments, &environment)
            .map_err(|error| ExecutorError::Other(format!("{}: {error}", program.to_string_lossy())))?;
        Ok(())
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}
