//! What one class reaches on another.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Class, EndKind, Engine, Reach};
use crate::network::Match;
use crate::network::decide::{self, Heard, HeardRule};
use crate::network::policy::{Direction, Peer, Ports, Tier};
use crate::network::port::{PortSet, Protocol};
use crate::network::profile::{Relevant, World};
use crate::network::selector::Symbol;

/// What one end's policies are asked.
pub(super) struct Question<'engine> {
    pub(super) world: &'engine World,
    pub(super) subject: &'engine Class,
    pub(super) other: &'engine Class,
    pub(super) direction: Direction,
    pub(super) family: usize,
    pub(super) same_namespace: bool,
    /// The named ports of the destination.
    pub(super) ports: &'engine [(Symbol, Protocol, u16)],
}

/// Whose policies are asked about a connection. A connection to a service is another one after
/// its addresses were rewritten, so that each end may see other addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sides {
    Both,
    Egress,
    Ingress,
}

/// What the verdict between two classes depends on besides them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Relation {
    pub(super) same_namespace: bool,
    /// Whether one is a pod and the other its own node.
    pub(super) same_node: Match,
    pub(super) sides: Sides,
}

impl Engine {
    /// The ports that one pod reaches on another. Nothing if one is not there.
    pub fn reach(&mut self, from: u32, to: u32) -> Arc<Reach> {
        let (Some(from_class), Some(to_class)) = (self.class(from), self.class(to)) else {
            return Arc::new(Reach::nothing());
        };
        if from == to {
            // A pod always reaches itself, if it still runs.
            let must = if self.cluster.pods[from as usize].finished { PortSet::none() } else { PortSet::all() };
            return Arc::new(Reach { may: PortSet::all(), must });
        }
        let (one, other) = (&self.cluster.pods[from as usize], &self.cluster.pods[to as usize]);
        let same_namespace = one.namespace == other.namespace;
        let same_node = Self::same_node(one, other);
        self.reach_between(from_class, to_class, same_namespace, same_node)
    }

    /// The ports that pods of one class reach on pods of another.
    pub fn reach_between(&mut self, from: u32, to: u32, same_namespace: bool, same_node: Match) -> Arc<Reach> {
        self.reach_of(from, to, Relation { same_namespace, same_node, sides: Sides::Both })
    }

    /// The same, where it may be only one end's policies that are asked.
    pub(super) fn reach_of(&mut self, from: u32, to: u32, relation: Relation) -> Arc<Reach> {
        let key = (from, to, relation);
        if let Some(known) = self.reaches.get(&key) {
            return Arc::clone(known);
        }
        let (from, to) = (self.classes.get(from), self.classes.get(to));
        let ports = self.port_tables.get(to.ports);
        let mut reach = Reach { may: PortSet::none(), must: PortSet::all() };
        for world in self.answers.worlds(self.relevant(from, to)) {
            let (may, must) = self.in_world(&world, from, to, relation, ports);
            reach.may = reach.may.union(&may);
            reach.must = reach.must.intersection(&must);
        }
        if from.finished || to.finished {
            reach.must = PortSet::none();
        }
        self.undetermine(&mut reach);
        let reach = Arc::new(reach);
        self.reaches.insert(key, Arc::clone(&reach));
        reach
    }

    /// The ports that an address outside reaches on a pod.
    pub fn reach_from(&mut self, address: IpAddr, to: u32) -> Arc<Reach> {
        let Some(class) = self.class(to) else { return Arc::new(Reach::nothing()) };
        let outside = self.class_of_address(address);
        let same_node = self.cluster.pods[to as usize].node_addresses.contains(&address).into();
        self.reach_between(outside, class, false, same_node)
    }

    /// The ports that a pod reaches on an address outside.
    pub fn reach_out(&mut self, from: u32, address: IpAddr) -> Arc<Reach> {
        let Some(class) = self.class(from) else { return Arc::new(Reach::nothing()) };
        let outside = self.class_of_address(address);
        let same_node = self.cluster.pods[from as usize].node_addresses.contains(&address).into();
        self.reach_between(class, outside, false, same_node)
    }

    /// Where kinds that are not understood change the network, nothing is certain.
    pub(in crate::network) fn undetermine(&self, reach: &mut Reach) {
        if !self.cluster.foreign.is_empty() {
            *reach = Reach { may: PortSet::all(), must: PortSet::none() };
        }
    }

