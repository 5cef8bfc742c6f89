//! How guarantees are tried in a pod. The controls run as root in a reference pod without walls
//! on the same node: it dials the very addresses, and reads the machine's own namespaces.

use std::net::{IpAddr, SocketAddr};

use crate::attempt::{Action, Fact, Phase};
use crate::catalogue::egress;
use crate::catalogue::entry::{Attempts, Entry, fact, tcp, udp, v4};
use crate::plan::{Cluster, Situation};

/// Guarantees that a pod's first process tries exactly as a sandbox's does on one machine.
/// What containerd's default profile or the kubelet leaves open is not among them: a promise
/// that no wall keeps would only ever be refused.
const AS_LOCALLY: &[&str] = &[
    "container.capabilities",
    "container.change-image",
    "container.host-root",
    "container.kernel-settings",
    "container.other-processes",
    "container.predictable-addresses",
    "container.priority",
    "container.privilege-by-exec",
    "container.root-user",
    "container.system-call-filter",
    "control-plane.runtime-sockets",
    "image.programs-not-writable",
    "kernel.bpf",
    "kernel.mount",
    "network.cloud-fabric",
    "network.credential-doors",
    "network.internet",
    "network.ipv6",
    "network.mail",
    "network.metadata-ipv4",
    "network.metadata-ipv6",
    "network.private-ranges",
    "network.raw-sockets",
    "node.declared-kernel",
    "node.kernel-log",
    "node.process-files",
    "services.environment-secrets",
    "storage.leave-home",
];

/// How a guarantee is tried in a cluster.
pub(in crate::catalogue) type InCluster = fn(&Situation, &Cluster, Phase) -> Attempts;

/// Guarantees that are tried differently in a pod, or only there.
const IN_CLUSTER: &[(&str, InCluster)] = &[
    // Not the cgroup namespace: runtimes give pods one of their own on cgroup v2 nodes only. Not the
    // pid namespace: a node may itself be in one; `container.other-processes` looks for its processes.
    ("container.host-namespaces", |_, _, _| {
        [("ipc", 0xEFFF_FFFF), ("uts", 0xEFFF_FFFE)]
            .into_iter()
            .map(|(kind, inode)| {
                fact(&format!("{kind} namespace"), Fact::InitialNamespace { kind: kind.to_owned(), inode })
            })
            .collect()
    }),
    ("control-plane.credentials", |_, _, _| credentials()),
    ("control-plane.api-server", |_, cluster, _| cluster.api_server.iter().map(to).collect()),
    ("control-plane.etcd", |_, cluster, _| on_nodes(cluster, &[2379, 2380])),
    ("node.kubelet", |_, cluster, _| on_nodes(cluster, &[10250])),
    ("node.kubelet-read-only", |_, cluster, _| on_nodes(cluster, &[10255])),
    ("node.host-services", |_, cluster, _| on_nodes(cluster, HOST_PORTS)),
    ("network.other-workspace", |_, cluster, _| cluster.other_node.iter().map(to).collect()),
    ("network.other-workspace-same-node", |_, cluster, _| cluster.same_node.iter().map(to).collect()),
    ("network.other-workspace-udp", |_, cluster, _| {
        cluster.same_node.iter().chain(&cluster.other_node).map(|one| udp(one.ip(), one.port())).collect()
    }),
    ("network.services", |_, cluster, _| cluster.services.iter().map(to).collect()),
    ("network.node-ports", |_, cluster, _| match cluster.node_ports.as_slice() {
        // Where a site has none, the first port of the range shows it.
        [] => on_nodes(cluster, &[30_000]),
        ports => ports.iter().map(to).collect(),
    }),
    ("network.platform-ports", |_, cluster, _| cluster.platform.iter().map(to).collect()),
    ("network.dns-servers", |_, cluster, _| name_servers(cluster)),
    ("network.second-interface", |_, _, _| {
        vec![fact("interfaces", Fact::Interfaces { allowed: vec!["lo".to_owned(), "eth0".to_owned()] })]
    }),
    // The kubelet's limit is on the pod's group, where the container's own file does not show it: it is tried.
    ("neighbour.processes", |situation, _, phase| match phase {
        Phase::Gate => {
            vec![("fork past the limit".to_owned(), Action::ExceedProcesses { limit: situation.limits.pids })]
        }
        Phase::Later => Vec::new(),
    }),
    ("network.start-up-window", |_, cluster, phase| match phase {
        Phase::Gate => cluster.window.iter().map(window).collect(),
        Phase::Later => Vec::new(),
    }),
];

