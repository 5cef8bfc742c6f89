//! What somebody can become: the fixpoint over everything that one right turns into.
//!
//! Breadth first, so that the path shown is a shortest one. A fact, once reached, is never
//! taken back: rights only grow along a path, which makes the fixpoint unique.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use serde::Serialize;

use super::rights::{Grant, Rights};
use super::subject::Identity;
use super::technique;
use super::world::World;

/// Something that an attacker holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(tag = "power", rename_all = "snake_case")]
pub enum Power {
    /// Everything, everywhere.
    ClusterAdmin,
    /// Root on a node, and with it every pod there.
    Node,
    /// Rewriting or removing what the API server admits.
    Admission,
    /// Every right in one namespace.
    NamespaceAdmin {
        /// The namespace.
        namespace: String,
    },
    /// Reading the secrets of a namespace.
    Secrets {
        /// The namespace; empty is all of them.
        namespace: String,
    },
    /// Acting as somebody.
    Act {
        /// As whom.
        identity: Identity,
    },
}

impl fmt::Display for Power {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterAdmin => formatter.write_str("everything in the cluster"),
            Self::Node => formatter.write_str("root on a node"),
            Self::Admission => formatter.write_str("what the API server admits"),
            Self::NamespaceAdmin { namespace } => write!(formatter, "everything in namespace {namespace}"),
            Self::Secrets { namespace } if namespace.is_empty() => {
                formatter.write_str("the secrets of every namespace")
            }
            Self::Secrets { namespace } => write!(formatter, "the secrets of namespace {namespace}"),
            Self::Act { identity } => write!(formatter, "{identity}"),
        }
    }
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Who does it.
    pub by: String,
    /// What is done, as a sentence without its subject: "creates a pod in a that mounts ...".
    pub act: String,
    /// The short name of the technique, stable for programs.
    pub technique: &'static str,
    /// What it yields.
    pub gives: Power,
    /// The binding that allows it; none where no right is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<Named>,
    /// The role that holds the right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Named>,
}

/// An object by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Named {
    /// The kind.
    pub kind: &'static str,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(formatter, "{} {}", self.kind, self.name),
            namespace => write!(formatter, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// What somebody can reach, each power with the way to it.
#[derive(Debug, Clone, Serialize)]
pub struct Escalation {
    /// From whom.
    pub from: Identity,
    /// Powers beyond acting as oneself, and the steps to each.
    pub reached: Vec<Reached>,
}

/// A power and a shortest way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// The power.
    pub power: Power,
    /// The steps; never empty.
    pub path: Vec<Step>,
}

/// A step found by a technique.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) technique: &'static str,
    pub(super) act: String,
    pub(super) gives: Power,
}

type Origins = HashMap<Power, Option<(Power, Step)>>;

/// Follows every right that somebody holds or can come to hold.
pub fn escalate(rights: &Rights, world: &World, from: &Identity) -> Escalation {
    let start = Power::Act { identity: from.clone() };
    let mut origins: Origins = HashMap::from([(start.clone(), None)]);
    let mut queue = VecDeque::from([start]);
    let mut order = Vec::new();
    if Rights::is_unbounded(from) {
        let step = step_of("is in system:masters, which is asked nothing", "masters", Power::ClusterAdmin, from, None);
        origins.insert(Power::ClusterAdmin, Some((Power::Act { identity: from.clone() }, step)));
        order.push(Power::ClusterAdmin);
    }
    while let Some(power) = queue.pop_front() {
        // Nothing lies beyond everything; the other ways would only repeat it.
        if origins.contains_key(&Power::ClusterAdmin) {
            break;
        }
        let mut add = |found: Found, grant: Option<&Grant<'_>>, by: &dyn fmt::Display| {
            if origins.contains_key(&found.gives) {
                return;
            }
            let step = step_of(&found.act, found.technique, found.gives.clone(), by, grant);
            origins.insert(found.gives.clone(), Some((power.clone(), step)));
            order.push(found.gives.clone());
            queue.push_back(found.gives);
        };
        match &power {
            Power::Act { identity } => {
                let grants = rights.grants(identity);
                for grant in &grants {
                    for found in technique::of_grant(rights, world, grant, &grants) {
                        add(found, Some(grant), identity);
                    }
                }
            }
            other => {
                for found in technique::of_power(world, other) {
                    add(found, None, other);
                }
            }
        }
    }
    let reached = order.into_iter().map(|power| Reached { path: path(&origins, &power), power }).collect();
    Escalation { from: from.clone(), reached }
}

fn step_of(act: &str, technique: &'static str, gives: Power, by: &dyn fmt::Display, grant: Option<&Grant<'_>>) -> Step {
    let kind = |of: &str, namespace: &str| match (of, namespace.is_empty()) {
        ("binding", true) => "ClusterRoleBinding",
        ("binding", false) => "RoleBinding",
        (_, true) => "ClusterRole",
        (_, false) => "Role",
    };
    let named = |of: &str, namespace: &str, name: &str| Named {
        kind: kind(of, namespace),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    Step {
        by: by.to_string(),
        act: act.to_owned(),
        technique,
        gives,
        binding: grant.map(|grant| named("binding", &grant.binding.namespace, &grant.binding.name)),
        role: grant.map(|grant| named("role", &grant.role.namespace, &grant.role.name)),
    }
}

fn path(origins: &Origins, to: &Power) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = to;
    while let Some(Some((from, step))) = origins.get(at) {
        steps.push(step.clone());
        at = from;
    }
    steps.reverse();
    steps
}

impl Escalation {
    /// The way to a power, if there is one.
    pub fn way_to(&self, power: &Power) -> Option<&[Step]> {
        self.reached.iter().find(|reached| reached.power == *power).map(|reached| reached.path.as_slice())
    }

    /// How many powers of each kind are reached, for a short answer.
    pub fn kinds(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for reached in &self.reached {
            let kind = match reached.power {
                Power::ClusterAdmin => "cluster_admin",
                Power::Node => "node",
                Power::Admission => "admission",
                Power::NamespaceAdmin { .. } => "namespace_admin",
                Power::Secrets { .. } => "secrets",
                Power::Act { .. } => "act",
            };
            *kinds.entry(kind).or_insert(0) += 1;
        }
        kinds
    }
}
