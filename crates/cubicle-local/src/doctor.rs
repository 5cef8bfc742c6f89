//! What this machine can enforce, found by trying where trying is harmless.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use cubicle_core::engine::{DoctorFinding, DoctorStatus};
use cubicle_sandbox::cgroup;

use crate::layout::Layout;
use crate::{images, machine, volumes};

/// Examines the machine. Works without a running engine.
pub fn examine(layout: &Layout) -> Vec<DoctorFinding> {
    let mut findings = vec![
        tried("user-namespaces", true, "unshare", &["--user", "--map-root-user", "true"]),
        tried("network-namespaces", true, "unshare", &["--net", "true"]),
        tried("pid-namespaces", true, "unshare", &["--pid", "--fork", "true"]),
        tried("cgroup-namespaces", true, "unshare", &["--cgroup", "true"]),
        seccomp(),
        landlock(),
        loop_devices(),
        tried("ext4-tools", true, "mkfs.ext4", &["-V"]),
        tried("file-system-check", true, "e2fsck", &["-V"]),
        core_pattern(),
        swap(),
        disk(layout),
        image(layout),
    ];
    findings.extend(cgroups());
    findings
}

fn finding(mechanism: &str, required: bool, status: DoctorStatus, detail: impl Into<String>) -> DoctorFinding {
    DoctorFinding { mechanism: mechanism.to_owned(), status, detail: detail.into(), required }
}

/// Runs a harmless command that needs the mechanism.
fn tried(mechanism: &str, required: bool, program: &str, arguments: &[&str]) -> DoctorFinding {
    let shown = format!("`{program} {}`", arguments.join(" "));
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            finding(mechanism, required, DoctorStatus::Available, format!("{shown} succeeded"))
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            finding(mechanism, required, DoctorStatus::Absent, format!("{shown} failed: {said}"))
        }
        Err(error) => finding(mechanism, required, DoctorStatus::Untested, format!("{program} cannot be run: {error}")),
    }
}

fn seccomp() -> DoctorFinding {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.contains("errno") {
        return finding("seccomp", true, DoctorStatus::Available, format!("the kernel offers: {}", actions.trim()));
    }
    finding("seccomp", true, DoctorStatus::Absent, "the kernel offers no filter that answers with an error")
}

fn landlock() -> DoctorFinding {
    match cubicle_sandbox::landlock_version() {
        0 => finding(
            "landlock",
            false,
            DoctorStatus::Absent,
            "the kernel has no Landlock; the other walls stand without it",
        ),
        version => finding("landlock", false, DoctorStatus::Available, format!("interface version {version}")),
    }
}

fn loop_devices() -> DoctorFinding {
    match fs::OpenOptions::new().read(true).write(true).open("/dev/loop-control") {
        Ok(_) => finding("loop-devices", true, DoctorStatus::Available, "/dev/loop-control opens"),
        Err(error) => finding("loop-devices", true, DoctorStatus::Absent, format!("/dev/loop-control: {error}")),
    }
}

fn core_pattern() -> DoctorFinding {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let detail = format!("kernel.core_pattern is {:?}; workspaces have RLIMIT_CORE 0 either way", pattern.trim());
    let status = if pattern.starts_with('|') { DoctorStatus::Absent } else { DoctorStatus::Available };
    finding("no-core-pipe", false, status, detail)
}

fn swap() -> DoctorFinding {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default().lines().count().saturating_sub(1);
    if swaps == 0 {
        return finding("no-swap-escape", false, DoctorStatus::Available, "the machine has no swap");
    }
    finding(
        "no-swap-escape",
        false,
        DoctorStatus::Available,
        format!("{swaps} swap areas; workspaces get none of them"),
    )
}

fn disk(layout: &Layout) -> DoctorFinding {
    let path = if layout.home().exists() { layout.home() } else { Path::new("/") };
    match machine::space(path) {
        Ok((free, total)) => {
            let reserve = volumes::host_reserve(total);
            let status = if free > reserve { DoctorStatus::Available } else { DoctorStatus::Absent };
            let detail = format!("{} of {} MiB free; launches stop at {} MiB", free >> 20, total >> 20, reserve >> 20);
            finding("disk-space", true, status, detail)
        }
        Err(problem) => finding("disk-space", true, DoctorStatus::Untested, problem.what),
    }
}

fn image(layout: &Layout) -> DoctorFinding {
    match images::list(layout) {
        Ok(list) if !list.is_empty() => {
            finding("images", true, DoctorStatus::Available, format!("{} images", list.len()))
        }
        _ => finding("images", true, DoctorStatus::Absent, "no image; `./up` makes the default one"),
    }
}

fn cgroups() -> Vec<DoctorFinding> {
    let version = cgroup::version();
    ["cpu", "memory", "pids", "io"]
        .into_iter()
        .map(|controller| {
            let required = controller != "io";
            let name = format!("cgroup-{controller}");
            match cgroup::has_controller(controller) {
                true => finding(&name, required, DoctorStatus::Available, format!("cgroup {version}")),
                false => {
                    finding(&name, required, DoctorStatus::Absent, format!("cgroup {version} without {controller}"))
                }
            }
        })
        .collect()
}
