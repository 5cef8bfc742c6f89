//! Why a connection is allowed, denied, or left open: the deciding rules.

use std::net::IpAddr;

use super::Match;
use super::engine::{Engine, Reach};
use super::policy::{Action, Direction, Tier};
use super::port::Protocol;
use super::profile::World;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// A pod of the cluster, by number.
    Pod(u32),
    /// An address that is no pod's.
    Address(IpAddr),
}

/// The rule that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleRef {
    /// The policy, an index into the cluster's policies.
    pub policy: u32,
    /// The direction, seen from the pod the policy selects.
    pub direction: Direction,
    /// Which rule of that direction, from 0; none: the policy isolates and no rule matches.
    pub index: Option<usize>,
}

/// What can be said about a connection to one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Some implementation of the standards lets it through.
    pub may: bool,
    /// Every implementation does.
    pub must: bool,
    /// The rule that decides, if one does.
    pub rule: Option<RuleRef>,
    /// The deciding rules of both directions; more than one where both ends have policies.
    pub rules: Vec<RuleRef>,
    /// Why, in a sentence.
    pub reason: String,
}

/// What one end's policies answer in one world.
#[derive(Debug, Clone, Copy)]
struct Decision {
    accepts: bool,
    rule: Option<RuleRef>,
}

impl Engine {
    /// The ports that one end reaches on another.
    pub fn reach_ends(&mut self, from: End, to: End) -> Reach {
        match (from, to) {
            (End::Pod(from), End::Pod(to)) => self.reach(from, to).as_ref().clone(),
            (End::Pod(from), End::Address(to)) => self.reach_out(from, to).as_ref().clone(),
            (End::Address(from), End::Pod(to)) => self.reach_from(from, to).as_ref().clone(),
            // Nothing of the cluster is in between.
            (End::Address(_), End::Address(_)) => {
                Reach { may: super::port::PortSet::all(), must: super::port::PortSet::none() }
            }
        }
    }

    /// The verdict on one port, with the deciding rules.
    pub fn explain(&mut self, from: End, to: End, protocol: Protocol, port: u16) -> Verdict {
        let reach = self.reach_ends(from, to);
        let (may, must) = (reach.may.contains(protocol, port), reach.must.contains(protocol, port));
        let verdict = |rules: Vec<RuleRef>, reason: String| {
            // Where both directions have a say, the one at the destination is what people ask for.
            Verdict { may, must, rule: rules.last().copied(), rules, reason }
        };
        if let Some(reason) = self.without_policies(from, to, may) {
            return verdict(Vec::new(), reason);
        }
        if !may && !self.share_family(from, to) {
            return verdict(Vec::new(), "one end has only IPv4, the other only IPv6".to_owned());
        }
        let worlds: Vec<(World, [Decision; 2])> = self
            .worlds_between(from, to)
            .into_iter()
            .map(|world| {
                (
                    world,
                    Direction::BOTH.map(|direction| self.decision(from, to, direction, &world, protocol, port, must)),
                )
            })
            .collect();
        let [ingress, egress] = [Direction::Ingress as usize, Direction::Egress as usize];
        if may && must {
            let Some((_, decisions)) = worlds.first() else {
                return verdict(Vec::new(), "no policy speaks about it".to_owned());
            };
            let rules: Vec<RuleRef> = [egress, ingress].iter().filter_map(|at| decisions[*at].rule).collect();
            let reason =
                if rules.is_empty() { "no policy isolates either end in this direction" } else { "rules allow it" };
            return verdict(rules, reason.to_owned());
        }
        // A world in which it is denied tells the wall; egress comes first on the way.
        let denied = worlds.iter().find_map(|(world, decisions)| {
            [egress, ingress].iter().find(|at| !decisions[**at].accepts).map(|at| (world, decisions[*at]))
        });
        let Some((wall, decision)) = denied else {
            return verdict(
                Vec::new(),
                "a fact is missing that would decide it, such as the address of a pod".to_owned(),
            );
        };
        let rules: Vec<RuleRef> = decision.rule.into_iter().collect();
        if !may {
            let reason = match decision.rule {
                Some(RuleRef { index: Some(_), .. }) => "a rule denies it",
                _ => "a policy isolates this end and no rule allows it",
            };
            return verdict(rules, reason.to_owned());
        }
        let open = worlds.iter().find(|(_, decisions)| decisions.iter().all(|decision| decision.accepts));
        let reason = match open {
            Some((world, _)) => format!("the standards leave open {}", differences(wall, world).join(" and ")),
            None => "a fact is missing that would decide it, such as the address of a pod, or a policy is not valid"
                .to_owned(),
        };
        verdict(rules, reason)
    }

