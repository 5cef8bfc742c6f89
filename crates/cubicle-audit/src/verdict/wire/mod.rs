//! The network's verdicts for workspaces, and the rule that is to blame.

mod borrowed;
mod culprit;
mod doors;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

pub(crate) use self::borrowed::Borrowed;
pub(crate) use self::culprit::Culprit;
pub(crate) use self::doors::{NodeDoor, ServiceDoor};
use super::scene::Scene;
use super::tenancy::Workspace;
use crate::network::cluster::Cluster;
use crate::network::port::Protocol;
use crate::network::{Engine, Profile, Reach};
use crate::snapshot::ObjectId;
use crate::workload::Template;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// An address outside.
    Address(IpAddr),
    /// A range, by one of its addresses.
    Block(IpNet, IpAddr),
    /// A range by one of its addresses, where only the port of names matters.
    Names(IpNet, IpAddr),
    /// One port of addresses outside.
    Port(IpAddr, Protocol, u16),
    /// A pod that is reached.
    Pod(Box<Template>),
    /// A pod, where only the port of names matters.
    PodNames(Box<Template>),
    /// A pod that reaches the workspace.
    From(Box<Template>),
}

/// The engine with the pods by the object that makes them.
pub(crate) struct Wire {
    engine: RefCell<Engine>,
    pods: HashMap<ObjectId, u32>,
    extra: Vec<SocketAddr>,
    doors: OnceCell<Vec<ServiceDoor>>,
    by_backend: OnceCell<HashMap<ObjectId, Vec<usize>>>,
    host_ports: OnceCell<Vec<NodeDoor>>,
}

impl Wire {
    pub(crate) fn new(cluster: Cluster, profile: Profile, api_server: &[SocketAddr]) -> Self {
        let mut pods = HashMap::new();
        for (number, pod) in (0_u32..).zip(&cluster.pods) {
            pods.entry(pod.object).or_insert(number);
        }
        Self {
            engine: RefCell::new(Engine::new(cluster, profile)),
            pods,
            extra: api_server.to_vec(),
            doors: OnceCell::new(),
            by_backend: OnceCell::new(),
            host_ports: OnceCell::new(),
        }
    }

    fn pod(&self, template: &Template) -> Option<u32> {
        self.pods.get(&template.object).copied()
    }

    /// The class of a workspace's pod, as something to count.
    pub(crate) fn class(&self, template: &Template) -> Option<u32> {
        self.engine.borrow().class(self.pod(template)?)
    }

    /// What a workspace reaches at an address.
    pub(crate) fn out(&self, workspace: &Workspace, address: IpAddr) -> Option<Arc<Reach>> {
        Some(self.engine.borrow_mut().reach_out(self.pod(&workspace.template)?, address))
    }

    /// What one pod reaches on another.
    pub(crate) fn between(&self, from: &Template, to: &Template) -> Option<Arc<Reach>> {
        let (from, to) = (self.pod(from)?, self.pod(to)?);
        (from != to).then(|| self.engine.borrow_mut().reach(from, to))
    }

    /// One address of each part of a range that no rule tells apart.
    pub(crate) fn parts(&self, block: IpNet) -> Vec<IpAddr> {
        let (start, end) = (block.network(), block.broadcast());
        let parts = self.engine.borrow().parts_of_world(block.addr().is_ipv6());
        parts
            .into_iter()
            .filter(|(first, last)| *first <= end && *last >= start)
            .map(|(first, _)| if first < start { start } else { first })
            .collect()
    }

    /// Every address and port of the API server that is known.
    pub(crate) fn api_server(&self, scene: &Scene<'_>) -> Vec<(IpAddr, u16)> {
        let mut found: Vec<(IpAddr, u16)> = self.extra.iter().map(|one| (one.ip(), one.port())).collect();
        let is_api = |name: &str, namespace: Option<&str>| name == "kubernetes" && namespace == Some("default");
        for (_, object) in scene.of_kind("", "Service") {
            if is_api(&object.name, object.namespace.as_deref()) {
                let address = object.value["spec"].text_at("clusterIP").and_then(|text| text.parse().ok());
                found.extend(address.map(|address: IpAddr| (address, 443)));
            }
        }
        for (_, object) in scene.of_kind("discovery.k8s.io", "EndpointSlice") {
            if !is_api(&object.name, object.namespace.as_deref()) {
                continue;
            }
            let port = object.value["ports"].items().first().and_then(|port| port.get("port")?.integer());
            let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(6443);
            for endpoint in object.value["endpoints"].items() {
                let addresses = endpoint["addresses"].items().iter();
                found.extend(addresses.filter_map(|address| Some((address.text()?.parse().ok()?, port))));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}
