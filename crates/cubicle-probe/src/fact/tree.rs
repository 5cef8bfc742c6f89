//! Facts about directories and file systems.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::Found;

/// How many entries a walk looks at, at most: it runs before every start.
const ENTRIES: usize = 1000;

pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn devices(allowed: &[String]) -> io::Result<Found> {
    let names: Vec<String> =
        fs::read_dir("/dev")?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let strange: Vec<&String> = names.iter().filter(|name| !allowed.contains(name)).collect();
    Ok(match strange.as_slice() {
        [] => Found::Good(format!("{} harmless entries", names.len())),
        [first, ..] => Found::Bad(format!("/dev/{first}, {} such entries", strange.len())),
    })
}

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;

pub(super) fn setuid_files(directories: &[String]) -> io::Result<Found> {
    let mut seen = std::collections::BTreeSet::new();
    let mut looked = 0;
    for directory in directories {
        // In a merged image several of these are the same directory.
        let Ok(data) = fs::metadata(directory) else { continue };
        if !seen.insert((data.dev(), data.ino())) {
            continue;
        }
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for entry in entries.flatten() {
            let Ok(data) = entry.metadata() else { continue };
            looked += 1;
            if data.is_file() && data.mode() & (SETUID | SETGID) != 0 {
                return Ok(Found::Bad(format!("{} has mode {:o}", entry.path().display(), data.mode() & 0o7777)));
            }
        }
    }
    Ok(Found::Good(format!("none among {looked} programs")))
}

pub(super) fn larger(path: &str, bytes: u64) -> io::Result<Found> {
    let data = rustix::fs::statvfs(path)?;
    let size = data.f_blocks.saturating_mul(data.f_frsize);
    let detail = format!("{size} bytes, at most {bytes}");
    // A file system in memory without a size says 0 blocks.
    Ok(if size == 0 || size > bytes { Found::Bad(detail) } else { Found::Good(detail) })
}

pub(super) fn more_files(path: &str, files: u64) -> io::Result<Found> {
    let room = rustix::fs::statvfs(path)?.f_files;
    let detail = format!("room for {room} files, at most {files}");
    Ok(if room == 0 || room > files { Found::Bad(detail) } else { Found::Good(detail) })
}

/// Looks at the two upper levels of a home.
pub(super) fn foreign_files(path: &str) -> io::Result<Found> {
    let own = rustix::process::getuid().as_raw();
    let top = fs::metadata(path)?;
    if top.uid() != own {
        return Ok(Found::Bad(format!("{path} belongs to {}", top.uid())));
    }
    let mut looked = 0;
    let mut levels = vec![(Path::new(path).to_path_buf(), 0)];
    while let Some((directory, depth)) = levels.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(data) = entry.path().symlink_metadata() else { continue };
            looked += 1;
            // ext4 makes this one for its own repairs; nobody but root can look into it.
            let repairs = depth == 0 && entry.file_name() == "lost+found";
            if data.uid() != own && !repairs {
                return Ok(Found::Bad(format!("an entry of {path} belongs to {}", data.uid())));
            }
            if looked >= ENTRIES {
                return Ok(Found::Good(format!("the first {looked} entries belong to {own}")));
            }
            if data.is_dir() && depth == 0 && !repairs {
                levels.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(Found::Good(format!("{looked} entries, all of {own}")))
}

/// Directories beside a home. Directly below the root directory, where every system has some,
/// only those of the home's own file system count.
pub(super) fn siblings(path: &str) -> io::Result<Found> {
    let home = Path::new(path);
    let parent = home.parent().unwrap_or(Path::new("/"));
    let own = fs::metadata(home)?;
    let root = fs::metadata("/")?;
    for entry in fs::read_dir(parent)?.flatten() {
        let Ok(data) = entry.metadata() else { continue };
        if !data.is_dir() || (data.dev(), data.ino()) == (own.dev(), own.ino()) {
            continue;
        }
        if parent != Path::new("/") || (data.dev() == own.dev() && data.dev() != root.dev()) {
            return Ok(Found::Bad(format!("{} is beside it", entry.path().display())));
        }
    }
    Ok(Found::Good("nothing beside it".to_owned()))
}

/// Goes up from a directory until there is no further up, and compares with the root directory.
pub(crate) fn escapes_root(from: OwnedFd) -> io::Result<Found> {
    let root = fs::metadata("/")?;
    let mut here = from;
    for steps in 0..64 {
        let data = rustix::fs::fstat(&here)?;
        if (data.st_dev, data.st_ino) == (root.dev(), root.ino()) {
            return Ok(Found::Good(format!("{steps} steps up to the root directory")));
        }
        let up = rustix::fs::openat(&here, "..", DIRECTORY, Mode::empty())?;
        let above = rustix::fs::fstat(&up)?;
        if (above.st_dev, above.st_ino) == (data.st_dev, data.st_ino) {
            return Ok(Found::Bad("going up ends outside the root directory".to_owned()));
        }
        here = up;
    }
    Err(io::Error::other("no end after 64 steps"))
}
