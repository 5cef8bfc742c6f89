//! Homes: one ext4 image per user, with a hard size limit and a journal.
//!
//! The engine makes, checks, grows and deletes the image; the helper of a sandbox mounts it.
//! A home belongs to the user: it outlives every workspace.

pub(crate) mod blank;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use cubicle_core::engine::Volume;
use cubicle_core::name::UserId;
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_core::template::Home;
use cubicle_core::workspace::Owner;
use jiff::Timestamp;
use tokio::process::Command;

use crate::layout::Layout;
use crate::machine;

/// The user and group that own a home's root inside every workspace.
const TENANT: u32 = 1000;

/// Space that launches leave free on the host, so that a full host never gives I/O errors in
/// everybody's home.
pub(crate) fn host_reserve(total: u64) -> u64 {
    (total / 50).clamp(64 << 20, 4 << 30)
}

/// The image file of a home.
pub(crate) fn image(layout: &Layout, user: &UserId) -> PathBuf {
    layout.volume(user).join("home.ext4")
}

/// Makes the home if there is none, grows it if the template gives more, and checks it.
/// `attached` says that another workspace of the user has it mounted: then it is only used.
pub(crate) async fn ensure(
    layout: &Layout,
    known: Option<Volume>,
    owner: &Owner,
    home: &Home,
    attached: bool,
) -> Result<Volume, Problem> {
    let path = image(layout, &owner.id);
    let (free, total) = machine::space(layout.home())?;
    let needed = host_reserve(total) + if home.overcommit || known.is_some() { 0 } else { home.size.0 };
    if free < needed {
        return Err(Problem::new(
            ProblemKind::Exhausted,
            format!("the machine has {} MiB of disk left; {} MiB are needed before a launch", free >> 20, needed >> 20),
            "ask the administrator to free disk space below CUBICLE_HOME",
        ));
    }
    let volume = match known {
        Some(volume) if path.exists() => volume,
        Some(_) => {
            return Err(Problem::engine(
                format!("the home of {} is recorded but its image {} is gone", owner.name, path.display()),
                "restore the file, or delete the volume with `cubicle volume delete`",
            ));
        }
        // Nobody has written to it yet.
        None => return make(layout, owner, home).await,
    };
    if attached {
        return Ok(volume);
    }
    if !is_clean(&path).unwrap_or(false) {
        check(&path, owner).await?;
    }
    grow(&path, volume, home).await
}

async fn make(layout: &Layout, owner: &Owner, home: &Home) -> Result<Volume, Problem> {
    let folder = layout.volume(&owner.id);
    let failed = |error: std::io::Error| {
        Problem::engine(
            format!("a home for {} cannot be made: {error}", owner.name),
            "check the disk for space and errors",
        )
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
    // Made under another name first: a crash leaves no half-made home behind.
    let draft = folder.join("home.ext4.new");
    let _ = fs::remove_file(&draft);
    let made = blank::take(layout, home.size.0, &draft);
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&draft).map_err(failed)?;
    file.set_len(home.size.0).map_err(failed)?;
    if !home.overcommit {
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, home.size.0)
            .map_err(|error| failed(error.into()))?;
    }
    drop(file);
    if !made {
        format(&draft).await?;
    }
    let path = image(layout, &owner.id);
    fs::rename(&draft, &path).map_err(failed)?;
    fs::File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(Volume {
        owner: owner.clone(),
        backend: "image".to_owned(),
        limit: Some(home.size.0),
        used: 0,
        created_at: Timestamp::now(),
    })
}

/// Makes the file system of a home in a file.
async fn format(file: &Path) -> Result<(), Problem> {
    // No reserved blocks: the limit is the whole size. A small inode ratio: many small files
    // must not end before the bytes do. The journal stays: what was fsync'ed survives a power cut.
    let options = format!("root_owner={TENANT}:{TENANT},lazy_itable_init=1,nodiscard");
    let arguments = ["-q", "-F", "-m", "0", "-i", "8192", "-O", "has_journal", "-E", &options];
    run("mkfs.ext4", &arguments, file, &[0]).await
}

/// Whether a home was unmounted in order and nothing asks for a check: what `e2fsck -p` reads before it leaves a file
/// system alone, without starting it. The kernel's mount compares the checksum of what is read here.
///
/// Fields of the superblock (Documentation/filesystems/ext4/super.rst), all little-endian.
fn is_clean(image: &Path) -> io::Result<bool> {
    const AT: u64 = 1024;
    const MAGIC: u32 = 0xef53;
    /// Cleanly unmounted, without errors and without orphans that are being recovered.
    const CLEAN: u32 = 1;
    /// INCOMPAT_RECOVER: the journal has to be replayed.
    const RECOVER: u32 = 4;
    let mut block = [0_u8; 1024];
    fs::File::open(image)?.read_exact_at(&mut block, AT)?;
    let half = |at: usize| u32::from(u16::from_le_bytes([block[at], block[at + 1]]));
    let word = |at: usize| half(at) | half(at + 2) << 16;
    let (mounts, most_mounts) = (half(0x34), half(0x36));
    let (state, errors) = (half(0x3a), word(0x194));
    let (checked, interval) = (word(0x40), word(0x44));
    // As the number that it is: -1, or 0, is no limit.
    let often = (1..0x8000).contains(&most_mounts) && mounts >= most_mounts;
    let long_ago = interval != 0 && Timestamp::now().as_second() >= i64::from(checked) + i64::from(interval);
    let clean = half(0x38) == MAGIC && state == CLEAN && errors == 0 && word(0x60) & RECOVER == 0;
    Ok(clean && !often && !long_ago)
}

