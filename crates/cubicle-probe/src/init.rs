//! The workspace's init: starts the notebook, reaps what is left over, passes signals on, and
//! ends with the notebook.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cubicle_core::attempt::Go;
use rustix::process::{Pid, Signal, WaitOptions};

/// What shells use for a command that cannot be run.
const CANNOT_RUN: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Everything that exec needs, prepared before the fork.
struct Prepared {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
}

impl Prepared {
    fn new(go: &Go) -> io::Result<Self> {
        let text = |text: &str| CString::new(text).map_err(io::Error::other);
        let first = go.command.first().ok_or_else(|| io::Error::other("the go has no command"))?;
        let path = go.environment.iter().find(|(name, _)| name == "PATH").map_or("/usr/bin:/bin", |(_, value)| value);
        let program = find(first, path);
        Ok(Self {
            program: CString::new(program.as_os_str().as_bytes()).map_err(io::Error::other)?,
            arguments: go.command.iter().map(|one| text(one)).collect::<io::Result<_>>()?,
            environment: go
                .environment
                .iter()
                .map(|(name, value)| text(&format!("{name}={value}")))
                .collect::<io::Result<_>>()?,
            directory: text(&go.directory)?,
        })
    }
}

/// The file that a command's first word means.
fn find(command: &str, path: &str) -> PathBuf {
    if command.contains('/') {
        return PathBuf::from(command);
    }
    path.split(':')
        .map(|directory| Path::new(directory).join(command))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok())
        .unwrap_or_else(|| PathBuf::from(command))
}

/// Starts the notebook and stays. What is kept stays as long as this process lives: an open file
/// whose end tells the supervisor.
pub(crate) fn start<T>(go: &Go, kept: T) -> io::Result<ExitCode> {
    let prepared = Prepared::new(go)?;
    let waited = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
    let signals = set_of(&waited);
    // SAFETY: blocks signals for this thread, which is the only one left; the set lives.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut()) };
    // SAFETY: the child only calls what is allowed between fork and exec; all memory that it
    // needs was prepared before.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        become_notebook(&prepared);
    }
    let Some(notebook) = Pid::from_raw(pid).filter(|_| pid > 0) else { return Err(io::Error::last_os_error()) };
    let code = serve(notebook, &signals);
    drop(kept);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigemptyset makes the zeroed set valid before signals are added to it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

fn become_notebook(prepared: &Prepared) -> ! {
    let pointers = |list: &[CString]| list.iter().map(|one| one.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let (arguments, environment) = (pointers(&prepared.arguments), pointers(&prepared.environment));
    // SAFETY: every pointer is to memory that lives until exec or _exit; the lists end with null.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let none = set_of(&[]);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::setsid();
        libc::umask(0o022);
        if libc::chdir(prepared.directory.as_ptr()) == 0 {
            // Everything but the standard streams goes, whatever was inherited.
            if libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) != 0 {
                for descriptor in 3..256 {
                    libc::close(descriptor);
                }
            }
            libc::execve(prepared.program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        }
    }
    let error = io::Error::last_os_error();
    eprintln!("cubicle: {}: {error}", prepared.program.to_string_lossy());
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
    // SAFETY: leaves at once.
    unsafe { libc::_exit(code) }
}

/// Waits for signals until the notebook has ended; its code, or 128 and its signal.
fn serve(notebook: Pid, signals: &libc::sigset_t) -> i32 {
    loop {
        if let Some(code) = reap(notebook) {
            return code;
        }
        // SAFETY: the set lives, and no information about the signal is asked for.
        let signal = unsafe { libc::sigwaitinfo(std::ptr::from_ref(signals), std::ptr::null_mut()) };
        if let libc::SIGTERM | libc::SIGINT | libc::SIGHUP = signal
            && let Some(signal) = Signal::from_named_raw(signal)
        {
            // It may have ended since; the next turn reaps it.
            let _ = rustix::process::kill_process(notebook, signal);
        }
    }
}

/// Reaps every child that has ended; the notebook's code when it is among them.
fn reap(notebook: Pid) -> Option<i32> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == notebook => {
                return Some(status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0)));
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return None,
            // No children at all: the notebook cannot come back.
            Err(_) => return Some(NOT_FOUND),
        }
    }
}
