//! What one attempt came to, and what the kernel's error numbers mean in each role.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use cubicle_core::attempt::{Outcome, ProbePlan, Role};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// Outcome and detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
}

impl Answer {
    pub(crate) fn succeeded(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Succeeded, detail: detail.into() }
    }

    pub(crate) fn denied(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Denied, detail: detail.into() }
    }

    pub(crate) fn missing(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Missing, detail: detail.into() }
    }

    pub(crate) fn failed(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, detail: detail.into() }
    }
}

/// The descriptor at which a later proof finds a proc file system of its own pid namespace.
const OWN_PROC: i32 = 5;

/// How much longer than the tenant the control may take on a busy machine.
const CONTROL_PATIENCE: u32 = 20;

/// In which role, and with what means.
pub(crate) struct Context {
    pub(crate) role: Role,
    /// How long a dial may take.
    pub(crate) dial_deadline: Duration,
    /// Root without a filter: whatever is refused even so, the machine refuses to everybody.
    pub(crate) unwalled: bool,
    /// The control dials the real addresses, which nobody may own, instead of a scratch
    /// network that owns them all: what it cannot reach is not there.
    pub(crate) reference: bool,
    own_proc: Option<OwnedFd>,
}

impl Context {
    pub(crate) fn new(role: Role, plan: &ProbePlan) -> Self {
        let own_proc = (role == Role::Tenant).then(own_proc).flatten();
        // The control only has to get there; how fast it was decides what a time-out means.
        let patience = if role == Role::Control { CONTROL_PATIENCE } else { 1 };
        let deadline = Duration::from_millis(plan.dial_deadline_ms.clamp(1, 10_000)).saturating_mul(patience);
        let mut context = Self { role, dial_deadline: deadline, unwalled: false, reference: false, own_proc };
        context.unwalled = role == Role::Control && is_unwalled(&context);
        context
    }

    /// Writes to a file below `/proc`.
    pub(crate) fn write_proc(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.open_proc(path, OFlags::WRONLY)?.write_all(bytes)
    }

    /// Opens a file below `/proc`, in the proc file system of this process's own pid namespace.
    fn open_proc(&self, path: &str, access: OFlags) -> io::Result<File> {
        let flags = access | OFlags::CLOEXEC;
        let file = match &self.own_proc {
            Some(proc) => rustix::fs::openat(proc, path, flags, Mode::empty()),
            None => rustix::fs::openat(CWD, Path::new("/proc").join(path), flags, Mode::empty()),
        }?;
        Ok(file.into())
    }

    /// Reads a file below `/proc`.
    pub(crate) fn read_proc(&self, path: &str) -> io::Result<String> {
        io::read_to_string(self.open_proc(path, OFlags::RDONLY)?)
    }

    /// The target of a link below `/proc`.
    pub(crate) fn proc_link(&self, path: &str) -> io::Result<String> {
        let link = match &self.own_proc {
            Some(proc) => rustix::fs::readlinkat(proc, path, Vec::new()),
            None => rustix::fs::readlinkat(CWD, Path::new("/proc").join(path), Vec::new()),
        }?;
        link.into_string().map_err(io::Error::other)
    }

    /// A field of `/proc/self/status`.
    pub(crate) fn status(&self, field: &str) -> io::Result<Option<String>> {
        let status = self.read_proc("self/status")?;
        Ok(status.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned())))
    }

    pub(crate) fn is_control(&self) -> bool {
        self.role == Role::Control
    }

    /// Something is not there: for the tenant that is a wall, for the control a hole in the
    /// machine.
    pub(crate) fn not_there(&self, detail: impl Into<String>) -> Answer {
        if self.is_control() { Answer::missing(detail) } else { Answer::denied(detail) }
    }

    /// Judges the error of opening a file.
    pub(crate) fn file_error(&self, errno: Errno) -> Answer {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::NODEV => self.not_there(name(errno)),
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Answer::failed(name(errno)),
            errno if self.unwalled => Answer::missing(format!("this machine refuses it even to root: {}", name(errno))),
            errno => Answer::denied(name(errno)),
        }
    }
}

fn own_proc() -> Option<OwnedFd> {
    // SAFETY: descriptor 5 is inherited or not there; it is borrowed only to be duplicated.
    let inherited = unsafe { BorrowedFd::borrow_raw(OWN_PROC) };
    let own = rustix::io::fcntl_dupfd_cloexec(inherited, 64).ok()?;
    // Any other file there is not what the supervisor passes: then /proc is the only one.
    rustix::fs::statat(own.as_fd(), "self/status", rustix::fs::AtFlags::empty()).ok()?;
    Some(own)
}

/// Root in the initial user namespace, without filter. It may lack a capability when the machine
/// gives that one to nobody.
fn is_unwalled(context: &Context) -> bool {
    let field = |name: &str| context.status(name).ok().flatten();
    let identity = context
        .read_proc("self/uid_map")
        .is_ok_and(|map| map.split_whitespace().map(str::parse::<u64>).eq([Ok(0), Ok(0), Ok(u64::from(u32::MAX))]));
    rustix::process::geteuid().is_root() && identity && field("Seccomp").as_deref() == Some("0")
}

/// The symbolic name of an error number, for evidence.
pub(crate) fn name(errno: Errno) -> String {
    let known = match errno {
        Errno::PERM => "EPERM",
        Errno::ACCESS => "EACCES",
        Errno::NOSYS => "ENOSYS",
        Errno::NOENT => "ENOENT",
        Errno::NOTDIR => "ENOTDIR",
        Errno::ROFS => "EROFS",
        Errno::FAULT => "EFAULT",
        Errno::INVAL => "EINVAL",
        Errno::BADF => "EBADF",
        Errno::SRCH => "ESRCH",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::NETUNREACH => "ENETUNREACH",
        Errno::HOSTUNREACH => "EHOSTUNREACH",
        Errno::CONNREFUSED => "ECONNREFUSED",
        Errno::CONNRESET => "ECONNRESET",
        Errno::TIMEDOUT => "ETIMEDOUT",
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::AFNOSUPPORT => "EAFNOSUPPORT",
        Errno::PROTONOSUPPORT => "EPROTONOSUPPORT",
        Errno::SOCKTNOSUPPORT => "ESOCKTNOSUPPORT",
        Errno::AGAIN => "EAGAIN",
        Errno::NOMEM => "ENOMEM",
        Errno::NOSPC => "ENOSPC",
        Errno::USERS => "EUSERS",
        Errno::NXIO => "ENXIO",
        Errno::NODEV => "ENODEV",
        Errno::NOEXEC => "ENOEXEC",
        Errno::BUSY => "EBUSY",
        Errno::IO => "EIO",
        other => return format!("errno {}", other.raw_os_error()),
    };
    known.to_owned()
}
