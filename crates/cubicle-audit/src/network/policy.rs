//! Policies of all kinds in one form.

use std::fmt;
use std::sync::Arc;

use super::address::AddressSet;
use super::cluster::NamespaceId;
use super::port::{PortSet, Protocol};
use super::selector::{Selector, Symbol};
use crate::snapshot::ObjectId;

/// What kind of object a policy came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyKind {
    /// `networking.k8s.io/v1`.
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`.
    AdminNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`.
    BaselineAdminNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2`.
    ClusterNetworkPolicy,
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::AdminNetworkPolicy => "AdminNetworkPolicy",
            Self::BaselineAdminNetworkPolicy => "BaselineAdminNetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
        })
    }
}

/// When a policy is asked. Tiers are asked in this order, in a tier the lower priority first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Before NetworkPolicies, by priority.
    Admin(i32),
    /// NetworkPolicies: whom they select, they decide about for good.
    Network,
    /// After NetworkPolicies, by priority.
    Baseline(i32),
}

/// Which way a connection goes, seen from the pod a policy selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];
}

impl fmt::Display for Direction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// What becomes of a connection that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// It is allowed.
    Accept,
    /// It is denied.
    Deny,
    /// The rest of the tier is skipped.
    Pass,
}

/// Which namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The one of the policy.
    Own,
    /// Those with these labels.
    Matching(Selector),
}

/// Who is on the other end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Pods with these labels in these namespaces.
    Pods(Scope, Selector),
    /// `ipBlock`: meant for addresses outside the cluster.
    Block(AddressSet),
    /// `networks`: every address, those of pods too.
    Networks(AddressSet),
    /// Nodes with these labels, and pods on their network.
    Nodes(Selector),
    /// Names outside the cluster, whatever addresses they have.
    Names,
    /// A peer of a kind that is not known here.
    Unknown,
}

/// Which ports a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ports {
    /// Ports by number.
    pub numbers: PortSet,
    /// Ports by the name that the destination gives them; of any protocol where none is told.
    pub named: Vec<(Option<Protocol>, Symbol)>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What becomes of a connection that it matches. Rules of NetworkPolicies accept.
    pub action: Action,
    /// Any of these; none: everyone.
    pub peers: Option<Vec<Peer>>,
    /// Any of these.
    pub ports: Ports,
}

/// The rules of one direction, and the line and column of each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The rules, in order. Equal lists of a cluster are one.
    pub list: Arc<[Rule]>,
    /// Where each stands.
    pub places: Vec<(u32, u32)>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What it came from.
    pub kind: PolicyKind,
    /// Its namespace; none for cluster-wide kinds.
    pub namespace: Option<NamespaceId>,
    /// Its name.
    pub name: Arc<str>,
    /// The object.
    pub object: ObjectId,
    /// When it is asked.
    pub tier: Tier,
    /// The namespaces of the pods it selects.
    pub namespaces: Scope,
    /// The labels of the pods it selects.
    pub pods: Selector,
    /// Rules for connections to them; none: it says nothing about this direction.
    pub ingress: Option<Rules>,
    /// Rules for connections from them.
    pub egress: Option<Rules>,
    /// Whether the API server takes it. If not, it is unclear what the cluster has in its place.
    pub valid: bool,
}

impl Policy {
    /// The rules of one direction.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> Option<&Rules> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}
