//! AdminNetworkPolicy and BaselineAdminNetworkPolicy v1alpha1, ClusterNetworkPolicy v1alpha2.
//!
//! Facts: kubernetes-sigs/network-policy-api, `apis/v1alpha1` and `apis/v1alpha2`.

use super::address::AddressSet;
use super::cluster::Cluster;
use super::policy::{Action, Direction, Peer, Policy, PolicyKind, Ports, Rule, Rules, Scope, Tier};
use super::port::{PortSet, Protocol};
use super::reader::Reader;
use crate::snapshot::{Node, Object, ObjectId, Value};

/// A BaselineAdminNetworkPolicy has no priority; it comes after all ClusterNetworkPolicies.
const BEHIND_ALL: i32 = i32::MAX;

pub(super) fn add(cluster: &mut Cluster, id: ObjectId, object: &Object) {
    let kind = match &*object.kind {
        "AdminNetworkPolicy" => PolicyKind::AdminNetworkPolicy,
        "BaselineAdminNetworkPolicy" => PolicyKind::BaselineAdminNetworkPolicy,
        _ => PolicyKind::ClusterNetworkPolicy,
    };
    let mut reader = Reader::new(cluster, object);
    let empty = Node::without_place(Value::Map(Box::new([])));
    let spec = object.value.get("spec").unwrap_or(&empty);
    match kind {
        PolicyKind::ClusterNetworkPolicy => reader.only(spec, &["tier", "priority", "subject", "ingress", "egress"]),
        PolicyKind::AdminNetworkPolicy => reader.only(spec, &["priority", "subject", "ingress", "egress"]),
        _ => reader.only(spec, &["subject", "ingress", "egress"]),
    }
    if kind == PolicyKind::BaselineAdminNetworkPolicy && &*object.name != "default" {
        let name = object.value.at(&["metadata", "name"]).unwrap_or(&object.value);
        reader.refuse(name, "a BaselineAdminNetworkPolicy must be named \"default\"", "rename it");
    }
    let tier = tier(&mut reader, kind, spec);
    let (namespaces, pods) = match spec.get("subject") {
        Some(subject) => selected(&mut reader, subject).unwrap_or((everywhere(), Default::default())),
        None => {
            reader.refuse(spec, "spec has no subject", "say which namespaces or pods it is about");
            (everywhere(), Default::default())
        }
    };
    let ingress = rules(&mut reader, kind, spec, Direction::Ingress);
    let egress = rules(&mut reader, kind, spec, Direction::Egress);
    let valid = reader.valid;
    cluster.policies.push(Policy {
        kind,
        namespace: None,
        name: object.name.clone(),
        object: id,
        tier,
        namespaces,
        pods,
        ingress: Some(ingress),
        egress: Some(egress),
        valid,
    });
}

fn everywhere() -> Scope {
    Scope::Matching(Default::default())
}

fn tier(reader: &mut Reader<'_>, kind: PolicyKind, spec: &Node) -> Tier {
    if kind == PolicyKind::BaselineAdminNetworkPolicy {
        return Tier::Baseline(BEHIND_ALL);
    }
    let priority = match spec.get("priority") {
        None => {
            reader.refuse(spec, "spec has no priority", "give a number from 0 to 1000");
            1000
        }
        Some(node) => match node
            .integer()
            .and_then(|number| i32::try_from(number).ok())
            .filter(|number| (0..=1000).contains(number))
        {
            Some(priority) => priority,
            None => {
                reader.refuse(
                    node,
                    format!("priority {} is out of range", node.to_json()),
                    "use a number from 0 to 1000",
                );
                1000
            }
        },
    };
    if kind == PolicyKind::AdminNetworkPolicy {
        return Tier::Admin(priority);
    }
    match spec.get("tier").and_then(Node::text) {
        Some("Admin") => Tier::Admin(priority),
        Some("Baseline") => Tier::Baseline(priority),
        _ => {
            let node = spec.get("tier").unwrap_or(spec);
            reader.refuse(node, "tier must be Admin or Baseline", "choose one");
            Tier::Admin(priority)
        }
    }
}

/// `namespaces` or `pods`; none when it is something else.
fn selected(reader: &mut Reader<'_>, node: &Node) -> Option<(Scope, super::selector::Selector)> {
    match (node.get("namespaces"), node.get("pods")) {
        (Some(namespaces), None) => {
            let scope = Scope::Matching(reader.selector(Some(namespaces)));
            Some((scope, Default::default()))
        }
        (None, Some(pods)) => {
            reader.only(pods, &["namespaceSelector", "podSelector"]);
            let scope = Scope::Matching(reader.selector(pods.get("namespaceSelector")));
            Some((scope, reader.selector(pods.get("podSelector"))))
        }
        (Some(_), Some(_)) => {
            reader.refuse(node, "namespaces and pods exclude each other", "keep one");
            None
        }
        (None, None) => None,
    }
}

fn rules(reader: &mut Reader<'_>, kind: PolicyKind, spec: &Node, direction: Direction) -> Rules {
    let (key, peers_key) = match direction {
        Direction::Ingress => ("ingress", "from"),
        Direction::Egress => ("egress", "to"),
    };
    let ports_key = if kind == PolicyKind::ClusterNetworkPolicy { "protocols" } else { "ports" };
    let (mut list, mut places) = (Vec::new(), Vec::new());
    for node in reader.list(spec, key) {
        reader.only(node, &["name", "action", peers_key, ports_key]);
        let action = action(reader, kind, node);
        let named = reader.list(node, peers_key);
        if named.is_empty() {
            reader.refuse(node, format!("this rule has no {peers_key}"), "name at least one peer");
        }
        let peers = named.iter().map(|peer| self::peer(reader, direction, peer)).collect();
        let ports = match ports_key {
            "ports" => ports(reader, node),
            _ => protocols(reader, node),
        };
        list.push(fail_closed(Rule { action, peers: Some(peers), ports }));
        places.push((node.line, node.column));
    }
    Rules { list: reader.cluster.share_rules(list), places }
}