/// What nodes of clusters commonly listen on: SSH, kube-proxy, controller-manager, scheduler,
/// API server, network plugins, metrics.
const HOST_PORTS: &[u16] = &[22, 2376, 4240, 6443, 9090, 9100, 10249, 10256, 10257, 10259];
/// How long the gate dials from its first instruction on, in milliseconds.
const WINDOW_MS: u64 = 300;

/// What a pod's first process tries for this guarantee; nothing when a pod cannot try it.
pub(in crate::catalogue) fn attempts(
    entry: &Entry,
    situation: &Situation,
    cluster: &Cluster,
    phase: Phase,
) -> Attempts {
    let id = entry.guarantee.id;
    if let Some((_, attempts)) = in_cluster().find(|(known, _)| *known == id) {
        return attempts(situation, cluster, phase);
    }
    match entry.attempts {
        Some(attempts) if AS_LOCALLY.contains(&id) => attempts(situation, phase),
        _ => Vec::new(),
    }
}

/// Whether anything is ever tried for this guarantee in a pod.
pub(in crate::catalogue) fn is_tried_in_pods(id: &str) -> bool {
    AS_LOCALLY.contains(&id) || in_cluster().any(|(known, _)| *known == id)
}

fn in_cluster() -> impl Iterator<Item = &'static (&'static str, InCluster)> {
    IN_CLUSTER.iter().chain(egress::IN_CLUSTER)
}

fn to(address: &SocketAddr) -> (String, Action) {
    tcp(address.ip(), address.port())
}

fn window(address: &SocketAddr) -> (String, Action) {
    (format!("from the start {address}"), Action::TcpWindow { address: *address, milliseconds: WINDOW_MS })
}

fn on_nodes(cluster: &Cluster, ports: &[u16]) -> Attempts {
    let nodes = cluster.own_node.iter().chain(&cluster.other_nodes);
    nodes.flat_map(|node| ports.iter().map(|port| tcp(*node, *port))).collect()
}

/// Name servers other than the cluster's own: canaries on port 53, and a public one.
fn name_servers(cluster: &Cluster) -> Attempts {
    const PUBLIC: IpAddr = v4(8, 8, 8, 8);
    let servers = cluster.name_servers.iter().map(|one| (one.ip(), one.port())).chain([(PUBLIC, 53)]);
    servers.flat_map(|(address, port)| [tcp(address, port), udp(address, port)]).collect()
}

fn credentials() -> Attempts {
    [
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/run/secrets/kubernetes.io/serviceaccount/token",
        "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
        "/var/run/secrets/tokens/token",
        "/etc/kubernetes/admin.conf",
        "/root/.kube/config",
    ]
    .into_iter()
    .map(|path| (path.to_owned(), Action::Read { path: path.to_owned(), staged: true }))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    #[test]
    fn the_lists_name_guarantees_of_kubernetes_that_can_be_tried() {
        for id in AS_LOCALLY.iter().copied().chain(in_cluster().map(|(id, _)| *id)) {
            let entry = catalogue::ENTRIES.iter().find(|entry| entry.guarantee.id == id).expect(id);
            assert!(entry.guarantee.engines.contains(&crate::level::EngineKind::Kubernetes), "{id}");
            assert!(!entry.guarantee.positive_control.is_empty(), "{id}");
        }
        for id in AS_LOCALLY {
            let entry = catalogue::ENTRIES.iter().find(|entry| entry.guarantee.id == *id).expect("exists");
            assert!(entry.attempts.is_some(), "{id} has no attempts");
            assert!(!in_cluster().any(|(known, _)| known == id), "{id} is in both lists");
        }
    }
}
