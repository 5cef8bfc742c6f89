//! Guarantees about noisy neighbours: limits that bite.

use super::entry::{Attempts, BOTH, Entry, STAGED_CONTROL, fact};
use crate::attempt::{Action, Fact, GATE_CPU_LIMIT, GATE_MEMORY_ATTEMPT, Phase, gate_pids_limit};
use crate::guarantee::{Guarantee, Layer, Place};
use crate::plan::Situation;

/// How long the gate spins, in milliseconds: several of the short periods that it is given.
const SPIN_MS: u64 = 30;
/// Allocated in later proofs: enough to be counted, far from any limit.
const LATER_MEMORY: u64 = 4 << 20;

const CONTROL: &str = "The same load outside every limit runs through, before and after; the kernel's own counters of the root cgroup show no limit to the same reader.";

fn memory(_: &Situation, phase: Phase) -> Attempts {
    match phase {
        Phase::Gate => {
            vec![("allocate past the limit".to_owned(), Action::AllocateMemory { bytes: GATE_MEMORY_ATTEMPT })]
        }
        Phase::Later => vec![("allocate a little".to_owned(), Action::AllocateMemory { bytes: LATER_MEMORY })],
    }
}

fn processes(situation: &Situation, phase: Phase) -> Attempts {
    match phase {
        Phase::Gate => {
            let limit = gate_pids_limit(situation.limits.pids);
            vec![("fork past the limit".to_owned(), Action::ExceedProcesses { limit })]
        }
        Phase::Later => vec![("fork a little".to_owned(), Action::ExceedProcesses { limit: 2 })],
    }
}

fn processor(_: &Situation, phase: Phase) -> Attempts {
    let (milliseconds, limit) = match phase {
        Phase::Gate => (SPIN_MS, GATE_CPU_LIMIT),
        // Enough to be counted; nothing is to be broken.
        Phase::Later => (10, 0),
    };
    vec![("spin".to_owned(), Action::Spin { milliseconds, limit })]
}

const fn entry(guarantee: Guarantee, attempts: fn(&Situation, Phase) -> Attempts) -> Entry {
    Entry { guarantee, attempts: Some(attempts) }
}