    /// Which open questions matter between two classes.
    pub(super) fn relevant(&self, from: &Class, to: &Class) -> Relevant {
        let has_block = |class: &Class| {
            class.members.iter().any(|list| {
                self.members.get(*list).iter().any(|(peer, _)| matches!(self.peers.get(*peer), Peer::Block(_)))
            })
        };
        let has_cluster_policy = |class: &Class| {
            class.stacks.iter().any(|stack| self.stacks.get(*stack).iter().any(|applied| applied.tier != Tier::Network))
        };
        Relevant {
            host: from.kind.is_host() || to.kind.is_host(),
            from_host: from.kind.is_host(),
            block: has_block(from) || has_block(to),
            cluster_policy: has_cluster_policy(from) || has_cluster_policy(to),
        }
    }

    /// What may and what must be reached in one world; they differ where facts are missing.
    fn in_world(
        &self,
        world: &World,
        from: &Class,
        to: &Class,
        relation: Relation,
        ports: &[(Symbol, Protocol, u16)],
    ) -> (PortSet, PortSet) {
        let Relation { same_namespace, same_node, sides } = relation;
        let own_node = if world.own_node { same_node } else { Match::No };
        if own_node == Match::Yes {
            return (PortSet::all(), PortSet::all());
        }
        let (mut may, mut must) = (PortSet::none(), PortSet::none());
        let families_matter =
            from.members[0] != from.members[1] || to.members[0] != to.members[1] || from.families != to.families;
        for family in 0..2 {
            let both = |certainty: usize| from.families[certainty] & to.families[certainty] & (1 << family) != 0;
            if !both(1) {
                continue;
            }
            let question = |subject, other, direction| Question {
                world,
                subject,
                other,
                direction,
                family,
                same_namespace,
                ports,
            };
            let unasked = || decide::Outcome { accepted: PortSet::all(), denied: PortSet::none() };
            let egress = match sides {
                Sides::Ingress => unasked(),
                _ => self.ask(&question(from, to, Direction::Egress)),
            };
            let ingress = match sides {
                Sides::Egress => unasked(),
                _ => self.ask(&question(to, from, Direction::Ingress)),
            };
            may = may.union(&egress.accepted.intersection(&ingress.accepted));
            if both(0) {
                must = must.union(&PortSet::all().difference(&egress.denied.union(&ingress.denied)));
            }
            // Where both families are answered alike, one that both ends surely have tells all.
            if both(0) && !families_matter {
                break;
            }
        }
        if own_node == Match::Maybe {
            may = PortSet::all();
        }
        (may, must)
    }

    fn ask(&self, question: &Question<'_>) -> decide::Outcome {
        let Question { world, subject, .. } = question;
        let heard: Vec<Heard> = self
            .stacks
            .get(subject.stacks[question.direction as usize])
            .iter()
            .filter(|applied| applies(applied.tier, subject.kind, world))
            .map(|applied| Heard {
                tier: applied.tier,
                certainty: applied.certainty,
                rules: self.hear(applied.rules, question),
            })
            .collect();
        decide::decide(&heard)
    }

    fn hear(&self, rules: u32, question: &Question<'_>) -> Vec<HeardRule> {
        let members = self.members.get(question.other.members[question.family]);
        let rules = self.rule_lists.get(rules).iter();
        rules
            .filter_map(|rule| {
                let peers = match &rule.peers {
                    None => Match::Yes,
                    Some(peers) => {
                        peers.iter().map(|peer| self.member(*peer, members, question)).max().unwrap_or(Match::No)
                    }
                };
                (peers != Match::No).then(|| HeardRule {
                    action: rule.action,
                    peers,
                    ports: resolve(&rule.ports, question.ports),
                })
            })
            .collect()
    }
}

/// Whether policies of a tier apply to a kind of end in a world.
pub(super) fn applies(tier: Tier, kind: EndKind, world: &World) -> bool {
    match tier {
        Tier::Network => kind != EndKind::HostPod || world.host_network_is_ordinary,
        _ => world.cluster_policy,
    }
}

/// The numbers behind the names of a rule's ports, as the destination gives them.
pub(super) fn resolve(ports: &Ports, table: &[(Symbol, Protocol, u16)]) -> PortSet {
    let named = ports.named.iter().flat_map(|(protocol, name)| {
        let is_meant = move |entry: &&(Symbol, Protocol, u16)| {
            entry.0 == *name && protocol.is_none_or(|protocol| protocol == entry.1)
        };
        table.iter().filter(is_meant)
    });
    named.fold(ports.numbers.clone(), |set, (_, protocol, port)| set.union(&PortSet::range(*protocol, *port, *port)))
}
