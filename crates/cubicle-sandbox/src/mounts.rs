//! Mounts as file descriptors: the few calls that `rustix` does not wrap, and the shapes we use.
//!
//! Source: mount_setattr(2), open_tree(2), fsopen(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// What a mount allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Writing.
    pub(crate) write: bool,
    /// Setuid programs and device nodes.
    pub(crate) privileges: bool,
}

impl Allowed {
    /// Read only, without setuid and devices.
    pub(crate) const READ: Self = Self { write: false, privileges: false };
    /// Read and write, without setuid and devices.
    pub(crate) const WRITE: Self = Self { write: true, privileges: false };

    fn attributes(self) -> u64 {
        let write = if self.write { 0 } else { MOUNT_ATTR_RDONLY };
        write | if self.privileges { 0 } else { MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV }
    }
}

fn set_attributes(mount: BorrowedFd<'_>, attribute: &MountAttr) -> io::Result<()> {
    // SAFETY: the path is a static empty string, and the structure outlives the call with its
    // exact size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attribute),
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Restricts a detached mount.
pub(crate) fn restrict(mount: BorrowedFd<'_>, allowed: Allowed) -> io::Result<()> {
    set_attributes(mount, &MountAttr { attr_set: allowed.attributes(), attr_clr: 0, propagation: 0, userns_fd: 0 })
}

/// Shifts a detached mount's owners by the mapping of a user namespace.
pub(crate) fn shift_owners(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    let descriptor = u64::try_from(user_namespace.as_raw_fd()).map_err(io::Error::other)?;
    set_attributes(mount, &MountAttr { attr_set: MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd: descriptor })
}

/// A detached copy of the mount at a path, without what is mounted below it.
pub(crate) fn copy(path: &Path) -> io::Result<OwnedFd> {
    Ok(open_tree(rustix::fs::CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

/// A detached new file system: `options` are `key=value` or flags.
pub(crate) fn create(kind: &str, source: &str, options: &[&str], allowed: Allowed) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", source)?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(context.as_fd(), key, value)?,
            None => fsconfig_set_flag(context.as_fd(), *option)?,
        }
    }
    fsconfig_create(context.as_fd())?;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    restrict(mount.as_fd(), allowed)?;
    Ok(mount)
}

/// Puts a detached mount at a path.
pub(crate) fn attach(mount: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    Ok(move_mount(mount, "", rustix::fs::CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Puts a detached mount on an open directory.
pub(crate) fn attach_to(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", place, "", flags)?)
}

/// A read-only, otherwise unprivileged bind of `from` at `to`.
pub(crate) fn bind(from: &Path, to: &Path, allowed: Allowed) -> io::Result<()> {
    let mount = copy(from)?;
    restrict(mount.as_fd(), allowed)?;
    attach(mount.as_fd(), to)
}
