//! The escalation check of the API server: nobody may grant what they do not hold.
//!
//! A role or binding may be written by somebody whose own rules cover it. Rules are broken into
//! atoms (one verb, one group, one resource, one name), and each atom must lie inside one rule
//! of the owner.

use super::rule::{Rule, path_matches};

/// The atoms of `servant` that no rule of `owner` covers; empty when all are covered.
pub fn uncovered(owner: &[Rule], servant: &[Rule]) -> Vec<Rule> {
    servant.iter().flat_map(atoms).filter(|atom| !owner.iter().any(|rule| covers(rule, atom))).collect()
}

/// A rule as equivalent rules with one verb, group, resource and name each.
pub fn atoms(rule: &Rule) -> Vec<Rule> {
    let mut atoms = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let atom = Rule {
                    verbs: vec![verb.clone()],
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    atoms.push(atom);
                    continue;
                }
                for name in &rule.resource_names {
                    atoms.push(Rule { resource_names: vec![name.clone()], ..atom.clone() });
                }
            }
        }
    }
    for path in &rule.non_resource_urls {
        for verb in &rule.verbs {
            atoms.push(Rule { verbs: vec![verb.clone()], non_resource_urls: vec![path.clone()], ..Rule::default() });
        }
    }
    atoms
}

/// Whether a rule covers an atom. Stars are compared as words: an enumeration never covers `*`.
fn covers(owner: &Rule, atom: &Rule) -> bool {
    let within = |set: &[String], wanted: &[String]| {
        set.iter().any(|one| one == "*") || wanted.iter().all(|one| set.contains(one))
    };
    let names = owner.resource_names.is_empty()
        || !atom.resource_names.is_empty()
            && atom.resource_names.iter().all(|name| owner.resource_names.contains(name));
    within(&owner.verbs, &atom.verbs)
        && within(&owner.api_groups, &atom.api_groups)
        && (within(&owner.resources, &atom.resources) || atom.resources.iter().all(|one| by_part(owner, one)))
        && atom.non_resource_urls.iter().all(|path| owner.non_resource_urls.iter().any(|one| path_matches(one, path)))
        && names
}

/// `*/scale` covers `deployments/scale`.
fn by_part(owner: &Rule, resource: &str) -> bool {
    let starred = |part: &str| owner.resources.iter().any(|one| one.strip_prefix("*/") == Some(part));
    owner.resources.iter().any(|one| one == resource) || resource.split_once('/').is_some_and(|(_, part)| starred(part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rbac::rule::Request;

    /// Lists of one to three words.
    fn words(of: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(prop::sample::select(of).prop_map(str::to_owned), 1..3)
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let names = prop::collection::vec(prop::sample::select(&["x", "y"][..]).prop_map(str::to_owned), 0..3);
        (
            words(&["get", "list", "*"]),
            words(&["", "apps", "*"]),
            words(&["pods", "pods/log", "*/log", "*", "secrets"]),
            names,
        )
            .prop_map(|(verbs, api_groups, resources, resource_names)| Rule {
                verbs,
                api_groups,
                resources,
                resource_names,
                ..Rule::default()
            })
    }

    fn every_request() -> Vec<Request> {
        let mut requests = Vec::new();
        for verb in ["get", "list", "other"] {
            for group in ["", "apps", "other"] {
                for resource in ["pods", "pods/log", "secrets", "other/log", "other"] {
                    for name in ["", "x", "y", "z"] {
                        requests.push(Request::resource(verb, group, resource, "n").named(name));
                    }
                }
            }
        }
        requests
    }

    proptest! {
        /// The point of the check: what is covered allows nothing that its owner may not do.
        #[test]
        fn covered_rules_allow_nothing_new(
            owner in prop::collection::vec(any_rule(), 0..4),
            servant in prop::collection::vec(any_rule(), 1..3),
        ) {
            if uncovered(&owner, &servant).is_empty() {
                for request in every_request() {
                    let allowed = servant.iter().any(|rule| rule.allows(&request));
                    prop_assert!(!allowed || owner.iter().any(|rule| rule.allows(&request)), "{request:?}");
                }
            }
        }

        #[test]
        fn atoms_allow_what_the_rule_allows(rule in any_rule()) {
            for request in every_request() {
                let split = atoms(&rule).iter().any(|atom| atom.allows(&request));
                prop_assert_eq!(split, rule.allows(&request), "{:?}", request);
            }
        }

        #[test]
        fn everybody_covers_themselves(rules in prop::collection::vec(any_rule(), 0..4)) {
            prop_assert!(uncovered(&rules, &rules).is_empty());
        }
    }
}
