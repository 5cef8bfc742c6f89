//! What a pod's policies can answer, over all ports at once.
//!
//! A rule that matches "maybe" makes two worlds. Instead of following each, the ports that can
//! be accepted in some world and those that can be denied in some world are gathered.

use super::Match;
use super::policy::{Action, Tier};
use super::port::PortSet;

/// One policy as it applies to a pod in one direction: what its rules say about one connection.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) tier: Tier,
    /// Whether the policy applies at all; not [`Match::No`].
    pub(super) certainty: Match,
    /// The rules whose peers can match the other end, in order.
    pub(super) rules: Vec<HeardRule>,
}

/// A rule that can match.
#[derive(Debug, Clone)]
pub(super) struct HeardRule {
    pub(super) action: Action,
    /// Whether the other end is one of its peers; not [`Match::No`].
    pub(super) peers: Match,
    /// Its ports.
    pub(super) ports: PortSet,
}

/// What can become of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Ports that can be accepted.
    pub(super) accepted: PortSet,
    /// Ports that can be denied.
    pub(super) denied: PortSet,
}

/// Asks the policies of one direction, sorted by tier and priority.
pub(super) fn decide(policies: &[Heard]) -> Outcome {
    let mut outcome = Outcome { accepted: PortSet::none(), denied: PortSet::none() };
    let network_from = policies.partition_point(|policy| policy.tier < Tier::Network);
    let baseline_from = policies.partition_point(|policy| policy.tier <= Tier::Network);
    let open = tier(&policies[..network_from], PortSet::all(), &mut outcome);
    let open = network(&policies[network_from..baseline_from], open, &mut outcome);
    let open = tier(&policies[baseline_from..], open, &mut outcome);
    outcome.accepted = outcome.accepted.union(&open);
    outcome
}

/// An ordered tier: gives what it leaves undecided.
fn tier(policies: &[Heard], open: PortSet, outcome: &mut Outcome) -> PortSet {
    let mut open = open;
    let mut passed = PortSet::none();
    // In which order policies of one priority are asked is undefined: any of them may be first.
    for tied in policies.chunk_by(|one, other| one.tier == other.tier) {
        let before = open.clone();
        for policy in tied {
            let mut left = before.clone();
            for rule in &policy.rules {
                let hit = left.intersection(&rule.ports);
                match rule.action {
                    Action::Accept => outcome.accepted = outcome.accepted.union(&hit),
                    Action::Deny => outcome.denied = outcome.denied.union(&hit),
                    Action::Pass => passed = passed.union(&hit),
                }
                if rule.peers == Match::Yes {
                    left = left.difference(&hit);
                }
            }
            if policy.certainty == Match::Yes {
                open = open.intersection(&left);
            }
        }
    }
    open.union(&passed)
}

/// NetworkPolicies: the union of what they accept, and nothing else where one applies.
fn network(policies: &[Heard], open: PortSet, outcome: &mut Outcome) -> PortSet {
    let Some(isolated) = policies.iter().map(|policy| policy.certainty).max() else { return open };
    let mut possible = PortSet::none();
    // What no policy that surely applies surely accepts.
    let mut unsure = PortSet::all();
    // What some policy that perhaps applies does not surely accept: it may be the only one there.
    let mut alone = PortSet::none();
    for policy in policies {
        let mut certain = PortSet::none();
        for rule in &policy.rules {
            possible = possible.union(&rule.ports);
            if rule.peers == Match::Yes {
                certain = certain.union(&rule.ports);
            }
        }
        if policy.certainty == Match::Yes {
            unsure = unsure.difference(&certain);
        } else {
            alone = alone.union(&PortSet::all().difference(&certain));
        }
    }
    if isolated != Match::Yes {
        unsure = alone;
    }
    outcome.accepted = outcome.accepted.union(&open.intersection(&possible));
    outcome.denied = outcome.denied.union(&open.intersection(&unsure));
    if isolated == Match::Yes { PortSet::none() } else { open }
}
