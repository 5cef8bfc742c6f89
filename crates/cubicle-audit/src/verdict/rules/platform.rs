//! What a workspace learns from the platform: its store, its metrics, its logs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::finding::{Cause, Severity};
use super::super::scene::{Scene, title};
use super::super::tenancy::Workspace;
use super::super::wire::Target;
use super::network::{PRIVATE_V4, PRIVATE_V6, at_rule, certainty, reached};
use super::rights::any_of;
use crate::network::Match;
use crate::network::port::Protocol;
use crate::workload::Template;

/// etcd's ports, for clients and for its peers.
const ETCD: [u16; 2] = [2379, 2380];

/// The addresses of the control plane's machines, as far as the manifests tell.
fn control_plane(scene: &Scene<'_>) -> BTreeSet<IpAddr> {
    let mut found: BTreeSet<IpAddr> = BTreeSet::new();
    let services: BTreeSet<IpAddr> = scene
        .of_kind("", "Service")
        .filter_map(|(_, object)| object.value["spec"].text_at("clusterIP")?.parse().ok())
        .collect();
    found.extend(scene.wire.api_server(scene).into_iter().map(|(address, _)| address));
    found.retain(|address| !services.contains(address));
    for (_, object) in scene.of_kind("", "Node") {
        let labels = &object.value["metadata"]["labels"];
        let roles = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
        if roles.iter().any(|role| labels.get(role).is_some()) {
            let addresses = object.value["status"]["addresses"].items().iter();
            found.extend(addresses.filter_map(|one| one.text_at("address")?.parse::<IpAddr>().ok()));
        }
    }
    found
}

/// One address of every part of some ranges where a port may be reached, the range with it.
fn open_parts(
    scene: &Scene<'_>,
    workspace: &Workspace,
    ranges: &[&str],
    ports: &[u16],
) -> Option<(IpNet, IpAddr, u16)> {
    ranges.iter().filter_map(|range| range.parse::<IpNet>().ok()).find_map(|range| {
        scene.wire.parts(range).into_iter().find_map(|address| {
            let reach = scene.wire.out(workspace, address)?;
            let port = ports.iter().find(|port| certainty(&reach, Protocol::Tcp, Some(**port)) != Match::No)?;
            Some((range, address, *port))
        })
    })
}

pub(super) fn etcd(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let known = control_plane(scene);
    if known.is_empty() {
        // Where nothing at all can be reached on these ports, it does not matter where etcd is.
        if let Some((_, address, port)) = open_parts(scene, workspace, &["0.0.0.0/0", "::/0"], &ETCD) {
            let told = format!("{} -> {address}:{port} TCP", workspace.title());
            let sentence =
                "reach etcd: no address of the control plane is among the manifests (name it with --api-server)";
            causes.push(Cause::unproven("unknown", sentence).seen([told]));
        }
        return;
    }
    for address in known {
        let Some(reach) = scene.wire.out(workspace, address) else { continue };
        for port in ETCD {
            let open = certainty(&reach, Protocol::Tcp, Some(port));
            let sentence = format!("reach etcd at {address} port {port}, where every secret of the cluster lies");
            if let Some(cause) = reached(open, Severity::High, format!("{address}:{port}"), sentence) {
                let cause = cause.seen([format!("{} -> {address}:{port} TCP", workspace.title())]);
                causes.push(at_rule(scene, workspace, &Target::Address(address), cause));
            }
        }
    }
}

/// Programs that tell about everybody, by a label of their pods, with the ports where they do.
/// Sources: the manifests of CoreDNS in kubernetes/kubernetes (`cluster/addons/dns`), of
/// kube-state-metrics (`examples/standard`) and of prometheus-operator/kube-prometheus.
const TELLERS: &[(&str, &str, &[u16], &str)] = &[
    ("k8s-app", "kube-dns", &[9153], "the name server's metrics"),
    ("app.kubernetes.io/name", "coredns", &[9153], "the name server's metrics"),
    ("app.kubernetes.io/name", "kube-state-metrics", &[8080, 8081, 8443, 9443], "the state of every object"),
    ("app.kubernetes.io/name", "prometheus", &[9090], "everybody's metrics"),
    ("app.kubernetes.io/name", "alertmanager", &[9093, 9094], "the site's alerts"),
    ("app.kubernetes.io/name", "node-exporter", &[9100], "the metrics of a node"),
    ("app.kubernetes.io/name", "metrics-server", &[4443, 10250], "the use of every pod"),
    ("k8s-app", "metrics-server", &[4443, 10250], "the use of every pod"),
];

