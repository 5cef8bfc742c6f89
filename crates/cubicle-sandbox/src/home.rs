//! The home volume: an ext4 image behind a loop device, or a directory.
//!
//! One image is never behind two loop devices, which would corrupt it: workspaces of one user
//! share one mount, which the later helper copies out of the earlier one's mount namespace.
//! Source: loop(4).

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cubicle_core::problem::{Problem, ProblemKind};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::helper::PID_FILE;
use crate::mounts::{self, Allowed};
use crate::namespaces;
use crate::pipes::wait_until;
use crate::protocol::{HomeBackend, SandboxSpec};
use crate::stage::RAW_HOME;

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4c05;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    descriptor: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// The identity of a file: what a loop device says about its backing file.
type FileId = (u64, u64);

fn identity(path: &Path) -> io::Result<FileId> {
    let data = fs::metadata(path)?;
    Ok((data.dev(), data.ino()))
}

/// The loop devices that are in use, with the identity of what is behind them.
fn attached() -> Vec<(PathBuf, FileId)> {
    let Ok(blocks) = fs::read_dir("/sys/block") else { return Vec::new() };
    blocks
        .flatten()
        .filter(|entry| entry.path().join("loop/backing_file").exists())
        .filter_map(|entry| {
            let device = Path::new("/dev").join(entry.file_name());
            let file = File::open(&device).ok()?;
            // SAFETY: an all-zero LoopInfo is valid: integers only.
            let mut info: LoopInfo = unsafe { std::mem::zeroed() };
            // SAFETY: LOOP_GET_STATUS64 fills a loop_info64, which lives through the call.
            let result = unsafe { libc::ioctl(file.as_raw_fd(), LOOP_GET_STATUS64 as _, &raw mut info) };
            (result == 0).then_some((device, (info.device, info.inode)))
        })
        .collect()
}

/// Whether any loop device holds this image.
fn is_attached(image: FileId) -> bool {
    attached().iter().any(|(_, other)| *other == image)
}

/// Attaches an image to a free loop device that detaches itself with its last user.
fn attach_loop(image: &Path) -> io::Result<(File, PathBuf)> {
    let backing = OpenOptions::new().read(true).write(true).open(image)?;
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    // Others take free devices at the same time: asked again when this one was taken.
    for _ in 0..64 {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let device = PathBuf::from(format!("/dev/loop{number}"));
        if !device.exists() {
            // A static /dev: the node that devtmpfs would have made. Major 7 is loop.
            let node = rustix::fs::makedev(7, number.cast_unsigned());
            rustix::fs::mknodat(rustix::fs::CWD, &device, rustix::fs::FileType::BlockDevice, 0o600.into(), node)?;
        }
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(&device)?;
        // SAFETY: an all-zero LoopConfig is valid: integers only.
        let mut config: LoopConfig = unsafe { std::mem::zeroed() };
        config.descriptor = backing.as_raw_fd().cast_unsigned();
        config.info.flags = LO_FLAGS_AUTOCLEAR;
        // SAFETY: LOOP_CONFIGURE reads a loop_config, which lives through the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) } == 0 {
            return Ok((file, device));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(error);
        }
    }
    Err(io::Error::other("every loop device is taken by somebody else in the moment it is free"))
}

/// An attached home.
#[derive(Debug)]
pub(crate) struct Home {
    /// The detached mount, without owner shift.
    pub(crate) mount: OwnedFd,
    image: Option<FileId>,
}

impl Home {
    /// Waits until no loop device holds the image any more; at once for a directory, and when a
    /// sibling workspace uses it, too. False when it takes too long.
    pub(crate) fn wait_detached(dir: &Path, image: Option<FileId>, within: Duration) -> bool {
        let Some(image) = image else { return true };
        siblings(dir, image).next().is_some() || wait_until(within, || !is_attached(image))
    }

    /// What identifies the image, for [`Home::wait_detached`].
    pub(crate) fn image(&self) -> Option<FileId> {
        self.image
    }
}

/// Attaches a home; none where it comes later. The calling thread must share its root and working
/// directory with nobody, because it visits other mount namespaces. `dir` is the workspace's directory; its
/// siblings are searched for a helper that has the same image mounted.
///
/// # Errors
/// A [`Problem`] that names the volume.
pub(crate) fn attach(dir: &Path, backend: &HomeBackend, allowed: Allowed) -> Result<Option<Home>, Problem> {
    match backend {
        HomeBackend::Directory(path) => {
            let mount = mounts::copy(path).map_err(|error| failed(path, &error))?;
            mounts::restrict(mount.as_fd(), allowed).map_err(|error| failed(path, &error))?;
            Ok(Some(Home { mount, image: None }))
        }
        HomeBackend::Image(path) => attach_image(dir, path, allowed).map(Some),
        HomeBackend::Later => Ok(None),
    }
}

