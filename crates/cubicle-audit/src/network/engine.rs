//! Classes of pods that nothing tells apart, and verdicts between classes.
//!
//! Two pods are in one class when the same rules apply to them, the same peers of any rule match
//! them and their named ports are alike. A thousand workspaces are then a handful of classes, and
//! a verdict is computed once for each pair of classes. "The policy's own namespace" stays a
//! symbol in the rules, so that copies of one policy in many namespaces are one list of rules;
//! whether two pods share a namespace is part of the question.

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::address::from_number;
use super::cluster::{Cluster, ClusterNode, Pod};
use super::decide::{self, Heard, HeardRule};
use super::explain::End;
use super::index::{Index, addresses};
use super::intern::Interner;
use super::policy::{Action, Direction, Peer, Policy, PolicyKind, Ports, Scope, Tier};
use super::port::{PortSet, Protocol};
use super::profile::{Answers, Relevant, World};
use super::selector::Symbol;
use super::{Match, Profile};

/// The ports that can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reach {
    /// On at least one implementation of the standards.
    pub may: PortSet,
    /// On every implementation.
    pub must: PortSet,
}

impl Reach {
    /// No port.
    #[must_use]
    pub fn nothing() -> Self {
        Self { may: PortSet::none(), must: PortSet::none() }
    }
}

/// A rule with its peers as numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CompiledRule {
    action: Action,
    peers: Option<Box<[u32]>>,
    ports: Arc<Ports>,
}

/// Rules that apply to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Applied {
    tier: Tier,
    rules: u32,
    certainty: Match,
}

/// Peers that match, by number, sorted; never [`Match::No`].
pub(super) type Members = Vec<(u32, Match)>;

/// What can tell two pods apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Class {
    /// By [`Direction`]: what applies.
    stacks: [u32; 2],
    /// By family: the peers that match. The same where the pod has no two addresses.
    members: [u32; 2],
    ports: u32,
    /// The families it surely and perhaps has: bit 0 for IPv4, bit 1 for IPv6.
    families: [u8; 2],
    kind: EndKind,
    finished: bool,
}

/// What an end of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum EndKind {
    Pod,
    HostPod,
    Node,
    Outside,
}

impl EndKind {
    fn is_host(self) -> bool {
        matches!(self, Self::HostPod | Self::Node)
    }
}

#[derive(Debug, Clone)]
pub(super) struct PodState {
    pub(super) class: u32,
    pub(super) members: [u32; 2],
    /// The policies that select it.
    pub(super) policies: Vec<u32>,
    pub(super) present: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct PolicyState {
    /// By [`Direction`].
    rules: [Option<u32>; 2],
    pub(super) selected: Vec<u32>,
    pub(super) present: bool,
}

/// Answers questions about a cluster under a profile, and follows its changes.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) cluster: Cluster,
    pub(super) profile: Profile,
    pub(super) answers: Answers,
    pub(super) index: Index,
    pub(super) peers: Interner<Peer>,
    rule_lists: Interner<Vec<CompiledRule>>,
    stacks: Interner<Vec<Applied>>,
    pub(super) members: Interner<Members>,
    port_tables: Interner<Vec<(Symbol, Protocol, u16)>>,
    classes: Interner<Class>,
    pub(super) pods: Vec<PodState>,
    pub(super) policies: Vec<PolicyState>,
    reaches: FxHashMap<(u32, u32, bool, Match), Arc<Reach>>,
    pub(super) outside: FxHashMap<IpAddr, u32>,
    /// The family that a pod has of which nothing is told.
    pub(super) usual_family: u8,
}

/// What one end's policies are asked.
struct Question<'engine> {
    world: &'engine World,
    subject: &'engine Class,
    other: &'engine Class,
    direction: Direction,
    family: usize,
    same_namespace: bool,
    /// The named ports of the destination.
    ports: &'engine [(Symbol, Protocol, u16)],
}

