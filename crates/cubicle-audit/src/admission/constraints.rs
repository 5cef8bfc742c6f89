//! Which objects a policy is about.

use std::collections::BTreeMap;

use super::Asked;
use crate::rbac::Selector;
use crate::snapshot::Node;

/// Whether a list of a rule names something, or everything.
fn names(rule: &Node, key: &str, wanted: &str) -> bool {
    rule[key].items().iter().filter_map(Node::text).any(|one| one == wanted || one == "*")
}

/// Whether a rule's resources hold one, which has no subresource.
fn names_resource(rule: &Node, wanted: &str) -> bool {
    rule["resources"].items().iter().filter_map(Node::text).any(|one| {
        let (resource, sub) = one.split_once('/').unwrap_or((one, ""));
        (resource == wanted || resource == "*") && (sub.is_empty() || sub == "*")
    })
}

/// Whether a selector matches; one that is not there matches everything, one that is not a selector
/// nothing: the API server refuses it.
fn selects(constraints: &Node, key: &str, labels: &BTreeMap<String, String>) -> bool {
    match constraints.get(key).filter(|node| !node.is_null()) {
        None => true,
        Some(node) => serde_json::from_value::<Selector>(node.to_json()).is_ok_and(|selector| selector.matches(labels)),
    }
}

/// Whether these constraints are about an object; `needs_rules` where no rule means nothing rather
/// than everything.
pub(super) fn is_about(constraints: &Node, asked: &Asked<'_>, needs_rules: bool) -> bool {
    let name = asked.object["metadata"]["name"].as_str().unwrap_or_default();
    let fits = |rule: &Node| {
        let only = rule["resourceNames"].items();
        names(rule, "apiGroups", "")
            && names(rule, "apiVersions", "v1")
            && names(rule, "operations", "CREATE")
            && names_resource(rule, asked.resource)
            && rule.text_at("scope").is_none_or(|scope| scope != "Cluster")
            && (only.is_empty() || only.iter().any(|one| one.text() == Some(name)))
    };
    let wanted = constraints["resourceRules"].items();
    let is_wanted = if wanted.is_empty() { !needs_rules } else { wanted.iter().any(fits) };
    is_wanted
        && !constraints["excludeResourceRules"].items().iter().any(fits)
        && selects(constraints, "objectSelector", &asked.labels())
        && selects(constraints, "namespaceSelector", &asked.labels_of_namespace())
}
