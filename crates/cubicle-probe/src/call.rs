//! System calls with arguments that the kernel rejects early, and a few harmless real ones.

use std::ffi::c_long;
use std::fs;

use cubicle_core::attempt::Call;
use rustix::io::Errno;

use crate::answer::{Answer, Context, name};

/// An address that no process has.
const BAD: c_long = 1;
/// Flags that no call knows.
const ALL: c_long = -1;
const NONE: c_long = -1;

/// Whether a call changes the process that makes it.
pub(crate) fn needs_own_child(call: Call) -> bool {
    matches!(
        call,
        Call::UnshareUser
            | Call::UnshareMount
            | Call::UnshareNetwork
            | Call::CloneUser
            | Call::BecomeRoot
            | Call::Setgroups
            | Call::MakeDevice
            | Call::RaisePriority
            | Call::RealTime
            | Call::LowerOomScore
            | Call::RaiseLimit
            | Call::Chroot
    )
}

pub(crate) fn make(context: &Context, call: Call) -> Answer {
    let result = match perform(context, call) {
        Some(result) => result,
        None => return context.not_there("this processor has no such call"),
    };
    let errno = match result {
        Ok(()) => return Answer::succeeded("the kernel did it"),
        Err(errno) => errno,
    };
    let refused = matches!(errno, Errno::PERM | Errno::ACCESS | Errno::NOSYS);
    match (errno, is_real(call)) {
        (Errno::NOSYS, _) => context.not_there(name(errno)),
        // Root without a filter was refused: so is everybody on this machine.
        (_, _) if refused && context.unwalled => {
            Answer::missing(format!("this machine refuses it even to root: {}", name(errno)))
        }
        (_, _) if refused => Answer::denied(name(errno)),
        (Errno::INVAL | Errno::NOSPC | Errno::USERS, true) if context.unwalled => Answer::missing(name(errno)),
        (_, true) => Answer::denied(name(errno)),
        (_, false) => Answer::succeeded(format!("reached the kernel: {}", name(errno))),
    }
}

/// Whether success is the only sign that the call got through.
fn is_real(call: Call) -> bool {
    needs_own_child(call) && call != Call::Chroot || call == Call::SyslogSize
}

fn system(number: c_long, arguments: [c_long; 6]) -> Result<(), Errno> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: every call made here gets pointers that are null, invalid on purpose, or to
    // static data; the kernel checks them, and none of the calls writes to this process.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Makes the call; none when this processor does not have it.
