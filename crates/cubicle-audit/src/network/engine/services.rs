//! Connections to services: one rewritten into connections to the pods behind it.
//!
//! A policy acts on the pod's own port and, inside the cluster, on the client's own address:
//! Kubernetes' tests of NetworkPolicy dial services. What Kubernetes leaves open ("Services" in
//! its documentation of NetworkPolicy: whether rewriting comes before or after policies) is open
//! here: an address that is rewritten may be seen as it was, and a port of a node or a load
//! balancer may show the pods the address of a node.

use std::net::IpAddr;

use super::Engine;
use super::doors::HostPort;
use super::reach::{Relation, Sides};
use super::strangers::Stranger;
use crate::network::Match;
use crate::network::explain::End;
use crate::network::policy::Scope;
use crate::network::port::Protocol;
use crate::network::service::{Service, ServiceKind, ServicePort, TargetPort};

/// How a connection comes to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// By its name or its address in the cluster.
    Inside,
    /// By a port of the node at this address, or of some node.
    Node(Option<IpAddr>),
    /// By an address of a load balancer or an external address.
    Outside(IpAddr),
}

/// One end that is behind a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedBackend {
    /// The end.
    pub end: End,
    /// Its port.
    pub port: u16,
    /// Some implementation lets the connection through.
    pub may: bool,
    /// Every implementation does.
    pub must: bool,
}

/// What a service leads to. Which of its backends a connection gets is not the client's choice:
/// one that may be reached is enough for `may`, `must` asks for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// Some backend may be reached.
    pub may: bool,
    /// There are backends, and all must be reached.
    pub must: bool,
    /// One backend of each kind.
    pub backends: Vec<ServedBackend>,
}

/// What tells backends apart: class, port, whether it is on the client's node, whether it is the
/// client, and its relation to each client.
type Alike = (Option<u32>, u16, Match, bool, Vec<(bool, Match)>);

/// Who opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::network) enum Party {
    End(End),
    /// A pod of which nothing is told, in the namespace of what it reaches or in another.
    Pod {
        same_namespace: bool,
    },
    /// A node of which nothing is told.
    Node,
}

impl Engine {
    /// What one end reaches through a port of a service.
    pub fn served(&mut self, from: End, service: u32, port: &ServicePort, door: Door) -> Served {
        self.served_to(&[Party::End(from)], service, port, door)
    }

    /// The same for whichever of these opens the connection.
    pub(in crate::network) fn served_to(
        &mut self,
        from: &[Party],
        service: u32,
        port: &ServicePort,
        door: Door,
    ) -> Served {
        let Some(service) = self.cluster.services.get(service as usize).cloned() else { return Served::default() };
        let backends = self.backends(&service, port);
        self.served_by(from, &service, port, door, backends)
    }

    /// What one end reaches through a port that pods take of their node (`hostPort`).
    pub fn served_by_host_port(&mut self, from: End, node: Option<IpAddr>, port: &HostPort) -> Served {
        let HostPort { pod, protocol, host_port, port, .. } = *port;
        let Some(facts) = self.cluster.pods.get(pod as usize) else { return Served::default() };
        let service = Service {
            namespace: facts.namespace,
            name: "".into(),
            object: facts.object,
            kind: ServiceKind::NodePort,
            addresses: Vec::new(),
            external: Vec::new(),
            balancers: Vec::new(),
            ports: Vec::new(),
            selector: None,
            endpoints: Vec::new(),
            keeps_source: false,
            node_local: false,
        };
        let through = ServicePort {
            name: "".into(),
            protocol,
            port: host_port,
            target: TargetPort::Number(port),
            node_port: Some((host_port, host_port)),
        };
        self.served_by(&[Party::End(from)], &service, &through, Door::Node(node), vec![(End::Pod(pod), port)])
    }

