//! The stage: the root of a workspace, put together in the helper's own mount namespace, so that
//! every OCI runtime only has to turn to it.
//!
//! The stage lies on a tmpfs that covers `/dev/shm` in the helper's view alone: every machine has
//! that directory, and the workspace's root user (an ordinary uid of the host) can walk to it,
//! which it could not inside the engine's own directories.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use cubicle_core::problem::Problem;

use crate::home::Home;
use crate::mounts::{self, Allowed};
use crate::protocol::SandboxSpec;
use crate::removal::removed;

/// Where the stage is, in the helper's view.
const STAGE: &str = "/dev/shm";
/// The root of the workspace.
pub(crate) const ROOT: &str = "/dev/shm/root";
/// The home without owner shift; helpers of the same user copy it from here.
pub(crate) const RAW_HOME: &str = "/dev/shm/home";

/// Top directories below which mount points that the image lacks are made.
const MAY_BE_COVERED: [&str; 5] = ["data", "home", "mnt", "srv", "media"];

fn directory(path: &str, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)
}

/// A small file system that holds mount points and becomes read-only once they are made.
fn skeleton(at: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let mount = mounts::create("tmpfs", "cubicle", &["size=64k", "mode=0755"], Allowed::WRITE)?;
    mounts::attach(mount.as_fd(), at)?;
    fill(at)?;
    mounts::restrict(mount.as_fd(), Allowed::READ)
}

/// Sets the stage: root, probe, home, data sets.
///
/// # Errors
/// A [`Problem`] that names what could not be mounted.
pub(crate) fn set(spec: &SandboxSpec, home: Option<&Home>) -> Result<(), Problem> {
    let wrong = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| {
            Problem::engine(
                format!("{what} cannot be mounted: {error}"),
                "look at cubicle doctor for what this machine lacks",
            )
        }
    };
    base(spec).map_err(wrong(&format!("image {}", spec.rootfs.display())))?;
    skeleton(&Path::new(ROOT).join(".cubicle"), |at| {
        File::create(at.join("probe"))?;
        mounts::bind(&spec.probe, &at.join("probe"), Allowed::READ)
    })
    .map_err(wrong(&format!("probe {}", spec.probe.display())))?;

    let targets: Vec<&str> = std::iter::once(spec.home.mount_path.as_str())
        .chain(spec.datasets.iter().map(|(_, path)| path.as_str()))
        .collect();
    mount_points(&targets)?;
    match home {
        Some(home) => mount_home(spec, home).map_err(wrong("the home"))?,
        None => place_for_a_home(&spec.home.mount_path)?,
    }
    for (source, target) in &spec.datasets {
        mounts::bind(source, &inside(target), Allowed::READ)
            .map_err(wrong(&format!("data set {} at {target}", source.display())))?;
    }
    Ok(())
}

fn base(spec: &SandboxSpec) -> io::Result<()> {
    fs::create_dir_all(STAGE)?;
    let image = mounts::copy(&spec.rootfs)?;
    let stage = mounts::create("tmpfs", "cubicle", &["size=1m", "mode=0755"], Allowed::WRITE)?;
    mounts::attach(stage.as_fd(), Path::new(STAGE))?;
    directory(ROOT, 0o755)?;
    directory(RAW_HOME, 0o700)?;
    let write = removed(&spec.remove, "readonly-root");
    mounts::restrict(image.as_fd(), Allowed { write, privileges: false })?;
    mounts::attach(image.as_fd(), Path::new(ROOT))
}

/// What a home allows.
pub(crate) fn home_allows(spec: &SandboxSpec) -> Allowed {
    Allowed { write: true, privileges: removed(&spec.remove, "home-nosuid-nodev") }
}

fn mount_home(spec: &SandboxSpec, home: &Home) -> io::Result<()> {
    let mapping = (!removed(&spec.remove, "user-namespace"))
        .then(|| crate::namespaces::mapped_user_namespace(spec.id_base))
        .transpose()?;
    let shifted = raise_home(home, mapping.as_ref().map(AsFd::as_fd))?;
    mounts::attach(shifted.as_fd(), &inside(&spec.home.mount_path))
}

