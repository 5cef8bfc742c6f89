//! The system-call filter of a workspace: a readable [`policy`], compiled for this machine and
//! rendered for OCI runtimes.

pub mod policy;

mod compile;
mod oci;

use std::io;

pub(crate) use compile::Instruction;
use policy::{GROUPS, Group, Verdict};

/// The groups of the policy without those that a test took away. A group that is taken away
/// becomes one that allows its calls.
fn groups(removed: &[String]) -> Vec<Group> {
    let taken = |group: &Group| removed.iter().any(|name| name.strip_prefix("seccomp-") == Some(group.name));
    GROUPS.iter().map(|group| if taken(group) { Group { verdict: Verdict::Allow, ..*group } } else { *group }).collect()
}

/// The workspace's filter.
pub(crate) fn filter(removed: &[String]) -> Vec<Instruction> {
    compile::compile(groups(removed).iter(), Verdict::Unknown)
}

/// A filter that allows everything but what the named groups restrict. Of a group that allows its
/// calls, nothing is left.
pub(crate) fn filter_without(refused: &[&str]) -> Vec<Instruction> {
    let groups: Vec<Group> = GROUPS
        .iter()
        .filter(|group| refused.contains(&group.name))
        .map(|group| match group.verdict {
            Verdict::Allow => Group { verdict: Verdict::Refuse, ..*group },
            _ => *group,
        })
        .collect();
    compile::compile(groups.iter(), Verdict::Allow)
}

/// The workspace's filter as an OCI runtime reads it.
pub(crate) fn oci(removed: &[String]) -> serde_json::Value {
    oci::render(groups(removed).iter())
}

/// Installs a filter for the calling thread. Needs `no_new_privs` or `CAP_SYS_ADMIN`.
pub(crate) fn install(filter: &[Instruction]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program points to `len` instructions that live through the call; the kernel
    // copies and checks them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&program)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
