//! The single things a probe can try, as data: the same code runs them in both roles.
//!
//! Every one is written so that success is the bad thing: a wall that is not there. The
//! control must succeed for the tenant's failure to count.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// One thing to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Action {
    /// Open a TCP connection.
    TcpConnect {
        /// Address and port.
        address: SocketAddr,
        /// Whether a refusal by the other side shows that packets got there. Not so for
        /// loopback addresses, which every network namespace has.
        refusal_reaches: bool,
    },
    /// Open a TCP connection again and again from the probe's first instruction on.
    TcpWindow {
        /// Address and port.
        address: SocketAddr,
        /// How long, in milliseconds.
        milliseconds: u64,
    },
    /// Send a datagram and get one back.
    UdpExchange {
        /// Address and port.
        address: SocketAddr,
    },
    /// Have an HTTP proxy open a tunnel.
    ProxyConnect {
        /// Where the proxy listens.
        proxy: SocketAddr,
        /// Host and port, as written in the `CONNECT` line (RFC 9110, section 9.3.6).
        target: String,
        /// Where many workspaces share the proxy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shared: Option<SharedProxy>,
    },
    /// Connect to a listening Unix socket by its path. The control listens there in a root
    /// file system of its own making.
    UnixConnect {
        /// The path.
        path: String,
    },
    /// Make a socket.
    Socket {
        /// Of which kind.
        kind: SocketKind,
    },
    /// Make a system call, with arguments that the kernel rejects before it does anything.
    Call {
        /// Which.
        call: Call,
    },
    /// Find out whether the system-call filter lets a call pass, without making it: in a child
    /// that adds a filter of its own, whose answer for the call is "ask the tracer", and that has
    /// none. The kernel takes the strictest answer of all filters, so a filter that refuses shows
    /// by its error number, and one that allows by ENOSYS (seccomp(2), SECCOMP_RET_TRACE).
    PassFilter {
        /// Which.
        call: FilteredCall,
    },
    /// Stack as many Landlock rule sets on a child as the kernel allows to one process: one that
    /// is restricted already is told so by E2BIG (landlock_restrict_self(2)).
    StackRules,
    /// Open a file for reading and read one byte, or list one entry of a directory.
    Read {
        /// The path.
        path: String,
        /// Whether the control makes the file in a root file system of its own, because the
        /// machine may not have it.
        staged: bool,
    },
    /// Open a file for writing, without writing.
    Write {
        /// The path.
        path: String,
    },
    /// Make a file in a directory, and remove it.
    Create {
        /// The directory.
        directory: String,
    },
    /// Look whether something bad is so.
    Fact {
        /// What.
        fact: Fact,
    },
    /// Touch memory in a child that the kernel may kill.
    AllocateMemory {
        /// Bytes.
        bytes: u64,
    },
    /// Have one more process than the limit.
    ExceedProcesses {
        /// The limit.
        limit: u32,
    },
    /// Use more processor time than the limit allows, with several threads.
    Spin {
        /// Wall time, in milliseconds; the control may take longer on a busy machine.
        milliseconds: u64,
        /// The limit, in thousandths of one CPU.
        limit: u64,
    },
}

impl Action {
    /// Whether it runs into a limit, and slows down what goes on beside it.
    pub fn is_load(&self) -> bool {
        matches!(self, Self::AllocateMemory { .. } | Self::ExceedProcesses { .. } | Self::Spin { .. })
    }
}

/// What is needed besides to try a proxy that many workspaces share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedProxy {
    /// Who asks: a refusal of somebody unknown says nothing about the rules.
    pub credential: ProxyCredential,
    /// What the control asks: a proxy that refuses nothing, where no workspace may get.
    pub careless: SocketAddr,
}

/// A workspace's credential for a shared proxy: a user name and a password (RFC 7617).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyCredential {
    /// The workspace's id.
    pub user: String,
    /// The secret; letters and digits only, so that it can stand in an address.
    pub password: String,
}

impl std::fmt::Debug for ProxyCredential {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ProxyCredential of {}", self.user)
    }
}

/// Kinds of sockets that a notebook has no use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketKind {
    /// `AF_PACKET`, `SOCK_RAW`.
    Packet,
    /// `AF_INET`, `SOCK_RAW`, ICMP.
    RawIpv4,
    /// `AF_INET6`, `SOCK_RAW`, ICMPv6.
    RawIpv6,
    /// `AF_ALG`: the kernel's crypto interface.
    Alg,
    /// `AF_VSOCK`: to the hypervisor and its other machines.
    Vsock,
    /// `AF_NETLINK`, `NETLINK_NETFILTER`.
    NetlinkNetfilter,
    /// `AF_NETLINK`, `NETLINK_AUDIT`.
    NetlinkAudit,
    /// `AF_NETLINK`, `NETLINK_XFRM`.
    NetlinkXfrm,
    /// `AF_KEY`.
    Key,
    /// `AF_XDP`.
    Xdp,
    /// `AF_TIPC`.
    Tipc,
    /// `AF_RDS`.
    Rds,
    /// `AF_CAN`.
    Can,
    /// `AF_BLUETOOTH`.
    Bluetooth,
    /// `AF_QIPCRTR`.
    Qipcrtr,
    /// `AF_INET`, `SOCK_STREAM`, SCTP.
    Sctp,
}

