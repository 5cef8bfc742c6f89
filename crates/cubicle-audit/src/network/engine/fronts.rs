//! What Ingresses and routes let in.

use super::Engine;
use super::services::Party;
use crate::network::explain::End;
use crate::network::front::{Backend, BackendPort, Front};
use crate::network::policy::Scope;
use crate::network::port::Protocol;
use crate::network::selector::Selector;
use crate::network::service::ServicePort;
use crate::network::{Door, ServedBackend};

/// Who is taken to stand behind a front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Its controller's pods where they are among the manifests, and else anyone: a pod anywhere,
    /// a node, an address outside.
    WhoeverItIs,
    /// A pod of which nothing is told.
    SomePod,
}

/// One connection of a front's controller to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrontRoute {
    /// The protocol.
    pub protocol: Protocol,
    /// The backend, its port, and whether it is reached.
    pub backend: ServedBackend,
}

impl Engine {
    /// The pods of a front's controller; empty where none of them is among the manifests.
    #[must_use]
    pub fn controllers(&self, front: &Front) -> Vec<u32> {
        let mut pods = Vec::new();
        for controller in &front.controllers {
            let scope = match controller.namespace {
                Some(_) => Scope::Own,
                None => Scope::Matching(Selector::default()),
            };
            pods.extend(self.index.select(&self.cluster, &scope, controller.namespace, &controller.pods));
        }
        pods.retain(|pod| !self.cluster.pods[*pod as usize].finished);
        pods.sort_unstable();
        pods.dedup();
        pods
    }

    /// What the controller of a front, an index into the cluster's fronts, reaches because of it.
    pub fn routes_of(&mut self, front: u32, behind: Behind) -> Vec<FrontRoute> {
        let Some(front) = self.cluster.fronts.get(front as usize).cloned() else { return Vec::new() };
        let parties = self.parties(&front, behind);
        let mut routes = Vec::new();
        for backend in &front.backends {
            let Some((service, ports)) = self.backend_ports(&front, backend) else { continue };
            for port in ports {
                let served = self.served_to(&parties, service, &port, Door::Inside);
                routes
                    .extend(served.backends.into_iter().map(|backend| FrontRoute { protocol: port.protocol, backend }));
            }
        }
        routes
    }

    fn parties(&self, front: &Front, behind: Behind) -> Vec<Party> {
        let controllers = match behind {
            Behind::WhoeverItIs => self.controllers(front),
            Behind::SomePod => Vec::new(),
        };
        if !controllers.is_empty() {
            return controllers.into_iter().map(|pod| Party::End(End::Pod(pod))).collect();
        }
        let mut parties = vec![Party::Pod { same_namespace: false }, Party::Pod { same_namespace: true }];
        if behind == Behind::WhoeverItIs {
            parties.push(Party::Node);
            for v6 in [false, true].into_iter().filter(|v6| !v6 || self.knows_ipv6()) {
                let parts = self.parts_of_world(v6);
                parties.extend(parts.into_iter().map(|(first, _)| Party::End(End::Address(first))));
            }
        }
        parties
    }

    /// The service that a backend names, and the ports of it; none where it is not there.
    fn backend_ports(&self, front: &Front, backend: &Backend) -> Option<(u32, Vec<ServicePort>)> {
        let service = self.stands_for(self.cluster.find_service(backend.namespace, &backend.service)?).ok()?;
        let ports = &self.cluster.services.get(service as usize)?.ports;
        let is_of_route = |port: &&ServicePort| match &*front.kind {
            "UDPRoute" => port.protocol == Protocol::Udp,
            _ => port.protocol == Protocol::Tcp,
        };
        let is_meant = |port: &&ServicePort| match &backend.port {
            BackendPort::Number(number) => port.port == *number,
            BackendPort::Name(name) => port.name == *name,
            BackendPort::Any => true,
        };
        Some((service, ports.iter().filter(is_of_route).filter(is_meant).cloned().collect()))
    }
}
