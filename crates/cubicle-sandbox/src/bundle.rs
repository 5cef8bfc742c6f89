//! The OCI bundle of a workspace: one description that every runtime executes.
//!
//! Source: <https://github.com/opencontainers/runtime-spec/blob/main/config.md>.

use serde_json::{Value, json};

use crate::cgroup::Cgroup;
use crate::protocol::SandboxSpec;
use crate::removal::removed;
use crate::seccomp;
use crate::stage::ROOT;

/// The tenant's uid and gid, inside.
pub(crate) const TENANT: u32 = 1000;

/// Size of `/dev/shm`, in bytes.
const SHM: u64 = 64 << 20;

/// Killed before the hub and the engine when the machine is out of memory (proc(5)).
pub(crate) const OOM_SCORE: i32 = 500;

/// Environment of the gate; the notebook's own comes with the go.
pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/interrupts",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// A limit of setrlimit(2): name, number, soft and hard.
pub(crate) type ResourceLimit = (&'static str, libc::__rlimit_resource_t, u64, u64);

/// The resource limits of every process of the workspace. None is above the helper's own hard
/// limit, which the kernel would refuse in a user namespace.
pub(crate) fn resource_limits(removed_walls: &[String]) -> Vec<ResourceLimit> {
    let own = |resource, wanted: u64| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: getrlimit fills the structure, which lives through the call.
        if unsafe { libc::getrlimit(resource, &raw mut limit) } == 0 { wanted.min(limit.rlim_max) } else { wanted }
    };
    let both = |name, resource, wanted| {
        let value = own(resource, wanted);
        (name, resource, value, value)
    };
    let mut limits = vec![
        both("RLIMIT_NOFILE", libc::RLIMIT_NOFILE, 65_536),
        both("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK, 8 << 20),
        both("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE, 819_200),
        both("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING, 16_384),
        both("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO, 0),
        both("RLIMIT_NICE", libc::RLIMIT_NICE, 0),
    ];
    if !removed(removed_walls, "rlimit-core") {
        limits.push(("RLIMIT_CORE", libc::RLIMIT_CORE, 0, 0));
    }
    limits
}

/// The namespaces of a workspace: OCI's name, the kernel's name, the mechanism.
pub(crate) const NAMESPACES: [(&str, &str, &str); 6] = [
    ("pid", "pid", "pid-namespace"),
    ("network", "net", "network-namespace"),
    ("ipc", "ipc", "ipc-namespace"),
    ("uts", "uts", "uts-namespace"),
    ("cgroup", "cgroup", "cgroup-namespace"),
    ("user", "user", "user-namespace"),
];

/// The bundle's `config.json`.
pub(crate) fn config(spec: &SandboxSpec, cgroup: &Cgroup, own_seccomp: bool) -> Value {
    let without = |mechanism: &str| removed(&spec.remove, mechanism);
    let mut namespaces = vec![json!({"type": "mount"})];
    for (name, _, mechanism) in NAMESPACES {
        if !without(mechanism) {
            namespaces.push(json!({"type": name}));
        }
    }
    let mapping = json!([{"containerID": 0, "hostID": spec.id_base, "size": 65536}]);
    let mut linux = json!({
        "cgroupsPath": spec.cgroup,
        "namespaces": namespaces,
        "maskedPaths": if without("masked-proc") { json!([]) } else { json!(MASKED) },
        "readonlyPaths": read_only_paths(spec, cgroup),
        "rootfsPropagation": "private",
    });
    if !without("user-namespace") {
        linux["uidMappings"] = mapping.clone();
        linux["gidMappings"] = mapping;
    }
    if !own_seccomp && !without("seccomp") {
        linux["seccomp"] = seccomp::oci(&spec.remove);
    }
    let limits: Vec<Value> = resource_limits(&spec.remove)
        .into_iter()
        .map(|(name, _, soft, hard)| json!({"type": name, "soft": soft, "hard": hard}))
        .collect();
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": TENANT, "gid": TENANT},
            "args": ["/.cubicle/probe", "gate"],
            "env": [format!("PATH={PATH}")],
            "cwd": "/",
            "capabilities": capabilities(spec),
            "rlimits": limits,
            "noNewPrivileges": !without("no-new-privs"),
            "oomScoreAdj": OOM_SCORE,
        },
        "root": {"path": ROOT, "readonly": !without("readonly-root")},
        "mounts": mounts(spec, cgroup),
        "linux": linux,
    });
    if !without("uts-namespace") {
        config["hostname"] = json!(spec.id.as_str());
    }
    config
}

/// Every capability, for the test that takes their absence away.
const ALL_CAPABILITIES: [&str; 8] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_NET_RAW",
    "CAP_SYS_ADMIN",
];

