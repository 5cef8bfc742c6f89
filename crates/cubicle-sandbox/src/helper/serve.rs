//! Requests: the main thread takes connections, every connection has a thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cubicle_core::problem::Problem;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{EGRESS_PORT, Sandbox, announce, egress, end, open_socket, ready};
use crate::frame;
use crate::home;
use crate::protocol::{HomeBackend, Request, Response, Stage, Status};
use crate::stage::RAW_HOME;

/// A sandbox that nobody proves and starts ends by itself after this.
const UNUSED: Duration = Duration::from_secs(120);

/// Between SIGTERM and SIGKILL when the helper itself is asked to end.
const GRACE: Duration = Duration::from_secs(5);

/// Announces the sandbox and serves until it has ended.
pub(super) fn run(sandbox: Sandbox, over: &OwnedFd) -> ExitCode {
    let sandbox = Arc::new(sandbox);
    let begin = || -> io::Result<_> {
        let signals = termination_signals()?;
        let listener = open_socket(&sandbox.dir)?;
        listener.set_nonblocking(true)?;
        end::watch(&sandbox)?;
        egress::keep(&sandbox)?;
        Ok((signals, listener))
    };
    let (signals, listener) = match begin() {
        Ok(begun) => begun,
        Err(error) => {
            eprintln!("the helper cannot serve: {error}");
            sandbox.stop(Duration::ZERO);
            return ExitCode::FAILURE;
        }
    };
    announce();
    let unused = Instant::now() + UNUSED;
    loop {
        let waiting = !matches!(sandbox.state().stage, Stage::Started | Stage::Ended);
        let left = unused.saturating_duration_since(Instant::now());
        if waiting && left.is_zero() {
            eprintln!("nobody started the notebook for {} s", UNUSED.as_secs());
            sandbox.stop(Duration::ZERO);
            return ExitCode::FAILURE;
        }
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed() + 1, tv_nsec: 0 };
        let mut polled = [
            PollFd::new(&listener, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
            PollFd::new(over, PollFlags::IN),
        ];
        match poll(&mut polled, waiting.then_some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => eprintln!("waiting for requests: {error}"),
        }
        if !polled[2].revents().is_empty() {
            return ExitCode::SUCCESS;
        }
        if !polled[1].revents().is_empty() {
            sandbox.stop(GRACE);
            return ExitCode::SUCCESS;
        }
        while let Ok((stream, _)) = listener.accept() {
            let sandbox = Arc::clone(&sandbox);
            let served = std::thread::Builder::new().name("cubicle-request".to_owned()).spawn(move || {
                if let Err(error) = answer(&sandbox, stream) {
                    eprintln!("a request failed: {error}");
                }
            });
            if let Err(error) = served {
                eprintln!("no thread for a request: {error}");
            }
        }
    }
}

/// A descriptor that becomes readable with SIGTERM and SIGINT, which are blocked from now on; the
/// sandbox, which would inherit that, exists already.
fn termination_signals() -> io::Result<OwnedFd> {
    use nix::sys::signal::{SigSet, Signal};
    use nix::sys::signalfd::{SfdFlags, SignalFd};
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let descriptor = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    descriptor.as_fd().try_clone_to_owned()
}

