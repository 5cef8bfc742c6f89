//! The system-call policy of a workspace, as one reads it: every call belongs to one group,
//! and every group says why.
//!
//! Numbers are the kernel's (`asm/unistd_64.h`); calls that no group names do not exist for the
//! tenant (ENOSYS), so that programs fall back as they would on an older kernel.

use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, IPPROTO_TCP, IPPROTO_UDP, NETLINK_ROUTE, SOCK_DGRAM, SOCK_STREAM};

/// A system call: name and number.
pub type Call = (&'static str, i64);

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the kernel.
    Allow,
    /// It fails with EPERM.
    Refuse,
    /// It fails with ENOSYS: the caller has a fall-back that the policy can inspect.
    Unknown,
    /// It goes to the kernel when one of the alternatives holds, else it fails with EPERM.
    AllowIf(&'static [Alternative]),
}

/// Conditions that must all hold.
pub type Alternative = &'static [Condition];

/// A condition on the low 32 bits of an argument, which is all that the kernel itself looks at
/// in the arguments that the policy tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// `argument & mask == value`.
    Masked {
        /// Which argument, from 0.
        argument: u32,
        /// The bits that count.
        mask: u32,
        /// Their value.
        value: u32,
    },
    /// The argument is none of these.
    NoneOf {
        /// Which argument, from 0.
        argument: u32,
        /// What it must not be.
        values: &'static [u32],
    },
}

/// Calls that share a verdict and a reason.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The name, also for taking the group away in a test.
    pub name: &'static str,
    /// Why.
    pub reason: &'static str,
    /// What happens to its calls.
    pub verdict: Verdict,
    /// The calls.
    pub calls: &'static [Call],
}

macro_rules! calls {
    ($($call:ident)*) => {
        &[$((stringify!($call).split_at(4).1, libc::$call)),*]
    };
}

const fn equals(argument: u32, value: i32) -> Condition {
    Condition::Masked { argument, mask: u32::MAX, value: value.cast_unsigned() }
}

/// `SOCK_NONBLOCK` and `SOCK_CLOEXEC` share the argument with the type.
const fn socket_type(value: i32) -> Condition {
    Condition::Masked { argument: 1, mask: 0xf, value: value.cast_unsigned() }
}

/// Every `CLONE_NEW*` flag that clone(2) knows.
pub const NEW_NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();

const S_IFMT: u32 = libc::S_IFMT;

/// `TIOCSTI` and `TIOCLINUX` push characters into a terminal's input (tty_ioctl(4)).
const TERMINAL_INJECTION: [u32; 2] = [0x5412, 0x541c];

