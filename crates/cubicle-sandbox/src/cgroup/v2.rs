//! Version 2: one hierarchy, controllers enabled from parent to child.

use std::fs;
use std::io;
use std::path::Path;

use cubicle_core::attempt::CgroupReading;

use super::{Settings, read_key, read_number, write};

/// The scheduler's period in microseconds (cpu.max).
const PERIOD: u64 = 100_000;

pub(super) fn create(mount: &Path, path: &str) -> io::Result<()> {
    let available = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    let mut directory = mount.to_path_buf();
    for part in path.split('/').skip(1) {
        // On a hybrid machine the unified hierarchy has none of these, and nothing is enabled.
        for controller in
            ["cpu", "memory", "pids", "io"].iter().filter(|name| available.split_whitespace().any(|one| one == **name))
        {
            write(&directory.join("cgroup.subtree_control"), &format!("+{controller}"))?;
        }
        directory.push(part);
        fs::create_dir_all(&directory)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", directory.display())))?;
    }
    Ok(())
}

/// `cgroup.freeze` and `cgroup.events` of Documentation/admin-guide/cgroup-v2.rst.
pub(super) fn set_frozen(directory: &Path, frozen: bool) -> io::Result<()> {
    write(&directory.join("cgroup.freeze"), if frozen { "1" } else { "0" })
}

pub(super) fn is_frozen(directory: &Path) -> bool {
    read_key(&directory.join("cgroup.events"), "frozen") == Some(1)
}

pub(super) fn set(directory: &Path, settings: Settings) -> io::Result<()> {
    let text = |value: Option<u64>| value.map_or("max".to_owned(), |number| number.to_string());
    write(&directory.join("memory.max"), &text(settings.memory))?;
    // A kernel without swap has no such file and nothing to limit.
    let swap = directory.join("memory.swap.max");
    if swap.exists() {
        write(&swap, &text(settings.swap))?;
    }
    let period = settings.cpu_period.unwrap_or(PERIOD);
    let quota = settings.cpu.map_or("max".to_owned(), |milli| (milli * period / 1000).max(1000).to_string());
    write(&directory.join("cpu.max"), &format!("{quota} {period}"))?;
    write(&directory.join("pids.max"), &text(settings.pids))
}

pub(super) fn read(directory: &Path) -> CgroupReading {
    let number = |file: &str| read_number(&directory.join(file));
    let key = |file: &str, key: &str| read_key(&directory.join(file), key).unwrap_or(0);
    let cpu = fs::read_to_string(directory.join("cpu.max")).unwrap_or_default();
    let mut fields = cpu.split_whitespace().map(|field| field.parse::<u64>().ok());
    let cpu_limit = match (fields.next().flatten(), fields.next().flatten()) {
        (Some(quota), Some(period)) if period > 0 => Some(quota * 1000 / period),
        _ => None,
    };
    let swap = directory.join("memory.swap.max");
    let memory_limit = number("memory.max");
    // Without swap in the kernel a memory limit is a limit of both.
    let swap_limit = if swap.exists() { read_number(&swap) } else { memory_limit.map(|_| 0) };
    CgroupReading {
        memory_limit,
        swap_limit,
        memory_usage: number("memory.current").unwrap_or(0),
        memory_kills: key("memory.events", "oom_kill"),
        cpu_limit,
        cpu_throttled: key("cpu.stat", "nr_throttled"),
        cpu_usage_us: key("cpu.stat", "usage_usec"),
        pids_limit: number("pids.max"),
        pids_denied: key("pids.events", "max"),
        pids: number("pids.current").unwrap_or(0),
    }
}