impl Engine {
    /// Groups the pods of a cluster into classes.
    #[must_use]
    pub fn new(cluster: Cluster, profile: Profile) -> Self {
        let index = Index::new(&cluster);
        let mut engine = Self {
            index,
            profile,
            answers: profile.answers(),
            peers: Interner::default(),
            rule_lists: Interner::default(),
            stacks: Interner::default(),
            members: Interner::default(),
            port_tables: Interner::default(),
            classes: Interner::default(),
            pods: Vec::new(),
            policies: Vec::new(),
            reaches: FxHashMap::default(),
            outside: FxHashMap::default(),
            usual_family: usual_family(&cluster.pods),
            cluster,
        };
        engine.build();
        engine
    }

    pub(super) fn build(&mut self) {
        let removed = |number: usize, states: &[PolicyState]| states.get(number).is_some_and(|state| !state.present);
        let known = std::mem::take(&mut self.policies);
        self.pods.clear();
        self.reaches.clear();
        self.outside.clear();
        let mut selected_by: Vec<Vec<u32>> = vec![Vec::new(); self.cluster.pods.len()];
        for number in 0..self.cluster.policies.len() {
            let state = if removed(number, &known) { PolicyState::default() } else { self.compile(number) };
            for pod in &state.selected {
                selected_by[*pod as usize].push(as_number(number));
            }
            self.policies.push(state);
        }
        let mut members: [Vec<Members>; 2] = std::array::from_fn(|_| vec![Vec::new(); self.cluster.pods.len()]);
        for peer in 0..self.peers.len() {
            for (pod, matches) in self.matching(as_number(peer)) {
                for (family, matches) in matches.into_iter().enumerate() {
                    if matches != Match::No {
                        members[family][pod as usize].push((as_number(peer), matches));
                    }
                }
            }
        }
        let [first, second] = members;
        for ((number, policies), (v4, v6)) in selected_by.into_iter().enumerate().zip(first.into_iter().zip(second)) {
            let members = [v4, v6].map(|list| self.members.add(list).0);
            let class = self.class_of(number, members, &policies);
            self.pods.push(PodState { class, members, policies, present: false });
        }
        for number in self.index.all() {
            self.pods[*number as usize].present = true;
        }
    }

    /// The families a pod surely and perhaps has. Where nothing is told it has IPv4, unless other
    /// pods show that the cluster has none, and perhaps IPv6.
    fn families(&self, pod: &Pod) -> [u8; 2] {
        match known_families(pod) {
            0 => [self.usual_family, V4 | V6],
            known => [known; 2],
        }
    }

    /// The rules of a policy as numbers, and the pods it selects.
    pub(super) fn compile(&mut self, number: usize) -> PolicyState {
        let policy = &self.cluster.policies[number];
        let selected = self.index.select(&self.cluster, &policy.namespaces, policy.namespace, &policy.pods);
        let rules = Direction::BOTH.map(|direction| {
            let rules = policy.rules(direction)?;
            let list = rules.list.iter().map(|rule| CompiledRule {
                action: rule.action,
                peers: rule
                    .peers
                    .as_ref()
                    .map(|peers| peers.iter().map(|peer| self.peers.add(peer.clone()).0).collect()),
                ports: Arc::new(rule.ports.clone()),
            });
            Some(list.collect::<Vec<_>>())
        });
        let rules = rules.map(|list| list.map(|list| self.rule_lists.add(list).0));
        PolicyState { rules, selected, present: true }
    }

