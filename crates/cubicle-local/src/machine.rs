//! What this machine has: addresses, memory, processors, boot.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use cubicle_core::problem::Problem;
use nix::ifaddrs::getifaddrs;

/// Every address of this machine except loopback. Read anew each time, because addresses change.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let mut found: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => IpAddr::V4(v4.ip()),
                (_, Some(v6)) => IpAddr::V6(v6.ip()),
                _ => return None,
            };
            (!ip.is_loopback()).then_some(ip)
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The kernel's identifier of this boot (`random(4)`).
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Memory of the machine in bytes.
pub(crate) fn memory() -> u64 {
    meminfo("MemTotal:")
}

/// Memory that programs could still have, in bytes: an estimate of the kernel's.
pub(crate) fn available_memory() -> u64 {
    meminfo("MemAvailable:")
}

/// A line of `/proc/meminfo` (proc(5)), in bytes.
fn meminfo(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes: u64 = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    kibibytes * 1024
}

/// Processors that this process may use.
pub(crate) fn processors() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u64)
}

/// Free and total bytes of the file system that holds this path.
pub(crate) fn space(path: &Path) -> Result<(u64, u64), Problem> {
    let found = rustix::fs::statvfs(path)
        .map_err(|error| Problem::engine(format!("{} cannot be examined: {error}", path.display()), ""))?;
    Ok((found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize))
}
