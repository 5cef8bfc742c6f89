//! Facts about mounts, from `/proc/self/mountinfo` (proc(5)).

use std::collections::BTreeSet;
use std::io;

use super::Found;
use crate::answer::Context;

/// Single device files that a private `/dev` is made of, and that masks are made of.
const HARMLESS: [&str; 7] = ["/null", "/zero", "/full", "/random", "/urandom", "/tty", "/ptmx"];

/// One line of `mountinfo`.
struct Mount {
    id: String,
    parent: String,
    /// The directory of the file system that is mounted.
    root: String,
    point: String,
    options: Vec<String>,
    shared: bool,
    source: String,
    super_options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ');
        let (id, parent, _) = (fields.next()?, fields.next()?, fields.next()?);
        let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
        let shared = fields.any(|field| field.starts_with("shared:") || field.starts_with("master:"));
        let mut after = after.split(' ').skip(1);
        let (source, super_options) = (after.next()?, after.next()?);
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        Some(Self {
            id: id.to_owned(),
            parent: parent.to_owned(),
            root: root.to_owned(),
            point: point.to_owned(),
            options: list(options),
            shared,
            source: source.to_owned(),
            super_options: list(super_options),
        })
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|one| one == option)
    }

    fn is_writable(&self) -> bool {
        self.has("rw") && self.super_options.iter().any(|one| one == "rw")
    }

    fn is_harmless_device(&self) -> bool {
        HARMLESS.contains(&self.root.as_str())
    }
}

fn mounts(context: &Context) -> io::Result<Vec<Mount>> {
    let text = context.read_proc("self/mountinfo")?;
    let mounts: Vec<Mount> = text.lines().filter_map(Mount::parse).collect();
    if mounts.len() == text.lines().count() && !mounts.is_empty() {
        return Ok(reachable(mounts));
    }
    Err(io::Error::other("a line of mountinfo is not understood"))
}

/// Those that no other mount at the very same place covers.
fn reachable(mounts: Vec<Mount>) -> Vec<Mount> {
    let covers: BTreeSet<(String, String)> =
        mounts.iter().map(|mount| (mount.parent.clone(), mount.point.clone())).collect();
    mounts.into_iter().filter(|mount| !covers.contains(&(mount.id.clone(), mount.point.clone()))).collect()
}

fn judged(bad: Vec<&Mount>, all: usize) -> Found {
    match bad.first() {
        None => Found::Good(format!("none among {all} mounts")),
        Some(first) => Found::Bad(format!("{} ({}), {} such mounts", first.point, first.options.join(","), bad.len())),
    }
}

/// A writable file system outside the allowed places.
pub(super) fn writable(context: &Context, allowed: &[String]) -> io::Result<Found> {
    let mounts = mounts(context)?;
    let bad = mounts
        .iter()
        .filter(|mount| mount.is_writable() && !mount.is_harmless_device() && !allowed.contains(&mount.point))
        .collect();
    Ok(judged(bad, mounts.len()))
}

/// A writable file system on which setuid bits or devices work.
pub(super) fn loose(context: &Context, except: &[String]) -> io::Result<Found> {
    let mounts = mounts(context)?;
    let bad = mounts
        .iter()
        .filter(|mount| mount.is_writable() && !mount.is_harmless_device() && !except.contains(&mount.point))
        .filter(|mount| !mount.has("nosuid") || !mount.has("nodev"))
        .collect();
    Ok(judged(bad, mounts.len()))
}

/// The file system at this path is mounted writable.
pub(super) fn writable_at(path: &str) -> io::Result<Found> {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    Ok(match statvfs(path) {
        Ok(found) if found.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            Found::Good(format!("{path} is mounted read-only"))
        }
        Ok(_) => Found::Bad(format!("{path} is mounted writable")),
        Err(rustix::io::Errno::NOENT) => Found::Good(format!("there is no {path}")),
        Err(errno) => return Err(errno.into()),
    })
}

/// A mount that passes changes on, or gets them.
pub(super) fn shared(context: &Context) -> io::Result<Found> {
    let mounts = mounts(context)?;
    Ok(judged(mounts.iter().filter(|mount| mount.shared).collect(), mounts.len()))
}

/// The root file system is writable, or its origin is not named by a SHA-256 digest.
pub(super) fn unpinned_image(context: &Context) -> io::Result<Found> {
    let mounts = mounts(context)?;
    let Some(root) = mounts.iter().find(|mount| mount.point == "/") else {
        return Err(io::Error::other("no mount at /"));
    };
    if root.is_writable() {
        return Ok(Found::Bad("the root file system is writable".to_owned()));
    }
    Ok(match digest(&root.root).or_else(|| digest(&root.source)) {
        Some(digest) => Found::Good(format!("read-only, from {digest}")),
        None => Found::Bad(format!("from {} of {}, which no digest names", root.root, root.source)),
    })
}

/// Exactly 64 hexadecimal digits in a row.
fn digest(path: &str) -> Option<&str> {
    path.split(|c: char| !c.is_ascii_hexdigit()).find(|part| part.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo_are_understood() {
        let line = "36 35 98:0 /images/x /mnt ro,nosuid shared:1 master:2 - ext4 /dev/vda rw,errors=continue";
        let mount = Mount::parse(line).expect("valid");
        assert_eq!((mount.root.as_str(), mount.point.as_str()), ("/images/x", "/mnt"));
        assert!(mount.shared && mount.has("nosuid") && !mount.is_writable());
        assert!(Mount::parse("36 35 98:0 / /mnt rw - tmpfs tmpfs rw").expect("valid").is_writable());
        assert!(Mount::parse("nonsense").is_none());
    }

    #[test]
    fn a_covered_mount_does_not_count() {
        let lines = [
            "1 0 0:1 / / ro - ext4 x rw",
            "2 1 0:2 / /a rw - tmpfs x rw",
            "3 2 0:2 / /a ro - tmpfs x rw",
            "4 1 0:3 / /b rw - tmpfs x rw",
        ];
        let left = reachable(lines.iter().filter_map(|line| Mount::parse(line)).collect());
        assert_eq!(left.iter().map(|mount| mount.id.as_str()).collect::<Vec<_>>(), ["1", "3", "4"]);
    }

    #[test]
    fn digests_are_found_in_paths() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(digest(&format!("/images/sha256-{hex}/rootfs")), Some(hex.as_str()));
        assert_eq!(digest(&format!("/images/{hex}0/rootfs")), None);
        assert_eq!(digest("/"), None);
    }
}
