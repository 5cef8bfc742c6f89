//! The definition: one connection, one world and one guess at a time, straight from the policies.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::network::cluster::{Cluster, Pod};
use crate::network::policy::{Action, Direction, Peer, Policy, PolicyKind, Rule, Scope, Tier};
use crate::network::port::Protocol;
use crate::network::profile::{Answers, Relevant, World};
use crate::network::{End, Match, Profile};

/// One connection.
#[derive(Clone, Copy)]
pub(super) struct Connection {
    pub(super) from: End,
    pub(super) to: End,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

/// May and must, by trying everything.
pub(super) fn verdict(cluster: &Cluster, profile: Profile, connection: Connection) -> (bool, bool) {
    asked(cluster, profile, connection, [true, true])
}

/// The same where only some of the directions, by [`Direction`], have a say.
pub(super) fn asked(cluster: &Cluster, profile: Profile, connection: Connection, sides: [bool; 2]) -> (bool, bool) {
    let Connection { from, to, .. } = connection;
    let finished = [from, to].iter().any(|end| pod(cluster, *end).is_some_and(|pod| pod.finished));
    if from == to {
        return (true, !finished);
    }
    let answers = profile.answers();
    let from_host = match pod(cluster, from) {
        Some(pod) => pod.host_network,
        None => true,
    };
    let everything = Relevant { host: true, from_host, block: true, cluster_policy: true };
    let (mut may, mut must) = (false, true);
    for world in answers.worlds(everything) {
        let (world_may, world_must) = in_world(cluster, &answers, &world, connection, sides);
        may |= world_may;
        must &= world_must;
    }
    (may, must && !finished)
}

fn in_world(
    cluster: &Cluster,
    answers: &Answers,
    world: &World,
    connection: Connection,
    sides: [bool; 2],
) -> (bool, bool) {
    let Connection { from, to, .. } = connection;
    let own_node = if world.own_node { own_node(cluster, from, to) } else { Match::No };
    if own_node == Match::Yes {
        return (true, true);
    }
    let (mut may, mut must) = (own_node == Match::Maybe, false);
    for v6 in [false, true] {
        let has = |end: End, surely: bool| families(cluster, end, surely).contains(&v6);
        let outcomes = |direction: Direction| match sides[direction as usize] {
            true => outcomes(cluster, answers, world, connection, direction, v6),
            false => BTreeSet::from([true]),
        };
        let (egress, ingress) = (outcomes(Direction::Egress), outcomes(Direction::Ingress));
        if has(from, false) && has(to, false) {
            may |= egress.contains(&true) && ingress.contains(&true);
        }
        if has(from, true) && has(to, true) {
            must |= !egress.contains(&false) && !ingress.contains(&false);
        }
    }
    (may, must)
}

fn pod(cluster: &Cluster, end: End) -> Option<&Pod> {
    match end {
        End::Pod(number) => Some(&cluster.pods[number as usize]),
        End::Address(_) => None,
    }
}

fn pod_addresses(pod: &Pod) -> Vec<IpAddr> {
    let mut all = pod.addresses.clone();
    if pod.host_network {
        all.extend(&pod.node_addresses);
    }
    all
}

/// Whether each family (true is IPv6) is one an end has.
fn families(cluster: &Cluster, end: End, surely: bool) -> BTreeSet<bool> {
    let known: BTreeSet<bool> = match end {
        End::Address(address) => BTreeSet::from([address.is_ipv6()]),
        End::Pod(number) => pod_addresses(&cluster.pods[number as usize]).iter().map(IpAddr::is_ipv6).collect(),
    };
    if !known.is_empty() {
        return known;
    }
    let of_cluster: BTreeSet<bool> =
        cluster.pods.iter().flat_map(pod_addresses).map(|address| address.is_ipv6()).collect();
    match surely {
        true => BTreeSet::from([of_cluster == BTreeSet::from([true])]),
        false => BTreeSet::from([false, true]),
    }
}

fn own_node(cluster: &Cluster, from: End, to: End) -> Match {
    match (from, to) {
        (End::Pod(one), End::Pod(other)) => {
            let (one, other) = (&cluster.pods[one as usize], &cluster.pods[other as usize]);
            if one.host_network == other.host_network {
                return Match::No;
            }
            if let (Some(a), Some(b)) = (one.node, other.node) {
                return (a == b).into();
            }
            let node = |pod: &Pod| if pod.host_network { pod_addresses(pod) } else { pod.node_addresses.clone() };
            let (a, b) = (node(one), node(other));
            if a.is_empty() || b.is_empty() { Match::Maybe } else { a.iter().any(|address| b.contains(address)).into() }
        }
        (End::Pod(number), End::Address(address)) | (End::Address(address), End::Pod(number)) => {
            cluster.pods[number as usize].node_addresses.contains(&address).into()
        }
        _ => Match::No,
    }
}

/// All answers that a direction's policies can give.
fn outcomes(
    cluster: &Cluster,
    answers: &Answers,
    world: &World,
    connection: Connection,
    direction: Direction,
    v6: bool,
) -> BTreeSet<bool> {
    let (subject, other) = match direction {
        Direction::Ingress => (connection.to, connection.from),
        Direction::Egress => (connection.from, connection.to),
    };
    let Some(subject) = pod(cluster, subject) else { return BTreeSet::from([true]) };
    let policies: Vec<&Policy> = cluster
        .policies
        .iter()
        .filter(|policy| policy.rules(direction).is_some() && applies(cluster, answers, world, policy, subject))
        .collect();
    let matches = |_: &Policy, rule: &Rule| matches(cluster, answers, world, rule, subject, other, connection, v6);
    let ordered = |is_tier: fn(Tier) -> bool| -> BTreeSet<Option<bool>> {
        let mut tiers: Vec<Tier> = policies.iter().map(|policy| policy.tier).filter(|tier| is_tier(*tier)).collect();
        tiers.sort_unstable();
        tiers.dedup();
        let groups: Vec<Vec<&Policy>> =
            tiers.iter().map(|tier| policies.iter().copied().filter(|policy| policy.tier == *tier).collect()).collect();
        let mut results = BTreeSet::new();
        for order in orders(&groups) {
            results.extend(walk(&order, direction, &matches));
        }
        results
    };
    let mut results = BTreeSet::new();
    for admin in ordered(|tier| matches!(tier, Tier::Admin(_))) {
        if let Some(answer) = admin {
            results.insert(answer);
            continue;
        }
        let network: Vec<&Policy> = policies.iter().copied().filter(|policy| policy.tier == Tier::Network).collect();
        for network in union(&network, direction, &matches) {
            if let Some(answer) = network {
                results.insert(answer);
                continue;
            }
            let baseline = ordered(|tier| matches!(tier, Tier::Baseline(_)));
            results.extend(baseline.into_iter().map(|answer| answer.unwrap_or(true)));
        }
    }
    results
}

fn applies(cluster: &Cluster, answers: &Answers, world: &World, policy: &Policy, pod: &Pod) -> bool {
    let in_scope = match &policy.namespaces {
        Scope::Own => policy.namespace == Some(pod.namespace),
        Scope::Matching(selector) => selector.matches(cluster.namespace_labels(pod.namespace)),
    };
    let enforced = match policy.kind {
        PolicyKind::NetworkPolicy => answers.network_policy && (!pod.host_network || world.host_network_is_ordinary),
        _ => world.cluster_policy && !pod.host_network,
    };
    in_scope && policy.pods.matches(&pod.labels) && enforced && (pod.owned || answers.bare_pods)
}

/// Every order of the policies within each group, the groups in order.
fn orders<'policy>(groups: &[Vec<&'policy Policy>]) -> Vec<Vec<&'policy Policy>> {
    let Some((first, rest)) = groups.split_first() else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for order in permutations(first) {
        for tail in orders(rest) {
            all.push(order.iter().copied().chain(tail).collect());
        }
    }
    all
}