fn answer(sandbox: &Arc<Sandbox>, mut stream: UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    if !rustix::net::sockopt::socket_peercred(&stream)?.uid.is_root() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "only root may ask a helper"));
    }
    let request: Request = frame::read(&mut stream)?;
    let failed = |problem| Response::Failed { problem };
    let response = match request {
        Request::Status => Response::Status(sandbox.status()),
        Request::Prove { plan } => sandbox.prove(plan).map_or_else(failed, |proof| Response::Proof(Box::new(proof))),
        Request::Go { nonce } => sandbox.go(&nonce).map_or_else(failed, |()| Response::Started),
        Request::Verify { plan } => sandbox.verify(plan).map_or_else(failed, |proof| Response::Proof(Box::new(proof))),
        Request::Exec { command } => {
            let descriptors = frame::receive_descriptors(&stream)?;
            sandbox.exec(&stream, &command, descriptors).map_or_else(failed, |code| Response::Exited { code })
        }
        Request::Freeze { port } => sandbox.freeze(port).map_or_else(failed, |()| Response::Frozen),
        Request::Usage => sandbox.usage().unwrap_or_else(failed),
        Request::Hold => {
            if let Err(error) = ready::get(sandbox) {
                eprintln!("no thread for a claim's proof: {error}");
            }
            return sandbox.hold(&stream);
        }
        Request::Claim { plan } => {
            sandbox.claim(&mut stream, plan).map_or_else(failed, |proof| Response::Proof(Box::new(proof)))
        }
        Request::Stop { grace_ms } => {
            sandbox.stop(Duration::from_millis(grace_ms));
            let written = frame::write(&mut stream, &Response::Stopped);
            sandbox.finish();
            return written;
        }
    };
    frame::write(&mut stream, &response)
}

impl Sandbox {
    fn status(&self) -> Status {
        let state = self.state();
        Status {
            pid: self.pid,
            pid_start: self.pid_start,
            stage: state.stage,
            egress: self.egress.as_ref().map(|_| ([127, 0, 0, 1], EGRESS_PORT).into()),
            exit: state.exit.clone(),
        }
    }

    fn usage(&self) -> Result<Response, Problem> {
        let cgroup = self.cgroup.read().map_err(|error| Problem::engine(format!("the control group: {error}"), ""))?;
        let (home_used, home_limit) = match &self.home().backend {
            HomeBackend::Image(_) => {
                let (used, size) = home::usage(RAW_HOME.as_ref())
                    .map_err(|error| Problem::engine(format!("the home cannot be measured: {error}"), ""))?;
                (used, Some(size))
            }
            HomeBackend::Directory(path) => (home::directory_usage(path), None),
            HomeBackend::Later => (0, None),
        };
        Ok(Response::Usage { cgroup, home_used, home_limit, frozen: self.freezer.is_frozen() })
    }

    /// Runs a command under the walls of the notebook; ends it when the asker goes away.
    fn exec(&self, stream: &UnixStream, command: &[String], descriptors: [OwnedFd; 3]) -> Result<i32, Problem> {
        if self.state().stage != Stage::Started {
            return Err(Problem::conflict(format!("{} is not running", self.spec.id), "start it first"));
        }
        if command.is_empty() {
            return Err(Problem::bad_input("the command to run is empty", "name a program after --"));
        }
        if command.iter().any(|word| word.contains('\0')) {
            return Err(Problem::bad_input("the command contains a NUL character", "leave it out"));
        }
        self.thaw();
        let [stdin, stdout, stderr] = descriptors;
        let failed = |error: io::Error| Problem::engine(format!("the command cannot be started: {error}"), "");
        let mut join = self.join_command("exec", command);
        join.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
        let mut child = join.spawn().map_err(failed)?;
        // The command holds the asker's descriptors; nothing of ours does.
        drop(join);
        wait_with(&mut child, stream).map_err(failed)
    }
}

/// Waits for a child, or for the other side of a connection to go away, which kills the child.
fn wait_with(child: &mut Child, stream: &UnixStream) -> io::Result<i32> {
    let pid = rustix::process::Pid::from_child(child);
    let descriptor = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    loop {
        let mut polled = [PollFd::new(&descriptor, PollFlags::IN), PollFd::new(stream, PollFlags::RDHUP)];
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if polled[0].revents().is_empty() && !polled[1].revents().is_empty() {
            // It kills the command and buries it.
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        if let Some(status) = child.try_wait()? {
            use std::os::unix::process::ExitStatusExt;
            return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
        }
        if !polled[1].revents().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