/// Runs `e2fsck -p`: it mends what is safe to mend (exit 0 to 3) and refuses the rest.
async fn check(path: &Path, owner: &Owner) -> Result<(), Problem> {
    run("e2fsck", &["-p"], path, &[0, 1, 2, 3]).await.map_err(|problem| {
        Problem::engine(
            format!("the home of {} is damaged and was not mounted: {}", owner.name, problem.what),
            format!("repair it with `e2fsck -f {}`, or restore it from a backup; nothing was changed", path.display()),
        )
    })
}

async fn grow(path: &Path, volume: Volume, home: &Home) -> Result<Volume, Problem> {
    let Some(limit) = volume.limit.filter(|limit| *limit < home.size.0) else { return Ok(volume) };
    let grown = || -> std::io::Result<()> {
        let file = fs::OpenOptions::new().write(true).open(path)?;
        file.set_len(home.size.0)
    };
    grown().map_err(|error| {
        Problem::engine(format!("the home cannot grow from {limit} to {} bytes: {error}", home.size.0), "")
    })?;
    run("e2fsck", &["-f", "-p"], path, &[0, 1, 2, 3]).await?;
    run("resize2fs", &[], path, &[0]).await?;
    Ok(Volume { limit: Some(home.size.0), ..volume })
}

/// Runs a file-system tool on an image, without any input and with the C locale.
async fn run(program: &str, arguments: &[&str], path: &Path, accepted: &[i32]) -> Result<(), Problem> {
    let output = Command::new(program)
        .args(arguments)
        .arg(path)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| Problem::engine(format!("{program} cannot be run: {error}"), "install e2fsprogs"))?;
    if output.status.code().is_some_and(|code| accepted.contains(&code)) {
        return Ok(());
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(Problem::engine(format!("{program} on {} ended with {}: {last}", path.display(), output.status), ""))
}

/// Bytes that a home takes on the host.
pub(crate) fn used(layout: &Layout, user: &UserId) -> u64 {
    fs::metadata(image(layout, user)).map_or(0, |found| found.blocks() * 512)
}

/// Deletes a home.
pub(crate) fn delete(layout: &Layout, user: &UserId) -> Result<(), Problem> {
    match fs::remove_dir_all(layout.volume(user)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Problem::engine(format!("the home cannot be deleted: {error}"), "")),
    }
}

/// Writes a home to a descriptor as a tar archive. The home may be in use: then it is read
/// through the first process of a workspace that has it mounted.
pub(crate) async fn export(
    supervisor: &crate::supervisor::Supervisor,
    user: &UserId,
    to: std::os::fd::OwnedFd,
) -> Result<(), Problem> {
    if supervisor.store.volume(user)?.is_none() {
        return Err(Problem::not_found(
            format!("{user} has no home"),
            "list the known ones with `cubicle volume list`",
        ));
    }
    let lock = supervisor.home_lock(user);
    let _one = lock.lock().await;
    let mounted = supervisor.store.rows()?.into_iter().find_map(|row| {
        let mount = &row.private.template.spec.home.mount_path;
        let pid = row.workspace.pid.filter(|_| row.workspace.owner.id == *user)?;
        Some(format!("/proc/{pid}/root{mount}"))
    });
    let output = Stdio::from(to);
    let status = match mounted {
        Some(folder) => {
            Command::new("tar").args(["-c", "-C", &folder, "."]).stdout(output).stdin(Stdio::null()).status().await
        }
        None => {
            // A mount namespace of its own: nothing stays behind however this ends.
            let script = "set -e; mount -o loop,ro,noload,nosuid,nodev \"$1\" /mnt; tar -c -C /mnt .";
            Command::new("unshare")
                .args(["--mount", "--propagation", "private", "sh", "-c", script, "export"])
                .arg(image(&supervisor.layout, user))
                .stdout(output)
                .stdin(Stdio::null())
                .status()
                .await
        }
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(Problem::engine(format!("tar ended with {status}; the archive is not whole"), "see the engine's log"))
        }
        Err(error) => {
            Err(Problem::engine(format!("the archive cannot be written: {error}"), "install tar and util-linux"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_home_that_was_unmounted_in_order_is_left_unchecked() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("home.ext4");
        fs::File::create_new(&path).and_then(|file| file.set_len(16 << 20)).expect("a file");
        assert!(!is_clean(&path).expect("read"), "no file system");
        format(&path).await.expect("made");
        assert!(is_clean(&path).expect("read"));
        for (change, back) in [
            ("set_super_value state 0", "set_super_value state 1"),
            ("set_super_value state 3", "set_super_value state 1"),
            ("set_super_value error_count 1", "set_super_value error_count 0"),
            ("feature needs_recovery", "feature -needs_recovery"),
            ("set_super_value max_mnt_count 1\nset_super_value mnt_count 2", "set_super_value max_mnt_count -1"),
            ("set_super_value checkinterval 60\nset_super_value lastcheck 20200101", "set_super_value checkinterval 0"),
        ] {
            for (script, clean) in [(change, false), (back, true)] {
                let commands = folder.path().join("commands");
                fs::write(&commands, script).expect("written");
                run("debugfs", &["-w", "-f", commands.to_str().expect("text")], &path, &[0]).await.expect("changed");
                assert_eq!(is_clean(&path).expect("read"), clean, "{script}");
            }
        }
        assert!(is_clean(&folder.path().join("none")).is_err());
    }
}