    /// The pods that a peer matches, by family.
    pub(super) fn matching(&self, peer: u32) -> Vec<(u32, [Match; 2])> {
        let peer = self.peers.get(peer);
        let candidates = match peer {
            Peer::Pods(scope, pods) => self.index.select(&self.cluster, scope, None, pods),
            Peer::Block(set) | Peer::Networks(set) => self.index.within(set),
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
    pub(super) fn matches_pod(&self, peer: &Peer, pod: &Pod) -> [Match; 2] {
        match peer {
            Peer::Pods(scope, selector) => {
                let in_scope = match scope {
                    Scope::Own => true,
                    Scope::Matching(namespaces) => namespaces.matches(self.cluster.namespace_labels(pod.namespace)),
                };
                [(in_scope && selector.matches(&pod.labels)).into(); 2]
            }
            Peer::Block(set) | Peer::Networks(set) => self.address_matches(set, pod),
            Peer::Nodes(selector) if pod.host_network => {
                let node = self.cluster.nodes.iter().find(|node| Some(node.name) == pod.node);
                [node.map_or(Match::Maybe, |node| selector.matches(&node.labels).into()); 2]
            }
            Peer::Nodes(_) | Peer::Names | Peer::Unknown => [Match::No; 2],
        }
    }

    fn address_matches(&self, set: &super::address::AddressSet, pod: &Pod) -> [Match; 2] {
        let known: Vec<IpAddr> = addresses(pod).collect();
        let of_family = |v6: bool| {
            let mut of_family = known.iter().filter(|address| address.is_ipv6() == v6).peekable();
            of_family.peek().is_some().then(|| Match::from(of_family.any(|address| set.contains(*address))))
        };
        match (of_family(false), of_family(true)) {
            (None, None) => set.contains_unknown_pod(),
            (Some(only), None) | (None, Some(only)) => [only; 2],
            (Some(v4), Some(v6)) => [v4, v6],
        }
    }

    pub(super) fn class_of(&mut self, number: usize, members: [u32; 2], policies: &[u32]) -> u32 {
        let pod = &self.cluster.pods[number];
        let stacks = Direction::BOTH.map(|direction| {
            let mut stack: Vec<Applied> = policies
                .iter()
                .filter_map(|policy| {
                    let rules = self.policies[*policy as usize].rules[direction as usize]?;
                    let policy = &self.cluster.policies[*policy as usize];
                    let certainty = self.certainty(policy, pod);
                    (certainty != Match::No).then_some(Applied { tier: policy.tier, rules, certainty })
                })
                .collect();
            stack.sort_unstable();
            stack.dedup();
            stack
        });
        let mut ports: Vec<_> =
            pod.ports.iter().filter_map(|port| port.name.map(|name| (name, port.protocol, port.port))).collect();
        ports.sort_unstable();
        ports.dedup();
        let (families, finished) = (self.families(pod), pod.finished);
        let kind = if pod.host_network { EndKind::HostPod } else { EndKind::Pod };
        let stacks = stacks.map(|stack| self.stacks.add(stack).0);
        let ports = self.port_tables.add(ports).0;
        self.classes.add(Class { stacks, members, ports, families, kind, finished }).0
    }

    /// Whether a policy that selects a pod applies to it, in the worlds where its kind does.
    pub(super) fn certainty(&self, policy: &Policy, pod: &Pod) -> Match {
        let enforced = match policy.kind {
            PolicyKind::NetworkPolicy => self.answers.network_policy,
            // "Host-networked pods are not selected": the description of their subjects.
            _ => self.answers.cluster_policy != Match::No && !pod.host_network,
        };
        match (enforced && (pod.owned || self.answers.bare_pods), policy.valid) {
            (false, _) => Match::No,
            (true, true) => Match::Yes,
            (true, false) => Match::Maybe,
        }
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// How many classes of pods there are or were.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// The class of a pod.
    #[must_use]
    pub fn class(&self, pod: u32) -> Option<u32> {
        self.pods.get(pod as usize).filter(|state| state.present).map(|state| state.class)
    }

    /// The pods that are there.
    #[must_use]
    pub fn present_pods(&self) -> Vec<u32> {
        self.index.all().to_vec()
    }

    /// The pods that have an address.
    pub fn pods_at(&self, address: IpAddr) -> impl Iterator<Item = u32> {
        self.index.at(address).iter().copied()
    }

    /// The pods of a namespace.
    #[must_use]
    pub fn pods_in(&self, namespace: super::cluster::NamespaceId) -> &[u32] {
        self.index.in_namespace(namespace)
    }

    /// The pods that a policy selects.
    #[must_use]
    pub fn selected_by(&self, policy: u32) -> &[u32] {
        self.policies.get(policy as usize).map_or(&[], |state| &state.selected)
    }

    /// The policies that select a pod.
    #[must_use]
    pub fn policies_of(&self, pod: u32) -> &[u32] {
        self.pods.get(pod as usize).map_or(&[], |state| &state.policies)
    }

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
        let key = (from, to, same_namespace, same_node);
        if let Some(known) = self.reaches.get(&key) {
            return Arc::clone(known);
        }
        let (from, to) = (self.classes.get(from), self.classes.get(to));
        let ports = self.port_tables.get(to.ports);
        let mut reach = Reach { may: PortSet::none(), must: PortSet::all() };
        for world in self.answers.worlds(self.relevant(from, to)) {
            let (may, must) = self.in_world(&world, from, to, same_namespace, same_node, ports);
            reach.may = reach.may.union(&may);
            reach.must = reach.must.intersection(&must);
        }
        if from.finished || to.finished {
            reach.must = PortSet::none();
        }
        self.close(reach, key)
    }

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

    /// Whether a peer matches an address that is no pod's.
    pub(super) fn matches_address(
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

    fn close(&mut self, mut reach: Reach, key: (u32, u32, bool, Match)) -> Arc<Reach> {
        self.undetermine(&mut reach);
        let reach = Arc::new(reach);
        self.reaches.insert(key, Arc::clone(&reach));
        reach
    }

    /// Where kinds that are not understood change the network, nothing is certain.
    pub(super) fn undetermine(&self, reach: &mut Reach) {
        if !self.cluster.foreign.is_empty() {
            *reach = Reach { may: PortSet::all(), must: PortSet::none() };
        }
    }

    /// Which open questions matter between two classes.
    fn relevant(&self, from: &Class, to: &Class) -> Relevant {
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
        same_namespace: bool,
        same_node: Match,
        ports: &[(Symbol, Protocol, u16)],
    ) -> (PortSet, PortSet) {
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
            let egress = self.ask(&question(from, to, Direction::Egress));
            let ingress = self.ask(&question(to, from, Direction::Ingress));
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

    fn member(&self, peer: u32, members: &Members, question: &Question<'_>) -> Match {
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

    /// The class of an end, its relation to the node of another, and the worlds between two ends.
    pub(super) fn worlds_between(&mut self, from: End, to: End) -> Vec<World> {
        match (self.class_of_end(from), self.class_of_end(to)) {
            (Some(from), Some(to)) => self.answers.worlds(self.relevant(self.classes.get(from), self.classes.get(to))),
            _ => Vec::new(),
        }
    }

    /// Whether two ends can have addresses of one family.
    pub(super) fn share_family(&mut self, from: End, to: End) -> bool {
        match (self.class_of_end(from), self.class_of_end(to)) {
            (Some(from), Some(to)) => self.classes.get(from).families[1] & self.classes.get(to).families[1] != 0,
            _ => false,
        }
    }

    fn class_of_end(&mut self, end: End) -> Option<u32> {
        match end {
            End::Pod(number) => self.class(number),
            End::Address(address) => Some(self.class_of_address(address)),
        }
    }

    /// Whether two ends are surely a pod and its own node, in a world where that is enough.
    pub(super) fn own_node(&self, from: End, to: End, world: &World) -> bool {
        let pods = &self.cluster.pods;
        let same = match (from, to) {
            (End::Pod(one), End::Pod(other)) => Self::same_node(&pods[one as usize], &pods[other as usize]),
            (End::Pod(pod), End::Address(address)) | (End::Address(address), End::Pod(pod)) => {
                pods[pod as usize].node_addresses.contains(&address).into()
            }
            (End::Address(_), End::Address(_)) => Match::No,
        };
        world.own_node && same == Match::Yes
    }

    /// The rules of a policy that match a connection, in order; none where the policy does not
    /// apply to this direction in this world.
    #[allow(clippy::too_many_arguments)] // one question, spelled out
    pub(super) fn matching_rules(
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
    pub(super) fn same_node(one: &Pod, other: &Pod) -> Match {
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

/// Whether policies of a tier apply to a kind of end in a world.
fn applies(tier: Tier, kind: EndKind, world: &World) -> bool {
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

pub(super) fn usual_family<'pods>(pods: impl IntoIterator<Item = &'pods Pod>) -> u8 {
    let known = pods.into_iter().fold(0, |known, pod| known | known_families(pod));
    if known == V6 { V6 } else { V4 }
}

const V4: u8 = 0b01;
const V6: u8 = 0b10;

/// The families of a pod's addresses; none where they are not told.
fn known_families(pod: &Pod) -> u8 {
    addresses(pod).fold(0, |known, address| known | if address.is_ipv4() { V4 } else { V6 })
}

pub(super) fn as_number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
