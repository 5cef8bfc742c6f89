//! Guarantees about the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::entry::{
    Attempts, BOTH, CALL_CONTROL, DIAL_CONTROL, Entry, FACT_CONTROL, calls, fact, machine_addresses, reads, tcp,
};
use crate::attempt::{Call, Fact, Phase};
use crate::guarantee::{Guarantee, Layer, Place};
use crate::plan::Situation;

/// Ports on which machines commonly listen: SSH, rpcbind, Docker, etcd, Kubernetes, metrics.
const HOST_PORTS: &[u16] = &[22, 111, 2375, 2376, 2379, 6443, 9090, 9100, 10250, 10255];

fn host_services(situation: &Situation, phase: Phase) -> Attempts {
    let mut attempts: Attempts = machine_addresses(situation)
        .flat_map(|address| HOST_PORTS.iter().map(move |port| tcp(address, *port)))
        .collect();
    // Later the tenant may listen on its own loopback address; before user code nobody does.
    if phase == Phase::Gate {
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            attempts.extend(HOST_PORTS.iter().map(|port| tcp(address, *port)));
        }
    }
    attempts
}

/// What a private `/dev` holds.
const DEVICES: &[&str] = &[
    "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue", "fd", "stdin",
    "stdout", "stderr", "core",
];

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        guarantee: Guarantee {
            id: "node.host-services",
            alias: "ND-03",
            layer: Layer::Workload,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot reach services of the machine that runs it.",
            mechanism: "The workspace has no network interface but its own loopback; on Kubernetes network policy and the host firewall.",
            static_rule: "No network but a loopback interface; on Kubernetes no egress to node addresses.",
            live_probe: "Dials every address of the machine on the ports where machines listen. A refused connection counts as reached.",
            positive_control: DIAL_CONTROL,
            references: &["CVE-2020-8558", "https://kubernetes.io/docs/concepts/services-networking/network-policies/"],
        },
        attempts: Some(host_services),
    },
    Entry {
        guarantee: Guarantee {
            id: "node.host-files",
            alias: "ND-04",
            layer: Layer::Workload,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot see or write files of the machine.",
            mechanism: "A mount namespace of its own with a read-only image, a home, and file systems in memory.",
            static_rule: "No hostPath volume; on one machine only the home, the image and named data sets are mounted, none of them shared.",
            live_probe: "Reads its mount table for a writable or shared file system that is not its own, and opens well-known files of the machine.",
            positive_control: "The same reader finds such mounts in the mount table of the machine, and opens such files in a root file system made for it.",
            references: &["https://kubernetes.io/docs/concepts/storage/volumes/#hostpath", "man 7 mount_namespaces"],
        },
        attempts: Some(|situation, _| {
            let allowed =
                ["/tmp", "/dev", "/dev/shm", "/dev/mqueue", "/dev/pts", "/dev/console", "/proc", "/run", "/var/tmp"]
                    .into_iter()
                    .map(str::to_owned)
                    .chain([situation.home_path.clone()])
                    .collect();
            let mut attempts = vec![
                fact("writable mounts", Fact::WritableMounts { allowed }),
                fact("shared mounts", Fact::SharedMounts),
            ];
            // Places that machines have and images do not.
            attempts.extend(reads(&["/boot/grub/grub.cfg", "/host/etc/shadow", "/rootfs/etc/shadow"], true));
            attempts
        }),
    },
    Entry {
        guarantee: Guarantee {
            id: "node.declared-kernel",
            alias: "ND-06",
            layer: Layer::Workload,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot run on another kernel than the one that was declared.",
            mechanism: "The engine starts it itself on this machine; on Kubernetes the runtime class.",
            static_rule: "runtimeClassName and the handler of the RuntimeClass.",
            live_probe: "Compares the kernel's boot id inside with the machine's.",
            positive_control: "The same reader, shown another boot id in a mount namespace made for it, notices.",
            references: &[
                "man 4 random: /proc/sys/kernel/random/boot_id",
                "https://kubernetes.io/docs/concepts/containers/runtime-class/",
            ],
        },
        attempts: Some(|situation, _| vec![fact("boot id", Fact::OtherKernel { boot_id: situation.boot_id.clone() })]),
    },
    Entry {
        guarantee: Guarantee {
            id: "node.devices",
            alias: "ND-08",
            layer: Layer::Workload,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot see devices of the machine.",
            mechanism: "A private /dev in memory with the few harmless character devices.",
            static_rule: "Not privileged; no device plugin resource that the template does not name.",
            live_probe: "Lists /dev for anything beyond the harmless set.",
            positive_control: FACT_CONTROL,
            references: &["https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#default-devices"],
        },
        attempts: Some(|_, _| {
            vec![fact(
                "device list",
                Fact::Devices { allowed: DEVICES.iter().map(|name| (*name).to_owned()).collect() },
            )]
        }),
    },
    Entry {
        guarantee: Guarantee {
            id: "node.kernel-log",
            alias: "ND-09",
            layer: Layer::Workload,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot read the kernel's log.",
            mechanism: "System-call filter, no CAP_SYSLOG, no /dev/kmsg.",
            static_rule: "The system-call filter denies syslog; kernel.dmesg_restrict is 1.",
            live_probe: "Asks for the size of the log with syslog(SYSLOG_ACTION_SIZE_BUFFER), and opens /dev/kmsg.",
            positive_control: CALL_CONTROL,
            references: &["man 2 syslog", "https://docs.kernel.org/admin-guide/sysctl/kernel.html#dmesg-restrict"],
        },
        attempts: Some(|_, _| {
            let mut attempts = calls(&[("syslog", Call::SyslogSize)]);
            attempts.extend(reads(&["/dev/kmsg", "/proc/kmsg"], false));
            attempts
        }),
    },
    Entry {
        guarantee: Guarantee {
            id: "node.core-files",
            alias: "ND-11",
            layer: Layer::Workload,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot leave core files behind.",
            mechanism: "RLIMIT_CORE is 0, soft and hard.",
            static_rule: "The sandbox's specification sets RLIMIT_CORE to 0.",
            live_probe: "Reads its own limit.",
            positive_control: "The same reader finds it after the control has raised its own limit.",
            references: &["man 5 core"],
        },
        attempts: Some(|_, _| vec![fact("RLIMIT_CORE", Fact::CoreFiles)]),
    },
    Entry {
        guarantee: Guarantee {
            id: "node.core-helper",
            alias: "ND-11B",
            layer: Layer::Workload,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot make the kernel start a crash helper on the machine.",
            mechanism: "kernel.core_pattern of the machine does not start with a pipe. This is the machine's own setting, and most distributions pipe cores to a helper.",
            static_rule: "kernel.core_pattern of every node.",
            live_probe: "",
            positive_control: "",
            references: &["man 5 core", "CVE-2022-0492"],
        },
        attempts: None,
    },
    Entry {
        guarantee: Guarantee {
            id: "node.own-machine",
            alias: "ND-07",
            layer: Layer::Workload,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot share a machine with another tenant.",
            mechanism: "A node pool per tenant. One machine for everybody cannot promise it.",
            static_rule: "Taint and label of a pool per tenant with required anti-affinity.",
            live_probe: "",
            positive_control: "",
            references: &["https://kubernetes.io/docs/concepts/security/multi-tenancy/#node-isolation"],
        },
        attempts: None,
    },
    Entry {
        guarantee: Guarantee {
            id: "node.side-channels",
            alias: "ND-10",
            layer: Layer::Workload,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot learn about others through caches, branch predictors and timing.",
            mechanism: "Only a machine of its own. Not probed.",
            static_rule: "Placement.",
            live_probe: "",
            positive_control: "",
            references: &["https://docs.kernel.org/admin-guide/hw-vuln/index.html"],
        },
        attempts: None,
    },
    Entry {
        guarantee: Guarantee {
            id: "node.process-files",
            alias: "CT-18",
            layer: Layer::Workload,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot read the parts of /proc and /sys that tell about the machine.",
            mechanism: "Masked paths over /proc and /sys.",
            static_rule: "procMount is Default; the masked paths of the specification hold the list of the OCI default.",
            live_probe: "Opens /proc/kcore, keys, latency_stats, timer_list, sched_debug, scsi, acpi and kpagecount, and the firmware, debug, tracing and security folders of /sys, and reads one byte.",
            positive_control: "Root on the machine reads the same file; a file that the kernel does not have is absent.",
            references: &["https://kubernetes.io/docs/concepts/security/pod-security-standards/", "CVE-2024-21626"],
        },
        attempts: Some(|_, _| {
            reads(
                &[
                    "/proc/kcore",
                    "/proc/keys",
                    "/proc/latency_stats",
                    "/proc/timer_list",
                    "/proc/sched_debug",
                    "/proc/scsi",
                    "/proc/acpi",
                    "/proc/kpagecount",
                    "/sys/firmware",
                    "/sys/kernel/debug",
                    "/sys/kernel/tracing",
                    "/sys/kernel/security",
                ],
                false,
            )
        }),
    },
    Entry {
        guarantee: Guarantee {
            id: "node.other-roots",
            alias: "CT-13B",
            layer: Layer::Workload,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot enter the file system or memory of the process that supervises it.",
            mechanism: "The first process is not dumpable and its binary is unreadable; processes outside have no number in the workspace's pid namespace.",
            static_rule: "hostPID is false.",
            live_probe: "A process that is not the first opens the root, memory, environment and map of the first through /proc.",
            positive_control: "Root opens the same paths in a pid namespace made for it.",
            references: &["man 5 proc", "man 2 prctl: PR_SET_DUMPABLE"],
        },
        attempts: Some(|_, _| reads(&["/proc/1/root", "/proc/1/mem", "/proc/1/environ", "/proc/1/maps"], true)),
    },
];
