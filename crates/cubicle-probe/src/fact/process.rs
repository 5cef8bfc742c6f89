//! Facts about the process itself and what it sees of the machine.

use std::fs;
use std::io;

use cubicle_core::attempt::Rule;
use rustix::process::{Resource, getrlimit};

use super::Found;
use crate::answer::Context;

fn required(context: &Context, field: &str) -> io::Result<String> {
    context.status(field)?.ok_or_else(|| io::Error::other(format!("no {field} in status")))
}

pub(super) fn root_user(context: &Context) -> io::Result<Found> {
    for field in ["Uid", "Gid", "Groups"] {
        let ids = required(context, field)?;
        if ids.split_whitespace().any(|id| id == "0") {
            return Ok(Found::Bad(format!("{field}: {}", ids.replace('\t', " "))));
        }
    }
    Ok(Found::Good(format!("uid {}", rustix::process::getuid().as_raw())))
}

pub(super) fn status(context: &Context, field: &str, rule: Rule) -> io::Result<Found> {
    // Kernels before 5.9 do not count filters; the mode itself is checked by another attempt.
    let Some(value) = context.status(field)? else {
        return Ok(Found::Nothing(format!("this kernel has no {field}")));
    };
    let number =
        u64::from_str_radix(&value, 16).map_err(|_| io::Error::other(format!("{field} is {value:?}, not a number")))?;
    let bad = match rule {
        Rule::NonZero => number != 0,
        Rule::Zero => number == 0,
        Rule::NotTwo => number != 2,
    };
    let detail = format!("{field} is {value}");
    Ok(if bad { Found::Bad(detail) } else { Found::Good(detail) })
}

pub(super) fn initial_namespace(context: &Context, kind: &str, inode: u64) -> io::Result<Found> {
    let link = match context.proc_link(&format!("self/ns/{kind}")) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Found::Nothing(format!("this kernel has no {kind} namespaces")));
        }
        Err(error) => return Err(error),
    };
    Ok(if link == format!("{kind}:[{inode}]") {
        Found::Bad(format!("{link}, the initial one"))
    } else {
        Found::Good(link)
    })
}

pub(super) fn ids_outside(context: &Context, first: u32, count: u32) -> io::Result<Found> {
    let (first, end) = (u64::from(first), u64::from(first) + u64::from(count));
    let mut shown = Vec::new();
    for map in ["self/uid_map", "self/gid_map"] {
        let text = context.read_proc(map)?;
        if text.trim().is_empty() {
            return Ok(Found::Bad(format!("{map} is empty")));
        }
        for line in text.lines() {
            let mut numbers = line.split_whitespace().map(str::parse::<u64>);
            let (Some(Ok(_)), Some(Ok(outside)), Some(Ok(length))) = (numbers.next(), numbers.next(), numbers.next())
            else {
                return Err(io::Error::other(format!("{map} has a line {line:?}")));
            };
            if outside < first || outside.saturating_add(length) > end {
                return Ok(Found::Bad(format!("{map} reaches host ids {outside} and {length} more")));
            }
            shown.push(format!("{outside}+{length}"));
        }
    }
    Ok(Found::Good(format!("host ids {}", shown.join(", "))))
}

pub(super) fn foreign_processes() -> io::Result<Found> {
    let own = rustix::process::getuid().as_raw().to_string();
    let mut seen = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        // It may have ended since.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        seen += 1;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let uid = field("Uid:").split_whitespace().next().unwrap_or_default();
        if uid != own {
            return Ok(Found::Bad(format!("process {pid} ({}) of user {uid}", printable(field("Name:")))));
        }
        if field("Kthread:") == "1" {
            return Ok(Found::Bad(format!("kernel thread {pid} ({})", printable(field("Name:")))));
        }
    }
    if seen == 0 {
        return Err(io::Error::other("/proc shows no process at all"));
    }
    Ok(Found::Good(format!("{seen} processes, all of user {own}")))
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(16).collect()
}

pub(super) fn core_files() -> Found {
    let limit = getrlimit(Resource::Core);
    match (limit.current, limit.maximum) {
        (Some(0), Some(0)) => Found::Good("0, soft and hard".to_owned()),
        (soft, hard) => Found::Bad(format!("soft {soft:?}, hard {hard:?}")),
    }
}

/// Names in `/proc/self/net/unix`: abstract ones begin with `@` (proc(5)).
pub(super) fn abstract_sockets(context: &Context) -> io::Result<Found> {
    let text = context.read_proc("self/net/unix")?;
    let name =
        text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7)).find(|path| path.starts_with('@'));
    Ok(match name {
        Some(name) => Found::Bad(printable(name)),
        None => Found::Good("none".to_owned()),
    })
}

/// Only interfaces that are up count: some kernels put tunnels that are down, and that nobody
/// without rights can bring up, into every network namespace.
pub(super) fn interfaces(context: &Context, allowed: &[String]) -> io::Result<Found> {
    let text = context.read_proc("self/net/dev")?;
    let names: Vec<&str> = text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    for name in &names {
        if !allowed.iter().any(|one| one == name) && crate::control::interface::is_up(name)? {
            return Ok(Found::Bad(format!("interface {name} is up")));
        }
    }
    Ok(Found::Good(format!("only {} up", allowed.join(", "))))
}

pub(super) fn secret_variables(parts: &[String]) -> Found {
    let names: Vec<String> = std::env::vars_os().map(|(name, _)| name.to_string_lossy().to_ascii_uppercase()).collect();
    match names.iter().find(|name| parts.iter().any(|part| name.contains(part.as_str()))) {
        Some(name) => Found::Bad(format!("variable {}", printable(name))),
        None => Found::Good(format!("{} variables", names.len())),
    }
}

/// `ADDR_NO_RANDOMIZE` of `linux/personality.h`.
const ADDR_NO_RANDOMIZE: i32 = 0x004_0000;

pub(super) fn predictable_addresses() -> io::Result<Found> {
    let machine = fs::read_to_string("/proc/sys/kernel/randomize_va_space")?;
    if machine.trim() != "2" {
        return Ok(Found::Bad(format!("randomize_va_space is {}", machine.trim())));
    }
    // SAFETY: 0xffffffff asks and changes nothing (personality(2)).
    let personality = unsafe { libc::personality(0xffff_ffff) };
    Ok(match personality {
        // Refused by a filter: then nobody could have changed it here either.
        -1 => Found::Good("randomize_va_space is 2".to_owned()),
        known if known & ADDR_NO_RANDOMIZE != 0 => Found::Bad(format!("personality {known:#x}")),
        known => Found::Good(format!("randomize_va_space is 2, personality {known:#x}")),
    })
}

pub(super) fn other_kernel(boot_id: &str) -> io::Result<Found> {
    let here = match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(here) => here,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Found::Bad("this kernel has no boot id".to_owned()));
        }
        Err(error) => return Err(error),
    };
    Ok(if here.trim() == boot_id.trim() {
        Found::Good("the machine's own boot id".to_owned())
    } else {
        Found::Bad(format!("boot id {}", printable(here.trim())))
    })
}

pub(super) fn swap_present() -> io::Result<Found> {
    let swaps = fs::read_to_string("/proc/swaps")?;
    Ok(match swaps.lines().count() {
        0 | 1 => Found::Nothing("no swap space".to_owned()),
        lines => Found::Bad(format!("{} swap spaces", lines - 1)),
    })
}
