//! Which class a pod belongs to.

use std::sync::Arc;

use super::{Applied, Class, CompiledRule, EndKind, Engine, PolicyState};
use crate::network::Match;
use crate::network::cluster::Pod;
use crate::network::index::addresses;
use crate::network::policy::{Direction, Policy, PolicyKind, Rule};

impl Engine {
    /// The families a pod surely and perhaps has. Where nothing is told it has IPv4, unless other
    /// pods show that the cluster has none, and perhaps IPv6.
    fn families(&self, pod: &Pod) -> [u8; 2] {
        match known_families(pod) {
            0 => [self.usual_family, V4 | V6],
            known => [known; 2],
        }
    }

    /// The rules of a policy as numbers, and the pods it selects.
    pub(in crate::network) fn compile(&mut self, number: usize) -> PolicyState {
        let policy = &self.cluster.policies[number];
        let selected = self.index.select(&self.cluster, &policy.namespaces, policy.namespace, &policy.pods);
        let rules = Direction::BOTH.map(|direction| Some(Arc::clone(&policy.rules(direction)?.list)));
        let rules = rules.map(|list| list.map(|list| self.compile_rules(list)));
        PolicyState { rules, selected, present: true }
    }

    fn compile_rules(&mut self, list: Arc<[Rule]>) -> u32 {
        if let Some(known) = self.compiled.get(&list) {
            return *known;
        }
        let rules = list.iter().map(|rule| CompiledRule {
            action: rule.action,
            peers: rule.peers.as_ref().map(|peers| peers.iter().map(|peer| self.peers.add(peer.clone()).0).collect()),
            ports: Arc::new(rule.ports.clone()),
        });
        let rules: Vec<CompiledRule> = rules.collect();
        let number = self.rule_lists.add(rules).0;
        self.compiled.insert(list, number);
        number
    }

    pub(in crate::network) fn class_of(&mut self, number: usize, members: [u32; 2], policies: &[u32]) -> u32 {
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
    pub(in crate::network) fn certainty(&self, policy: &Policy, pod: &Pod) -> Match {
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
}

pub(in crate::network) const V4: u8 = 0b01;
pub(in crate::network) const V6: u8 = 0b10;

/// The families of a pod's addresses; none where they are not told.
pub(super) fn known_families(pod: &Pod) -> u8 {
    addresses(pod).fold(0, |known, address| known | if address.is_ipv4() { V4 } else { V6 })
}
