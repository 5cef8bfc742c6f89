//! NetworkPolicy v1, by the API server's rules of validation and defaulting.

use super::address::AddressSet;
use super::cluster::Cluster;
use super::policy::{Action, Direction, Peer, Policy, PolicyKind, Ports, Rule, Rules, Scope, Tier};
use super::port::PortSet;
use super::reader::Reader;
use crate::snapshot::{Node, Object, ObjectId, Value};

pub(super) fn add(cluster: &mut Cluster, id: ObjectId, object: &Object) {
    let namespace = cluster.namespace(object.namespace.as_deref().unwrap_or("default"));
    let mut reader = Reader::new(cluster, object);
    let empty = Node::without_place(Value::Map(Box::new([])));
    let spec = match object.value.get("spec") {
        None => &empty,
        Some(spec @ Node { value: Value::Map(_), .. }) => spec,
        Some(other) => {
            reader.refuse(other, format!("spec must be a mapping but is {}", other.kind_of_value()), "");
            &empty
        }
    };
    reader.only(spec, &["podSelector", "policyTypes", "ingress", "egress"]);
    let pods = reader.selector(spec.get("podSelector"));
    let ingress = rules(&mut reader, spec, Direction::Ingress);
    let egress = rules(&mut reader, spec, Direction::Egress);
    let mut about = [false, false];
    for node in reader.list(spec, "policyTypes") {
        match node.text() {
            Some("Ingress") => about[0] = true,
            Some("Egress") => about[1] = true,
            _ => reader.refuse(node, format!("{} is no policy type", node.to_json()), "use Ingress and Egress"),
        }
    }
    if spec.get("policyTypes").is_none_or(|types| types.items().is_empty()) {
        // The server's default: Ingress always, Egress where there are rules for it.
        about = [true, !egress.list.is_empty()];
    }
    for (direction, is_about, rules) in [("ingress", about[0], &ingress), ("egress", about[1], &egress)] {
        if let (false, Some(node)) = (is_about || rules.list.is_empty(), spec.get(direction)) {
            let what = format!("these {direction} rules say nothing: policyTypes leaves this direction out");
            reader.warn(node.line, node.column, what, "add it to policyTypes, or remove the rules");
        }
    }
    let valid = reader.valid;
    cluster.policies.push(Policy {
        kind: PolicyKind::NetworkPolicy,
        namespace: Some(namespace),
        name: object.name.clone(),
        object: id,
        tier: Tier::Network,
        namespaces: Scope::Own,
        pods,
        ingress: about[0].then_some(ingress),
        egress: about[1].then_some(egress),
        valid,
    });
}

fn rules(reader: &mut Reader<'_>, spec: &Node, direction: Direction) -> Rules {
    let (key, peers_key) = match direction {
        Direction::Ingress => ("ingress", "from"),
        Direction::Egress => ("egress", "to"),
    };
    let (mut list, mut places) = (Vec::new(), Vec::new());
    for node in reader.list(spec, key) {
        if !matches!(node.value, Value::Map(_) | Value::Null) {
            reader.refuse(node, format!("a rule must be a mapping but is {}", node.kind_of_value()), "");
            continue;
        }
        reader.only(node, &[peers_key, "ports"]);
        let peers = reader.list(node, peers_key);
        // Present and empty is the same as absent: everyone.
        let peers = (!peers.is_empty()).then(|| peers.iter().filter_map(|peer| self::peer(reader, peer)).collect());
        let ports = ports(reader, node);
        list.push(Rule { action: Action::Accept, peers, ports });
        places.push((node.line, node.column));
    }
    Rules { list: reader.cluster.share_rules(list), places }
}

fn peer(reader: &mut Reader<'_>, node: &Node) -> Option<Peer> {
    reader.only(node, &["podSelector", "namespaceSelector", "ipBlock"]);
    // An empty selector is a selector; only an absent one is none.
    let (pods, namespaces) = (node.get("podSelector"), node.get("namespaceSelector"));
    match (node.get("ipBlock"), pods.is_some() || namespaces.is_some()) {
        (Some(_), true) => {
            reader.refuse(node, "a peer has either an ipBlock or selectors", "make two peers of it");
            None
        }
        (Some(block), false) => self::block(reader, block),
        (None, false) => {
            reader.refuse(
                node,
                "this peer is empty",
                "name a podSelector, a namespaceSelector or an ipBlock; leave the list out for everyone",
            );
            None
        }
        (None, true) => {
            let scope = match namespaces {
                None => Scope::Own,
                Some(selector) => Scope::Matching(reader.selector(Some(selector))),
            };
            Some(Peer::Pods(scope, reader.selector(pods)))
        }
    }
}

fn block(reader: &mut Reader<'_>, node: &Node) -> Option<Peer> {
    reader.only(node, &["cidr", "except"]);
    let Some(cidr) = node.get("cidr") else {
        reader.refuse(node, "this ipBlock has no cidr", "give one");
        return None;
    };
    let cidr = reader.block(cidr)?;
    let mut except = Vec::new();
    for node in reader.list(node, "except") {
        let Some(hole) = reader.block(node) else { continue };
        if !cidr.contains(&hole) || cidr.prefix_len() >= hole.prefix_len() {
            reader.refuse(node, format!("except {hole} is no part of {cidr}"), "name a smaller block inside cidr");
        }
        except.push(hole);
    }
    Some(Peer::Block(AddressSet::block(cidr, &except)))
}

fn ports(reader: &mut Reader<'_>, rule: &Node) -> Ports {
    let list = reader.list(rule, "ports");
    if list.is_empty() {
        return Ports { numbers: PortSet::all(), named: Vec::new() };
    }
    let mut ports = Ports { numbers: PortSet::none(), named: Vec::new() };
    for node in list {
        reader.only(node, &["protocol", "port", "endPort"]);
        let Some(protocol) = reader.protocol(node.get("protocol")) else { continue };
        let range = match (node.get("port"), node.get("endPort")) {
            (None, None) => PortSet::range(protocol, 1, u16::MAX),
            (None, Some(end)) => {
                reader.refuse(end, "endPort needs a port", "give the first port too");
                continue;
            }
            (Some(port @ Node { value: Value::Text(_), .. }), end) => {
                if let Some(end) = end {
                    reader.refuse(end, "endPort does not go with a named port", "use a number");
                }
                if let Some(name) = reader.port_name(port) {
                    ports.named.push((Some(protocol), name));
                }
                continue;
            }
            (Some(port), end) => {
                let Some(first) = reader.port(port) else { continue };
                let last = match end {
                    None => first,
                    Some(end) => match reader.port(end) {
                        Some(last) if last < first => {
                            reader.refuse(end, format!("endPort {last} is below port {first}"), "exchange them");
                            continue;
                        }
                        Some(last) => last,
                        None => continue,
                    },
                };
                PortSet::range(protocol, first, last)
            }
        };
        ports.numbers = ports.numbers.union(&range);
    }
    ports.named.sort_unstable();
    ports.named.dedup();
    ports
}