fn perform(context: &Context, call: Call) -> Option<Result<(), Errno>> {
    let zero = [0; 6];
    let first = |a: c_long| [a, 0, 0, 0, 0, 0];
    let (number, arguments) = match call {
        Call::Mount => (libc::SYS_mount, [c"none".as_ptr() as c_long, c"/".as_ptr() as c_long, BAD, 0, 0, 0]),
        Call::Umount => (libc::SYS_umount2, first(BAD)),
        Call::PivotRoot => (libc::SYS_pivot_root, [BAD, BAD, 0, 0, 0, 0]),
        Call::Chroot => (libc::SYS_chroot, first(BAD)),
        Call::OpenTree => (libc::SYS_open_tree, [NONE, BAD, ALL, 0, 0, 0]),
        Call::MoveMount => (libc::SYS_move_mount, [NONE, BAD, NONE, BAD, ALL, 0]),
        Call::Fsopen => (libc::SYS_fsopen, [BAD, ALL, 0, 0, 0, 0]),
        Call::Fsmount => (libc::SYS_fsmount, [NONE, ALL, ALL, 0, 0, 0]),
        Call::Fspick => (libc::SYS_fspick, [NONE, BAD, ALL, 0, 0, 0]),
        Call::MountSetattr => (libc::SYS_mount_setattr, [NONE, BAD, ALL, 0, 0, 0]),
        Call::Bpf => (libc::SYS_bpf, [-1, 0, 0, 0, 0, 0]),
        Call::IoUringSetup => (libc::SYS_io_uring_setup, zero),
        Call::IoUringEnter => (libc::SYS_io_uring_enter, first(NONE)),
        Call::IoUringRegister => (libc::SYS_io_uring_register, first(NONE)),
        Call::PerfEventOpen => (libc::SYS_perf_event_open, [0, 0, -1, -1, ALL, 0]),
        Call::Userfaultfd => (libc::SYS_userfaultfd, first(ALL)),
        Call::Keyctl => (libc::SYS_keyctl, first(-1)),
        Call::AddKey => (libc::SYS_add_key, [BAD, BAD, 0, 0, 0, 0]),
        Call::RequestKey => (libc::SYS_request_key, [BAD, BAD, 0, 0, 0, 0]),
        Call::Ptrace => (libc::SYS_ptrace, [c_long::from(libc::PTRACE_PEEKDATA), -1, 0, 0, 0, 0]),
        Call::ProcessVmReadv => (libc::SYS_process_vm_readv, [-1, 0, 0, 0, 0, ALL]),
        Call::ProcessVmWritev => (libc::SYS_process_vm_writev, [-1, 0, 0, 0, 0, ALL]),
        Call::Kcmp => (libc::SYS_kcmp, [-1, -1, 0, 0, 0, 0]),
        Call::OpenByHandleAt => (libc::SYS_open_by_handle_at, [NONE, BAD, 0, 0, 0, 0]),
        Call::NameToHandleAt => (libc::SYS_name_to_handle_at, [NONE, BAD, BAD, BAD, ALL, 0]),
        Call::InitModule => (libc::SYS_init_module, [BAD, 0, BAD, 0, 0, 0]),
        Call::FinitModule => (libc::SYS_finit_module, [NONE, BAD, ALL, 0, 0, 0]),
        Call::DeleteModule => (libc::SYS_delete_module, [BAD, c_long::from(libc::O_NONBLOCK), 0, 0, 0, 0]),
        Call::KexecLoad => (libc::SYS_kexec_load, [0, 0, 0, ALL, 0, 0]),
        Call::KexecFileLoad => (libc::SYS_kexec_file_load, [NONE, NONE, 0, BAD, ALL, 0]),
        Call::Reboot => (libc::SYS_reboot, [1, 1, 0, 0, 0, 0]),
        Call::Swapon => (libc::SYS_swapon, [BAD, ALL, 0, 0, 0, 0]),
        Call::Swapoff => (libc::SYS_swapoff, first(BAD)),
        Call::Acct => (libc::SYS_acct, first(BAD)),
        Call::Quotactl => (libc::SYS_quotactl, [-1, 0, 0, 0, 0, 0]),
        Call::FanotifyInit => (libc::SYS_fanotify_init, [ALL, ALL, 0, 0, 0, 0]),
        Call::Settimeofday => (libc::SYS_settimeofday, [BAD, 0, 0, 0, 0, 0]),
        Call::ClockSettime => (libc::SYS_clock_settime, [c_long::from(libc::CLOCK_REALTIME), BAD, 0, 0, 0, 0]),
        Call::Adjtimex => (libc::SYS_adjtimex, first(BAD)),
        Call::Sethostname => (libc::SYS_sethostname, [BAD, 1, 0, 0, 0, 0]),
        Call::Setdomainname => (libc::SYS_setdomainname, [BAD, 1, 0, 0, 0, 0]),
        Call::SyslogSize => (libc::SYS_syslog, [10, 0, 0, 0, 0, 0]),
        Call::Iopl | Call::Ioperm => return ports(call),
        Call::Setns => (libc::SYS_setns, first(NONE)),
        Call::Clone3 => (libc::SYS_clone3, zero),
        Call::UnshareUser => (libc::SYS_unshare, first(c_long::from(libc::CLONE_NEWUSER))),
        Call::UnshareMount => (libc::SYS_unshare, first(c_long::from(libc::CLONE_NEWNS))),
        Call::UnshareNetwork => (libc::SYS_unshare, first(c_long::from(libc::CLONE_NEWNET))),
        Call::CloneUser => return Some(clone_user()),
        Call::BecomeRoot => (libc::SYS_setresuid, zero),
        Call::Setgroups => (libc::SYS_setgroups, zero),
        Call::MakeDevice => return Some(make_device()),
        Call::RaisePriority => (libc::SYS_setpriority, [0, 0, -5, 0, 0, 0]),
        Call::RealTime => return Some(real_time()),
        Call::LowerOomScore => return Some(lower_oom_score(context)),
        Call::RaiseLimit => return Some(raise_limit()),
    };
    Some(system(number, arguments))
}

#[cfg(target_arch = "x86_64")]
fn ports(call: Call) -> Option<Result<(), Errno>> {
    Some(match call {
        Call::Iopl => system(libc::SYS_iopl, [4, 0, 0, 0, 0, 0]),
        _ => system(libc::SYS_ioperm, [0x1_0000, 1, 1, 0, 0, 0]),
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn ports(_: Call) -> Option<Result<(), Errno>> {
    None
}

fn clone_user() -> Result<(), Errno> {
    let flags = c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    // SAFETY: like fork: the child has its own copy of everything and leaves at once.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        0 => {
            // SAFETY: leaves at once.
            unsafe { libc::_exit(0) }
        }
        pid if pid > 0 => {
            let _ = rustix::process::waitpid(
                rustix::process::Pid::from_raw(i32::try_from(pid).unwrap_or_default()),
                rustix::process::WaitOptions::empty(),
            );
            Ok(())
        }
        _ => Err(last_errno()),
    }
}

/// A null device, which is harmless, in the one directory that is writable everywhere.
fn make_device() -> Result<(), Errno> {
    let path = format!("/tmp/.cubicle-probe-{}", std::process::id());
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::RUSR,
        rustix::fs::makedev(1, 3),
    );
    if made.is_ok() {
        let _ = fs::remove_file(&path);
    }
    made
}

fn real_time() -> Result<(), Errno> {
    let parameter = libc::sched_param { sched_priority: 1 };
    let policy = c_long::from(libc::SCHED_FIFO);
    system(libc::SYS_sched_setscheduler, [0, policy, std::ptr::from_ref(&parameter) as c_long, 0, 0, 0])
}

fn lower_oom_score(context: &Context) -> Result<(), Errno> {
    let written = context.write_proc("self/oom_score_adj", b"-1000");
    written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

/// Gives up a little of a hard limit and takes it back.
fn raise_limit() -> Result<(), Errno> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let Some(hard) = limit.maximum else { return Err(Errno::INVAL) };
    let lower = Some(hard.saturating_sub(1));
    setrlimit(Resource::Nofile, Rlimit { current: lower, maximum: lower })?;
    setrlimit(Resource::Nofile, Rlimit { current: lower, maximum: Some(hard) })
}