/// A rule with a peer that is not understood: an accepting one does not match through it, any
/// other denies everyone.
fn fail_closed(mut rule: Rule) -> Rule {
    let Some(peers) = &rule.peers else { return rule };
    if rule.action != Action::Accept && peers.contains(&Peer::Unknown) {
        rule.action = Action::Deny;
        rule.peers = None;
    }
    rule
}

fn action(reader: &mut Reader<'_>, kind: PolicyKind, node: &Node) -> Action {
    let accept = if kind == PolicyKind::ClusterNetworkPolicy { "Accept" } else { "Allow" };
    match node.text_at("action") {
        Some("Deny") => Action::Deny,
        Some("Pass") if kind != PolicyKind::BaselineAdminNetworkPolicy => Action::Pass,
        Some(text) if text == accept => Action::Accept,
        _ => {
            let place = node.get("action").unwrap_or(node);
            reader.refuse(
                place,
                format!("the action must be {accept}, Deny or Pass (not in a baseline of v1alpha1)"),
                "choose one",
            );
            Action::Deny
        }
    }
}

fn peer(reader: &mut Reader<'_>, direction: Direction, node: &Node) -> Peer {
    if let Some((scope, pods)) = selected(reader, node) {
        return Peer::Pods(scope, pods);
    }
    let is_egress = direction == Direction::Egress;
    if let Some(nodes) = node.get("nodes").filter(|_| is_egress) {
        return Peer::Nodes(reader.selector(Some(nodes)));
    }
    if node.get("networks").is_some() && is_egress {
        let blocks: Vec<_> = reader.list(node, "networks").iter().filter_map(|block| reader.block(block)).collect();
        return Peer::Networks(AddressSet::from_blocks(blocks));
    }
    if node.get("domainNames").is_some() && is_egress {
        return Peer::Names;
    }
    let what = "this peer is of no kind that is known here; a rule that denies or passes denies everyone because of it";
    reader.warn(node.line, node.column, what, "use namespaces or pods; for egress also nodes, networks or domainNames");
    Peer::Unknown
}

/// v1alpha1: `portNumber`, `portRange`, `namedPort`.
fn ports(reader: &mut Reader<'_>, rule: &Node) -> Ports {
    let list = reader.list(rule, "ports");
    if list.is_empty() {
        return Ports { numbers: PortSet::all(), named: Vec::new() };
    }
    let mut ports = Ports { numbers: PortSet::none(), named: Vec::new() };
    for node in list {
        reader.only(node, &["portNumber", "portRange", "namedPort"]);
        if let Some(number) = node.get("portNumber") {
            if let Some(protocol) = reader.protocol(number.get("protocol")) {
                add_numbers(reader, &mut ports, protocol, number.get("port"), number.get("port"), number);
            }
        } else if let Some(range) = node.get("portRange") {
            if let Some(protocol) = reader.protocol(range.get("protocol")) {
                add_numbers(reader, &mut ports, protocol, range.get("start"), range.get("end"), range);
            }
        } else if let Some(name) = node.get("namedPort") {
            ports.named.extend(reader.port_name(name).map(|name| (None, name)));
        } else {
            reader.refuse(node, "this port says nothing", "use portNumber, portRange or namedPort");
        }
    }
    ports
}

/// v1alpha2: `tcp`, `udp` and `sctp` with `destinationPort`, and `destinationNamedPort`.
fn protocols(reader: &mut Reader<'_>, rule: &Node) -> Ports {
    let list = reader.list(rule, "protocols");
    if list.is_empty() {
        return Ports { numbers: PortSet::all(), named: Vec::new() };
    }
    let mut ports = Ports { numbers: PortSet::none(), named: Vec::new() };
    for node in list {
        reader.only(node, &["tcp", "udp", "sctp", "destinationNamedPort"]);
        if let Some(name) = node.get("destinationNamedPort") {
            ports.named.extend(reader.port_name(name).map(|name| (None, name)));
            continue;
        }
        let known = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];
        let Some((entry, protocol)) =
            known.iter().find_map(|(key, protocol)| node.entry(key).map(|entry| (entry, *protocol)))
        else {
            reader.refuse(node, "this protocol says nothing", "use tcp, udp, sctp or destinationNamedPort");
            continue;
        };
        match entry.node.get("destinationPort") {
            None => ports.numbers = ports.numbers.union(&PortSet::range(protocol, 1, u16::MAX)),
            Some(port) => match port.get("range") {
                Some(range) => add_numbers(reader, &mut ports, protocol, range.get("start"), range.get("end"), range),
                None => add_numbers(reader, &mut ports, protocol, port.get("number"), port.get("number"), port),
            },
        }
    }
    ports
}

fn add_numbers(
    reader: &mut Reader<'_>,
    ports: &mut Ports,
    protocol: Protocol,
    first: Option<&Node>,
    last: Option<&Node>,
    place: &Node,
) {
    let (Some(first), Some(last)) = (first, last) else {
        reader.refuse(place, "a number of this port is missing", "give the port, or start and end");
        return;
    };
    let Some(from) = reader.port(first) else { return };
    let Some(to) = reader.port(last) else { return };
    if to < from {
        reader.refuse(last, format!("end {to} is below start {from}"), "exchange them");
        return;
    }
    ports.numbers = ports.numbers.union(&PortSet::range(protocol, from, to));
}