fn permutations<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for at in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(at);
        all.extend(permutations(&rest).into_iter().map(|tail| [vec![first], tail].concat()));
    }
    all
}

/// A tier whose rules are asked in order: accepted, denied, or not decided.
fn walk(
    policies: &[&Policy],
    direction: Direction,
    matches: &dyn Fn(&Policy, &Rule) -> Match,
) -> BTreeSet<Option<bool>> {
    let Some((policy, rest)) = policies.split_first() else { return BTreeSet::from([None]) };
    let mut results = BTreeSet::new();
    if !policy.valid {
        results.extend(walk(rest, direction, matches));
    }
    let rules = policy.rules(direction).map_or(&[][..], |rules| &rules.list);
    let mut reached_end = true;
    for rule in rules {
        let matched = matches(policy, rule);
        if matched == Match::No {
            continue;
        }
        results.insert(match rule.action {
            Action::Accept => Some(true),
            Action::Deny => Some(false),
            Action::Pass => None,
        });
        if matched == Match::Yes {
            reached_end = false;
            break;
        }
    }
    if reached_end {
        results.extend(walk(rest, direction, matches));
    }
    results
}

/// NetworkPolicies: each that is in doubt is there or not, each rule in doubt matches or not.
fn union(
    policies: &[&Policy],
    direction: Direction,
    matches: &dyn Fn(&Policy, &Rule) -> Match,
) -> BTreeSet<Option<bool>> {
    let doubtful: Vec<usize> = (0..policies.len()).filter(|at| !policies[*at].valid).collect();
    let mut results = BTreeSet::new();
    for choice in 0..1_u32 << doubtful.len() {
        let there: Vec<&Policy> = policies
            .iter()
            .enumerate()
            .filter(|(at, _)| doubtful.iter().position(|doubt| doubt == at).is_none_or(|bit| choice & (1 << bit) != 0))
            .map(|(_, policy)| *policy)
            .collect();
        if there.is_empty() {
            results.insert(None);
            continue;
        }
        let all = there.iter().flat_map(|policy| {
            policy.rules(direction).map_or(&[][..], |rules| &rules.list).iter().map(|rule| matches(policy, rule))
        });
        match all.max().unwrap_or(Match::No) {
            Match::Yes => drop(results.insert(Some(true))),
            Match::No => drop(results.insert(Some(false))),
            Match::Maybe => results.extend([Some(true), Some(false)]),
        }
    }
    results
}

