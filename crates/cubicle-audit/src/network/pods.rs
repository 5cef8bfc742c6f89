//! Pods as they are, and the pods that workloads will make.

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::cluster::{Cluster, ClusterNode, ContainerPort, NamespaceId, Owner, Pod};
use super::reader::Reader;
use super::selector::Symbol;
use crate::snapshot::{Node, Object, ObjectId, Snapshot};

/// Two pods of a workload tell everything there is to tell about any number of them: one may
/// speak with itself, and with another of its kind.
const ENOUGH_REPLICAS: i64 = 2;

/// Pods of a StatefulSet have names and labels of their own, so each is made, up to here.
const MOST_REPLICAS: i64 = 1000;

/// The workload kinds and where each keeps its pods' template.
const WORKLOADS: [(&str, &str, &[&str]); 7] = [
    ("apps", "Deployment", &["spec", "template"]),
    ("apps", "StatefulSet", &["spec", "template"]),
    ("apps", "DaemonSet", &["spec", "template"]),
    ("apps", "ReplicaSet", &["spec", "template"]),
    ("", "ReplicationController", &["spec", "template"]),
    ("batch", "Job", &["spec", "template"]),
    ("batch", "CronJob", &["spec", "jobTemplate", "spec", "template"]),
];

/// A workload as its pods refer to it.
type WorkloadKey = (Arc<str>, Arc<str>, Arc<str>);

pub(super) fn add_node(cluster: &mut Cluster, object: &Object) {
    let labels = Reader::new(cluster, object).shared_labels(object.value.at(&["metadata", "labels"]));
    let addresses = object.value.at(&["status", "addresses"]).map_or(&[][..], Node::items);
    let addresses = addresses.iter().filter_map(|address| address.text_at("address")?.parse().ok()).collect();
    let name = cluster.symbols.intern(&object.name);
    cluster.nodes.push(ClusterNode { name, labels, addresses });
}

/// Adds the pods of a snapshot, and for each workload without a pod in it those it would make.
pub(super) fn add_all(cluster: &mut Cluster, snapshot: &Snapshot) {
    let mut made: FxHashSet<WorkloadKey> = FxHashSet::default();
    let mut present: FxHashSet<WorkloadKey> = FxHashSet::default();
    for object in &snapshot.objects {
        let Some(namespace) = &object.namespace else { continue };
        if workload(object).is_some() {
            present.insert((Arc::clone(namespace), Arc::clone(&object.kind), Arc::clone(&object.name)));
        }
        if is_pod(object) {
            made.extend(owner(object).map(|owner| (Arc::clone(namespace), owner.kind, owner.name)));
        }
    }
    // What owns a workload that has pods has pods: Deployment, ReplicaSet, pod.
    for object in &snapshot.objects {
        let Some(namespace) = &object.namespace else { continue };
        let key = (Arc::clone(namespace), Arc::clone(&object.kind), Arc::clone(&object.name));
        if workload(object).is_some() && made.contains(&key) {
            made.extend(owner(object).map(|owner| (Arc::clone(namespace), owner.kind, owner.name)));
        }
    }
    for (id, object) in (0..).map(ObjectId).zip(&snapshot.objects) {
        let Some(namespace) = &object.namespace else { continue };
        if is_pod(object) {
            add_pod(cluster, id, object);
            continue;
        }
        let Some(template) = workload(object) else { continue };
        let key = (Arc::clone(namespace), Arc::clone(&object.kind), Arc::clone(&object.name));
        let by_another =
            owner(object).is_some_and(|owner| present.contains(&(Arc::clone(namespace), owner.kind, owner.name)));
        if !made.contains(&key) && !by_another {
            add_workload(cluster, id, object, template);
        }
    }
}

fn is_pod(object: &Object) -> bool {
    &*object.api_version == "v1" && &*object.kind == "Pod"
}

/// Where a workload keeps the template of its pods.
fn workload(object: &Object) -> Option<&'static [&'static str]> {
    let group = object.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let is_group = |wanted: &str| group == wanted || (group == "extensions" && wanted == "apps");
    WORKLOADS.iter().find(|(wanted, kind, _)| *kind == &*object.kind && is_group(wanted)).map(|(_, _, path)| *path)
}

/// The controller of an object, or its first owner.
fn owner(object: &Object) -> Option<Owner> {
    let owners = object.value.at(&["metadata", "ownerReferences"])?.items();
    let owner =
        owners.iter().find(|owner| owner.get("controller").and_then(Node::bool) == Some(true)).or(owners.first())?;
    Some(Owner { kind: owner.text_at("kind").unwrap_or_default().into(), name: owner.text_at("name")?.into() })
}

fn add_pod(cluster: &mut Cluster, id: ObjectId, object: &Object) {
    let status = &object.value["status"];
    let addresses = addresses(status, "podIPs", "podIP");
    let node_addresses = self::addresses(status, "hostIPs", "hostIP");
    let finished = matches!(status.text_at("phase"), Some("Succeeded" | "Failed"));
    let mut pod = from_spec(cluster, id, object, &object.value["spec"], object.value.at(&["metadata", "labels"]));
    pod.owner = owner(object);
    pod.owned = pod.owner.is_some();
    // The mirror of a static pod belongs to its node, which is no workload.
    pod.owner = pod.owner.filter(|owner| &*owner.kind != "Node");
    (pod.addresses, pod.node_addresses, pod.finished) = (addresses, node_addresses, finished);
    cluster.pods.push(pod);
}