    fn served_by(
        &mut self,
        from: &[Party],
        service: &Service,
        port: &ServicePort,
        door: Door,
        backends: Vec<(End, u16)>,
    ) -> Served {
        let node_local = service.node_local && door == Door::Inside;
        let mut served = Served { must: !backends.is_empty(), ..Served::default() };
        let mut seen: Vec<Alike> = Vec::new();
        for (end, target) in backends {
            // Backends that nothing tells apart answer alike.
            let near = match (from, end) {
                ([Party::End(End::Pod(one))], End::Pod(other)) => {
                    let pods = &self.cluster.pods;
                    on_one_node(pods[*one as usize].node, pods[other as usize].node)
                }
                _ => Match::Maybe,
            };
            if node_local {
                served.must &= near == Match::Yes;
                if near == Match::No {
                    continue;
                }
            }
            let itself = from == [Party::End(end)];
            if let End::Pod(pod) = end {
                let relations = from.iter().filter_map(|party| match party {
                    Party::End(one) => Some(self.relation(*one, end)),
                    _ => None,
                });
                let key = (self.class(pod), target, near, itself, relations.collect());
                if seen.contains(&key) {
                    continue;
                }
                seen.push(key);
            }
            let (mut may, mut must) = (false, true);
            for party in from {
                let (one_may, one_must) = self.through(*party, service, port, door, end, target);
                may |= one_may;
                must &= one_must;
            }
            served.may |= may;
            served.must &= must;
            served.backends.push(ServedBackend { end, port: target, may, must });
        }
        served.must &= served.may;
        served
    }

    /// The ends behind a port of a service, each with its own port. Finished pods are none.
    #[must_use]
    pub fn backends(&self, service: &Service, port: &ServicePort) -> Vec<(End, u16)> {
        let mut backends = Vec::new();
        if let Some(selector) = &service.selector {
            for pod in self.index.select(&self.cluster, &Scope::Own, Some(service.namespace), selector) {
                let facts = &self.cluster.pods[pod as usize];
                let target = match port.target {
                    _ if facts.finished => None,
                    TargetPort::Number(number) => Some(number),
                    TargetPort::Name(name) => facts
                        .ports
                        .iter()
                        .find(|one| one.name == Some(name) && one.protocol == port.protocol)
                        .map(|one| one.port),
                };
                backends.extend(target.map(|target| (End::Pod(pod), target)));
            }
        }
        for endpoint in &service.endpoints {
            let given =
                endpoint.ports.iter().find(|(name, protocol, _)| *name == port.name && *protocol == port.protocol);
            let target = match (given, port.target) {
                // Nothing is rewritten: the port is the client's choice.
                (_, TargetPort::Number(number)) if service.kind == ServiceKind::Headless => number,
                (Some((_, _, number)), _) => *number,
                (None, TargetPort::Number(number)) if endpoint.ports.is_empty() => number,
                _ => continue,
            };
            let mut pods = self.pods_at(endpoint.address).filter(|pod| !self.cluster.pods[*pod as usize].finished);
            match pods.next() {
                Some(pod) => backends.extend([pod].into_iter().chain(pods).map(|pod| (End::Pod(pod), target))),
                None => backends.push((End::Address(endpoint.address), target)),
            }
        }
        backends.sort_unstable();
        backends.dedup();
        backends
    }

    /// One connection through a service to one backend.
    fn through(
        &mut self,
        from: Party,
        service: &Service,
        port: &ServicePort,
        door: Door,
        to: End,
        target: u16,
    ) -> (bool, bool) {
        let protocol = port.protocol;
        if from == Party::End(to) {
            let reach = self.reach_ends(to, to);
            return (reach.may.contains(protocol, target), reach.must.contains(protocol, target));
        }
        let rewritten = self.dial(from, to, Sides::Both, protocol, target);
        match door {
            Door::Inside => {
                let seen = self.service_seen(from, service, protocol, port.port);
                let arrives = self.dial(from, to, Sides::Ingress, protocol, target);
                let may = rewritten.0 || (seen.0 && arrives.0);
                // Rewritten to an address outside the cluster, blocks may see either.
                let must = rewritten.1 && (matches!(to, End::Pod(_)) || seen.1);
                (may, must)
            }
            Door::Node(_) | Door::Outside(_) => {
                let leaves =
                    [self.door_seen(from, door, protocol, port), self.dial(from, to, Sides::Egress, protocol, target)];
                let mut arrives = vec![self.dial(from, to, Sides::Ingress, protocol, target)];
                if !service.keeps_source {
                    if let Door::Node(Some(address)) = door {
                        let node = Party::End(End::Address(address));
                        arrives.push(self.dial(node, to, Sides::Ingress, protocol, target));
                    }
                    arrives.push(self.dial(Party::Node, to, Sides::Ingress, protocol, target));
                }
                let may = leaves.iter().any(|one| one.0) && arrives.iter().any(|one| one.0);
                let must = leaves.iter().all(|one| one.1) && arrives.iter().all(|one| one.1);
                (may, must)
            }
        }
    }