fn attach_image(dir: &Path, path: &Path, allowed: Allowed) -> Result<Home, Problem> {
    let wrong = |error: io::Error| failed(path, &error);
    let image = identity(path).map_err(wrong)?;
    // Two helpers of one user at the same time: the second waits and finds the first one's.
    let lock = File::open(path).map_err(wrong)?;
    lock.lock().map_err(wrong)?;
    if is_attached(image) {
        if let Some(mount) = siblings(dir, image).find_map(|(pid, start)| copy_from(pid, start).ok()) {
            return Ok(Home { mount, image: Some(image) });
        }
        if !wait_until(Duration::from_secs(5), || !is_attached(image)) {
            return Err(Problem::new(
                ProblemKind::Conflict,
                format!("home volume {} is attached to a loop device that no workspace uses", path.display()),
                "find its user with losetup -j, unmount it, and start the workspace again",
            ));
        }
    }
    let (device, name) = attach_loop(path).map_err(wrong)?;
    let mounted = mounts::create("ext4", &name.to_string_lossy(), &[], allowed);
    // The mount keeps the device busy; without one, closing the device detaches it.
    drop(device);
    let mount = mounted.map_err(|error| {
        Problem::engine(format!("home volume {} cannot be mounted: {error}", path.display()), "check it with e2fsck -f")
    })?;
    Ok(Home { mount, image: Some(image) })
}

fn failed(path: &Path, error: &io::Error) -> Problem {
    Problem::engine(
        format!("home volume {} cannot be attached: {error}", path.display()),
        "check that it exists and is not damaged",
    )
}

/// Live helpers of other workspaces beside `dir` that use the same image.
fn siblings(dir: &Path, image: FileId) -> impl Iterator<Item = (u32, u64)> {
    let entries = dir.parent().and_then(|parent| fs::read_dir(parent).ok());
    let own = dir.to_path_buf();
    entries.into_iter().flatten().flatten().map(|entry| entry.path()).filter(move |other| *other != own).filter_map(
        move |other| {
            let helper = live_helper(&other)?;
            let spec: SandboxSpec = serde_json::from_slice(&fs::read(other.join("sandbox.json")).ok()?).ok()?;
            let HomeBackend::Image(path) = &spec.home.backend else { return None };
            (identity(path).ok()? == image).then_some(helper)
        },
    )
}

/// The helper of a workspace's directory and its start time, when it is alive.
pub(crate) fn live_helper(dir: &Path) -> Option<(u32, u64)> {
    let pid: u32 = fs::read_to_string(dir.join(PID_FILE)).ok()?.trim().parse().ok()?;
    let start = namespaces::start_time(pid).ok()?;
    // The pid may have been given to another process after a crash.
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = arguments.split(|byte| *byte == 0).skip_while(|word| *word != b"internal-sandbox").skip(1);
    let ours = words.next().is_some_and(|word| Path::new(OsStr::from_bytes(word)).file_name() == dir.file_name());
    (ours && pid != std::process::id()).then_some((pid, start))
}

fn copy_from(pid: u32, start: u64) -> io::Result<OwnedFd> {
    let own = File::open("/proc/thread-self/ns/mnt")?;
    let other = namespaces::open(pid, start, "mnt")?;
    move_into_link_name_space(other.as_fd(), Some(LinkNameSpaceType::Mount))?;
    let copied = mounts::copy(Path::new(RAW_HOME));
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount))?;
    // The stage of a helper that has just unmounted is an empty directory, not an ext4.
    let copied = copied?;
    let kind = rustix::fs::fstatfs(&copied)?.f_type;
    if kind == libc::EXT4_SUPER_MAGIC { Ok(copied) } else { Err(io::Error::other("it holds no home any more")) }
}

/// Gives this process its own view of mounts, from which nothing flows back: a helper that is
/// killed leaves no mount behind.
pub(crate) fn private_mounts() -> io::Result<()> {
    // SAFETY: the process has one thread; nobody shares its file system attributes.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )?;
    Ok(())
}

/// Bytes used and size of a mounted home.
pub(crate) fn usage(path: &Path) -> io::Result<(u64, u64)> {
    let data = rustix::fs::statvfs(path)?;
    Ok(((data.f_blocks - data.f_bfree) * data.f_frsize, data.f_blocks * data.f_frsize))
}

/// Bytes that the files of a directory home take; stops counting after a million entries.
pub(crate) fn directory_usage(path: &Path) -> u64 {
    let mut waiting = vec![path.to_path_buf()];
    let (mut bytes, mut seen) = (0, 0_u32);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            seen += 1;
            if seen > 1_000_000 {
                return bytes;
            }
            let Ok(data) = entry.metadata() else { continue };
            bytes += data.blocks() * 512;
            if data.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    bytes
}