/// System calls, each with the arguments of the errno oracle: a call that reaches the kernel
/// answers with a complaint about its arguments (`EFAULT`, `EINVAL`, `EBADF`, `ESRCH`), one
/// that is stopped with `EPERM`, `EACCES` or `ENOSYS`. The calls marked "done" really succeed
/// without the wall; they are harmless and undone with the child that makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// `mount` with a bad type pointer.
    Mount,
    /// `umount2` of a bad pointer.
    Umount,
    /// `pivot_root` of bad pointers.
    PivotRoot,
    /// `chroot` to a bad pointer.
    Chroot,
    /// `open_tree` with unknown flags.
    OpenTree,
    /// `move_mount` with unknown flags.
    MoveMount,
    /// `fsopen` with unknown flags.
    Fsopen,
    /// `fsmount` with unknown flags.
    Fsmount,
    /// `fspick` with unknown flags.
    Fspick,
    /// `mount_setattr` with unknown flags.
    MountSetattr,
    /// `bpf` with command -1.
    Bpf,
    /// `io_uring_setup` without parameters.
    IoUringSetup,
    /// `io_uring_enter` with descriptor -1.
    IoUringEnter,
    /// `io_uring_register` with descriptor -1.
    IoUringRegister,
    /// `perf_event_open` without attributes.
    PerfEventOpen,
    /// `userfaultfd` with unknown flags.
    Userfaultfd,
    /// `keyctl` with command -1.
    Keyctl,
    /// `add_key` with a bad pointer.
    AddKey,
    /// `request_key` with a bad pointer.
    RequestKey,
    /// `ptrace(PTRACE_PEEKDATA)` of process -1.
    Ptrace,
    /// `process_vm_readv` with unknown flags.
    ProcessVmReadv,
    /// `process_vm_writev` with unknown flags.
    ProcessVmWritev,
    /// `kcmp` of processes -1.
    Kcmp,
    /// `open_by_handle_at` with a bad pointer.
    OpenByHandleAt,
    /// `name_to_handle_at` with unknown flags.
    NameToHandleAt,
    /// `init_module` with a bad pointer.
    InitModule,
    /// `finit_module` with unknown flags.
    FinitModule,
    /// `delete_module` with a bad pointer.
    DeleteModule,
    /// `kexec_load` with unknown flags.
    KexecLoad,
    /// `kexec_file_load` with unknown flags.
    KexecFileLoad,
    /// `reboot` with a wrong magic number.
    Reboot,
    /// `swapon` with unknown flags.
    Swapon,
    /// `swapoff` of a bad pointer.
    Swapoff,
    /// `acct` of a bad pointer.
    Acct,
    /// `quotactl` with command -1.
    Quotactl,
    /// `fanotify_init` with unknown flags.
    FanotifyInit,
    /// `settimeofday` from a bad pointer.
    Settimeofday,
    /// `clock_settime` from a bad pointer.
    ClockSettime,
    /// `adjtimex` with a bad pointer.
    Adjtimex,
    /// `sethostname` from a bad pointer.
    Sethostname,
    /// `setdomainname` from a bad pointer.
    Setdomainname,
    /// `syslog(SYSLOG_ACTION_SIZE_BUFFER)`; done, reads a number.
    SyslogSize,
    /// `iopl` with level 4.
    Iopl,
    /// `ioperm` beyond the last port.
    Ioperm,
    /// `setns` with descriptor -1.
    Setns,
    /// `clone3` without arguments.
    Clone3,
    /// `unshare(CLONE_NEWUSER)`; done, in a child.
    UnshareUser,
    /// `unshare(CLONE_NEWNS)`; done, in a child.
    UnshareMount,
    /// `unshare(CLONE_NEWNET)`; done, in a child.
    UnshareNetwork,
    /// `clone(CLONE_NEWUSER)`; done, the child exits at once.
    CloneUser,
    /// `setresuid(0, 0, 0)`; done, in a child that is not root.
    BecomeRoot,
    /// `setgroups` to none; done, in a child.
    Setgroups,
    /// `mknod` of a null device in `/tmp`; done, and removed.
    MakeDevice,
    /// `setpriority` to -5; done, for a child.
    RaisePriority,
    /// `sched_setscheduler(SCHED_FIFO)`; done, for a child.
    RealTime,
    /// Write -1000 to the child's own `oom_score_adj`; done.
    LowerOomScore,
    /// Raise the child's own hard limit of open files by one; done.
    RaiseLimit,
}

