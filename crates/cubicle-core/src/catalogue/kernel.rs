//! Guarantees about the kernel's surface: system calls that a notebook has no use for.

use super::entry::{Attempts, BOTH, CALL_CONTROL, Entry, LOCAL, calls};
use crate::attempt::{Action, Call, FilteredCall, Phase};
use crate::guarantee::{Guarantee, Layer, Place};
use crate::plan::Situation;

const FILTER: &str = "Our system-call filter denies it, and no capability allows it.";
const RULE: &str = "The content of the seccomp profile: RuntimeDefault differs between runtimes.";
const PROBE: &str = "Makes the call with arguments that the kernel rejects early. A complaint about the arguments means that the call got through.";
const SECCOMP: &str = "https://docs.kernel.org/userspace-api/seccomp_filter.html";

macro_rules! call_guarantee {
    ($id:literal, $alias:literal, $sentence:literal, $references:expr, $calls:expr) => {
        Entry {
            guarantee: Guarantee {
                id: $id,
                alias: $alias,
                layer: Layer::Workload,
                place: Place::Container,
                engines: BOTH,
                sentence: $sentence,
                mechanism: FILTER,
                static_rule: RULE,
                live_probe: PROBE,
                positive_control: CALL_CONTROL,
                references: $references,
            },
            attempts: Some({
                fn attempts(_: &Situation, _: Phase) -> Attempts {
                    calls($calls)
                }
                attempts
            }),
        }
    };
}