fn add_workload(cluster: &mut Cluster, id: ObjectId, object: &Object, path: &[&str]) {
    let Some(template) = object.value.at(path) else {
        Reader::new(cluster, object).refuse(
            &object.value,
            format!("this {} has no template of its pods", object.kind),
            "give one",
        );
        return;
    };
    let number = |key: &str| object.value.at(&["spec", key]).and_then(Node::integer).unwrap_or(1).max(1);
    let replicas = match &*object.kind {
        "StatefulSet" => number("replicas").min(MOST_REPLICAS),
        // One on each node, and who knows how many nodes.
        "DaemonSet" => ENOUGH_REPLICAS,
        "Job" => number("parallelism").min(ENOUGH_REPLICAS),
        "CronJob" => object
            .value
            .at(&["spec", "jobTemplate", "spec", "parallelism"])
            .and_then(Node::integer)
            .unwrap_or(1)
            .clamp(1, ENOUGH_REPLICAS),
        _ => number("replicas").min(ENOUGH_REPLICAS),
    };
    let labels = template.at(&["metadata", "labels"]);
    let model = from_spec(cluster, id, object, &template["spec"], labels);
    let start = object.value.at(&["spec", "ordinals", "start"]).and_then(Node::integer).unwrap_or(0);
    for replica in 0..replicas {
        let mut pod = model.clone();
        pod.owner = Some(Owner { kind: Arc::clone(&object.kind), name: Arc::clone(&object.name) });
        pod.owned = true;
        pod.name = match &*object.kind {
            "StatefulSet" => format!("{}-{}", object.name, start + replica).into(),
            _ => format!("{}-{}", object.name, replica + 1).into(),
        };
        let added = added_labels(cluster, object, &pod.name, start + replica);
        if !added.is_empty() {
            let mut labels: Vec<_> =
                pod.labels.iter().copied().filter(|(key, _)| added.iter().all(|(new, _)| new != key)).collect();
            labels.extend(added);
            labels.sort_unstable();
            pod.labels = labels.into();
        }
        cluster.pods.push(pod);
    }
}

/// Labels that controllers give their pods. Where the value is a hash it is one nobody writes.
fn added_labels(cluster: &mut Cluster, object: &Object, pod: &str, ordinal: i64) -> Vec<(Symbol, Symbol)> {
    let hash = "(a hash)";
    let ordinal = ordinal.to_string();
    let labels: &[(&str, &str)] = match &*object.kind {
        "StatefulSet" => &[
            ("statefulset.kubernetes.io/pod-name", pod),
            ("apps.kubernetes.io/pod-index", &ordinal),
            ("controller-revision-hash", hash),
        ],
        "DaemonSet" => &[("controller-revision-hash", hash), ("pod-template-generation", hash)],
        "Deployment" => &[("pod-template-hash", hash)],
        "Job" => &[
            ("batch.kubernetes.io/job-name", &object.name),
            ("job-name", &object.name),
            ("batch.kubernetes.io/controller-uid", hash),
            ("controller-uid", hash),
        ],
        _ => &[],
    };
    labels.iter().map(|(key, value)| (cluster.symbols.intern(key), cluster.symbols.intern(value))).collect()
}

fn addresses(status: &Node, list: &str, single: &str) -> Vec<IpAddr> {
    let listed = status.get(list).map_or(&[][..], Node::items).iter().filter_map(|item| item.text_at("ip"));
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in status.text_at(single).into_iter().chain(listed) {
        if let Ok(address) = text.parse::<IpAddr>()
            && addresses.iter().all(|known| known.is_ipv4() != address.is_ipv4())
        {
            addresses.push(address);
        }
    }
    addresses
}

fn from_spec(cluster: &mut Cluster, id: ObjectId, object: &Object, spec: &Node, labels: Option<&Node>) -> Pod {
    let namespace: NamespaceId = cluster.namespace(object.namespace.as_deref().unwrap_or("default"));
    let mut reader = Reader::new(cluster, object);
    let labels = reader.shared_labels(labels);
    let mut ports = Vec::new();
    for list in ["containers", "initContainers"] {
        for container in reader.list(spec, list) {
            // An init container counts only if it stays: a sidecar.
            if list == "containers" || container.text_at("restartPolicy") == Some("Always") {
                for port in reader.list(container, "ports") {
                    ports.extend(container_port(&mut reader, port));
                }
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    let host_network = spec.get("hostNetwork").and_then(Node::bool).unwrap_or(false);
    let node = spec.text_at("nodeName").map(|name| cluster.symbols.intern(name));
    Pod {
        namespace,
        name: Arc::clone(&object.name),
        labels,
        addresses: Vec::new(),
        node_addresses: Vec::new(),
        node,
        host_network,
        finished: false,
        owner: None,
        owned: false,
        ports: ports.into(),
        object: id,
    }
}

fn container_port(reader: &mut Reader<'_>, node: &Node) -> Option<ContainerPort> {
    let protocol = reader.protocol(node.get("protocol"))?;
    let Some(number) = node.get("containerPort") else {
        reader.refuse(node, "this port has no containerPort", "give its number");
        return None;
    };
    let port = reader.port(number)?;
    let name = node.get("name").and_then(|name| reader.port_name(name));
    let host_port = node.get("hostPort").filter(|port| port.integer() != Some(0)).and_then(|port| reader.port(port));
    Some(ContainerPort { name, protocol, port, host_port })
}
