//! Guarantees about what the workspace's processes are: users, capabilities, namespaces, files.

use super::entry::{Attempts, BOTH, CALL_CONTROL, Entry, FACT_CONTROL, LOCAL, calls, fact, reads, writes};
use crate::attempt::{Action, Call, Fact, Phase, Rule};
use crate::guarantee::{Guarantee, Layer, Place};
use crate::plan::Situation;

fn status(fields: &[(&str, Rule)]) -> Attempts {
    fields.iter().map(|(field, rule)| fact(field, Fact::Status { field: (*field).to_owned(), rule: *rule })).collect()
}

/// Fixed inode numbers of the initial namespaces, in `include/uapi/linux/nsfs.h` (before Linux
/// 6.17 in `include/linux/proc_ns.h`).
fn initial(namespaces: &[(&str, u64)]) -> Attempts {
    namespaces
        .iter()
        .map(|(kind, inode)| {
            fact(&format!("{kind} namespace"), Fact::InitialNamespace { kind: (*kind).to_owned(), inode: *inode })
        })
        .collect()
}

fn creates(directories: &[&str]) -> Attempts {
    directories
        .iter()
        .map(|directory| (format!("create in {directory}"), Action::Create { directory: (*directory).to_owned() }))
        .collect()
}

/// Whether these are mounted writable. Who owns the files there stops a tenant too: only the mount's own
/// flag shows this wall.
fn mounts(paths: &[&str]) -> Attempts {
    paths
        .iter()
        .map(|path| fact(&format!("the mount of {path}"), Fact::WritableMount { path: (*path).to_owned() }))
        .collect()
}

/// The first host id of a workspace and how many it has.
const IDS: u32 = 65_536;

const fn entry(guarantee: Guarantee, attempts: fn(&Situation, Phase) -> Attempts) -> Entry {
    Entry { guarantee, attempts: Some(attempts) }
}

const PSS: &str = "https://kubernetes.io/docs/concepts/security/pod-security-standards/";
const OCI_LINUX: &str = "https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md";

/// The guarantee that only Landlock holds.
pub const FILE_RULES: &str = "container.file-rules";

