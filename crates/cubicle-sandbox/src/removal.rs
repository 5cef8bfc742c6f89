//! Taking walls away, one at a time, so that tests can show that the proof notices.
//!
//! Only a build with the feature `wall-removal` honours a removal; every other build refuses a
//! sandbox that asks for one. A release build cannot have the feature.

use cubicle_core::problem::Problem;

/// Every mechanism that can be taken away.
pub const MECHANISMS: &[&str] = &[
    "user-namespace",
    "pid-namespace",
    "network-namespace",
    "ipc-namespace",
    "uts-namespace",
    "cgroup-namespace",
    "capabilities",
    "no-new-privs",
    "seccomp",
    "seccomp-socket-families",
    "seccomp-terminal-injection",
    "seccomp-clone-namespaces",
    "seccomp-clone3",
    "seccomp-special-files",
    "seccomp-special-files-at",
    "seccomp-personality",
    "seccomp-namespaces",
    "seccomp-mounts",
    "seccomp-tracing",
    "seccomp-file-handles",
    "seccomp-bpf",
    "seccomp-perf-events",
    "seccomp-io-uring",
    "seccomp-userfaultfd",
    "seccomp-keyrings",
    "seccomp-kernel-code",
    "seccomp-machine",
    "seccomp-page-placement",
    "landlock",
    "masked-proc",
    "readonly-proc-sys",
    "readonly-sys",
    "readonly-cgroup",
    "readonly-root",
    "private-dev",
    "tmp-size",
    "shm-size",
    "memory-limit",
    "swap-limit",
    "cpu-limit",
    "pids-limit",
    "home-quota",
    "home-nosuid-nodev",
    "lo-only",
    "rlimit-core",
];

/// Whether a mechanism was taken away.
pub(crate) fn removed(list: &[String], mechanism: &str) -> bool {
    debug_assert!(MECHANISMS.contains(&mechanism), "{mechanism} is not in the list");
    list.iter().any(|one| one == mechanism)
}

/// Refuses every removal in a build without the feature, and unknown names in any build.
pub(crate) fn check(list: &[String]) -> Result<(), Problem> {
    if !list.is_empty() && !cfg!(feature = "wall-removal") {
        return Err(Problem::bad_input(
            format!("this build cannot leave out walls ({})", list.join(", ")),
            "build the test variant with the feature wall-removal",
        ));
    }
    match list.iter().find(|name| !MECHANISMS.contains(&name.as_str())) {
        Some(unknown) => Err(Problem::bad_input(
            format!("\"{}\" is not a mechanism that can be left out", unknown.escape_default()),
            format!("use one of {}", MECHANISMS.join(", ")),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::policy::{GROUPS, Verdict};

    #[test]
    fn every_group_that_restricts_can_be_taken_away() {
        for group in GROUPS.iter().filter(|group| group.verdict != Verdict::Allow && group.name != "obsolete") {
            let name = format!("seccomp-{}", group.name);
            // Pairs of other families do not exist in the kernel, so nothing could be proven.
            assert!(MECHANISMS.contains(&name.as_str()) || group.name == "socket-pairs", "{name}");
        }
    }

    #[test]
    fn a_build_without_the_feature_refuses_every_removal() {
        if !cfg!(feature = "wall-removal") {
            assert!(MECHANISMS.iter().all(|name| check(&[(*name).to_owned()]).is_err()));
        }
        assert!(check(&[]).is_ok());
        assert!(check(&["no-such-wall".to_owned()]).is_err());
    }
}