pub(super) const ENTRIES: &[Entry] = &[
    call_guarantee!(
        "kernel.user-namespaces",
        "CT-06",
        "A workspace cannot create user namespaces.",
        &["man 7 user_namespaces", "CVE-2022-0185", SECCOMP],
        &[("unshare", Call::UnshareUser), ("clone", Call::CloneUser)]
    ),
    call_guarantee!(
        "kernel.mount",
        "CT-07",
        "A workspace cannot mount anything.",
        &["man 2 mount", "man 2 pivot_root", SECCOMP],
        &[
            ("mount", Call::Mount),
            ("umount2", Call::Umount),
            ("pivot_root", Call::PivotRoot),
            ("chroot", Call::Chroot),
            ("unshare mount namespace", Call::UnshareMount),
        ]
    ),
    call_guarantee!(
        "kernel.new-mount-interface",
        "CT-17B",
        "A workspace cannot use the newer mount calls either.",
        &["man 2 open_tree", "man 2 fsopen", "man 2 mount_setattr"],
        &[
            ("open_tree", Call::OpenTree),
            ("move_mount", Call::MoveMount),
            ("fsopen", Call::Fsopen),
            ("fsmount", Call::Fsmount),
            ("fspick", Call::Fspick),
            ("mount_setattr", Call::MountSetattr),
        ]
    ),
    call_guarantee!(
        "kernel.join-namespaces",
        "CT-17",
        "A workspace cannot join or make namespaces.",
        &["man 2 setns", "man 2 clone3", "man 7 namespaces"],
        &[("setns", Call::Setns), ("clone3", Call::Clone3), ("unshare network", Call::UnshareNetwork)]
    ),
    call_guarantee!(
        "kernel.bpf",
        "CT-08",
        "A workspace cannot load programs into the kernel.",
        &["man 2 bpf", "https://docs.kernel.org/admin-guide/sysctl/kernel.html#unprivileged-bpf-disabled"],
        &[("bpf", Call::Bpf)]
    ),
    call_guarantee!(
        "kernel.io-uring",
        "CT-09",
        "A workspace cannot use io_uring.",
        &["man 7 io_uring", "https://docs.kernel.org/admin-guide/sysctl/kernel.html#io-uring-disabled"],
        &[
            ("io_uring_setup", Call::IoUringSetup),
            ("io_uring_enter", Call::IoUringEnter),
            ("io_uring_register", Call::IoUringRegister),
        ]
    ),
    call_guarantee!(
        "kernel.perf-events",
        "CT-10",
        "A workspace cannot use the kernel's performance counters.",
        &["man 2 perf_event_open", "https://docs.kernel.org/admin-guide/perf-security.html"],
        &[("perf_event_open", Call::PerfEventOpen)]
    ),
    call_guarantee!(
        "kernel.userfaultfd",
        "CT-11",
        "A workspace cannot handle page faults in user space.",
        &["man 2 userfaultfd", "https://docs.kernel.org/admin-guide/sysctl/vm.html#unprivileged-userfaultfd"],
        &[("userfaultfd", Call::Userfaultfd)]
    ),
    call_guarantee!(
        "kernel.keyrings",
        "CT-12",
        "A workspace cannot use the kernel's keyrings, which namespaces do not fully separate.",
        &["man 7 keyrings", "CVE-2016-0728"],
        &[("keyctl", Call::Keyctl), ("add_key", Call::AddKey), ("request_key", Call::RequestKey)]
    ),
    call_guarantee!(
        "kernel.trace",
        "CT-13",
        "A workspace cannot trace or read the memory of other processes by system call.",
        &["man 2 ptrace", "man 2 process_vm_readv", "man 2 kcmp"],
        &[
            ("ptrace", Call::Ptrace),
            ("process_vm_readv", Call::ProcessVmReadv),
            ("process_vm_writev", Call::ProcessVmWritev),
            ("kcmp", Call::Kcmp),
        ]
    ),
    call_guarantee!(
        "kernel.open-by-handle",
        "CT-14",
        "A workspace cannot open files by handle, past the walls of its mounts.",
        &["man 2 open_by_handle_at", "CVE-2014-9357 (shocker)"],
        &[("open_by_handle_at", Call::OpenByHandleAt), ("name_to_handle_at", Call::NameToHandleAt)]
    ),
    call_guarantee!(
        "kernel.modules",
        "CT-15",
        "A workspace cannot load kernel modules.",
        &["man 2 init_module", "man 7 capabilities: CAP_SYS_MODULE"],
        &[
            ("init_module", Call::InitModule),
            ("finit_module", Call::FinitModule),
            ("delete_module", Call::DeleteModule)
        ]
    ),
    call_guarantee!(
        "kernel.reboot",
        "CT-15B",
        "A workspace cannot reboot the machine or start another kernel.",
        &["man 2 reboot", "man 2 kexec_load"],
        &[("reboot", Call::Reboot), ("kexec_load", Call::KexecLoad), ("kexec_file_load", Call::KexecFileLoad)]
    ),
    call_guarantee!(
        "kernel.swap-and-quota",
        "CT-15C",
        "A workspace cannot change swap, quotas, accounting or file monitoring of the machine.",
        &["man 2 swapon", "man 2 acct", "man 2 quotactl", "man 7 fanotify"],
        &[
            ("swapon", Call::Swapon),
            ("swapoff", Call::Swapoff),
            ("acct", Call::Acct),
            ("quotactl", Call::Quotactl),
            ("fanotify_init", Call::FanotifyInit),
        ]
    ),
    call_guarantee!(
        "kernel.clock",
        "CT-15D",
        "A workspace cannot change the machine's clock.",
        &["man 2 settimeofday", "man 2 clock_settime", "man 2 adjtimex"],
        &[("settimeofday", Call::Settimeofday), ("clock_settime", Call::ClockSettime), ("adjtimex", Call::Adjtimex)]
    ),
    call_guarantee!(
        "kernel.host-name",
        "CT-15E",
        "A workspace cannot change a host name.",
        &["man 2 sethostname", "man 2 setdomainname"],
        &[("sethostname", Call::Sethostname), ("setdomainname", Call::Setdomainname)]
    ),
    call_guarantee!(
        "kernel.io-ports",
        "CT-15F",
        "A workspace cannot reach the machine's input and output ports.",
        &["man 2 iopl", "man 2 ioperm"],
        &[("iopl", Call::Iopl), ("ioperm", Call::Ioperm)]
    ),
    Entry {
        guarantee: Guarantee {
            id: "kernel.refused-calls",
            alias: "CT-05B",
            layer: Layer::Workload,
            place: Place::Container,
            engines: LOCAL,
            sentence: "A workspace cannot pass its system-call filter with a call that loads kernel code, places memory pages, makes devices, types into terminals or fixes addresses.",
            mechanism: "Our system-call filter refuses each of them, also where the kernel would refuse it anyway.",
            static_rule: RULE,
            live_probe: "Adds a filter of its own in a child, which asks a tracer that does not exist, and makes the call: the kernel takes the strictest answer, and the call is never carried out.",
            positive_control: "The same, by root without a filter: nothing refuses the call.",
            references: &["man 2 seccomp", "CVE-2022-0847", SECCOMP],
        },
        attempts: Some(|_, _| refused_calls()),
    },
];

fn refused_calls() -> Attempts {
    [
        ("init_module", FilteredCall::InitModule),
        ("finit_module", FilteredCall::FinitModule),
        ("delete_module", FilteredCall::DeleteModule),
        ("kexec_load", FilteredCall::KexecLoad),
        ("kexec_file_load", FilteredCall::KexecFileLoad),
        ("migrate_pages", FilteredCall::MigratePages),
        ("move_pages", FilteredCall::MovePages),
        ("mbind", FilteredCall::Mbind),
        ("vmsplice", FilteredCall::Vmsplice),
        ("memfd_secret", FilteredCall::MemfdSecret),
        ("mknod", FilteredCall::Mknod),
        ("mknodat", FilteredCall::Mknodat),
        ("ioctl TIOCSTI", FilteredCall::TypeIntoTerminal),
        ("ioctl TIOCLINUX", FilteredCall::PasteIntoConsole),
        ("personality", FilteredCall::FixAddresses),
    ]
    .into_iter()
    .map(|(label, call)| (label.to_owned(), Action::PassFilter { call }))
    .collect()
}