    /// What decides without any policy.
    fn without_policies(&self, from: End, to: End, may: bool) -> Option<String> {
        if let Some(foreign) = self.cluster().foreign.first() {
            return Some(format!(
                "{} objects of kind {} change the network in ways that are not known here",
                foreign.count, foreign.kind
            ));
        }
        let finished = |end: End| matches!(end, End::Pod(number) if self.cluster().pods.get(number as usize).is_some_and(|pod| pod.finished));
        if may && (finished(from) || finished(to)) {
            return Some("a pod has finished; another may have its address by now".to_owned());
        }
        match (from, to) {
            (End::Address(_), End::Address(_)) => Some("neither end is a pod".to_owned()),
            (from, to) if from == to => Some("a pod always reaches itself".to_owned()),
            _ => None,
        }
    }

    /// What one direction's policies answer. Where a fact is missing, what leads to `accept`.
    #[allow(clippy::too_many_arguments)] // one question, spelled out
    fn decision(
        &self,
        from: End,
        to: End,
        direction: Direction,
        world: &World,
        protocol: Protocol,
        port: u16,
        accept: bool,
    ) -> Decision {
        let open = Decision { accepts: true, rule: None };
        let (subject, other) = match direction {
            Direction::Ingress => (to, from),
            Direction::Egress => (from, to),
        };
        let End::Pod(subject) = subject else { return open };
        if self.own_node(from, to, world) {
            return open;
        }
        let mut policies: Vec<(Tier, u32)> = self
            .policies_of(subject)
            .iter()
            .map(|number| (self.cluster().policies[*number as usize].tier, *number))
            .collect();
        policies.sort_unstable();
        let mut isolating = None;
        let mut accepting: Option<RuleRef> = None;
        let mut passed = false;
        let mut tier = None;
        for (at, number) in policies {
            if isolating.is_some() && at > Tier::Network {
                break;
            }
            if tier.is_none_or(|tier| std::mem::discriminant(&tier) != std::mem::discriminant(&at)) {
                passed = false;
            }
            tier = Some(at);
            let Some(matches) = self.matching_rules(number, subject, other, to, direction, world, protocol, port)
            else {
                continue;
            };
            let certainty =
                self.certainty(&self.cluster().policies[number as usize], &self.cluster().pods[subject as usize]);
            if at == Tier::Network && (certainty == Match::Yes || !accept) {
                isolating.get_or_insert(number);
            }
            if passed {
                continue;
            }
            for (index, action, matched) in matches {
                let leads = if accept { action != Action::Deny } else { action != Action::Accept };
                if matched.min(certainty) != Match::Yes && !leads {
                    continue;
                }
                let rule = Some(RuleRef { policy: number, direction, index: Some(index) });
                match (action, at) {
                    (Action::Accept, Tier::Network) => accepting = accepting.or(rule),
                    (Action::Accept, _) => return Decision { accepts: true, rule },
                    (Action::Deny, _) => return Decision { accepts: false, rule },
                    (Action::Pass, _) => {
                        passed = true;
                        break;
                    }
                }
            }
        }
        match (accepting, isolating) {
            (Some(rule), _) => Decision { accepts: true, rule: Some(rule) },
            (None, Some(policy)) => Decision { accepts: false, rule: Some(RuleRef { policy, direction, index: None }) },
            (None, None) => open,
        }
    }
}

/// The open questions that two worlds answer differently.
fn differences(one: &World, other: &World) -> Vec<&'static str> {
    [
        (one.cluster_policy != other.cluster_policy, "whether cluster-wide policies are enforced"),
        (one.block_matches_pod != other.block_matches_pod, "whether an ipBlock matches a pod"),
        (one.block_matches_node != other.block_matches_node, "whether an ipBlock matches a node"),
        (
            one.host_network_is_ordinary != other.host_network_is_ordinary
                || one.any_peer_matches_host_network != other.any_peer_matches_host_network,
            "what policies mean for a pod on its host's network",
        ),
        (one.own_node != other.own_node, "whether a pod and its own node always reach each other"),
    ]
    .into_iter()
    .filter_map(|(differs, text)| differs.then_some(text))
    .collect()
}
