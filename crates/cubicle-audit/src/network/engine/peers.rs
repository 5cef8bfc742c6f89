//! Whom the peer of a rule matches.

use std::net::IpAddr;

use super::reach::Question;
use super::{EndKind, Engine, Members};
use crate::network::Match;
use crate::network::address::AddressSet;
use crate::network::cluster::{ClusterNode, Pod};
use crate::network::index::addresses;
use crate::network::policy::{Peer, Scope};
use crate::network::profile::World;

impl Engine {
    /// The pods that a peer matches, by family.
    pub(in crate::network) fn matching(&self, peer: u32) -> Vec<(u32, [Match; 2])> {
        let peer = self.peers.get(peer);
        let candidates = match peer {
            Peer::Pods(scope, pods) => self.index.select(&self.cluster, scope, None, pods),
            Peer::Block(set) | Peer::Networks(set) => {
                let unknown = set.contains_unknown_pod();
                let matching =
                    |number: u32| (number, Self::address_matches(set, &self.cluster.pods[number as usize], unknown));
                return self.index.within(set).into_iter().map(matching).collect();
            }
            Peer::Nodes(_) => {
                self.index.all().iter().copied().filter(|pod| self.cluster.pods[*pod as usize].host_network).collect()
            }
            Peer::Names | Peer::Unknown => Vec::new(),
        };
        candidates
            .into_iter()
            .map(|number| (number, self.matches_pod(peer, &self.cluster.pods[number as usize])))
            .collect()
    }

    /// Whether a peer matches a pod, by family of the address. A peer of the policy's own
    /// namespace is asked about labels only.
    pub(in crate::network) fn matches_pod(&self, peer: &Peer, pod: &Pod) -> [Match; 2] {
        match peer {
            Peer::Pods(scope, selector) => {
                let in_scope = match scope {
                    Scope::Own => true,
                    Scope::Matching(namespaces) => namespaces.matches(self.cluster.namespace_labels(pod.namespace)),
                };
                [(in_scope && selector.matches(&pod.labels)).into(); 2]
            }
            Peer::Block(set) | Peer::Networks(set) => Self::address_matches(set, pod, set.contains_unknown_pod()),
            Peer::Nodes(selector) if pod.host_network => {
                let node = self.cluster.nodes.iter().find(|node| Some(node.name) == pod.node);
                [node.map_or(Match::Maybe, |node| selector.matches(&node.labels).into()); 2]
            }
            Peer::Nodes(_) | Peer::Names | Peer::Unknown => [Match::No; 2],
        }
    }

    fn address_matches(set: &AddressSet, pod: &Pod, unknown: [Match; 2]) -> [Match; 2] {
        let known: Vec<IpAddr> = addresses(pod).collect();
        let of_family = |v6: bool| {
            let mut of_family = known.iter().filter(|address| address.is_ipv6() == v6).peekable();
            of_family.peek().is_some().then(|| Match::from(of_family.any(|address| set.contains(*address))))
        };
        match (of_family(false), of_family(true)) {
            (None, None) => unknown,
            (Some(only), None) | (None, Some(only)) => [only; 2],
            (Some(v4), Some(v6)) => [v4, v6],
        }
    }

    /// Whether a peer matches an address that is no pod's.
    pub(in crate::network) fn matches_address(
        &self,
        peer: &Peer,
        address: IpAddr,
        node: Option<&ClusterNode>,
        is_node: bool,
    ) -> Match {
        match peer {
            Peer::Block(set) | Peer::Networks(set) => set.contains(address).into(),
            Peer::Nodes(selector) => match node {
                Some(node) => selector.matches(&node.labels).into(),
                None if is_node => Match::Maybe,
                None => Match::No,
            },
            Peer::Names if !is_node => Match::Maybe,
            Peer::Names | Peer::Pods(..) | Peer::Unknown => Match::No,
        }
    }

    pub(super) fn member(&self, peer: u32, members: &Members, question: &Question<'_>) -> Match {
        let Ok(at) = members.binary_search_by_key(&peer, |(known, _)| *known) else { return Match::No };
        let counts =
            self.peer_counts(self.peers.get(peer), question.other.kind, question.world, question.same_namespace);
        if counts { members[at].1 } else { Match::No }
    }

    /// Whether a peer that matches by labels or address matches this kind of end in a world.
    fn peer_counts(&self, peer: &Peer, end: EndKind, world: &World, same_namespace: bool) -> bool {
        match (peer, end) {
            (Peer::Pods(Scope::Own, _), _) if !same_namespace => false,
            (Peer::Pods(scope, selector), EndKind::HostPod) => {
                let is_any = selector.is_everything()
                    && matches!(scope, Scope::Matching(namespaces) if namespaces.is_everything());
                world.host_network_is_ordinary || (is_any && world.any_peer_matches_host_network)
            }
            (Peer::Block(set), EndKind::Pod) => {
                world.block_matches_pod || (self.answers.single_block_matches_pod && set.is_single())
            }
            (Peer::Block(_), EndKind::HostPod | EndKind::Node) => world.block_matches_node,
            _ => true,
        }
    }
}
