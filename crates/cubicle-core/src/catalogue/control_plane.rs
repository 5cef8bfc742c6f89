//! Guarantees about the interfaces of the engine or the cluster.

use super::entry::{Attempts, BOTH, Entry, LOCAL, STAGED_CONTROL, reads};
use crate::attempt::Action;
use crate::guarantee::{Guarantee, Layer, Place};

/// Credentials that machines and clusters keep in well-known places.
const CREDENTIALS: &[&str] = &[
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
    "/var/lib/kubelet/kubeconfig",
    "/etc/kubernetes/admin.conf",
    "/root/.kube/config",
    "/root/.ssh/id_ed25519",
    "/root/.docker/config.json",
    "/root/.aws/credentials",
];

/// Where the local engine keeps its state, for the homes that `./up` uses by default.
const ENGINE_FILES: &[&str] =
    &["/var/lib/cubicle/engine/engine.db", "/var/lib/cubicle/keys/site.key", "/var/lib/cubicle/hub/hub.db"];
const ENGINE_SOCKETS: &[&str] =
    &["/var/lib/cubicle/run/engine.sock", "/var/lib/cubicle/run/hub.sock", "/var/lib/cubicle/run/admin.sock"];

fn connects(paths: &[&str]) -> Attempts {
    paths.iter().map(|path| ((*path).to_owned(), Action::UnixConnect { path: (*path).to_owned() })).collect()
}

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        guarantee: Guarantee {
            id: "control-plane.credentials",
            alias: "CP-01",
            layer: Layer::ControlPlane,
            place: Place::Pod,
            engines: BOTH,
            sentence: "A workspace cannot read a credential of the machine, the cluster or the cloud.",
            mechanism: "The workspace's file system holds the image, its home and nothing of the machine; on Kubernetes no service account token is mounted.",
            static_rule: "automountServiceAccountToken is false in the pod and no volume projects a serviceAccountToken; on one machine no bind mount of a host directory but the home and named data sets.",
            live_probe: "Opens the well-known places of service account tokens, kubeconfig, SSH, registry and cloud credentials.",
            positive_control: STAGED_CONTROL,
            references: &[
                "https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#opt-out-of-api-credential-automounting",
                "CIS Kubernetes Benchmark 5.1.6",
                "NSA/CISA Kubernetes Hardening Guide 1.2: service account tokens",
            ],
        },
        attempts: Some(|_, _| reads(CREDENTIALS, true)),
    },
    Entry {
        guarantee: Guarantee {
            id: "control-plane.engine",
            alias: "CP-15",
            layer: Layer::ControlPlane,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot use the power of what launches workspaces.",
            mechanism: "The engine's sockets, database and keys lie outside the workspace's file system; on Kubernetes the controller's rights are minimal and its pods unreachable.",
            static_rule: "The controller's service account has verbs in managed namespaces only, no list of secrets, nothing on nodes; no volume of the engine is mounted in a workspace.",
            live_probe: "Connects to the engine's sockets and opens its database and keys by their paths.",
            positive_control: "The same probe connects to a listener, and reads a file, at the very path in a root file system that was made for it.",
            references: &["https://kubernetes.io/docs/concepts/security/rbac-good-practices/"],
        },
        attempts: Some(|_, _| [connects(ENGINE_SOCKETS), reads(ENGINE_FILES, true)].concat()),
    },
    Entry {
        guarantee: Guarantee {
            id: "control-plane.runtime-sockets",
            alias: "ND-05",
            layer: Layer::ControlPlane,
            place: Place::Node,
            engines: BOTH,
            sentence: "A workspace cannot talk to a container runtime of the machine.",
            mechanism: "No socket of the machine is mounted, and the network namespace has its own abstract sockets.",
            static_rule: "No hostPath below /run or /var/run and no hostNetwork.",
            live_probe: "Connects to the sockets of containerd, Docker, CRI-O, Podman, the kubelet and systemd by their paths.",
            positive_control: "The same probe connects to a listener at the very path in a root file system that was made for it.",
            references: &[
                "CIS Docker Benchmark 5.31: the Docker socket is not mounted inside any container",
                "https://kubernetes.io/docs/concepts/security/pod-security-standards/",
            ],
        },
        attempts: Some(|_, _| {
            connects(&[
                "/run/containerd/containerd.sock",
                "/run/docker.sock",
                "/var/run/docker.sock",
                "/run/crio/crio.sock",
                "/run/podman/podman.sock",
                "/var/lib/kubelet/pod-resources/kubelet.sock",
                "/run/dbus/system_bus_socket",
                "/run/systemd/private",
            ])
        }),
    },
    Entry {
        guarantee: Guarantee {
            id: "control-plane.abstract-sockets",
            alias: "ND-05B",
            layer: Layer::ControlPlane,
            place: Place::Node,
            engines: LOCAL,
            sentence: "A workspace cannot see abstract Unix sockets of the machine.",
            mechanism: "A network namespace of its own: abstract sockets belong to it (unix(7)).",
            static_rule: "The sandbox has its own network namespace.",
            live_probe: "Before user code runs, looks for any abstract socket in /proc/self/net/unix.",
            positive_control: "The same reader finds one in the control's network namespace, which has one.",
            references: &["man 7 unix", "CVE-2020-15257 (containerd-shim)"],
        },
        // Later the tenant may have made abstract sockets of its own.
        attempts: Some(|_, phase| match phase {
            crate::attempt::Phase::Gate => {
                vec![super::entry::fact("abstract sockets", crate::attempt::Fact::AbstractSockets)]
            }
            crate::attempt::Phase::Later => Vec::new(),
        }),
    },
];
