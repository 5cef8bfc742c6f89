//! The facts of a cluster that its network depends on.

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::front::Front;
use super::policy::{Policy, Rule};
use super::port::Protocol;
use super::reader::Reader;
use super::selector::{Labels, Symbol, Symbols};
use super::service::Service;
use super::{cluster_policy, front, named_ports, network_policy, pods, service};
use crate::snapshot::{InputProblem, Object, ObjectId, Snapshot};

/// Which namespace of a [`Cluster`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceId(pub u32);

/// The label that the API server gives every namespace.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels, the one of its name among them.
    pub labels: Labels,
}

/// A port that a container names or declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerPort {
    /// Its name.
    pub name: Option<Symbol>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// The port of the node that leads to it.
    pub host_port: Option<u16>,
}

/// The workload that a pod belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// For example `StatefulSet`.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// A pod, or one of the pods that a workload makes.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its namespace.
    pub namespace: NamespaceId,
    /// Its name, or one like those its workload gives.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its addresses, at most one of each family; empty where the manifest does not tell.
    pub addresses: Vec<IpAddr>,
    /// The addresses of its node.
    pub node_addresses: Vec<IpAddr>,
    /// The name of its node.
    pub node: Option<Symbol>,
    /// Whether it uses its node's network.
    pub host_network: bool,
    /// Whether all its containers have ended.
    pub finished: bool,
    /// The workload it belongs to.
    pub owner: Option<Owner>,
    /// Whether something owns it, as AWS asks.
    pub owned: bool,
    /// The ports of its containers.
    pub ports: Arc<[ContainerPort]>,
    /// The object that it, or its workload, came from.
    pub object: ObjectId,
}

/// A node.
#[derive(Debug, Clone)]
pub struct ClusterNode {
    /// Its name.
    pub name: Symbol,
    /// Its labels.
    pub labels: Labels,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A kind that changes the network in ways that are not understood here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// For example `k8s.ovn.org/v1`.
    pub api_version: Arc<str>,
    /// For example `UserDefinedNetwork`.
    pub kind: Arc<str>,
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub first: ObjectId,
}

/// Everything that connections depend on.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Labels, names of ports and of nodes.
    pub symbols: Symbols,
    /// Namespaces, those too that are only referred to.
    pub namespaces: Vec<Namespace>,
    namespace_ids: FxHashMap<Arc<str>, NamespaceId>,
    /// Pods.
    pub pods: Vec<Pod>,
    /// Nodes.
    pub nodes: Vec<ClusterNode>,
    /// Policies.
    pub policies: Vec<Policy>,
    rule_lists: FxHashSet<Arc<[Rule]>>,
    /// Services.
    pub services: Vec<Service>,
    service_ids: FxHashMap<(NamespaceId, Arc<str>), u32>,
    /// Ingresses and routes.
    pub fronts: Vec<Front>,
    /// Kinds that make every verdict undetermined.
    pub foreign: Vec<Foreign>,
    /// What is wrong with the objects.
    pub problems: Vec<InputProblem>,
}

