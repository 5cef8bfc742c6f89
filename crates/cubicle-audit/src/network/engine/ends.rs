//! What the explanation of a verdict asks about its two ends.

use std::net::IpAddr;

use super::Engine;
use super::classes::V4;
use super::reach::{Question, applies, resolve};
use crate::network::Match;
use crate::network::cluster::Pod;
use crate::network::explain::End;
use crate::network::index::addresses;
use crate::network::policy::{Action, Direction};
use crate::network::port::Protocol;
use crate::network::profile::World;

impl Engine {
    /// The class of an end, its relation to the node of another, and the worlds between two ends.
    pub(in crate::network) fn worlds_between(&mut self, from: End, to: End) -> Vec<World> {
        match (self.class_of_end(from), self.class_of_end(to)) {
            (Some(from), Some(to)) => self.answers.worlds(self.relevant(self.classes.get(from), self.classes.get(to))),
            _ => Vec::new(),
        }
    }

    /// Whether two ends can have addresses of one family.
    pub(in crate::network) fn share_family(&mut self, from: End, to: End) -> bool {
        match (self.class_of_end(from), self.class_of_end(to)) {
            (Some(from), Some(to)) => self.classes.get(from).families[1] & self.classes.get(to).families[1] != 0,
            _ => false,
        }
    }

    pub(super) fn class_of_end(&mut self, end: End) -> Option<u32> {
        match end {
            End::Pod(number) => self.class(number),
            End::Address(address) => Some(self.class_of_address(address)),
        }
    }

    /// Whether two ends share a namespace, and whether one is the other's own node.
    pub(super) fn relation(&self, from: End, to: End) -> (bool, Match) {
        let pods = &self.cluster.pods;
        match (from, to) {
            (End::Pod(one), End::Pod(other)) => {
                let (one, other) = (&pods[one as usize], &pods[other as usize]);
                (one.namespace == other.namespace, Self::same_node(one, other))
            }
            (End::Pod(pod), End::Address(address)) | (End::Address(address), End::Pod(pod)) => {
                (false, pods[pod as usize].node_addresses.contains(&address).into())
            }
            (End::Address(_), End::Address(_)) => (false, Match::No),
        }
    }

    /// Whether two ends are surely a pod and its own node, in a world where that is enough.
    pub(in crate::network) fn own_node(&self, from: End, to: End, world: &World) -> bool {
        let (_, same) = self.relation(from, to);
        world.own_node && same == Match::Yes
    }

    /// The rules of a policy that match a connection, in order; none where the policy does not
    /// apply to this direction in this world.
    #[allow(clippy::too_many_arguments)] // one question, spelled out
    pub(in crate::network) fn matching_rules(
        &self,
        policy: u32,
        subject: u32,
        other: End,
        to: End,
        direction: Direction,
        world: &World,
        protocol: Protocol,
        port: u16,
    ) -> Option<Vec<(usize, Action, Match)>> {
        let rules = self.policies.get(policy as usize)?.rules[direction as usize]?;
        let source = &self.cluster.policies[policy as usize];
        let class = self.classes.get(self.class(subject)?);
        let certainty = self.certainty(source, &self.cluster.pods[subject as usize]);
        if certainty == Match::No || !applies(source.tier, class.kind, world) {
            return None;
        }
        let other_class = match other {
            End::Pod(number) => self.classes.get(self.class(number)?),
            End::Address(address) => self.classes.get(*self.outside.get(&address)?),
        };
        let same_namespace = match other {
            End::Pod(number) => {
                self.cluster.pods[number as usize].namespace == self.cluster.pods[subject as usize].namespace
            }
            End::Address(_) => false,
        };
        let ports = match to {
            End::Pod(number) => self.port_tables.get(self.classes.get(self.class(number)?).ports).as_slice(),
            End::Address(_) => &[],
        };
        let common = class.families[1] & other_class.families[1];
        let family = usize::from(common & V4 == 0);
        let question = Question { world, subject: class, other: other_class, direction, family, same_namespace, ports };
        let members = self.members.get(other_class.members[family]);
        let rules = self.rule_lists.get(rules).iter().enumerate();
        let matching = rules.filter_map(|(index, rule)| {
            let peers = match &rule.peers {
                None => Match::Yes,
                Some(peers) => {
                    peers.iter().map(|peer| self.member(*peer, members, &question)).max().unwrap_or(Match::No)
                }
            };
            let matches = peers != Match::No && resolve(&rule.ports, ports).contains(protocol, port);
            matches.then_some((index, rule.action, peers))
        });
        Some(matching.collect())
    }

    /// Whether a pod runs on the node whose network the other uses.
    pub(in crate::network) fn same_node(one: &Pod, other: &Pod) -> Match {
        if one.host_network == other.host_network {
            return Match::No;
        }
        if let (Some(a), Some(b)) = (one.node, other.node) {
            return (a == b).into();
        }
        let node_of = |pod: &Pod| -> Vec<IpAddr> {
            if pod.host_network { addresses(pod).collect() } else { pod.node_addresses.clone() }
        };
        let (a, b) = (node_of(one), node_of(other));
        if a.is_empty() || b.is_empty() { Match::Maybe } else { a.iter().any(|address| b.contains(address)).into() }
    }
}