fn tells(template: &Template) -> impl Iterator<Item = (&'static [u16], &'static str)> + '_ {
    TELLERS
        .iter()
        .filter(|(key, value, ..)| template.labels.get(*key).is_some_and(|own| own == value))
        .map(|(_, _, ports, what)| (*ports, *what))
}

pub(super) fn metrics(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    transfers(scene, causes);
    let mut known = false;
    for template in &scene.platform {
        for (ports, what) in tells(template) {
            known = true;
            let Some(reach) = scene.wire.between(&workspace.template, template) else { continue };
            for port in ports {
                let open = certainty(&reach, Protocol::Tcp, Some(*port));
                let pod = template.title();
                let sentence = format!("read {what} from {pod} port {port}");
                if let Some(cause) = reached(open, Severity::Medium, format!("{pod}:{port}"), sentence) {
                    let told = format!("{} -> {}/{} TCP {port}", workspace.title(), template.namespace, template.name);
                    let target = Target::Pod(Box::new((*template).clone()));
                    causes.push(at_rule(scene, workspace, &target, cause.seen([told])));
                }
            }
        }
    }
    if known {
        return;
    }
    // Pods have private addresses. Where none can be reached, it does not matter which they are.
    let ports: Vec<u16> = TELLERS.iter().flat_map(|(_, _, ports, _)| ports.iter().copied()).collect();
    let private = [PRIVATE_V4, PRIVATE_V6].concat();
    if let Some((range, address, port)) = open_parts(scene, workspace, &private, &ports) {
        let told = format!("{} -> {address}:{port} TCP", workspace.title());
        let sentence = format!(
            "read the platform's metrics somewhere in {range}: neither a name server nor a collector is among the manifests"
        );
        causes.push(Cause::unproven("unknown", sentence).seen([told]));
    }
}

/// Name servers that hand out whole zones: CoreDNS' plugin `transfer` with `to *`.
fn transfers(scene: &Scene<'_>, causes: &mut Vec<Cause>) {
    for (_, object) in scene.of_kind("", "ConfigMap") {
        let Some(file) = object.value["data"].text_at("Corefile") else { continue };
        let mut inside = false;
        let open = file.lines().map(str::trim).any(|line| {
            if line.starts_with("transfer") && line.ends_with('{') {
                inside = true;
            } else if line == "}" {
                inside = false;
            }
            inside && line.strip_prefix("to ").is_some_and(|whom| whom.split_whitespace().any(|one| one == "*"))
        });
        if open {
            let sentence = "have the name server hand out its whole zone, every service of the cluster among it";
            let location = scene.location(object.place("/data/Corefile"));
            causes.push(Cause::breach(Severity::Medium, "transfer", sentence).at(title(object), Some(location)));
        }
    }
}

pub(super) fn logs(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let wanted = [
        ("get", "", "pods/log", "read the logs of pods"),
        ("get", "metrics.k8s.io", "pods", "read what pods use"),
        ("list", "metrics.k8s.io", "pods", "read what pods use"),
        ("get", "", "nodes/log", "read the logs of nodes"),
        ("get", "", "nodes/metrics", "read the metrics of nodes"),
        ("get", "", "nodes/proxy", "read the logs of every pod through the kubelets"),
    ];
    any_of(scene, workspace, Severity::Medium, &wanted, causes);
    for (pointer, name, path) in super::node::host_paths(scene, workspace) {
        let folder = format!("{}/", path.trim_end_matches('/'));
        let holds = ["/var/log/pods/", "/var/log/containers/", "/var/lib/docker/containers/"];
        if holds.iter().any(|logs| logs.starts_with(&folder) || folder.starts_with(logs)) {
            let sentence = format!("read the logs of every pod of its node in {path} of volume {name}");
            let cause = Cause::breach(Severity::High, format!("{name}:{path}"), sentence);
            causes.push(scene.in_pod(workspace, &pointer, cause));
        }
    }
}