impl Cluster {
    /// Takes the facts out of a snapshot.
    #[must_use]
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut cluster = Self::default();
        for object in &snapshot.objects {
            if is_core(object, "Namespace") {
                let labels = Reader::new(&mut cluster, object).labels(object.value.at(&["metadata", "labels"]));
                cluster.add_namespace(&object.name, labels);
            }
        }
        for object in &snapshot.objects {
            if let Some(namespace) = &object.namespace {
                cluster.namespace(namespace);
            }
            if is_core(object, "Node") {
                pods::add_node(&mut cluster, object);
            }
        }
        pods::add_all(&mut cluster, snapshot);
        for (id, object) in (0..).map(ObjectId).zip(&snapshot.objects) {
            let group = object.api_version.rsplit_once('/').map_or("", |(group, _)| group);
            match (group, &*object.kind) {
                ("networking.k8s.io" | "extensions", "NetworkPolicy") => network_policy::add(&mut cluster, id, object),
                (
                    "policy.networking.k8s.io",
                    "AdminNetworkPolicy" | "BaselineAdminNetworkPolicy" | "ClusterNetworkPolicy",
                ) => cluster_policy::add(&mut cluster, id, object),
                ("", "Service") => service::add(&mut cluster, id, object),
                (group, kind) if changes_the_network(group, kind) => cluster.add_foreign(id, object),
                _ => {}
            }
        }
        for (number, service) in (0..).zip(&cluster.services) {
            cluster.service_ids.insert((service.namespace, Arc::clone(&service.name)), number);
        }
        for (id, object) in (0..).map(ObjectId).zip(&snapshot.objects) {
            match (&*object.api_version, &*object.kind) {
                ("v1", "Endpoints") | ("discovery.k8s.io/v1" | "discovery.k8s.io/v1beta1", "EndpointSlice") => {
                    service::add_endpoints(&mut cluster, id, object);
                }
                _ => {}
            }
        }
        front::add_all(&mut cluster, snapshot);
        named_ports::warn(&mut cluster, snapshot);
        cluster
    }

    /// The namespace of this name; a new one if it is not there.
    pub fn namespace(&mut self, name: &str) -> NamespaceId {
        match self.namespace_ids.get(name) {
            Some(id) => *id,
            None => self.add_namespace(name, Vec::new()),
        }
    }

    /// The namespace of this name, if there is one.
    #[must_use]
    pub fn find_namespace(&self, name: &str) -> Option<NamespaceId> {
        self.namespace_ids.get(name).copied()
    }

    /// One list for all equal ones: a thousand copies of a policy have the same rules.
    pub(super) fn share_rules(&mut self, rules: Vec<Rule>) -> Arc<[Rule]> {
        if let Some(known) = self.rule_lists.get(&rules[..]) {
            return Arc::clone(known);
        }
        let rules: Arc<[Rule]> = rules.into();
        self.rule_lists.insert(Arc::clone(&rules));
        rules
    }

    /// The service of this namespace and name, as an index into [`Self::services`].
    #[must_use]
    pub fn find_service(&self, namespace: NamespaceId, name: &str) -> Option<u32> {
        self.service_ids.get(&(namespace, name.into())).copied()
    }

    /// Adds a namespace, or gives the one of this name these labels.
    pub fn add_namespace(&mut self, name: &str, mut labels: Vec<(Symbol, Symbol)>) -> NamespaceId {
        // The server sets this label whatever the manifest says.
        let label = (self.symbols.intern(NAME_LABEL), self.symbols.intern(name));
        labels.retain(|(key, _)| *key != label.0);
        labels.push(label);
        labels.sort_unstable();
        if let Some(id) = self.namespace_ids.get(name).copied() {
            self.namespaces[id.0 as usize].labels = labels.into();
            return id;
        }
        let id = NamespaceId(u32::try_from(self.namespaces.len()).unwrap_or(u32::MAX));
        let name: Arc<str> = name.into();
        self.namespaces.push(Namespace { name: Arc::clone(&name), labels: labels.into() });
        self.namespace_ids.insert(name, id);
        id
    }

    /// The name of a namespace.
    #[must_use]
    pub fn namespace_name(&self, id: NamespaceId) -> &str {
        self.namespaces.get(id.0 as usize).map_or("", |namespace| &namespace.name)
    }

    /// The labels of a namespace.
    #[must_use]
    pub fn namespace_labels(&self, id: NamespaceId) -> &[(Symbol, Symbol)] {
        self.namespaces.get(id.0 as usize).map_or(&[], |namespace| &namespace.labels)
    }

    fn add_foreign(&mut self, id: ObjectId, object: &Object) {
        let known =
            self.foreign.iter_mut().find(|known| known.kind == object.kind && known.api_version == object.api_version);
        match known {
            Some(known) => known.count += 1,
            None => self.foreign.push(Foreign {
                api_version: Arc::clone(&object.api_version),
                kind: Arc::clone(&object.kind),
                count: 1,
                first: id,
            }),
        }
    }
}

fn is_core(object: &Object, kind: &str) -> bool {
    &*object.api_version == "v1" && &*object.kind == kind
}

/// Groups whose objects decide who reaches whom, beside or instead of the policies known here:
/// networks of OVN-Kubernetes and Multus, policies of plugins and meshes, virtual machines, routes.
const NETWORK_GROUPS: [&str; 16] = [
    "cilium.io",
    "crd.antrea.io",
    "crd.antrea.tanzu.vmware.com",
    "crd.projectcalico.org",
    "projectcalico.org",
    "k8s.cni.cncf.io",
    "k8s.ovn.org",
    "kubeovn.io",
    "kubevirt.io",
    "linkerd.io",
    "networking.k8s.aws",
    "networking.istio.io",
    "policy.linkerd.io",
    "route.openshift.io",
    "security.istio.io",
    "vpcresources.k8s.aws",
];

/// Whether a kind changes the network in ways that are not known here.
#[must_use]
pub fn changes_the_network(group: &str, kind: &str) -> bool {
    NETWORK_GROUPS.contains(&group)
        || (kind.ends_with("NetworkPolicy") && group != "networking.k8s.io" && group != "policy.networking.k8s.io")
}
