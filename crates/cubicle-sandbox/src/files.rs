//! Landlock: a second wall around files, beneath the mounts. Everything may be read and run;
//! only the workspace's own places may be written, whatever a mount might allow by mistake.
//!
//! Source: landlock(7). Rights that the running kernel does not know are left out.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus,
};

/// Rights of files that were added up to Linux 6.10; newer ones restrict what mounts do not.
const RIGHTS: ABI = ABI::V5;

/// Where the tenant may write besides the home.
const WRITABLE: [&str; 5] = ["/tmp", "/dev/shm", "/dev/mqueue", "/dev/pts", "/proc"];

/// Devices the tenant may write to.
const DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/pts/ptmx"];

/// Restricts the calling thread and its children to come. Needs `no_new_privs`. `other` is one
/// more place to read: a mount that is not below the root. Says whether the kernel enforces it.
pub(crate) fn restrict(home: &str, other: Option<&OwnedFd>) -> Result<bool, landlock::RulesetError> {
    let all = AccessFs::from_all(RIGHTS);
    let read = AccessFs::from_read(RIGHTS);
    let device = AccessFs::WriteFile | AccessFs::ReadFile | AccessFs::IoctlDev;
    let mut rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(all)?.create()?;
    rules = allow(rules, "/", read)?;
    for path in WRITABLE.into_iter().chain([home]) {
        rules = allow(rules, path, all)?;
    }
    for path in DEVICES {
        rules = allow(rules, path, device)?;
    }
    if let Some(other) = other {
        rules = rules.add_rule(PathBeneath::new(other, read))?;
    }
    // The caller has set no_new_privs already, or has left it out on purpose.
    Ok(rules.no_new_privs(false).restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// The version of Landlock that the running kernel has; 0 when it has none.
pub fn version() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes no attribute and only answers with a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

fn allow(
    rules: RulesetCreated,
    path: &str,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    // What is not there cannot be written either.
    match OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path) {
        Ok(file) => rules.add_rule(PathBeneath::new(file, access)),
        Err(_) => Ok(rules),
    }
}
