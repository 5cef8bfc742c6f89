//! Admission policies (ValidatingAdmissionPolicy) that may stand where nothing else does.
//!
//! Their expressions are not evaluated: whether one refuses what a guarantee forbids is for a dry
//! run to say. So a policy in force never makes a verdict held, but a wall that would have been
//! called missing is called unproven, and the policy is named.

use std::collections::BTreeMap;

use cubicle_core::report::Verdict;

use super::super::finding::Cause;
use super::super::scene::Scene;
use crate::rbac::Selector;
use crate::snapshot::Node;

const GROUP: &str = "admissionregistration.k8s.io";

/// Whether a list of a rule names something, or everything.
fn names(rule: &Node, key: &str, wanted: &str) -> bool {
    rule[key].items().iter().filter_map(Node::text).any(|one| one == wanted || one == "*" || one == "*/*")
}

/// Whether these constraints let a policy look at new objects of a kind in a namespace.
fn looks_at(constraints: &Node, labels: &BTreeMap<String, String>, group: &str, resource: &str) -> bool {
    let selects = |key: &str, labels: &BTreeMap<String, String>| match constraints.get(key) {
        None => true,
        Some(node) => serde_json::from_value::<Selector>(node.to_json()).is_ok_and(|selector| selector.matches(labels)),
    };
    let fits = |rule: &Node| {
        names(rule, "apiGroups", group) && names(rule, "operations", "CREATE") && names(rule, "resources", resource)
    };
    let wanted = constraints["resourceRules"].items();
    // One that looks at some objects alone is no wall for the others.
    let everything = selects("objectSelector", &BTreeMap::new());
    let excluded = constraints["excludeResourceRules"].items().iter().any(fits);
    (wanted.is_empty() || wanted.iter().any(fits)) && !excluded && everything && selects("namespaceSelector", labels)
}

/// A policy that denies something about new objects of a kind in a namespace.
fn in_force(scene: &Scene<'_>, namespace: &str, group: &str, resource: &str) -> Option<String> {
    let mut labels = scene.namespace(namespace).map(|(_, labels)| labels.clone()).unwrap_or_default();
    labels.insert("kubernetes.io/metadata.name".to_owned(), namespace.to_owned());
    scene.of_kind(GROUP, "ValidatingAdmissionPolicyBinding").find_map(|(_, binding)| {
        let spec = &binding.value["spec"];
        if !spec["validationActions"].items().iter().any(|action| action.text() == Some("Deny")) {
            return None;
        }
        let name = spec.text_at("policyName")?;
        let policies = scene.of_kind(GROUP, "ValidatingAdmissionPolicy");
        let (_, policy) = policies.into_iter().find(|(_, policy)| *policy.name == *name)?;
        let rules = &policy.value["spec"];
        let is_strict = rules.text_at("failurePolicy") != Some("Ignore") && !rules["validations"].items().is_empty();
        let constraints = rules.get("matchConstraints")?;
        let is_told = !constraints["resourceRules"].items().is_empty();
        let applies = is_told
            && looks_at(constraints, &labels, group, resource)
            && spec.get("matchResources").is_none_or(|more| looks_at(more, &labels, group, resource));
        (is_strict && applies).then(|| format!("ValidatingAdmissionPolicy {name}, in force by {}", binding.name))
    })
}

/// Takes the certainty from a breach where an admission policy may stand in for the wall.
pub(super) fn unless_refused(
    scene: &Scene<'_>,
    namespace: &str,
    (group, resource): (&str, &str),
    mut cause: Cause,
) -> Cause {
    if let Some(policy) = in_force(scene, namespace, group, resource) {
        cause.verdict = Verdict::Unproven;
        cause = cause.seen([format!("{policy}, may refuse it: a dry run knows")]);
    }
    cause
}
