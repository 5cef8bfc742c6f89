//! Services and ports of nodes as doors to pods.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Wire;
use crate::network::service::ServicePort;
use crate::network::{Door, End, HostPort, Match};
use crate::snapshot::ObjectId;
use crate::verdict::tenancy::Workspace;
use crate::workload::Template;

/// A port of a service, and what is behind it.
#[derive(Debug, Clone)]
pub(crate) struct ServiceDoor {
    service: u32,
    /// `namespace/name`.
    pub(crate) name: String,
    pub(crate) object: ObjectId,
    pub(crate) port: ServicePort,
    /// Addresses of load balancers, and external ones.
    pub(crate) outer: Vec<IpAddr>,
    /// What makes the pods behind it.
    pub(crate) backends: Vec<ObjectId>,
    /// Their ports.
    pub(crate) targets: Vec<u16>,
}

/// A port of its node that a pod takes.
#[derive(Debug, Clone)]
pub(crate) struct NodeDoor {
    host: HostPort,
    pub(crate) object: ObjectId,
    pub(crate) host_port: u16,
    pub(crate) port: u16,
}

impl Wire {
    /// Every port of every service that something is behind.
    pub(crate) fn doors(&self) -> &[ServiceDoor] {
        self.doors.get_or_init(|| {
            let engine = self.engine.borrow();
            let cluster = engine.cluster();
            let mut doors = Vec::new();
            for (number, service) in (0_u32..).zip(&cluster.services) {
                for port in &service.ports {
                    let (mut backends, mut targets) = (Vec::new(), Vec::new());
                    for (end, target) in engine.backends(service, port) {
                        let End::Pod(pod) = end else { continue };
                        backends.extend(cluster.pods.get(pod as usize).map(|pod| pod.object));
                        targets.push(target);
                    }
                    backends.dedup();
                    doors.push(ServiceDoor {
                        service: number,
                        name: format!("{}/{}", cluster.namespace_name(service.namespace), service.name),
                        object: service.object,
                        port: port.clone(),
                        outer: service.balancers.iter().chain(&service.external).copied().collect(),
                        backends,
                        targets,
                    });
                }
            }
            doors.retain(|door| !door.backends.is_empty());
            doors
        })
    }

    /// The ports of services that lead to a pod.
    pub(crate) fn services_of(&self, template: &Template) -> impl Iterator<Item = &ServiceDoor> {
        let by_backend = self.by_backend.get_or_init(|| {
            let mut found: HashMap<ObjectId, Vec<usize>> = HashMap::new();
            for (at, door) in self.doors().iter().enumerate() {
                for object in &door.backends {
                    found.entry(*object).or_default().push(at);
                }
            }
            found
        });
        by_backend.get(&template.object).into_iter().flatten().map(|at| &self.doors()[*at])
    }

    /// Whether a workspace reaches what is behind a port of a service.
    pub(crate) fn served(&self, workspace: &Workspace, door: &ServiceDoor, way: Door) -> Match {
        let Some(pod) = self.pod(&workspace.template) else { return Match::No };
        let served = self.engine.borrow_mut().served(End::Pod(pod), door.service, &door.port, way);
        (served.may, served.must).into()
    }

    /// The addresses of all nodes that are told.
    pub(crate) fn node_addresses(&self) -> Vec<IpAddr> {
        let engine = self.engine.borrow();
        let mut found: Vec<IpAddr> = engine.cluster().nodes.iter().flat_map(|node| node.addresses.clone()).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The ports of nodes that pods take.
    pub(crate) fn host_ports(&self) -> &[NodeDoor] {
        self.host_ports.get_or_init(|| {
            let engine = self.engine.borrow();
            let mut found: Vec<NodeDoor> = engine
                .host_ports(None)
                .into_iter()
                .filter_map(|host| {
                    let object = engine.cluster().pods.get(host.pod as usize)?.object;
                    Some(NodeDoor { host, object, host_port: host.host_port, port: host.port })
                })
                .collect();
            // Pods of one workload are one finding.
            found.dedup_by_key(|one| (one.object, one.host_port));
            found
        })
    }

    /// Whether a workspace reaches a pod through the port it takes of its node.
    pub(crate) fn served_by_host_port(&self, workspace: &Workspace, port: &NodeDoor, way: Door) -> Match {
        let Some(pod) = self.pod(&workspace.template) else { return Match::No };
        let node = match way {
            Door::Node(node) => node,
            _ => None,
        };
        let served = self.engine.borrow_mut().served_by_host_port(End::Pod(pod), node, &port.host);
        (served.may, served.must).into()
    }
}
