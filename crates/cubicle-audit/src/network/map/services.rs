//! Services, Ingresses and routes on the map.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashSet;
use serde::Serialize;

use super::{Connection, Group, Namespaces, push};
use crate::network::engine::{Behind, Door, Engine, Reach};
use crate::network::explain::End;
use crate::network::port::PortSet;
use crate::network::service::{Service, ServiceKind};

/// Pods of a group on their hosts' network that are looked at: each has its own node.
const MOST_HOSTS: usize = 64;

/// A service and what is behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MapService {
    /// `namespace/name`.
    pub name: String,
    /// For example `ClusterIP`.
    pub kind: String,
    /// Its ports, the node's among them.
    pub ports: Vec<String>,
    /// The workloads and addresses behind it.
    pub backends: Vec<String>,
}

/// A class of pods with its group and members.
pub(super) type Grouped = (Group, u32, Vec<u32>);

impl Engine {
    /// The services, in the order of their names.
    pub(super) fn map_services(&self) -> Vec<(u32, MapService)> {
        let mut services: Vec<(u32, MapService)> =
            (0..).zip(&self.cluster().services).map(|(number, service)| (number, self.map_service(service))).collect();
        services.sort_by(|one, other| one.1.name.cmp(&other.1.name));
        services
    }

    fn map_service(&self, service: &Service) -> MapService {
        let kind = match &service.kind {
            ServiceKind::ClusterIp => "ClusterIP".to_owned(),
            ServiceKind::Headless => "headless".to_owned(),
            ServiceKind::NodePort => "NodePort".to_owned(),
            ServiceKind::LoadBalancer => "LoadBalancer".to_owned(),
            ServiceKind::ExternalName(name) => format!("ExternalName {name}"),
        };
        let mut backends = BTreeMap::new();
        let mut ports = Vec::new();
        for port in &service.ports {
            let node = match port.node_port {
                Some((first, last)) if first == last => format!(", node port {first}"),
                Some((first, last)) => format!(", a node port of {first}-{last}"),
                None => String::new(),
            };
            ports.push(format!("{} {}{node}", port.protocol, port.port));
            for (end, target) in self.backends(service, port) {
                let name = match end {
                    End::Pod(pod) => self.workload_name(pod),
                    End::Address(address) => address.to_string(),
                };
                backends.insert(format!("{name} {} {target}", port.protocol), ());
            }
        }
        MapService { name: self.name_of_service(service), kind, ports, backends: backends.into_keys().collect() }
    }

    fn name_of_service(&self, service: &Service) -> String {
        format!("{}/{}", self.cluster().namespace_name(service.namespace), service.name)
    }

    /// What groups reach through services, and what outside reaches through those with ports of
    /// nodes or outer addresses.
    pub(super) fn service_connections(&mut self, groups: &[Grouped], connections: &mut Vec<Connection>) {
        for (number, shown) in self.map_services() {
            let Some(service) = self.cluster().services.get(number as usize).cloned() else { continue };
            let to = format!("service {}", shown.name);
            for (group, _, pods) in groups {
                let mut reaches = Vec::new();
                for same in [true, false] {
                    let clients = self.clients(pods, &service, same);
                    if !clients.is_empty() {
                        let namespaces = if same { Namespaces::Same } else { Namespaces::Different };
                        reaches.push((namespaces, self.reach_service(&clients, number, &service, Door::Inside)));
                    }
                }
                if let [(_, one), (_, other)] = &reaches[..]
                    && one == other
                {
                    reaches.truncate(1);
                }
                let alone = reaches.len() == 1;
                for (namespaces, reach) in reaches {
                    let namespaces = if alone { Namespaces::Any } else { namespaces };
                    push(connections, format!("group {}", group.id), to.clone(), namespaces, &reach);
                }
            }
            let outer = [
                (service.has_node_ports().then_some(Door::Node(None)), "by node ports"),
                (
                    service.external.iter().chain(&service.balancers).next().map(|one| Door::Outside(*one)),
                    "by its outer addresses",
                ),
            ];
            for (door, way) in outer {
                let Some(door) = door else { continue };
                self.outer_connections(number, &service, door, &format!("{to} {way}"), connections);
            }
        }
    }

