//! Classes of pods that nothing tells apart, and verdicts between classes.
//!
//! Two pods are in one class when the same rules apply to them, the same peers of any rule match
//! them and their named ports are alike. A thousand workspaces are then a handful of classes, and
//! a verdict is computed once for each pair of classes. "The policy's own namespace" stays a
//! symbol in the rules, so that copies of one policy in many namespaces are one list of rules;
//! whether two pods share a namespace is part of the question.

mod classes;
mod doors;
mod ends;
mod fronts;
mod outside;
mod peers;
mod reach;
mod services;
mod strangers;

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

pub(super) use self::classes::{V4, V6};
pub use self::doors::HostPort;
pub(super) use self::doors::name_of_service;
pub use self::fronts::{Behind, FrontRoute};
use self::reach::Relation;
pub use self::services::{Door, Served, ServedBackend};
use self::strangers::Stranger;
use super::cluster::{Cluster, NamespaceId};
use super::index::Index;
use super::intern::Interner;
use super::policy::{Action, Peer, Ports, Rule, Tier};
use super::port::{PortSet, Protocol};
use super::profile::Answers;
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
    compiled: FxHashMap<Arc<[Rule]>, u32>,
    stacks: Interner<Vec<Applied>>,
    pub(super) members: Interner<Members>,
    port_tables: Interner<Vec<(Symbol, Protocol, u16)>>,
    classes: Interner<Class>,
    pub(super) pods: Vec<PodState>,
    pub(super) policies: Vec<PolicyState>,
    reaches: FxHashMap<(u32, u32, Relation), Arc<Reach>>,
    pub(super) outside: FxHashMap<IpAddr, u32>,
    strangers: FxHashMap<Stranger, u32>,
    /// The family that a pod has of which nothing is told.
    pub(super) usual_family: u8,
}

impl Engine {
    /// Groups the pods of a cluster into classes.
    #[must_use]
    pub fn new(cluster: Cluster, profile: Profile) -> Self {
        let index = Index::new(&cluster);
        let usual_family = index.usual_family();
        let mut engine = Self {
            index,
            profile,
            answers: profile.answers(),
            peers: Interner::default(),
            rule_lists: Interner::default(),
            compiled: FxHashMap::default(),
            stacks: Interner::default(),
            members: Interner::default(),
            port_tables: Interner::default(),
            classes: Interner::default(),
            pods: Vec::new(),
            policies: Vec::new(),
            reaches: FxHashMap::default(),
            outside: FxHashMap::default(),
            strangers: FxHashMap::default(),
            usual_family,
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
        self.forget_outside();
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

    /// What addresses and strangers are depends on the peers of all rules.
    pub(super) fn forget_outside(&mut self) {
        self.outside.clear();
        self.strangers.clear();
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
    pub fn pods_in(&self, namespace: NamespaceId) -> &[u32] {
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
}

pub(super) fn as_number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
