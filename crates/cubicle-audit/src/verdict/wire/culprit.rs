//! The rule that lets a connection through, and the change that closes it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::json;

use super::{Target, Wire};
use crate::network::cluster::{Cluster, NamespaceId};
use crate::network::policy::{Action, Peer, Scope};
use crate::network::port::{PortSet, Protocol};
use crate::snapshot::{ObjectId, SourceRef};
use crate::verdict::finding::Location;
use crate::verdict::fix::{Fix, Operation};
use crate::verdict::scene::{Scene, target, title};
use crate::verdict::tenancy::Workspace;

/// A rule that lets a connection through.
#[derive(Debug, Clone)]
pub(crate) struct Culprit {
    pub(crate) title: String,
    pub(crate) location: Location,
    object: ObjectId,
    /// `ingress` or `egress`, and the number of the rule in the manifest.
    direction: &'static str,
    rule: usize,
    /// Whether it is about the port of names alone.
    names_only: bool,
    ports: PortSet,
    is_network_policy: bool,
}

impl Wire {
    /// The policy rule that lets a connection of a workspace through; none when no policy of
    /// that direction selects it.
    pub(crate) fn culprit(&self, scene: &Scene<'_>, workspace: &Workspace, to: &Target) -> Option<Culprit> {
        let engine = self.engine.borrow();
        let cluster = engine.cluster();
        let pod = self.pod(&workspace.template)?;
        let direction = if matches!(to, Target::From(_)) { "ingress" } else { "egress" };
        let other = match to {
            Target::Pod(template) | Target::PodNames(template) | Target::From(template) => Some(self.pod(template)?),
            _ => None,
        };
        for number in engine.policies_of(pod) {
            let policy = cluster.policies.get(*number as usize)?;
            let rules = if direction == "ingress" { policy.ingress.as_ref() } else { policy.egress.as_ref() };
            let Some(rules) = rules else { continue };
            for (index, rule) in rules.list.iter().enumerate() {
                if rule.action != Action::Accept {
                    continue;
                }
                let names = |ports: &PortSet| ports.contains(Protocol::Udp, 53) || ports.contains(Protocol::Tcp, 53);
                let names_only = !rule.ports.numbers.contains(Protocol::Tcp, 80)
                    && !rule.ports.numbers.contains(Protocol::Tcp, 443)
                    && (rule.ports.numbers.contains(Protocol::Udp, 53)
                        || rule.ports.numbers.contains(Protocol::Tcp, 53));
                let fits = match (&rule.peers, to) {
                    (_, Target::Address(_) | Target::Block(..)) if names_only => false,
                    (_, Target::Names(..) | Target::PodNames(_)) if !names(&rule.ports.numbers) => false,
                    (_, Target::Port(_, protocol, port)) if !rule.ports.numbers.contains(*protocol, *port) => false,
                    (None, _) => true,
                    (
                        Some(peers),
                        Target::Address(address)
                        | Target::Block(_, address)
                        | Target::Names(_, address)
                        | Target::Port(address, ..),
                    ) => peers
                        .iter()
                        .any(|peer| matches!(peer, Peer::Block(set) | Peer::Networks(set) if set.contains(*address))),
                    (Some(peers), Target::Pod(_) | Target::PodNames(_) | Target::From(_)) => {
                        let other = cluster.pods.get(other? as usize)?;
                        peers.iter().any(|peer| match peer {
                            Peer::Pods(scope, selector) => {
                                selector.matches(&other.labels)
                                    && in_scope(cluster, scope, policy.namespace, other.namespace)
                            }
                            Peer::Block(set) | Peer::Networks(set) => {
                                set.contains_unknown_pod() != [crate::network::Match::No; 2]
                            }
                            _ => false,
                        })
                    }
                };
                if !fits {
                    continue;
                }
                let object = scene.snapshot.object(policy.object)?;
                let (line, column) = rules.places.get(index).copied().unwrap_or_default();
                let source =
                    if line == 0 { object.source } else { SourceRef { file: object.source.file, line, column } };
                return Some(Culprit {
                    title: title(object),
                    location: scene.location(source),
                    object: policy.object,
                    direction,
                    rule: index,
                    names_only,
                    ports: rule.ports.numbers.clone(),
                    is_network_policy: &*object.kind == "NetworkPolicy",
                });
            }
        }
        None
    }
}

fn in_scope(cluster: &Cluster, scope: &Scope, own: Option<NamespaceId>, namespace: NamespaceId) -> bool {
    match scope {
        Scope::Own => own == Some(namespace),
        Scope::Matching(selector) => selector.matches(cluster.namespace_labels(namespace)),
    }
}

