//! The egress proxy's process: started and restarted by the helper, which keeps the listener, so
//! that there is never a moment in which the tenant could take the port.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Sandbox;

/// More than this many deaths in a minute, and the proxy stays down: the workspace goes on
/// without a way out.
const DEATHS_PER_MINUTE: usize = 10;

/// Keeps the proxy running in a thread of its own; does nothing without a listener.
pub(super) fn keep(sandbox: &Arc<Sandbox>) -> io::Result<()> {
    if sandbox.egress.is_none() {
        return Ok(());
    }
    let sandbox = Arc::clone(sandbox);
    // The proxy dies with the thread that started it (PR_SET_PDEATHSIG), which is this one.
    std::thread::Builder::new().name("cubicle-egress".to_owned()).spawn(move || {
        let mut deaths: Vec<Instant> = Vec::new();
        loop {
            match start(&sandbox).and_then(|mut child| child.wait()) {
                Ok(status) => eprintln!("the egress proxy ended: {status}"),
                Err(error) => eprintln!("the egress proxy cannot run: {error}"),
            }
            if sandbox.state().exit.is_some() {
                return;
            }
            deaths.retain(|death| death.elapsed() < Duration::from_secs(60));
            deaths.push(Instant::now());
            if deaths.len() > DEATHS_PER_MINUTE {
                eprintln!("the egress proxy died {} times in a minute and stays down", deaths.len());
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    })?;
    Ok(())
}

fn start(sandbox: &Sandbox) -> io::Result<Child> {
    let listener = sandbox.egress.as_ref().ok_or_else(|| io::Error::other("no listener"))?;
    let path = sandbox.dir.join("egress.log");
    let log = OwnedFd::from(OpenOptions::new().create(true).append(true).mode(0o600).open(path)?);
    let config = json!({
        "mode": sandbox.spec.egress.mode,
        "allow": sandbox.spec.egress.allow,
        "refused": sandbox.spec.egress_refused,
    });
    let mut command = Command::new("/proc/self/exe");
    command.arg("internal-egress").stdin(Stdio::piped()).stdout(Stdio::null()).env_clear();
    inherit(&mut command, sandbox, &[(listener.as_fd().as_raw_fd(), 3), (log.as_raw_fd(), 4)]);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(config.to_string().as_bytes())?;
    }
    Ok(child)
}

/// Lets a child run in the outer mount namespace without blocked signals, die with the thread that
/// starts it, and have descriptors (from, to) at fixed numbers.
pub(super) fn inherit(command: &mut Command, sandbox: &Sandbox, descriptors: &[(i32, i32)]) {
    let descriptors = descriptors.to_vec();
    let outer = sandbox.outer_mounts.as_raw_fd();
    // SAFETY: between fork and exec only async-signal-safe system calls are made; the descriptors
    // are open in the parent until the child runs. Sources are first moved out of the way of the
    // targets.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 || libc::setns(outer, libc::CLONE_NEWNS) != 0 {
                return Err(io::Error::last_os_error());
            }
            nix::sys::signal::SigSet::empty().thread_set_mask()?;
            let mut moved = [0_i32; 4];
            for (slot, (from, _)) in moved.iter_mut().zip(&descriptors) {
                *slot = libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, 64);
                if *slot < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            for (slot, (_, to)) in moved.iter().zip(&descriptors) {
                if libc::dup2(*slot, *to) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

/// Lets a child die with the thread that starts it.
pub(super) fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only one async-signal-safe system call is made.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}