    /// Pods of a group that stand for all of them: of one namespace or of others.
    fn clients(&self, pods: &[u32], service: &Service, same: bool) -> Vec<End> {
        let facts = &self.cluster().pods;
        let in_relation = |pod: &&u32| (facts[**pod as usize].namespace == service.namespace) == same;
        let is_host = pods.first().is_some_and(|pod| facts[*pod as usize].host_network);
        let mut nodes = FxHashSet::default();
        pods.iter()
            .filter(in_relation)
            .filter(|pod| !is_host || nodes.insert(facts[**pod as usize].node))
            .take(if is_host { MOST_HOSTS } else { 1 })
            .map(|pod| End::Pod(*pod))
            .collect()
    }

    /// The ports of a service that all clients surely and that one perhaps reaches.
    fn reach_service(&mut self, clients: &[End], number: u32, service: &Service, door: Door) -> Reach {
        let mut whole = Reach::nothing();
        for port in &service.ports {
            let (mut may, mut must) = (false, !clients.is_empty());
            for client in clients {
                let served = self.served(*client, number, port, door);
                may |= served.may;
                must &= served.must;
            }
            let own = PortSet::range(port.protocol, port.port, port.port);
            if may {
                whole.may = whole.may.union(&own);
            }
            if must {
                whole.must = whole.must.union(&own);
            }
        }
        whole
    }

    fn outer_connections(
        &mut self,
        number: u32,
        service: &Service,
        door: Door,
        to: &str,
        connections: &mut Vec<Connection>,
    ) {
        for v6 in [false, true] {
            if v6 && !self.knows_ipv6() {
                continue;
            }
            let mut ranges: Vec<(IpAddr, IpAddr, Reach)> = Vec::new();
            for (first, last) in self.parts_of_world(v6) {
                let reach = self.reach_service(&[End::Address(first)], number, service, door);
                match ranges.last_mut() {
                    Some(previous) if previous.2 == reach => previous.1 = last,
                    _ => ranges.push((first, last, reach)),
                }
            }
            for (first, last, reach) in ranges {
                push(connections, format!("{first}-{last}"), to.to_owned(), Namespaces::Any, &reach);
            }
        }
    }

    /// What Ingresses and routes let in.
    pub(super) fn front_connections(&mut self, groups: &[Grouped], connections: &mut Vec<Connection>) {
        let mut fronts: Vec<u32> = (0..).zip(&self.cluster().fronts).map(|(number, _)| number).collect();
        // Numbers follow the order of the files.
        fronts.sort_by_key(|number| {
            let front = &self.cluster().fronts[*number as usize];
            (front.kind.clone(), self.cluster().namespace_name(front.namespace).to_owned(), front.name.clone())
        });
        for number in fronts {
            let Some(front) = self.cluster().fronts.get(number as usize) else { continue };
            let name = self.cluster().namespace_name(front.namespace);
            let from = format!("{} {name}/{}", front.kind, front.name);
            let mut by_target: BTreeMap<String, Reach> = BTreeMap::new();
            for route in self.routes_of(number, Behind::WhoeverItIs) {
                let target = match route.backend.end {
                    End::Address(address) => address.to_string(),
                    End::Pod(pod) => match groups.iter().find(|(_, class, _)| Some(*class) == self.class(pod)) {
                        Some((group, ..)) => format!("group {}", group.id),
                        None => continue,
                    },
                };
                let own = PortSet::range(route.protocol, route.backend.port, route.backend.port);
                let reach = by_target.entry(target).or_insert_with(Reach::nothing);
                if route.backend.may {
                    reach.may = reach.may.union(&own);
                }
                if route.backend.must {
                    reach.must = reach.must.union(&own);
                }
            }
            for (target, reach) in by_target {
                push(connections, from.clone(), target, Namespaces::Any, &reach);
            }
        }
    }
}
