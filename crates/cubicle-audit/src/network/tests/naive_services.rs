//! The definition of a connection to a service: every backend, one by one, by [`naive`].

use super::naive::{self, Connection};
use crate::network::cluster::{Cluster, Pod};
use crate::network::service::{Service, ServiceKind, ServicePort, TargetPort};
use crate::network::{Door, End, Match, Profile};

/// What both directions, egress alone and ingress alone are asked by, as [`naive::asked`] takes it.
const BOTH: [bool; 2] = [true, true];
const INGRESS: [bool; 2] = [true, false];
const EGRESS: [bool; 2] = [false, true];

/// May and must of a pod that dials a port of a service; by a node or an outer address only where
/// the service keeps sources.
pub(super) fn verdict(
    cluster: &Cluster,
    profile: Profile,
    from: u32,
    service: &Service,
    port: &ServicePort,
    door: Door,
) -> (bool, bool) {
    let (mut may, mut must) = (false, true);
    let client = &cluster.pods[from as usize];
    let mut any = false;
    for (to, target) in backends(cluster, service, port) {
        any = true;
        if service.node_local && door == Door::Inside {
            let near = match to {
                End::Pod(pod) => near(client, &cluster.pods[pod as usize]),
                End::Address(_) => Match::Maybe,
            };
            must &= near == Match::Yes;
            if near == Match::No {
                continue;
            }
        }
        let dial = |to: End, number: u16, sides: [bool; 2]| {
            let connection = Connection { from: End::Pod(from), to, protocol: port.protocol, port: number };
            naive::asked(cluster, profile, connection, sides)
        };
        let (one_may, one_must) = if to == End::Pod(from) {
            dial(to, target, BOTH)
        } else {
            match door {
                Door::Inside => {
                    let (may, must) = dial(to, target, BOTH);
                    let seen: Vec<(bool, bool)> = service
                        .addresses
                        .iter()
                        .map(|address| dial(End::Address(*address), port.port, EGRESS))
                        .collect();
                    let sees = profile.answers().service_address_seen != Match::No;
                    let opened = sees && seen.iter().any(|one| one.0) && dial(to, target, INGRESS).0;
                    let certain = matches!(to, End::Pod(_)) || !sees || seen.iter().all(|one| one.1);
                    (may || opened, must && certain)
                }
                Door::Node(Some(address)) => {
                    around(&dial, address, port.node_port.map_or(0, |ports| ports.0), to, target)
                }
                Door::Outside(address) => around(&dial, address, port.port, to, target),
                Door::Node(None) => unreachable!("not asked here"),
            }
        };
        may |= one_may;
        must &= one_must;
    }
    (may, must && any && may)
}

/// By an address that is rewritten: the client's policies may see it or the pod.
fn around(
    dial: &dyn Fn(End, u16, [bool; 2]) -> (bool, bool),
    address: std::net::IpAddr,
    port: u16,
    to: End,
    target: u16,
) -> (bool, bool) {
    let leaves = [dial(End::Address(address), port, EGRESS), dial(to, target, EGRESS)];
    let arrives = dial(to, target, INGRESS);
    (leaves.iter().any(|one| one.0) && arrives.0, leaves.iter().all(|one| one.1) && arrives.1)
}

fn near(one: &Pod, other: &Pod) -> Match {
    match (one.node, other.node) {
        (Some(one), Some(other)) => (one == other).into(),
        _ => Match::Maybe,
    }
}

fn backends(cluster: &Cluster, service: &Service, port: &ServicePort) -> Vec<(End, u16)> {
    let alive = (0..).zip(&cluster.pods).filter(|(_, pod)| !pod.finished);
    let selected = alive.filter(|(_, pod)| {
        pod.namespace == service.namespace
            && service.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
    });
    let mut all: Vec<(End, u16)> = selected
        .filter_map(|(number, pod)| {
            let named = |name| pod.ports.iter().find(|one| one.name == Some(name) && one.protocol == port.protocol);
            let target = match port.target {
                TargetPort::Number(number) => number,
                TargetPort::Name(name) => named(name)?.port,
            };
            Some((End::Pod(number), target))
        })
        .collect();
    for endpoint in &service.endpoints {
        let given = endpoint.ports.iter().find(|one| one.0 == port.name && one.1 == port.protocol);
        let target = match (&service.kind, port.target, given) {
            (ServiceKind::Headless, TargetPort::Number(number), _) => number,
            (_, _, Some(given)) => given.2,
            _ => continue,
        };
        let at = (0..)
            .zip(&cluster.pods)
            .filter(|(_, pod)| !pod.finished)
            .filter(|(_, pod)| {
                pod.addresses.contains(&endpoint.address)
                    || (pod.host_network && pod.node_addresses.contains(&endpoint.address))
            })
            .map(|(number, _)| (End::Pod(number), target));
        let at: Vec<(End, u16)> = at.collect();
        if at.is_empty() {
            all.push((End::Address(endpoint.address), target));
        }
        all.extend(at);
    }
    all
}
