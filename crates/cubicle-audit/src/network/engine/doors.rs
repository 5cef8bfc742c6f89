//! Addresses, ports and names by which pods are reached that are not their own.

use std::net::IpAddr;

use super::Engine;
use super::services::{Door, on_one_node};
use crate::network::Match;
use crate::network::port::Protocol;
use crate::network::service::{Service, ServiceKind, ServicePort};

/// Names that stand for other names are followed this far.
const MOST_NAMES: usize = 8;

/// A port of a node that leads to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// The pod.
    pub pod: u32,
    /// The protocol.
    pub protocol: Protocol,
    /// The node's port.
    pub host_port: u16,
    /// The pod's.
    pub port: u16,
    /// Whether it is surely this node's.
    pub certain: bool,
}

impl Engine {
    /// The services that an address and port lead to, and how.
    pub fn services_at(&self, address: IpAddr, protocol: Protocol, port: Option<u16>) -> Vec<(u32, ServicePort, Door)> {
        let is_node = self.is_node(address);
        let mut found = Vec::new();
        for (number, service) in (0..).zip(&self.cluster.services) {
            let door = if service.addresses.contains(&address) {
                Some(Door::Inside)
            } else if service.external.contains(&address) || service.balancers.contains(&address) {
                Some(Door::Outside(address))
            } else {
                None
            };
            for one in service.ports.iter().filter(|one| one.protocol == protocol) {
                if let Some(door) = door
                    && port.is_none_or(|port| port == one.port)
                {
                    found.push((number, one.clone(), door));
                }
                if let (true, Some((first, last))) = (is_node, one.node_port)
                    && first == last
                    && port.is_none_or(|port| port == first)
                {
                    found.push((number, one.clone(), Door::Node(Some(address))));
                }
            }
        }
        found
    }

    /// The ports that pods take of the node at an address, or of any node.
    #[must_use]
    pub fn host_ports(&self, node: Option<IpAddr>) -> Vec<HostPort> {
        let name = |address: IpAddr| {
            self.cluster.nodes.iter().find(|node| node.addresses.contains(&address)).map(|node| node.name)
        };
        let mut found = Vec::new();
        for pod in self.index.all() {
            let facts = &self.cluster.pods[*pod as usize];
            if facts.host_network || facts.finished {
                continue;
            }
            let is_here = match node {
                None => Match::Maybe,
                Some(address) if !facts.node_addresses.is_empty() => facts.node_addresses.contains(&address).into(),
                Some(address) => on_one_node(facts.node, name(address)),
            };
            if is_here == Match::No {
                continue;
            }
            found.extend(facts.ports.iter().filter_map(|port| {
                let (protocol, host_port) = (port.protocol, port.host_port?);
                Some(HostPort { pod: *pod, protocol, host_port, port: port.port, certain: is_here == Match::Yes })
            }));
        }
        found
    }

    /// Whether an address is a service's own, in the cluster or outside.
    #[must_use]
    pub fn is_service_address(&self, address: IpAddr) -> bool {
        self.cluster.services.iter().any(|service| {
            [&service.addresses, &service.external, &service.balancers].iter().any(|list| list.contains(&address))
        })
    }

    /// The service that a service stands for in the end, where it is a name for another; the name
    /// itself where it is none of the cluster.
    pub fn stands_for(&self, service: u32) -> Result<u32, String> {
        let mut current = service;
        for _ in 0..MOST_NAMES {
            let Some(Service { kind: ServiceKind::ExternalName(name), .. }) =
                self.cluster.services.get(current as usize)
            else {
                return Ok(current);
            };
            match self.service_of_name(name) {
                Some(next) => current = next,
                None => return Err(name.to_string()),
            }
        }
        Err("a circle of names".to_owned())
    }

    /// The service behind a name such as `hub.jhub.svc.cluster.local`.
    #[must_use]
    pub fn service_of_name(&self, name: &str) -> Option<u32> {
        let (service, namespace) = name_of_service(name)?;
        self.cluster.find_service(self.cluster.find_namespace(namespace)?, service)
    }
}

/// The parts of a name of a service inside the cluster: its name and its namespace.
#[must_use]
pub(in crate::network) fn name_of_service(name: &str) -> Option<(&str, &str)> {
    let name = name.trim_end_matches('.');
    let short = name.strip_suffix(".cluster.local").unwrap_or(name).strip_suffix(".svc")?;
    let (service, namespace) = short.split_once('.')?;
    (!service.is_empty() && !namespace.is_empty() && !namespace.contains('.')).then_some((service, namespace))
}