fn capabilities(spec: &SandboxSpec) -> Value {
    let without = |mechanism: &str| removed(&spec.remove, mechanism);
    let held: &[&str] = if without("capabilities") { &ALL_CAPABILITIES } else { &[] };
    if without("no-new-privs") && !without("capabilities") {
        // Without no_new_privs the filter needs this one to be installed; the program that
        // follows, of an ordinary user, loses it.
        let filter = ["CAP_SYS_ADMIN"];
        return json!({"bounding": [], "effective": filter, "permitted": filter, "inheritable": [], "ambient": []});
    }
    json!({"bounding": held, "effective": held, "permitted": held, "inheritable": held, "ambient": held})
}

fn read_only_paths(spec: &SandboxSpec, cgroup: &Cgroup) -> Vec<&'static str> {
    let mut paths = Vec::new();
    if !removed(&spec.remove, "readonly-proc-sys") {
        paths.extend(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
    }
    // The tmpfs that holds the mount points of version 1; made read-only once they are there.
    if !cgroup.is_unified() && !removed(&spec.remove, "readonly-cgroup") {
        paths.push("/sys/fs/cgroup");
    }
    paths
}

fn mounts(spec: &SandboxSpec, cgroup: &Cgroup) -> Vec<Value> {
    let without = |mechanism: &str| removed(&spec.remove, mechanism);
    let sized =
        |mechanism: &str, bytes: u64| if without(mechanism) { "size=90%".to_owned() } else { format!("size={bytes}") };
    let read_write = |mechanism: &str| if without(mechanism) { "rw" } else { "ro" };
    let mut mounts = Vec::new();
    // Only the owner of a pid namespace may mount a new proc; the same holds for the other
    // namespaces and their file systems below.
    if without("pid-namespace") {
        mounts.push(json!({"destination": "/proc", "type": "bind", "source": "/proc",
            "options": ["rbind", "nosuid", "noexec", "nodev"]}));
    } else {
        mounts.push(json!({"destination": "/proc", "type": "proc", "source": "proc",
            "options": ["nosuid", "noexec", "nodev"]}));
    }
    mounts.extend([
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "noexec", "strictatime", "mode=755", "size=64k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", sized("shm-size", SHM)]}),
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmp",
            "options": ["nosuid", "nodev", "mode=1777", sized("tmp-size", spec.limits.ephemeral_storage.0)]}),
    ]);
    if !without("ipc-namespace") {
        mounts.push(json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"]}));
    }
    // A new sysfs shows the devices of the network namespace that it is mounted in, and may only
    // be mounted by the owner of that namespace.
    if without("network-namespace") {
        mounts.push(json!({"destination": "/sys", "type": "bind", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", read_write("readonly-sys")]}));
    } else {
        mounts.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", read_write("readonly-sys")]}));
    }
    if cgroup.is_unified() {
        mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", read_write("readonly-cgroup")]}));
    } else {
        mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "tmpfs", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "mode=755", "size=64k"]}));
        for (name, directory) in cgroup.views() {
            mounts.push(json!({"destination": format!("/sys/fs/cgroup/{name}"), "type": "bind", "source": directory,
                "options": ["bind", "nosuid", "noexec", "nodev", read_write("readonly-cgroup")]}));
        }
    }
    if without("private-dev") {
        mounts.push(json!({"destination": "/dev/host", "type": "bind", "source": "/dev",
            "options": ["rbind", "rw"]}));
    }
    mounts
}
