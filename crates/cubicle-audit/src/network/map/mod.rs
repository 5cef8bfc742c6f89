//! All connections of a cluster at once, between groups of pods.

mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rustc_hash::FxHashMap;
use serde::Serialize;

pub use self::services::MapService;
use super::Match;
use super::cluster::Pod;
use super::engine::{Engine, Reach};

/// Groups above this number are not drawn: their square is.
const MOST_GROUPS: usize = 3_000;

/// Pairs with a host's network that are looked at one by one.
const MOST_HOST_PAIRS: usize = 4_000_000;

/// Services times groups that are looked at.
const MOST_SERVED: usize = 1_000_000;

/// Names shown of each group in text.
const SHOWN: usize = 5;

/// Pods that no policy tells apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its number, by which connections refer to it.
    pub id: usize,
    /// How many pods are in it.
    pub pods: usize,
    /// The workloads they belong to, as `namespace/name`.
    pub workloads: Vec<String>,
}

/// Whether a connection is about pods of one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespaces {
    /// Of any.
    Any,
    /// Both ends in the same.
    Same,
    /// The ends in different ones.
    Different,
}

/// Connections from one group, or from outside, to another, or to outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// `group N`, a range of addresses `first-last`, or an Ingress or route by its kind and name.
    pub from: String,
    /// `group N`, a range of addresses, or `service NAMESPACE/NAME` with the service's own ports.
    pub to: String,
    /// Which pods of the groups.
    pub namespaces: Namespaces,
    /// Ports that some implementation lets through.
    pub may: String,
    /// Ports that every implementation lets through.
    pub must: String,
}

/// The groups and what connects them; pairs that are not listed are denied everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Map {
    /// The groups.
    pub groups: Vec<Group>,
    /// The services.
    pub services: Vec<MapService>,
    /// The connections.
    pub connections: Vec<Connection>,
}

/// Too much to draw.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there are {groups} groups of pods that policies tell apart and {services} services; at most {MOST_GROUPS} groups, and {MOST_SERVED} pairs of a group and a service, are drawn"
)]
pub struct TooManyGroups {
    groups: usize,
    services: usize,
}

impl Engine {
    /// All connections.
    ///
    /// # Errors
    ///
    /// There are too many groups to look at all pairs.
    pub fn map(&mut self) -> Result<Map, TooManyGroups> {
        let mut members = BTreeMap::<u32, Vec<u32>>::new();
        for number in self.present_pods() {
            if let Some(class) = self.class(number) {
                members.entry(class).or_default().push(number);
            }
        }
        let services = self.cluster().services.len();
        if members.len() > MOST_GROUPS || members.len() * services > MOST_SERVED {
            return Err(TooManyGroups { groups: members.len(), services });
        }
        let mut classes: Vec<(Group, u32, Vec<u32>)> = members
            .into_iter()
            .map(|(class, pods)| {
                let workloads: BTreeSet<String> = pods.iter().map(|pod| self.workload_name(*pod)).collect();
                (Group { id: 0, pods: pods.len(), workloads: workloads.into_iter().collect() }, class, pods)
            })
            .collect();
        classes.sort_by(|one, other| one.0.workloads.cmp(&other.0.workloads));
        for (id, (group, ..)) in classes.iter_mut().enumerate() {
            group.id = id + 1;
        }
        let mut connections = Vec::new();
        for (from, from_class, from_pods) in &classes {
            for (to, to_class, to_pods) in &classes {
                let mut reaches = Vec::new();
                for (same, namespaces) in [(true, Namespaces::Same), (false, Namespaces::Different)] {
                    if let Some(reach) = self.reach_of_groups(*from_class, from_pods, *to_class, to_pods, same) {
                        reaches.push((namespaces, reach));
                    }
                }
                if reaches.len() == 2 && reaches[0].1 == reaches[1].1 {
                    reaches.truncate(1);
                    reaches[0].0 = Namespaces::Any;
                } else if reaches.len() == 1 {
                    reaches[0].0 = Namespaces::Any;
                }
                for (namespaces, reach) in reaches {
                    push(
                        &mut connections,
                        format!("group {}", from.id),
                        format!("group {}", to.id),
                        namespaces,
                        &reach,
                    );
                }
            }
        }
        for v6 in [false, true] {
            // Of a cluster in which nothing is IPv6 there is nothing to say about it.
            if v6 && !self.knows_ipv6() {
                continue;
            }
            self.outside_connections(&classes, v6, &mut connections);
        }
        self.service_connections(&classes, &mut connections);
        self.front_connections(&classes, &mut connections);
        let services = self.map_services().into_iter().map(|(_, service)| service).collect();
        Ok(Map { groups: classes.into_iter().map(|(group, ..)| group).collect(), services, connections })
    }

    /// The workload of a pod, or the pod where it has none, as `namespace/name`.
    #[must_use]
    pub fn workload_name(&self, pod: u32) -> String {
        let Some(pod) = self.cluster().pods.get(pod as usize) else { return String::new() };
        let name = pod.owner.as_ref().map_or(&pod.name, |owner| &owner.name);
        format!("{}/{name}", self.cluster().namespace_name(pod.namespace))
    }

