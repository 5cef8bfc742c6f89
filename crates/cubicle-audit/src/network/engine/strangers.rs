//! Ends of which nothing is told but what they are.

use super::classes::{V4, V6};
use super::{Class, EndKind, Engine, Members};
use crate::network::Match;
use crate::network::address::AddressSet;
use crate::network::policy::{Peer, Scope};

/// An end that is not among the manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stranger {
    /// A pod with any labels, in any namespace.
    Pod,
    /// A node at any address.
    Node,
    /// A service at an address of the cluster.
    Service,
}

impl Engine {
    /// The class of a stranger.
    pub(super) fn class_of_stranger(&mut self, stranger: Stranger) -> u32 {
        if let Some(known) = self.strangers.get(&stranger) {
            return *known;
        }
        let members = [0, 1].map(|family| {
            let matching = self.peers.iter().map(|(number, peer)| (number, matches(peer, stranger)[family]));
            let list: Members = matching.filter(|(_, matches)| *matches != Match::No).collect();
            list
        });
        let nothing = self.stacks.add(Vec::new()).0;
        let class = Class {
            stacks: [nothing; 2],
            members: members.map(|list| self.members.add(list).0),
            ports: self.port_tables.add(Vec::new()).0,
            families: [self.usual_family, V4 | V6],
            kind: match stranger {
                Stranger::Pod => EndKind::Pod,
                Stranger::Node => EndKind::Node,
                Stranger::Service => EndKind::Outside,
            },
            finished: false,
        };
        let class = self.classes.add(class).0;
        self.strangers.insert(stranger, class);
        class
    }
}

/// Whether a peer matches a stranger, by family. A peer of the policy's own namespace is asked
/// about labels only.
fn matches(peer: &Peer, stranger: Stranger) -> [Match; 2] {
    let certain_if = |everything: bool| if everything { Match::Yes } else { Match::Maybe };
    match (peer, stranger) {
        (Peer::Pods(scope, pods), Stranger::Pod) => {
            let anywhere = match scope {
                Scope::Own => true,
                Scope::Matching(namespaces) => namespaces.is_everything(),
            };
            [certain_if(anywhere && pods.is_everything()); 2]
        }
        (Peer::Nodes(nodes), Stranger::Node) => [certain_if(nodes.is_everything()); 2],
        (Peer::Block(set) | Peer::Networks(set), Stranger::Node) => of_any_address(set),
        (Peer::Block(set) | Peer::Networks(set), _) => set.contains_unknown_pod(),
        _ => [Match::No; 2],
    }
}

/// Nodes may have public addresses too.
fn of_any_address(set: &AddressSet) -> [Match; 2] {
    [false, true].map(|v6| {
        let mut of_family = set.ranges().filter(|(first, _)| first.0 == v6).peekable();
        let end = if v6 { u128::MAX } else { u128::from(u32::MAX) };
        match of_family.peek() {
            None => Match::No,
            Some(((_, 0), (_, last))) if *last == end => Match::Yes,
            Some(_) => Match::Maybe,
        }
    })
}