pub(super) const ENTRIES: &[Entry] = &[
    entry(
        Guarantee {
            id: "neighbour.cpu",
            alias: "NN-01",
            layer: Layer::Workload,
            place: Place::Pod,
            engines: BOTH,
            sentence: "A workspace cannot use more processor time than its limit.",
            mechanism: "cgroup: cpu.max, or cpu.cfs_quota_us.",
            static_rule: "limits.cpu is set.",
            live_probe: "Before user code spins two threads under a small limit until the kernel counts throttling; then and later the limit in force is read from outside.",
            positive_control: CONTROL,
            references: &[
                "https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu",
                "https://docs.kernel.org/scheduler/sched-bwc.html",
            ],
        },
        processor,
    ),
    entry(
        Guarantee {
            id: "neighbour.memory",
            alias: "NN-02",
            layer: Layer::Workload,
            place: Place::Pod,
            engines: BOTH,
            sentence: "A workspace cannot use more memory than its limit.",
            mechanism: "cgroup: memory.max, or memory.limit_in_bytes.",
            static_rule: "limits.memory is set.",
            live_probe: "Before user code a child allocates past a small limit and is killed by the kernel; then and later the limit in force is read from outside.",
            positive_control: CONTROL,
            references: &["https://docs.kernel.org/admin-guide/cgroup-v2.html#memory"],
        },
        memory,
    ),
    entry(
        Guarantee {
            id: "neighbour.swap",
            alias: "NN-02B",
            layer: Layer::Workload,
            place: Place::Pod,
            engines: BOTH,
            sentence: "A workspace cannot get around its memory limit by swapping.",
            mechanism: "cgroup: memory.swap.max is 0, or memory.memsw.limit_in_bytes equals the memory limit.",
            static_rule: "The kubelet's memorySwap is NoSwap.",
            live_probe: "The limit in force is read from outside.",
            positive_control: "The root cgroup shows no limit to the same reader; a machine without swap space has nothing to limit.",
            references: &["https://docs.kernel.org/admin-guide/cgroup-v2.html#memory"],
        },
        |_, _| vec![fact("swap space", Fact::SwapPresent)],
    ),
    entry(
        Guarantee {
            id: "neighbour.processes",
            alias: "NN-03",
            layer: Layer::Workload,
            place: Place::Pod,
            engines: BOTH,
            sentence: "A workspace cannot use up the machine's processes.",
            mechanism: "cgroup: pids.max.",
            static_rule: "The kubelet's podPidsLimit (unlimited by default, and not in the pod's specification).",
            live_probe: "Before user code clones sleeping children until one more than the limit, and the kernel counts the refusal; then and later the limit in force is read from outside.",
            positive_control: CONTROL,
            references: &[
                "https://docs.kernel.org/admin-guide/cgroup-v2.html#pid",
                "https://kubernetes.io/docs/concepts/policy/pid-limiting/",
            ],
        },
        processes,
    ),
    entry(
        Guarantee {
            id: "neighbour.temporary-files",
            alias: "NN-04",
            layer: Layer::Workload,
            place: Place::Pod,
            engines: BOTH,
            sentence: "A workspace cannot fill the machine's disk with temporary files.",
            mechanism: "/tmp is in memory with a size limit and counts towards the memory limit.",
            static_rule: "limits.ephemeral-storage and emptyDir.sizeLimit.",
            live_probe: "Asks the kernel for the size of /tmp.",
            positive_control: STAGED_CONTROL,
            references: &["man 5 tmpfs", "man 3 statvfs"],
        },
        |situation, _| {
            let bytes = situation.limits.ephemeral_storage.0;
            vec![fact("size of /tmp", Fact::FileSystemLarger { path: "/tmp".to_owned(), bytes })]
        },
    ),
    entry(
        Guarantee {
            id: "neighbour.shared-memory",
            alias: "NN-08",
            layer: Layer::Workload,
            place: Place::Pod,
            engines: BOTH,
            sentence: "A workspace cannot fill the machine's memory through /dev/shm.",
            mechanism: "/dev/shm has a size limit and counts towards the memory limit.",
            static_rule: "sizeLimit of emptyDir volumes in memory.",
            live_probe: "Asks the kernel for the size of /dev/shm.",
            positive_control: STAGED_CONTROL,
            references: &["man 7 shm_overview", "man 5 tmpfs"],
        },
        |situation, _| {
            let bytes = situation.limits.memory.0;
            vec![fact("size of /dev/shm", Fact::FileSystemLarger { path: "/dev/shm".to_owned(), bytes })]
        },
    ),
    Entry {
        guarantee: Guarantee {
            id: "neighbour.disk-io",
            alias: "NN-06",
            layer: Layer::Workload,
            place: Place::Pod,
            engines: BOTH,
            sentence: "A workspace cannot saturate the machine's disks.",
            mechanism: "cgroup io.max, where the machine has it. No level promises it.",
            static_rule: "",
            live_probe: "",
            positive_control: "",
            references: &["https://docs.kernel.org/admin-guide/cgroup-v2.html#io"],
        },
        attempts: None,
    },
    Entry {
        guarantee: Guarantee {
            id: "neighbour.memory-bandwidth",
            alias: "NN-10",
            layer: Layer::Workload,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot slow others through caches and memory bandwidth.",
            mechanism: "Only a machine of its own, or hardware partitioning. No shared machine promises it.",
            static_rule: "",
            live_probe: "",
            positive_control: "",
            references: &["https://docs.kernel.org/filesystems/resctrl.html"],
        },
        attempts: None,
    },
];
