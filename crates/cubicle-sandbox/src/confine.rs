//! Giving up rights: for the hub, the egress proxy and the process that orders certificates, which parse what
//! strangers send.
//!
//! Sources: capabilities(7), prctl(2), seccomp(2).

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, RawFd};

use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::seccomp;

/// Groups of the policy that no process of the platform needs.
const REFUSED: [&str; 15] = [
    "clone-namespaces",
    "clone3",
    "namespaces",
    "mounts",
    "tracing",
    "file-handles",
    "bpf",
    "perf-events",
    "io-uring",
    "userfaultfd",
    "keyrings",
    "kernel-code",
    "machine",
    "personality",
    "obsolete",
];

/// Refused besides to those that only speak over sockets and pipes.
const REFUSED_WITHOUT_FILES: [&str; 5] =
    ["programs", "page-placement", "special-files", "special-files-at", "terminal-injection"];

/// Turns the calling process into the hub: an ordinary user without groups, capabilities or ways
/// to get any, which nobody else of that user may trace. Must be called while the process has one
/// thread. Programs started later get none of it back.
///
/// # Errors
/// What the kernel refused; the caller must not go on.
pub fn become_hub(uid: u32, gid: u32) -> io::Result<()> {
    confine(uid, gid, &REFUSED)
}

/// Turns the calling process into the egress proxy, as [`become_hub`]; besides it can start no
/// other program, and ends with the helper that started it.
///
/// # Errors
/// As [`become_hub`]; and when the helper has ended meanwhile.
pub fn become_egress(uid: u32, gid: u32) -> io::Result<()> {
    let helper = rustix::process::getppid();
    confine(uid, gid, &without_files())?;
    // Another identity clears what the helper had asked for (PR_SET_PDEATHSIG(2const)).
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if rustix::process::getppid() != helper {
        return Err(io::Error::other("its helper has ended"));
    }
    Ok(())
}

/// Turns the calling process into a customer of an authority of certificates, as [`become_hub`]; besides it can start no
/// other program.
///
/// # Errors
/// As [`become_hub`].
pub fn become_customer(uid: u32, gid: u32) -> io::Result<()> {
    confine(uid, gid, &without_files())
}

fn without_files() -> Vec<&'static str> {
    [REFUSED.as_slice(), &REFUSED_WITHOUT_FILES].concat()
}

/// The descriptors that the helper gives an egress proxy: its listener at 3 and its log at 4.
/// May be called once, and before anything else is opened.
///
/// # Errors
/// When one of them is not what it should be.
pub fn egress_descriptors() -> io::Result<(TcpListener, File)> {
    const LISTENER: RawFd = 3;
    const LOG: RawFd = 4;
    for number in [LISTENER, LOG] {
        // SAFETY: fcntl with F_GETFD reads nothing but its arguments, whatever they are.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: both are open, were given to this process by its parent, and nothing else in it
    // owns them: this is the first thing that it does, as the function asks.
    let (listener, log) = unsafe { (TcpListener::from_raw_fd(LISTENER), File::from_raw_fd(LOG)) };
    listener.local_addr()?;
    Ok((listener, log))
}

fn confine(uid: u32, gid: u32, refused: &[&str]) -> io::Result<()> {
    if uid == 0 || gid == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "root gives up nothing by staying root"));
    }
    one_thread()?;
    rustix::thread::set_thread_groups(&[])?;
    drop_bounding_and_ambient()?;
    change_identity(uid, gid)?;
    drop_capabilities()?;
    rustix::thread::set_no_new_privs(true)?;
    // After the change of identity, which sets it anew.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    seccomp::install(&seccomp::filter_without(refused))
}

/// Rights belong to threads: others of this process would keep theirs.
fn one_thread() -> io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads == 1 {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "rights can only be given up by a process with one thread, this one has {threads}"
        )))
    }
}

/// Empties the bounding and the ambient set: no later program can have a capability.
pub(crate) fn drop_bounding_and_ambient() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    for capability in 0..64_u32 {
        // SAFETY: prctl with plain numbers. EINVAL: this kernel has no more capabilities.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) } != 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// Sets real, effective and saved ids at once.
pub(crate) fn change_identity(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: plain numbers; the process has one thread, so that no other keeps the old ids.
    let result = unsafe {
        match libc::syscall(libc::SYS_setresgid, gid, gid, gid) {
            0 => libc::syscall(libc::SYS_setresuid, uid, uid, uid),
            failed => failed,
        }
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives every signal its default action and lets all through: both are inherited over `exec`,
/// from whoever started this process and from Rust itself, which ignores SIGPIPE.
pub(crate) fn default_signals() -> io::Result<()> {
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // The C library refuses to touch the two signals that it uses itself, so that the kernel
        // is asked directly, with its own structure: handler, flags, restorer, mask.
        let action = [0_u64; 4];
        // SAFETY: an all-zero sigaction means SIG_DFL; it lives through the call, and the size of
        // the mask is the kernel's.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                std::ptr::null_mut::<libc::c_void>(),
                size_of::<u64>(),
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?)
}

/// Empties the effective, permitted and inheritable sets.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    Ok(rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::policy::GROUPS;

    #[test]
    fn every_refused_group_exists() {
        for name in without_files() {
            assert!(GROUPS.iter().any(|group| group.name == name), "{name}");
        }
    }

    #[test]
    fn root_is_not_a_confinement() {
        assert!(become_hub(0, 1000).is_err());
        assert!(become_egress(1000, 0).is_err());
        assert!(become_customer(0, 0).is_err());
    }
}