#[allow(clippy::too_many_arguments)]
fn matches(
    cluster: &Cluster,
    answers: &Answers,
    world: &World,
    rule: &Rule,
    subject: &Pod,
    other: End,
    connection: Connection,
    v6: bool,
) -> Match {
    let names = pod(cluster, connection.to).map_or(&[][..], |pod| &pod.ports);
    let by_name = rule.ports.named.iter().any(|(protocol, name)| {
        names.iter().any(|port| {
            port.name == Some(*name)
                && port.protocol == connection.protocol
                && port.port == connection.port
                && protocol.is_none_or(|protocol| protocol == port.protocol)
        })
    });
    if !by_name && !rule.ports.numbers.contains(connection.protocol, connection.port) {
        return Match::No;
    }
    let Some(peers) = &rule.peers else { return Match::Yes };
    peers.iter().map(|peer| peer_matches(cluster, answers, world, peer, subject, other, v6)).max().unwrap_or(Match::No)
}

fn peer_matches(
    cluster: &Cluster,
    answers: &Answers,
    world: &World,
    peer: &Peer,
    subject: &Pod,
    other: End,
    v6: bool,
) -> Match {
    let single = |set: &crate::network::address::AddressSet| {
        world.block_matches_pod || (set.is_single() && answers.single_block_matches_pod)
    };
    match (peer, pod(cluster, other)) {
        (Peer::Pods(scope, selector), Some(pod)) => {
            let in_scope = match scope {
                Scope::Own => pod.namespace == subject.namespace,
                Scope::Matching(namespaces) => namespaces.matches(cluster.namespace_labels(pod.namespace)),
            };
            let is_any =
                selector.is_everything() && matches!(scope, Scope::Matching(namespaces) if namespaces.is_everything());
            let seen =
                !pod.host_network || world.host_network_is_ordinary || (is_any && world.any_peer_matches_host_network);
            (in_scope && seen && selector.matches(&pod.labels)).into()
        }
        (Peer::Block(set), Some(pod)) if pod.host_network => {
            if world.block_matches_node {
                pod_in(set, pod, v6)
            } else {
                Match::No
            }
        }
        (Peer::Block(set), Some(pod)) => {
            if single(set) {
                pod_in(set, pod, v6)
            } else {
                Match::No
            }
        }
        (Peer::Networks(set), Some(pod)) => pod_in(set, pod, v6),
        (Peer::Nodes(selector), Some(pod)) if pod.host_network => {
            let node = cluster.nodes.iter().find(|node| Some(node.name) == pod.node);
            node.map_or(Match::Maybe, |node| selector.matches(&node.labels).into())
        }
        (_, Some(_)) => Match::No,
        (peer, None) => address_matches(cluster, world, peer, other),
    }
}

fn address_matches(cluster: &Cluster, world: &World, peer: &Peer, other: End) -> Match {
    let End::Address(address) = other else { return Match::No };
    let node = cluster.nodes.iter().find(|node| node.addresses.contains(&address));
    let is_node = node.is_some() || cluster.pods.iter().any(|pod| pod.node_addresses.contains(&address));
    match peer {
        Peer::Block(set) => (set.contains(address) && (!is_node || world.block_matches_node)).into(),
        Peer::Networks(set) => set.contains(address).into(),
        Peer::Nodes(selector) => match (node, is_node) {
            (Some(node), _) => selector.matches(&node.labels).into(),
            (None, true) => Match::Maybe,
            (None, false) => Match::No,
        },
        Peer::Names if !is_node => Match::Maybe,
        _ => Match::No,
    }
}

fn pod_in(set: &crate::network::address::AddressSet, pod: &Pod, v6: bool) -> Match {
    let known = pod_addresses(pod);
    if known.is_empty() {
        return set.contains_unknown_pod()[usize::from(v6)];
    }
    let of_family: Vec<&IpAddr> = known.iter().filter(|address| address.is_ipv6() == v6).collect();
    // A family the pod does not have is asked in vain; what is said about it must not matter.
    let asked: Vec<&IpAddr> = if of_family.is_empty() { known.iter().collect() } else { of_family };
    asked.iter().any(|address| set.contains(**address)).into()
}