/// Mounts a home on the stage, and makes the detached copy with the owners that the workspace sees: shifted
/// by the mapping of a user namespace.
pub(crate) fn raise_home(home: &Home, mapping: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    mounts::attach(home.mount.as_fd(), Path::new(RAW_HOME))?;
    if home.image().is_some() && std::os::unix::fs::MetadataExt::uid(&fs::metadata(RAW_HOME)?) == 0 {
        // A fresh file system belongs to root; the tenant is 1000 on disk and inside.
        std::os::unix::fs::chown(RAW_HOME, Some(1000), Some(1000))?;
        fs::set_permissions(RAW_HOME, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    }
    let shifted = mounts::copy(Path::new(RAW_HOME))?;
    if let Some(mapping) = mapping {
        mounts::shift_owners(shifted.as_fd(), mapping).map_err(|error| {
            io::Error::new(error.kind(), format!("{error} (its file system or this kernel has no id-mapped mounts)"))
        })?;
    }
    Ok(shifted)
}

/// Checks that a home that comes later has a place of which the file rules can speak: they follow mounts to
/// what they are mounted on, but not to the directory that a mount hides, and so name the one above it.
fn place_for_a_home(path: &str) -> Result<(), Problem> {
    if holder(path).is_some() {
        return Ok(());
    }
    Err(Problem::bad_input(
        format!("a home at {path} cannot come later: the directory above it is the root"),
        "give the home a path of two parts, for example /home/user, or launch without a warm workspace",
    ))
}

/// The directory that holds a mount point, when it is not the root.
pub(crate) fn holder(path: &str) -> Option<&Path> {
    Path::new(path).parent().filter(|parent| *parent != Path::new("/") && !parent.as_os_str().is_empty())
}

/// A path of the workspace in the helper's view.
fn inside(path: &str) -> PathBuf {
    Path::new(ROOT).join(path.trim_start_matches('/'))
}

/// Sees to it that every target exists as a directory below the read-only root.
fn mount_points(targets: &[&str]) -> Result<(), Problem> {
    let refuse = |target: &str, why: &str| {
        Err(Problem::bad_input(
            format!("nothing can be mounted at {target}: {why}"),
            format!("use a path below /{}, or one that the image has as a directory", MAY_BE_COVERED.join(", /")),
        ))
    };
    let mut covered = Vec::new();
    for target in targets {
        let parts: Vec<_> = Path::new(target).components().collect();
        let [Component::RootDir, Component::Normal(top), ..] = parts.as_slice() else {
            return refuse(target, "it is not an absolute path");
        };
        if parts.iter().any(|part| matches!(part, Component::ParentDir | Component::CurDir)) {
            return refuse(target, "it is not a plain path");
        }
        if is_plain_directory(&inside(target)) || covered.contains(top) {
            continue;
        }
        if !MAY_BE_COVERED.iter().any(|name| top == name) || parts.len() < 3 {
            return refuse(target, "the image has no directory there");
        }
        if !is_plain_directory(&Path::new(ROOT).join(top)) {
            return refuse(target, "the image has no directory that could hold it");
        }
        covered.push(top);
    }
    for top in covered {
        let below = Path::new("/").join(top);
        skeleton(&Path::new(ROOT).join(top), |_| {
            for target in targets.iter().filter(|target| Path::new(target).starts_with(&below)) {
                DirBuilder::new().recursive(true).mode(0o755).create(inside(target))?;
            }
            Ok(())
        })
        .map_err(|error| {
            Problem::engine(format!("mount points below {} cannot be made: {error}", below.display()), "")
        })?;
    }
    Ok(())
}

/// Whether a path is a directory without any symbolic link below the root of the workspace.
fn is_plain_directory(path: &Path) -> bool {
    let depth = Path::new(ROOT).components().count();
    let mut at = PathBuf::new();
    path.components().enumerate().all(|(position, part)| {
        at.push(part);
        position < depth || fs::symlink_metadata(&at).is_ok_and(|data| data.is_dir())
    })
}

/// Gives blocks that the tenant has freed back to the machine: the image is sparse. Best effort,
/// because not every file system below can punch holes.
fn trim(home: &File) {
    /// `FITRIM` of `linux/fs.h`, with its `struct fstrim_range`.
    const FITRIM: libc::c_ulong = 0xc018_5879;
    let mut range = [0_u64, u64::MAX, 0];
    // SAFETY: FITRIM reads and writes three 64-bit integers, which live through the call.
    unsafe { libc::ioctl(home.as_raw_fd(), FITRIM as _, range.as_mut_ptr()) };
}

/// Takes the stage down. What the workspace itself still holds goes with its last process.
pub(crate) fn strike() {
    if let Ok(home) = File::open(RAW_HOME) {
        trim(&home);
        // Another workspace may keep the same file system mounted, so that unmounting alone
        // would not write it out.
        let _ = rustix::fs::syncfs(&home);
    }
    let _ = rustix::mount::unmount(STAGE, rustix::mount::UnmountFlags::DETACH);
}