    /// What pods of one group reach on those of another; none where there is no such pair.
    fn reach_of_groups(&mut self, from: u32, from_pods: &[u32], to: u32, to_pods: &[u32], same: bool) -> Option<Reach> {
        let pods = &self.cluster().pods;
        let in_namespaces = |list: &[u32]| {
            let mut counts = FxHashMap::default();
            for pod in list {
                *counts.entry(pods[*pod as usize].namespace).or_insert(0_usize) += 1;
            }
            counts
        };
        let (from_counts, to_counts) = (in_namespaces(from_pods), in_namespaces(to_pods));
        let shared: usize =
            from_counts.iter().map(|(namespace, count)| count * to_counts.get(namespace).unwrap_or(&0)).sum();
        let itself = if from == to { from_pods.len() } else { 0 };
        let pairs = if same { shared - itself } else { from_pods.len() * to_pods.len() - shared };
        if pairs == 0 {
            return None;
        }
        let is_host = |list: &[u32]| list.first().is_some_and(|pod| pods[*pod as usize].host_network);
        let relations: Vec<Match> = if is_host(from_pods) == is_host(to_pods) {
            vec![Match::No]
        } else if from_pods.len().saturating_mul(to_pods.len()) > MOST_HOST_PAIRS {
            vec![Match::No, Match::Maybe]
        } else {
            let is_pair = |one: &Pod, other: &Pod| (one.namespace == other.namespace) == same;
            let found: BTreeSet<Match> = from_pods
                .iter()
                .flat_map(|one| to_pods.iter().map(move |other| (&pods[*one as usize], &pods[*other as usize])))
                .filter(|(one, other)| is_pair(one, other))
                .map(|(one, other)| Self::same_node(one, other))
                .collect();
            found.into_iter().collect()
        };
        let mut whole: Option<Reach> = None;
        for relation in relations {
            let reach = self.reach_between(from, to, same, relation);
            whole = Some(match whole {
                None => reach.as_ref().clone(),
                Some(known) => Reach { may: known.may.union(&reach.may), must: known.must.intersection(&reach.must) },
            });
        }
        whole
    }

    fn outside_connections(&mut self, classes: &[(Group, u32, Vec<u32>)], v6: bool, connections: &mut Vec<Connection>) {
        let parts = self.parts_of_world(v6);
        for (group, class, _) in classes {
            for ingress in [true, false] {
                // Neighbouring parts with one answer are one range.
                let mut ranges: Vec<(std::net::IpAddr, std::net::IpAddr, Reach)> = Vec::new();
                for (first, last) in &parts {
                    let outside = self.class_of_address(*first);
                    let (from, to) = if ingress { (outside, *class) } else { (*class, outside) };
                    let reach = self.reach_between(from, to, false, Match::No).as_ref().clone();
                    match ranges.last_mut() {
                        Some(previous) if previous.2 == reach => previous.1 = *last,
                        _ => ranges.push((*first, *last, reach)),
                    }
                }
                for (first, last, reach) in ranges {
                    let (inside, outside) = (format!("group {}", group.id), format!("{first}-{last}"));
                    let (from, to) = if ingress { (outside, inside) } else { (inside, outside) };
                    push(connections, from, to, Namespaces::Any, &reach);
                }
            }
        }
    }
}

fn push(connections: &mut Vec<Connection>, from: String, to: String, namespaces: Namespaces, reach: &Reach) {
    if !reach.may.is_empty() {
        let (may, must) = (reach.may.to_string(), reach.must.to_string());
        connections.push(Connection { from, to, namespaces, may, must });
    }
}

impl fmt::Display for Map {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.groups.is_empty() {
            return writeln!(formatter, "There are no pods.");
        }
        for group in &self.groups {
            let shown = group.workloads.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            let more = group.workloads.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(formatter, "group {}: {} pods: {shown}{more}", group.id, group.pods)?;
        }
        for service in &self.services {
            let shown = service.backends.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            let more = service.backends.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let behind = if shown.is_empty() { "nothing".to_owned() } else { shown };
            let (name, kind) = (&service.name, &service.kind);
            writeln!(formatter, "service {name} ({kind}): {}: leads to {behind}{more}", service.ports.join("; "))?;
        }
        writeln!(formatter)?;
        for connection in &self.connections {
            let namespaces = match connection.namespaces {
                Namespaces::Any => "",
                Namespaces::Same => " (in one namespace)",
                Namespaces::Different => " (of different namespaces)",
            };
            let open = if connection.may == connection.must {
                String::new()
            } else {
                format!(", certain only {}", connection.must)
            };
            writeln!(formatter, "{} -> {}{namespaces}: {}{open}", connection.from, connection.to, connection.may)?;
        }
        if self.connections.is_empty() {
            writeln!(formatter, "Nothing is allowed.")?;
        }
        Ok(())
    }
}