/// A set of ports as the rules of a policy write it.
fn port_list(ports: &PortSet) -> serde_json::Value {
    let mut list = Vec::new();
    for protocol in Protocol::ALL {
        for (first, last) in ports.intervals(protocol) {
            let mut entry = json!({"protocol": protocol.to_string(), "port": first});
            if last > first {
                entry["endPort"] = json!(last);
            }
            list.push(entry);
        }
    }
    serde_json::Value::Array(list)
}

impl Culprit {
    /// Tells rules of one policy apart.
    pub(crate) fn key(&self) -> String {
        format!("{} {}", self.direction, self.rule)
    }

    /// The change of the rule that no longer lets the connection through.
    pub(crate) fn fix(&self, scene: &Scene<'_>, to: &Target) -> Option<Fix> {
        let object = scene.snapshot.object(self.object)?;
        if !self.is_network_policy {
            return None;
        }
        let json = object.json();
        let at = format!("/spec/{}/{}", self.direction, self.rule);
        let operations = match to {
            Target::Address(address) => except(&json, &at, &[*address], &IpNet::from(*address).to_string()),
            Target::Block(block, address) => except(&json, &at, &[*address], &block.to_string()),
            Target::Names(block, address) if !self.names_only => except(&json, &at, &[*address], &block.to_string()),
            Target::Port(_, protocol, port) => {
                let left = self.ports.difference(&PortSet::range(*protocol, *port, *port));
                let value = port_list(&left);
                let path = format!("{at}/ports");
                vec![match json.pointer(&path) {
                    Some(_) => Operation::Replace { path, value },
                    None => Operation::Add { path, value },
                }]
            }
            Target::PodNames(_) if !self.names_only => {
                let names = PortSet::range(Protocol::Udp, 53, 53).union(&PortSet::range(Protocol::Tcp, 53, 53));
                let left = self.ports.difference(&names);
                let path = format!("{at}/ports");
                vec![match json.pointer(&path) {
                    Some(_) => Operation::Replace { path, value: port_list(&left) },
                    None => Operation::Add { path, value: port_list(&left) },
                }]
            }
            Target::Names(..) | Target::PodNames(_) => {
                let servers = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                                      "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]);
                let path = format!("{at}/to");
                if json.pointer(&path).is_some() {
                    vec![Operation::Replace { path, value: servers }]
                } else {
                    vec![Operation::Add { path, value: servers }]
                }
            }
            Target::Pod(_) | Target::From(_) => vec![Operation::Remove { path: at }],
        };
        if operations.is_empty() {
            return None;
        }
        if scene.is_made(self.object) {
            let shown = serde_json::to_string(&operations).unwrap_or_default();
            return Some(Fix::Setting { text: format!("in the policy that is made for {}: {shown}", self.title) });
        }
        Some(Fix::Patch { target: target(object), operations })
    }
}

/// Adds an exception to every block of a rule that holds an address; a rule without peers gets
/// blocks of public addresses.
fn except(json: &serde_json::Value, at: &str, addresses: &[IpAddr], exception: &str) -> Vec<Operation> {
    let Some(peers) = json.pointer(&format!("{at}/to")).and_then(|to| to.as_array()).filter(|to| !to.is_empty()) else {
        let v4: Vec<&str> = crate::verdict::rules::PRIVATE_V4.to_vec();
        let public = json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": v4}}, {"ipBlock": {"cidr": "2000::/3"}}]);
        return vec![Operation::Add { path: format!("{at}/to"), value: public }];
    };
    let mut operations = Vec::new();
    for (index, peer) in peers.iter().enumerate() {
        let Some(block) = peer["ipBlock"]["cidr"].as_str().and_then(|text| text.parse::<IpNet>().ok()) else {
            continue;
        };
        let Ok(exception) = exception.parse::<IpNet>() else { continue };
        if !addresses.iter().any(|address| block.contains(address)) {
            continue;
        }
        let path = format!("{at}/to/{index}/ipBlock/except");
        if exception.contains(&block) {
            // Nothing of the block would be left: the peer itself goes.
            return vec![Operation::Remove { path: format!("{at}/to/{index}") }];
        }
        let kept: Vec<serde_json::Value> = peer["ipBlock"]["except"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|one| {
                let own = one.as_str().and_then(|text| text.parse::<IpNet>().ok());
                !own.is_some_and(|own| exception.contains(&own))
            })
            .cloned()
            .chain([json!(exception.to_string())])
            .collect();
        let value = serde_json::Value::Array(kept);
        operations.push(if peer["ipBlock"]["except"].is_array() {
            Operation::Replace { path, value }
        } else {
            Operation::Add { path, value }
        });
    }
    operations
}