    /// Whether the client's own policies let it dial a service's address, if they see it so.
    fn service_seen(&mut self, from: Party, service: &Service, protocol: Protocol, port: u16) -> (bool, bool) {
        let Party::End(End::Pod(_)) = from else { return (false, true) };
        // A headless service has no address that could be seen.
        if self.answers.service_address_seen == Match::No || service.kind == ServiceKind::Headless {
            return (false, true);
        }
        let mut seen = (false, true);
        let addresses = service.addresses.clone();
        for address in &addresses {
            let one = self.dial(from, End::Address(*address), Sides::Egress, protocol, port);
            seen = (seen.0 || one.0, seen.1 && one.1);
        }
        if addresses.is_empty() {
            let to = self.class_of_stranger(Stranger::Service);
            let relation = Relation { same_namespace: false, same_node: Match::No, sides: Sides::Egress };
            if let Some(class) = self.class_of_party(from) {
                let reach = self.reach_of(class, to, relation);
                seen = (reach.may.contains(protocol, port), reach.must.contains(protocol, port));
            }
        }
        seen
    }

    /// Whether the client's own policies let it dial a node's port or an outer address.
    fn door_seen(&mut self, from: Party, door: Door, protocol: Protocol, port: &ServicePort) -> (bool, bool) {
        let (first, last) = match door {
            Door::Node(_) => port.node_port.unwrap_or((port.port, port.port)),
            _ => (port.port, port.port),
        };
        let Some(class) = self.class_of_party(from) else { return (false, false) };
        let reach = match door {
            Door::Node(Some(address)) | Door::Outside(address) => {
                self.reach_party(from, End::Address(address), Sides::Egress)
            }
            _ => {
                let node = self.class_of_stranger(Stranger::Node);
                let relation = Relation { same_namespace: false, same_node: Match::Maybe, sides: Sides::Egress };
                Some(self.reach_of(class, node, relation))
            }
        };
        let Some(reach) = reach else { return (false, false) };
        // Which port of the range it is, only the cluster knows.
        let range = crate::network::port::PortSet::range(protocol, first, last);
        (!reach.may.intersection(&range).is_empty(), range.difference(&reach.must).is_empty())
    }

    fn dial(&mut self, from: Party, to: End, sides: Sides, protocol: Protocol, port: u16) -> (bool, bool) {
        match self.reach_party(from, to, sides) {
            Some(reach) => (reach.may.contains(protocol, port), reach.must.contains(protocol, port)),
            None => (false, false),
        }
    }

    fn reach_party(&mut self, from: Party, to: End, sides: Sides) -> Option<std::sync::Arc<super::Reach>> {
        let (one, other) = (self.class_of_party(from)?, self.class_of_end(to)?);
        let (same_namespace, same_node) = match from {
            Party::End(from) => self.relation(from, to),
            Party::Pod { same_namespace } => (same_namespace, Match::No),
            Party::Node => (false, Match::Maybe),
        };
        Some(self.reach_of(one, other, Relation { same_namespace, same_node, sides }))
    }

    fn class_of_party(&mut self, party: Party) -> Option<u32> {
        match party {
            Party::End(end) => self.class_of_end(end),
            Party::Pod { .. } => Some(self.class_of_stranger(Stranger::Pod)),
            Party::Node => Some(self.class_of_stranger(Stranger::Node)),
        }
    }
}

pub(super) fn on_one_node<T: PartialEq>(one: Option<T>, other: Option<T>) -> Match {
    match (one, other) {
        (Some(one), Some(other)) => (one == other).into(),
        _ => Match::Maybe,
    }
}
