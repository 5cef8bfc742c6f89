//! Addresses that are no pod's.

use std::net::IpAddr;

use super::classes::{V4, V6};
use super::{Class, EndKind, Engine, Members};
use crate::network::Match;
use crate::network::address::from_number;
use crate::network::policy::Peer;

impl Engine {
    /// The class of an address that is no pod's.
    pub fn class_of_address(&mut self, address: IpAddr) -> u32 {
        if let Some(known) = self.outside.get(&address) {
            return *known;
        }
        let node = self.cluster.nodes.iter().find(|node| node.addresses.contains(&address));
        let is_of_node = |pod: &u32| self.cluster.pods[*pod as usize].node_addresses.contains(&address);
        let is_node = node.is_some() || self.index.all().iter().any(is_of_node);
        let members: Members = self
            .peers
            .iter()
            .map(|(number, peer)| (number, self.matches_address(peer, address, node, is_node)))
            .filter(|(_, matches)| *matches != Match::No)
            .collect();
        let members = self.members.add(members).0;
        let nothing = self.stacks.add(Vec::new()).0;
        let class = Class {
            stacks: [nothing; 2],
            members: [members; 2],
            ports: self.port_tables.add(Vec::new()).0,
            families: [if address.to_canonical().is_ipv4() { V4 } else { V6 }; 2],
            kind: if is_node { EndKind::Node } else { EndKind::Outside },
            finished: false,
        };
        let class = self.classes.add(class).0;
        self.outside.insert(address, class);
        class
    }

    /// Whether an address is a node's.
    #[must_use]
    pub fn is_node(&self, address: IpAddr) -> bool {
        self.cluster.nodes.iter().any(|node| node.addresses.contains(&address))
            || self.index.all().iter().any(|pod| self.cluster.pods[*pod as usize].node_addresses.contains(&address))
    }

    /// The addresses of a family, cut into parts that no rule tells apart: the first and last of each.
    #[must_use]
    pub fn parts_of_world(&self, v6: bool) -> Vec<(IpAddr, IpAddr)> {
        let mut starts = vec![0];
        for (_, peer) in self.peers.iter() {
            if let Peer::Block(set) | Peer::Networks(set) = peer {
                starts.extend(set.boundaries().filter(|(family, _)| *family == v6).map(|(_, bits)| bits));
            }
        }
        starts.sort_unstable();
        starts.dedup();
        let end = if v6 { u128::MAX } else { u128::from(u32::MAX) };
        let ends = starts.iter().skip(1).map(|start| start - 1).chain([end]);
        starts.iter().zip(ends).map(|(first, last)| (from_number(v6, *first), from_number(v6, last))).collect()
    }

    /// Whether a pod or a rule has an IPv6 address.
    pub(in crate::network) fn knows_ipv6(&self) -> bool {
        self.parts_of_world(true).len() > 1 || self.index.has_family(true)
    }
}