/// The policy. Order has no meaning.
pub const GROUPS: &[Group] = &[
    Group {
        name: "files",
        reason: "work with files and descriptors that the mounts already bound",
        verdict: Verdict::Allow,
        calls: calls![
            SYS_read SYS_write SYS_open SYS_close SYS_stat SYS_fstat SYS_lstat SYS_poll SYS_lseek SYS_pread64
            SYS_pwrite64 SYS_readv SYS_writev SYS_access SYS_pipe SYS_select SYS_dup SYS_dup2 SYS_sendfile SYS_fcntl
            SYS_flock SYS_fsync SYS_fdatasync SYS_truncate SYS_ftruncate SYS_getdents SYS_getcwd SYS_chdir SYS_fchdir
            SYS_rename SYS_mkdir SYS_rmdir SYS_creat SYS_link SYS_unlink SYS_symlink SYS_readlink SYS_chmod SYS_fchmod
            SYS_chown SYS_fchown SYS_lchown SYS_umask SYS_utime SYS_statfs SYS_fstatfs SYS_sync SYS_readahead
            SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr
            SYS_llistxattr SYS_flistxattr SYS_removexattr SYS_lremovexattr SYS_fremovexattr SYS_getdents64
            SYS_fadvise64 SYS_utimes SYS_openat SYS_mkdirat SYS_fchownat SYS_futimesat SYS_newfstatat SYS_unlinkat
            SYS_renameat SYS_linkat SYS_symlinkat SYS_readlinkat SYS_fchmodat SYS_faccessat SYS_pselect6 SYS_ppoll
            SYS_splice SYS_tee SYS_sync_file_range SYS_utimensat SYS_fallocate SYS_dup3 SYS_pipe2 SYS_preadv
            SYS_pwritev SYS_syncfs SYS_renameat2 SYS_copy_file_range SYS_preadv2 SYS_pwritev2 SYS_statx
            SYS_close_range SYS_openat2 SYS_faccessat2 SYS_fchmodat2 SYS_inotify_init SYS_inotify_add_watch
            SYS_inotify_rm_watch SYS_inotify_init1
        ],
    },
    Group {
        name: "new-files",
        reason: "calls newer than the C library's table",
        verdict: Verdict::Allow,
        calls: &[("cachestat", 451)],
    },
    Group {
        name: "memory",
        reason: "a process's own memory",
        verdict: Verdict::Allow,
        calls: calls![
            SYS_mmap SYS_mprotect SYS_munmap SYS_brk SYS_mremap SYS_msync SYS_mincore SYS_madvise SYS_mlock SYS_munlock
            SYS_mlockall SYS_munlockall SYS_remap_file_pages SYS_mlock2 SYS_memfd_create SYS_membarrier
            SYS_pkey_mprotect SYS_pkey_alloc SYS_pkey_free SYS_mseal
        ],
    },
    Group {
        name: "new-memory",
        reason: "calls newer than the C library's table",
        verdict: Verdict::Allow,
        calls: &[("map_shadow_stack", 453)],
    },
    Group {
        name: "processes",
        reason: "start, end, wait for and signal the workspace's own processes",
        verdict: Verdict::Allow,
        calls: calls![
            SYS_fork SYS_vfork SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_kill SYS_tkill
            SYS_tgkill SYS_getpid SYS_getppid SYS_gettid SYS_setpgid SYS_getpgrp SYS_getpgid SYS_setsid SYS_getsid
            SYS_prctl SYS_arch_prctl SYS_set_tid_address SYS_set_robust_list SYS_get_robust_list SYS_rseq
            SYS_restart_syscall SYS_pidfd_open SYS_pidfd_send_signal SYS_getrlimit SYS_setrlimit SYS_prlimit64
            SYS_getrusage SYS_times SYS_uname SYS_sysinfo SYS_getcpu SYS_getrandom
        ],
    },
    Group {
        name: "programs",
        reason: "run the programs of the image and the home",
        verdict: Verdict::Allow,
        calls: calls![SYS_execve SYS_execveat],
    },
    Group {
        name: "signals",
        reason: "signals and timers",
        verdict: Verdict::Allow,
        calls: calls![
            SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending SYS_rt_sigtimedwait
            SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo SYS_rt_sigsuspend SYS_sigaltstack SYS_pause SYS_nanosleep
            SYS_getitimer SYS_setitimer SYS_alarm SYS_timer_create SYS_timer_settime SYS_timer_gettime
            SYS_timer_getoverrun SYS_timer_delete SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime
            SYS_signalfd SYS_signalfd4 SYS_eventfd SYS_eventfd2 SYS_gettimeofday SYS_time SYS_clock_gettime
            SYS_clock_getres SYS_clock_nanosleep
        ],
    },
    Group {
        name: "waiting",
        reason: "event loops and locks",
        verdict: Verdict::Allow,
        calls: calls![
            SYS_epoll_create SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_wait SYS_epoll_pwait SYS_epoll_pwait2 SYS_futex
            SYS_futex_waitv
        ],
    },
    Group {
        name: "new-waiting",
        reason: "calls newer than the C library's table",
        verdict: Verdict::Allow,
        calls: &[("futex_wake", 454), ("futex_wait", 455), ("futex_requeue", 456)],
    },
    Group {
        name: "scheduling",
        reason: "the kernel refuses everything that would hurt others without a capability",
        verdict: Verdict::Allow,
        calls: calls![
            SYS_sched_yield SYS_sched_setparam SYS_sched_getparam SYS_sched_setscheduler SYS_sched_getscheduler
            SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_sched_setaffinity
            SYS_sched_getaffinity SYS_sched_setattr SYS_sched_getattr SYS_getpriority SYS_setpriority SYS_ioprio_set
            SYS_ioprio_get
        ],
    },
    Group {
        name: "identity",
        reason: "without capabilities a process can only become what it already is",
        verdict: Verdict::Allow,
        calls: calls![
            SYS_getuid SYS_getgid SYS_geteuid SYS_getegid SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_getgroups
            SYS_setgroups SYS_setresuid SYS_getresuid SYS_setresgid SYS_getresgid SYS_setfsuid SYS_setfsgid SYS_capget
            SYS_capset
        ],
    },
    Group {
        name: "own-walls",
        reason: "a process may build further walls around itself",
        verdict: Verdict::Allow,
        calls: calls![SYS_seccomp SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self],
    },
    Group {
        name: "ipc",
        reason: "System V and POSIX IPC inside the workspace's own IPC namespace",
        verdict: Verdict::Allow,
        calls: calls![
            SYS_shmget SYS_shmat SYS_shmctl SYS_shmdt SYS_semget SYS_semop SYS_semctl SYS_semtimedop SYS_msgget
            SYS_msgsnd SYS_msgrcv SYS_msgctl SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive
            SYS_mq_notify SYS_mq_getsetattr
        ],
    },
    Group {
        name: "async-io",
        reason: "the old asynchronous I/O of database programs",
        verdict: Verdict::Allow,
        calls: calls![SYS_io_setup SYS_io_destroy SYS_io_getevents SYS_io_submit SYS_io_cancel],
    },
    Group {
        name: "sockets",
        reason: "use of sockets whose family the next groups chose",
        verdict: Verdict::Allow,
        calls: calls![
            SYS_connect SYS_accept SYS_accept4 SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg
            SYS_recvmmsg SYS_shutdown SYS_bind SYS_listen SYS_getsockname SYS_getpeername SYS_setsockopt
            SYS_getsockopt
        ],
    },
    Group {
        name: "socket-families",
        reason: "local, TCP, UDP and route-netlink sockets; packet, vsock, alg, xdp, netfilter and the rest are kernel \
                 surface that no notebook needs",
        verdict: Verdict::AllowIf(&[
            &[equals(0, AF_UNIX)],
            &[equals(0, AF_INET), socket_type(SOCK_STREAM), equals(2, 0)],
            &[equals(0, AF_INET), socket_type(SOCK_STREAM), equals(2, IPPROTO_TCP)],
            &[equals(0, AF_INET), socket_type(SOCK_DGRAM), equals(2, 0)],
            &[equals(0, AF_INET), socket_type(SOCK_DGRAM), equals(2, IPPROTO_UDP)],
            &[equals(0, AF_INET6), socket_type(SOCK_STREAM), equals(2, 0)],
            &[equals(0, AF_INET6), socket_type(SOCK_STREAM), equals(2, IPPROTO_TCP)],
            &[equals(0, AF_INET6), socket_type(SOCK_DGRAM), equals(2, 0)],
            &[equals(0, AF_INET6), socket_type(SOCK_DGRAM), equals(2, IPPROTO_UDP)],
            &[equals(0, AF_NETLINK), equals(2, NETLINK_ROUTE)],
        ]),
        calls: calls![SYS_socket],
    },
    Group {
        name: "socket-pairs",
        reason: "only local sockets come in pairs",
        verdict: Verdict::AllowIf(&[&[equals(0, AF_UNIX)]]),
        calls: calls![SYS_socketpair],
    },
    Group {
        name: "terminal-injection",
        reason: "ioctl without the two requests that type into somebody else's terminal",
        verdict: Verdict::AllowIf(&[&[Condition::NoneOf { argument: 1, values: &TERMINAL_INJECTION }]]),
        calls: calls![SYS_ioctl],
    },
    Group {
        name: "clone-namespaces",
        reason: "threads and processes, but no new namespaces: a user namespace opens kernel code meant for root",
        verdict: Verdict::AllowIf(&[&[Condition::Masked { argument: 0, mask: NEW_NAMESPACE_FLAGS, value: 0 }]]),
        calls: calls![SYS_clone],
    },
    Group {
        name: "clone3",
        reason: "its flags are in memory, where a filter cannot see them; the C library falls back to clone",
        verdict: Verdict::Unknown,
        calls: calls![SYS_clone3],
    },
    Group {
        name: "special-files",
        reason: "pipes, sockets and plain files, but no device nodes",
        verdict: Verdict::AllowIf(&[
            &[Condition::Masked { argument: 1, mask: S_IFMT, value: 0 }],
            &[Condition::Masked { argument: 1, mask: S_IFMT, value: libc::S_IFREG }],
            &[Condition::Masked { argument: 1, mask: S_IFMT, value: libc::S_IFIFO }],
            &[Condition::Masked { argument: 1, mask: S_IFMT, value: libc::S_IFSOCK }],
        ]),
        calls: calls![SYS_mknod],
    },
    Group {
        name: "special-files-at",
        reason: "pipes, sockets and plain files, but no device nodes",
        verdict: Verdict::AllowIf(&[
            &[Condition::Masked { argument: 2, mask: S_IFMT, value: 0 }],
            &[Condition::Masked { argument: 2, mask: S_IFMT, value: libc::S_IFREG }],
            &[Condition::Masked { argument: 2, mask: S_IFMT, value: libc::S_IFIFO }],
            &[Condition::Masked { argument: 2, mask: S_IFMT, value: libc::S_IFSOCK }],
        ]),
        calls: calls![SYS_mknodat],
    },
    Group {
        name: "personality",
        reason: "ask for it or set the normal one; others switch off address randomisation",
        verdict: Verdict::AllowIf(&[&[equals(0, 0)], &[equals(0, -1)]]),
        calls: calls![SYS_personality],
    },
    Group {
        name: "namespaces",
        reason: "making or entering namespaces is how one gets around the others",
        verdict: Verdict::Refuse,
        calls: calls![SYS_unshare SYS_setns],
    },
    Group {
        name: "mounts",
        reason: "the view of the file system is fixed",
        verdict: Verdict::Refuse,
        calls: calls![
            SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig
            SYS_fsmount SYS_fspick SYS_mount_setattr
        ],
    },
    Group {
        name: "tracing",
        reason: "reading or steering another process",
        verdict: Verdict::Refuse,
        calls: calls![
            SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_kcmp SYS_pidfd_getfd SYS_process_madvise
            SYS_process_mrelease
        ],
    },
    Group {
        name: "file-handles",
        reason: "a handle opens a file around every directory on the way to it",
        verdict: Verdict::Refuse,
        calls: calls![SYS_open_by_handle_at SYS_name_to_handle_at],
    },
    Group { name: "bpf", reason: "programs in the kernel", verdict: Verdict::Refuse, calls: calls![SYS_bpf] },
    Group {
        name: "perf-events",
        reason: "measures, and with it observes, the whole machine",
        verdict: Verdict::Refuse,
        calls: calls![SYS_perf_event_open],
    },
    Group {
        name: "io-uring",
        reason: "does other system calls without passing this filter",
        verdict: Verdict::Refuse,
        calls: calls![SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register],
    },
    Group {
        name: "userfaultfd",
        reason: "stops the kernel in the middle of a copy: the helper of many exploits",
        verdict: Verdict::Refuse,
        calls: calls![SYS_userfaultfd],
    },
    Group {
        name: "keyrings",
        reason: "keys are kept per user id and shared beyond namespaces",
        verdict: Verdict::Refuse,
        calls: calls![SYS_keyctl SYS_add_key SYS_request_key],
    },
    Group {
        name: "kernel-code",
        reason: "modules and other kernels",
        verdict: Verdict::Refuse,
        calls: calls![
            SYS_init_module SYS_finit_module SYS_delete_module SYS_kexec_load SYS_kexec_file_load
        ],
    },
    Group {
        name: "machine",
        reason: "the state of the whole machine: clock, power, swap, quotas, names, ports, accounting, log",
        verdict: Verdict::Refuse,
        calls: calls![
            SYS_reboot SYS_swapon SYS_swapoff SYS_quotactl SYS_quotactl_fd SYS_acct SYS_vhangup SYS_sethostname
            SYS_setdomainname SYS_iopl SYS_ioperm SYS_settimeofday SYS_clock_settime SYS_clock_adjtime SYS_adjtimex
            SYS_syslog SYS_nfsservctl SYS_lookup_dcookie SYS_fanotify_init SYS_fanotify_mark
        ],
    },
    Group {
        name: "page-placement",
        reason: "moves other processes' pages or pins them to nodes; vmsplice maps pages into pipes",
        verdict: Verdict::Refuse,
        calls: calls![
            SYS_migrate_pages SYS_move_pages SYS_mbind SYS_set_mempolicy SYS_get_mempolicy SYS_set_mempolicy_home_node
            SYS_vmsplice SYS_memfd_secret
        ],
    },
    Group {
        name: "obsolete",
        reason: "nothing current uses them, and old code is where bugs live",
        verdict: Verdict::Refuse,
        calls: calls![
            SYS_uselib SYS_ustat SYS_sysfs SYS_modify_ldt SYS__sysctl SYS_getpmsg SYS_putpmsg SYS_afs_syscall
            SYS_tuxcall SYS_security SYS_set_thread_area SYS_get_thread_area SYS_epoll_ctl_old SYS_epoll_wait_old
            SYS_vserver
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_call_is_in_one_group_and_every_group_has_a_reason() {
        let mut numbers = HashSet::new();
        let mut names = HashSet::new();
        for group in GROUPS {
            assert!(names.insert(group.name), "{}", group.name);
            assert!(!group.reason.is_empty() && !group.calls.is_empty(), "{}", group.name);
            for (name, number) in group.calls {
                assert!(numbers.insert(*number), "{name} is in two groups");
            }
        }
        // x86-64 numbers calls 0 to 334 and again from 424; 174, 177, 178 and 333 are retired
        // or absent from the C library's table.
        let known = (0..=334).chain(424..=450);
        let missing: Vec<i64> = known.filter(|number| !numbers.contains(number)).collect();
        assert_eq!(missing, [174, 177, 178, 333]);
    }
}