pub(super) const ENTRIES: &[Entry] = &[
    entry(
        Guarantee {
            id: "container.root-user",
            alias: "CT-01",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot be the root user, not even of its own sandbox.",
            mechanism: "Runs as an ordinary user; the image cannot choose another one.",
            static_rule: "runAsNonRoot, or hostUsers: false.",
            live_probe: "Reads its real, effective, saved and file-system ids and its groups, and tries to become uid 0.",
            positive_control: FACT_CONTROL,
            references: &[PSS, "CIS Docker Benchmark 4.1", "man 7 credentials"],
        },
        |_, _| {
            let mut attempts = vec![fact("ids", Fact::RootUser)];
            attempts.extend(calls(&[("setresuid 0", Call::BecomeRoot), ("setgroups", Call::Setgroups)]));
            attempts
        },
    ),
    entry(
        Guarantee {
            id: "container.host-root",
            alias: "CT-02",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace that escapes its container would still be nobody on the machine.",
            mechanism: "A user namespace of its own.",
            static_rule: "hostUsers: false, and a runtime that honours it.",
            live_probe: "Compares its user namespace with the initial one.",
            positive_control: FACT_CONTROL,
            references: &[
                "man 7 user_namespaces",
                "https://kubernetes.io/docs/concepts/workloads/pods/user-namespaces/",
                "KEP-127",
            ],
        },
        |_, _| initial(&[("user", 0xEFFF_FFFD)]),
    ),
    entry(
        Guarantee {
            id: "container.privilege-by-exec",
            alias: "CT-03",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot gain privilege by executing a program.",
            mechanism: "no_new_privs.",
            static_rule: "allowPrivilegeEscalation: false.",
            live_probe: "Reads NoNewPrivs.",
            positive_control: FACT_CONTROL,
            references: &["https://docs.kernel.org/userspace-api/no_new_privs.html", PSS],
        },
        |_, _| status(&[("NoNewPrivs", Rule::Zero)]),
    ),
    entry(
        Guarantee {
            id: "container.capabilities",
            alias: "CT-04",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot hold any capability.",
            mechanism: "All five capability sets are empty.",
            static_rule: "capabilities drop ALL, none added.",
            live_probe: "Reads the permitted, effective, bounding, inheritable and ambient set.",
            positive_control: FACT_CONTROL,
            references: &["man 7 capabilities", PSS, "CIS Docker Benchmark 5.4"],
        },
        |_, _| {
            // Root's inheritable and ambient sets are empty too: no control can show them full.
            status(&[("CapPrm", Rule::NonZero), ("CapEff", Rule::NonZero), ("CapBnd", Rule::NonZero)])
        },
    ),
    entry(
        Guarantee {
            id: "container.system-call-filter",
            alias: "CT-05",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot run without a system-call filter.",
            mechanism: "seccomp in filter mode.",
            static_rule: "seccompProfile RuntimeDefault or Localhost.",
            live_probe: "Reads the seccomp mode and the number of filters.",
            positive_control: FACT_CONTROL,
            references: &["man 2 seccomp", PSS, "CIS Docker Benchmark 5.22"],
        },
        |_, _| status(&[("Seccomp", Rule::NotTwo), ("Seccomp_filters", Rule::Zero)]),
    ),
    entry(
        Guarantee {
            id: "container.change-image",
            alias: "CT-21",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot change its image.",
            mechanism: "The root file system is mounted read-only.",
            static_rule: "readOnlyRootFilesystem: true.",
            live_probe: "Makes a file in /, /usr, /etc, /opt and /var; asks whether the root is mounted writable.",
            positive_control: "Root makes and removes the same file in a root file system of its own, and finds that one writable.",
            references: &[
                "CIS Docker Benchmark 5.13",
                "NSA/CISA Kubernetes Hardening Guide: immutable container file systems",
            ],
        },
        |_, _| {
            let mut attempts = creates(&["/", "/usr", "/etc", "/opt", "/var"]);
            attempts.extend(mounts(&["/"]));
            attempts
        },
    ),
    entry(
        Guarantee {
            id: "container.loose-mounts",
            alias: "CT-21B",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot use setuid bits or device nodes on anything that it can write.",
            mechanism: "Every writable file system is mounted nosuid and nodev.",
            static_rule: "The mount options of the specification.",
            live_probe: "Reads its mount table for a writable file system without them.",
            positive_control: "The same reader finds one in the mount table of the machine.",
            references: &["man 8 mount", OCI_LINUX],
        },
        |_, _| {
            let except = ["/dev", "/dev/pts", "/dev/console", "/proc"].map(str::to_owned).to_vec();
            vec![fact("mount options", Fact::LooseMounts { except })]
        },
    ),
    entry(
        Guarantee {
            id: "container.kernel-settings",
            alias: "CT-19",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot change settings of the kernel.",
            mechanism: "/proc/sys, /proc/sysrq-trigger and /sys are read-only, and the files belong to another user.",
            static_rule: "procMount is Default; no unsafe sysctls.",
            live_probe: "Opens settings for writing, and writes nothing; asks whether /proc/sys is mounted writable.",
            positive_control: "Root on the machine opens the same file for writing, and finds a writable mount in its own scene.",
            references: &["https://docs.kernel.org/admin-guide/sysctl/index.html", PSS],
        },
        |_, _| {
            let mut attempts = writes(&[
                "/proc/sys/kernel/core_pattern",
                "/proc/sys/kernel/domainname",
                "/proc/sys/vm/overcommit_memory",
                "/proc/sysrq-trigger",
                "/proc/irq/default_smp_affinity",
                "/sys/kernel/mm/transparent_hugepage/enabled",
                "/sys/kernel/uevent_helper",
            ]);
            attempts.extend(mounts(&["/proc/sys"]));
            attempts
        },
    ),
    entry(
        Guarantee {
            id: "container.cgroups",
            alias: "CT-20",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot change its own limits.",
            mechanism: "No cgroup file system, or a read-only one.",
            static_rule: "Not privileged; cgroup namespace private.",
            live_probe: "Opens cgroup.procs and release_agent for writing in every hierarchy, asks whether one is mounted writable, raises a hard resource limit.",
            positive_control: "Root on the machine opens the same file for writing; a hierarchy that the machine does not have is absent.",
            references: &["https://docs.kernel.org/admin-guide/cgroup-v2.html", "CVE-2022-0492"],
        },
        |_, _| {
            let mut attempts = writes(&[
                "/sys/fs/cgroup/cgroup.procs",
                "/sys/fs/cgroup/cgroup.subtree_control",
                "/sys/fs/cgroup/unified/cgroup.procs",
                "/sys/fs/cgroup/memory/cgroup.procs",
                "/sys/fs/cgroup/memory/release_agent",
                "/sys/fs/cgroup/pids/cgroup.procs",
                "/sys/fs/cgroup/cpu/cgroup.procs",
                "/sys/fs/cgroup/devices/release_agent",
            ]);
            attempts.extend(calls(&[("setrlimit", Call::RaiseLimit)]));
            attempts.extend(mounts(&["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"]));
            attempts
        },
    ),
    entry(
        Guarantee {
            id: "container.host-namespaces",
            alias: "CT-22",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot be in the machine's pid, ipc, uts or cgroup namespace.",
            mechanism: "Namespaces of its own.",
            static_rule: "hostPID, hostIPC and hostNetwork are false.",
            live_probe: "Compares its namespaces with the initial ones, whose numbers are fixed in the kernel.",
            positive_control: FACT_CONTROL,
            references: &["man 7 namespaces", PSS, "CIS Docker Benchmark 5.16, 5.17, 5.21"],
        },
        |_, _| initial(&[("pid", 0xEFFF_FFFC), ("ipc", 0xEFFF_FFFF), ("uts", 0xEFFF_FFFE), ("cgroup", 0xEFFF_FFFB)]),
    ),
    entry(
        Guarantee {
            id: "container.other-processes",
            alias: "CT-23",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot see processes that are not its own.",
            mechanism: "A pid namespace and a /proc of its own.",
            static_rule: "shareProcessNamespace and hostPID are false.",
            live_probe: "Looks through /proc for a process of another user or of the kernel.",
            positive_control: "The same reader finds one on the machine, where the control has started one.",
            references: &["man 7 pid_namespaces"],
        },
        |_, _| vec![fact("processes", Fact::ForeignProcesses)],
    ),
    entry(
        Guarantee {
            id: "container.device-nodes",
            alias: "CT-25",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot make or open device nodes of the machine.",
            mechanism: "No CAP_MKNOD, the device cgroup, a private /dev.",
            static_rule: "Not privileged; capabilities drop ALL.",
            live_probe: "Makes a device node, and opens the devices for memory, the kernel's log, virtual machines, tunnels and user file systems.",
            positive_control: "Root on the machine does the same; a device that the machine does not have is absent.",
            references: &["man 2 mknod", OCI_LINUX, "https://docs.kernel.org/admin-guide/devices.html"],
        },
        |_, _| {
            let mut attempts = calls(&[("mknod", Call::MakeDevice)]);
            attempts.extend(reads(
                &["/dev/mem", "/dev/port", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/vhost-net"],
                false,
            ));
            attempts.extend(reads(
                &["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop-control", "/dev/mapper/control"],
                false,
            ));
            attempts
        },
    ),
    entry(
        Guarantee {
            id: "container.priority",
            alias: "CT-26",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot put itself before others when the machine is short of memory or time.",
            mechanism: "No CAP_SYS_RESOURCE and no CAP_SYS_NICE.",
            static_rule: "capabilities drop ALL.",
            live_probe: "In a child, lowers its out-of-memory score, raises its priority, and asks for real-time scheduling.",
            positive_control: CALL_CONTROL,
            references: &["man 5 proc: oom_score_adj", "man 7 sched"],
        },
        |_, _| {
            calls(&[
                ("oom_score_adj", Call::LowerOomScore),
                ("setpriority", Call::RaisePriority),
                ("sched_setscheduler", Call::RealTime),
            ])
        },
    ),
    entry(
        Guarantee {
            id: "container.predictable-addresses",
            alias: "CT-27",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace is never started with predictable memory addresses.",
            mechanism: "kernel.randomize_va_space is 2, and the first process's personality does not turn it off.",
            static_rule: "kernel.randomize_va_space of every node.",
            live_probe: "Reads both.",
            positive_control: "The same reader finds it after the control has turned it off for itself.",
            references: &[
                "https://docs.kernel.org/admin-guide/sysctl/kernel.html#randomize-va-space",
                "man 2 personality",
            ],
        },
        |_, _| vec![fact("address randomisation", Fact::PredictableAddresses)],
    ),
    entry(
        Guarantee {
            id: "container.shared-ids",
            alias: "NN-07",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot share the kernel's per-user limits and ownership with another workspace.",
            mechanism: "Each workspace's user namespace maps to a range of host ids of its own.",
            static_rule: "hostUsers: false, or a uid per tenant.",
            live_probe: "Reads its uid and gid maps and compares them with the range that the engine gave it.",
            positive_control: FACT_CONTROL,
            references: &["man 7 user_namespaces", "man 5 subuid"],
        },
        |situation, _| vec![fact("id maps", Fact::IdsOutside { first: situation.id_base, count: IDS })],
    ),
    entry(
        Guarantee {
            id: FILE_RULES,
            alias: "CT-24B",
            layer: Layer::Workload,
            place: Place::Container,
            engines: LOCAL,
            sentence: "A workspace cannot write outside its own places even if a mount allowed it.",
            mechanism: "Landlock rules beneath the mounts, where the kernel has Landlock.",
            static_rule: "None: Kubernetes has no field for it.",
            live_probe: "Stacks as many rule sets on a child as the kernel allows to one process; one that is restricted already has room for fewer.",
            positive_control: "The same by root, which nothing restricts: all of them fit. A kernel without Landlock has none to stack.",
            references: &["man 7 landlock", "man 2 landlock_restrict_self"],
        },
        |_, _| vec![("rule sets".to_owned(), Action::StackRules)],
    ),
    Entry {
        guarantee: Guarantee {
            id: "container.security-module",
            alias: "CT-24",
            layer: Layer::Workload,
            place: Place::Container,
            engines: BOTH,
            sentence: "A workspace cannot run unconfined by a Linux security module.",
            mechanism: "AppArmor or SELinux, where the machine has one.",
            static_rule: "appArmorProfile or seLinuxOptions.",
            live_probe: "",
            positive_control: "",
            references: &["https://docs.kernel.org/admin-guide/LSM/index.html"],
        },
        attempts: None,
    },
];
