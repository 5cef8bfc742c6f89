//! Walls that only show when one leans another against them: the system-call filter's own answer,
//! and how many Landlock rule sets a process already has. Both run in a child of their own.

use std::ffi::c_long;

use cubicle_core::attempt::FilteredCall;
use rustix::io::Errno;

use crate::answer::{Answer, Context, name};

/// Landlock rule sets that the kernel stacks on one process (LANDLOCK_MAX_NUM_LAYERS in
/// `security/landlock/limits.h`; landlock(7), "Ruleset layers").
const LAYERS: u32 = 16;
/// `LANDLOCK_ACCESS_FS_EXECUTE`: any right makes a rule set.
const ACCESS_EXECUTE: u64 = 1;
/// `ADDR_NO_RANDOMIZE` of personality(2).
const NO_RANDOMIZE: c_long = 0x0004_0000;
/// A block device with rights for its owner.
const BLOCK_DEVICE: c_long = 0o060_600;
const TIOCSTI: c_long = 0x5412;
const TIOCLINUX: c_long = 0x541c;

/// Number and first three arguments; none when this processor does not have the call.
fn number(call: FilteredCall) -> Option<(c_long, [c_long; 3])> {
    let plain = |number| Some((number, [0; 3]));
    match call {
        FilteredCall::InitModule => plain(libc::SYS_init_module),
        FilteredCall::FinitModule => plain(libc::SYS_finit_module),
        FilteredCall::DeleteModule => plain(libc::SYS_delete_module),
        FilteredCall::KexecLoad => plain(libc::SYS_kexec_load),
        FilteredCall::KexecFileLoad => plain(libc::SYS_kexec_file_load),
        FilteredCall::MigratePages => plain(libc::SYS_migrate_pages),
        FilteredCall::MovePages => plain(libc::SYS_move_pages),
        FilteredCall::Mbind => plain(libc::SYS_mbind),
        FilteredCall::Vmsplice => plain(libc::SYS_vmsplice),
        FilteredCall::MemfdSecret => plain(libc::SYS_memfd_secret),
        #[cfg(target_arch = "x86_64")]
        FilteredCall::Mknod => Some((libc::SYS_mknod, [0, BLOCK_DEVICE, 0])),
        #[cfg(not(target_arch = "x86_64"))]
        FilteredCall::Mknod => None,
        FilteredCall::Mknodat => Some((libc::SYS_mknodat, [c_long::from(libc::AT_FDCWD), 0, BLOCK_DEVICE])),
        FilteredCall::TypeIntoTerminal => Some((libc::SYS_ioctl, [-1, TIOCSTI, 0])),
        FilteredCall::PasteIntoConsole => Some((libc::SYS_ioctl, [-1, TIOCLINUX, 0])),
        FilteredCall::FixAddresses => Some((libc::SYS_personality, [NO_RANDOMIZE, 0, 0])),
    }
}

/// Whether the filter in force lets this call pass.
pub(crate) fn pass(context: &Context, call: FilteredCall) -> Answer {
    let Some((number, [a, b, c])) = number(call) else {
        return context.not_there("this processor has no such call");
    };
    if let Err(errno) = ask_the_tracer(number) {
        return Answer::failed(format!("no filter could be added: {}", name(errno)));
    }
    // SAFETY: the filter that was added just now keeps the kernel from carrying this call out.
    let result = unsafe { libc::syscall(number, a, b, c, 0, 0, 0) };
    match (result, last_errno()) {
        (-1, Errno::NOSYS) => Answer::succeeded("no filter refuses it"),
        (-1, errno @ (Errno::PERM | Errno::ACCESS)) => Answer::denied(format!("the filter says {}", name(errno))),
        (-1, errno) => Answer::failed(format!("an answer that no filter gives: {}", name(errno))),
        _ => Answer::failed("it was carried out although a filter stood before it"),
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Adds a filter that answers one call by asking a tracer. Without one the kernel does not carry
/// the call out and says ENOSYS.
fn ask_the_tracer(number: c_long) -> Result<(), Errno> {
    let number = u32::try_from(number).map_err(|_| Errno::INVAL)?;
    let step = |code: u32, jump_true: u8, jump_false: u8, k: u32| libc::sock_filter {
        // The codes are bits of a 16-bit field (linux/bpf_common.h).
        code: u16::try_from(code).unwrap_or_default(),
        jt: jump_true,
        jf: jump_false,
        k,
    };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_TRACE),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&program)) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Stacks rule sets on this process until the kernel has no room for more.
pub(crate) fn stack_rules(context: &Context) -> Answer {
    for layer in 1..=LAYERS {
        match restrict() {
            Ok(()) => {}
            // Compiled out, or switched off at boot.
            Err(Errno::NOSYS | Errno::OPNOTSUPP) => return Answer::missing("this kernel has no Landlock"),
            Err(Errno::TOOBIG) => return Answer::denied(format!("room for {} of {LAYERS}", layer - 1)),
            Err(errno) if context.unwalled => return Answer::missing(name(errno)),
            Err(errno) => return Answer::failed(format!("rule set {layer}: {}", name(errno))),
        }
    }
    Answer::succeeded(format!("room for all {LAYERS}: nothing restricts this process"))
}

fn restrict() -> Result<(), Errno> {
    let attributes = ACCESS_EXECUTE;
    // SAFETY: the kernel reads eight bytes of attributes, which is their first version.
    let rules = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::from_ref(&attributes), size_of::<u64>(), 0)
    };
    if rules < 0 {
        return Err(last_errno());
    }
    // SAFETY: takes a descriptor of this process and no memory.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules, 0) };
    let outcome = if result < 0 { Err(last_errno()) } else { Ok(()) };
    // SAFETY: the descriptor was made above and is used nowhere else.
    unsafe { libc::syscall(libc::SYS_close, rules) };
    outcome
}
