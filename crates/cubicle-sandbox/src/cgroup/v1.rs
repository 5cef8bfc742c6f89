//! Version 1: one hierarchy per controller or group of controllers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cubicle_core::attempt::CgroupReading;

use super::{Settings, read_key, read_number, write};

/// The scheduler's period in microseconds (cfs_period_us).
const PERIOD: u64 = 100_000;

/// Limits at or above this mean "no limit": the kernel rounds -1 to the largest whole page.
const UNLIMITED: u64 = 1 << 62;

pub(super) fn create(mount: &Path, path: &str, controllers: &[String]) -> io::Result<()> {
    let mut directory = mount.to_path_buf();
    for part in path.split('/').skip(1) {
        let parent = directory.clone();
        directory.push(part);
        fs::create_dir_all(&directory)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", directory.display())))?;
        if controllers.iter().any(|name| name == "cpuset") {
            // A new cpuset is empty and accepts no process until it has CPUs and memory nodes.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if fs::read_to_string(directory.join(file))?.trim().is_empty() {
                    write(&directory.join(file), fs::read_to_string(parent.join(file))?.trim())?;
                }
            }
        }
    }
    Ok(())
}

/// Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst.
pub(super) fn set_frozen(directory: &Path, frozen: bool) -> io::Result<()> {
    write(&directory.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })
}

pub(super) fn is_frozen(directory: &Path) -> bool {
    fs::read_to_string(directory.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
}

pub(super) fn set(memory: &Path, cpu: &Path, pids: &Path, settings: Settings) -> io::Result<()> {
    set_memory(memory, settings)?;
    let period = settings.cpu_period.unwrap_or(PERIOD);
    let quota = settings.cpu.map_or("-1".to_owned(), |milli| (milli * period / 1000).max(1000).to_string());
    write(&cpu.join("cpu.cfs_period_us"), &period.to_string())?;
    write(&cpu.join("cpu.cfs_quota_us"), &quota)?;
    write(&pids.join("pids.max"), &settings.pids.map_or("max".to_owned(), |count| count.to_string()))
}

/// memory + swap may never be below memory, so that the order depends on the direction.
fn set_memory(directory: &Path, settings: Settings) -> io::Result<()> {
    let limit = directory.join("memory.limit_in_bytes");
    let both = directory.join("memory.memsw.limit_in_bytes");
    let text = |value: Option<u64>| value.map_or("-1".to_owned(), |bytes| bytes.to_string());
    let total = settings.memory.zip(settings.swap).map(|(memory, swap)| memory + swap);
    if !both.exists() {
        // Without swap accounting the kernel must at least never swap this group.
        write(&directory.join("memory.swappiness"), if settings.swap == Some(0) { "0" } else { "60" })?;
        return write(&limit, &text(settings.memory));
    }
    let shrinks = settings.memory.unwrap_or(u64::MAX) < read_number(&limit).unwrap_or(u64::MAX);
    if shrinks {
        write(&limit, &text(settings.memory))?;
        write(&both, &text(total))
    } else {
        write(&both, &text(total))?;
        write(&limit, &text(settings.memory))
    }
}

pub(super) fn read(
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    cpuacct: Option<PathBuf>,
    pids: Option<PathBuf>,
) -> CgroupReading {
    let number =
        |directory: &Option<PathBuf>, file: &str| directory.as_ref().and_then(|one| read_number(&one.join(file)));
    let key = |directory: &Option<PathBuf>, file: &str, key: &str| {
        directory.as_ref().and_then(|one| read_key(&one.join(file), key))
    };
    let limited = |value: Option<u64>| value.filter(|bytes| *bytes < UNLIMITED);
    let memory_limit = limited(number(&memory, "memory.limit_in_bytes"));
    let both = limited(number(&memory, "memory.memsw.limit_in_bytes"));
    let quota = cpu
        .as_ref()
        .and_then(|one| fs::read_to_string(one.join("cpu.cfs_quota_us")).ok())
        .and_then(|text| text.trim().parse::<i64>().ok())
        .and_then(|quota| u64::try_from(quota).ok());
    let period = number(&cpu, "cpu.cfs_period_us").filter(|period| *period > 0);
    let swap_limit = match both.zip(memory_limit) {
        Some((both, memory)) => Some(both.saturating_sub(memory)),
        // No accounting: nothing of this group is swapped when its swappiness is zero.
        None if memory_limit.is_some() && number(&memory, "memory.memsw.limit_in_bytes").is_none() => {
            number(&memory, "memory.swappiness").filter(|swappiness| *swappiness == 0)
        }
        None => None,
    };
    CgroupReading {
        memory_limit,
        swap_limit,
        memory_usage: number(&memory, "memory.usage_in_bytes").unwrap_or(0),
        memory_kills: key(&memory, "memory.oom_control", "oom_kill").unwrap_or(0),
        cpu_limit: quota.zip(period).map(|(quota, period)| quota * 1000 / period),
        cpu_throttled: key(&cpu, "cpu.stat", "nr_throttled").unwrap_or(0),
        cpu_usage_us: number(&cpuacct, "cpuacct.usage").unwrap_or(0) / 1000,
        pids_limit: number(&pids, "pids.max"),
        pids_denied: key(&pids, "pids.events", "max").unwrap_or(0),
        pids: number(&pids, "pids.current").unwrap_or(0),
    }
}
