//! Named ports that no pod has: a rule with one lets nobody through.

use rustc_hash::FxHashSet;

use super::cluster::{Cluster, Pod};
use super::index::Index;
use super::policy::{Direction, Peer, Policy, Rule, Scope};
use super::port::Protocol;
use super::selector::Symbol;
use crate::snapshot::{InputProblem, Severity, Snapshot, SourceRef};

/// Notes every rule whose named port none of the pods it could be about has.
pub(super) fn warn(cluster: &mut Cluster, snapshot: &Snapshot) {
    let has_named = |policy: &Policy| {
        let rules = Direction::BOTH.into_iter().filter_map(|direction| policy.rules(direction));
        rules.flat_map(|rules| rules.list.iter()).any(|rule| !rule.ports.named.is_empty())
    };
    if cluster.pods.is_empty() || !cluster.policies.iter().any(has_named) {
        return;
    }
    let everywhere: FxHashSet<(Symbol, Protocol)> = cluster.pods.iter().flat_map(names).collect();
    let index = Index::new(cluster);
    let mut problems = Vec::new();
    for policy in cluster.policies.iter().filter(|policy| has_named(policy)) {
        for direction in Direction::BOTH {
            let Some(rules) = policy.rules(direction) else { continue };
            for (rule, (line, column)) in rules.list.iter().zip(&rules.places) {
                for (protocol, name) in &rule.ports.named {
                    let is_it = |named: &(Symbol, Protocol)| {
                        named.0 == *name && protocol.is_none_or(|protocol| protocol == named.1)
                    };
                    let found = match destinations(cluster, &index, policy, direction, rule) {
                        Some(pods) if !pods.is_empty() => {
                            pods.iter().flat_map(|pod| names(&cluster.pods[*pod as usize])).any(|named| is_it(&named))
                        }
                        _ => everywhere.iter().any(is_it),
                    };
                    if found {
                        continue;
                    }
                    let Some(object) = snapshot.object(policy.object) else { continue };
                    let source = match line {
                        0 => object.source,
                        line => SourceRef { file: object.source.file, line: *line, column: *column },
                    };
                    let port = cluster.symbols.text(*name);
                    let protocol = protocol.map(|protocol| format!("{protocol} ")).unwrap_or_default();
                    problems.push(InputProblem {
                        severity: Severity::Warning,
                        source,
                        what: format!(
                            "no pod that this {direction} rule is about has a {protocol}port named \"{port}\""
                        ),
                        remedy: "name a port of the container, or use its number".to_owned(),
                    });
                }
            }
        }
    }
    cluster.problems.extend(problems);
}

fn names(pod: &Pod) -> impl Iterator<Item = (Symbol, Protocol)> {
    pod.ports.iter().filter_map(|port| Some((port.name?, port.protocol)))
}

/// The pods whose ports a rule is about; none: any.
fn destinations(
    cluster: &Cluster,
    index: &Index,
    policy: &Policy,
    direction: Direction,
    rule: &Rule,
) -> Option<Vec<u32>> {
    if direction == Direction::Ingress {
        return Some(index.select(cluster, &policy.namespaces, policy.namespace, &policy.pods));
    }
    let mut pods = Vec::new();
    for peer in rule.peers.as_ref()? {
        match peer {
            Peer::Pods(Scope::Own, selector) => {
                pods.extend(index.select(cluster, &Scope::Own, policy.namespace, selector));
            }
            Peer::Pods(scope, selector) => pods.extend(index.select(cluster, scope, None, selector)),
            _ => return None,
        }
    }
    Some(pods)
}