/// Calls that the kernel refuses to a tenant for other reasons too, or that work on harmless
/// arguments: only the filter's own answer shows that the filter is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilteredCall {
    /// `init_module`.
    InitModule,
    /// `finit_module`.
    FinitModule,
    /// `delete_module`.
    DeleteModule,
    /// `kexec_load`.
    KexecLoad,
    /// `kexec_file_load`.
    KexecFileLoad,
    /// `migrate_pages`.
    MigratePages,
    /// `move_pages`.
    MovePages,
    /// `mbind`.
    Mbind,
    /// `vmsplice`.
    Vmsplice,
    /// `memfd_secret`.
    MemfdSecret,
    /// `mknod` of a block device.
    Mknod,
    /// `mknodat` of a block device.
    Mknodat,
    /// `ioctl(TIOCSTI)`: types into a terminal.
    TypeIntoTerminal,
    /// `ioctl(TIOCLINUX)`: pastes into a console.
    PasteIntoConsole,
    /// `personality(ADDR_NO_RANDOMIZE)`.
    FixAddresses,
}

/// How a field of `/proc/self/status` is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Bad when the hexadecimal number is not zero.
    NonZero,
    /// Bad when it is zero or absent.
    Zero,
    /// Bad unless it is 2.
    NotTwo,
}

/// Something bad that may be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fact")]
pub enum Fact {
    /// A user, group or supplementary group id is 0.
    RootUser,
    /// A field of `/proc/self/status` breaks a rule.
    Status {
        /// The field, without the colon.
        field: String,
        /// The rule.
        rule: Rule,
    },
    /// The process is in the machine's initial namespace of this kind, known by its fixed
    /// inode number (`include/uapi/linux/nsfs.h`, `include/linux/proc_ns.h`).
    InitialNamespace {
        /// The name below `/proc/self/ns`.
        kind: String,
        /// The inode number.
        inode: u64,
    },
    /// A user or group id maps to a host id outside this range.
    IdsOutside {
        /// The first host id of the workspace.
        first: u32,
        /// How many it has.
        count: u32,
    },
    /// A process of somebody else can be seen: another user's, or one of the kernel's.
    ForeignProcesses,
    /// A file system is mounted writable somewhere else than here.
    WritableMounts {
        /// Where it may be.
        allowed: Vec<String>,
    },
    /// A writable mount lets setuid bits or device nodes work.
    LooseMounts {
        /// Where it may: the private `/dev` and the kernel's own.
        except: Vec<String>,
    },
    /// The file system at this path is mounted writable.
    WritableMount {
        /// The path.
        path: String,
    },
    /// A mount passes changes on to or from the machine.
    SharedMounts,
    /// `/dev` holds something else.
    Devices {
        /// What it may hold.
        allowed: Vec<String>,
    },
    /// The kernel that answers was booted at another time than the machine's.
    OtherKernel {
        /// The machine's `/proc/sys/kernel/random/boot_id`.
        boot_id: String,
    },
    /// A crash may leave a core file: `RLIMIT_CORE` is not 0.
    CoreFiles,
    /// There is another network interface.
    Interfaces {
        /// What there may be.
        allowed: Vec<String>,
    },
    /// An abstract Unix socket of somebody else can be seen.
    AbstractSockets,
    /// A program with a setuid or setgid bit is in one of these directories.
    SetuidFiles {
        /// Where to look.
        directories: Vec<String>,
    },
    /// The root file system is not a read-only one that is named by a digest.
    UnpinnedImage,
    /// The environment has a variable whose name looks like a secret of the platform.
    SecretVariables {
        /// Parts of names, in capitals.
        parts: Vec<String>,
    },
    /// Addresses are not randomised.
    PredictableAddresses,
    /// A file system is bigger than its limit.
    FileSystemLarger {
        /// A path in it.
        path: String,
        /// The limit, in bytes.
        bytes: u64,
    },
    /// A file system has room for more files than this.
    FileSystemMoreFiles {
        /// A path in it.
        path: String,
        /// The limit.
        files: u64,
    },
    /// A directory tree has a file of another user.
    ForeignFiles {
        /// The directory.
        path: String,
    },
    /// A directory's parent holds other directories.
    Siblings {
        /// The directory.
        path: String,
    },
    /// Going up from a directory does not end at the root directory.
    EscapesRoot {
        /// The directory.
        path: String,
    },
    /// The machine has swap space.
    SwapPresent,
}
