//! The roles for people that every cluster has, as of Kubernetes 1.34: manifests bind them
//! without carrying them.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#user-facing-roles>.

use super::rights::Role;
use super::rule::Rule;

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Kinds that `view` reads and `edit` writes.
const OBJECTS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "configmaps",
            "persistentvolumeclaims",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "serviceaccounts",
            "services",
        ],
    ),
    (
        "apps",
        &[
            "daemonsets",
            "deployments",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    ("networking.k8s.io", &["ingresses", "networkpolicies"]),
    ("policy", &["poddisruptionbudgets"]),
];

/// What `view` reads beyond that.
const SEEN: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "bindings",
            "endpoints",
            "events",
            "limitranges",
            "namespaces",
            "namespaces/status",
            "persistentvolumeclaims/status",
            "pods",
            "pods/log",
            "pods/status",
            "replicationcontrollers/status",
            "resourcequotas",
            "resourcequotas/status",
            "services/status",
        ],
    ),
    (
        "apps",
        &[
            "controllerrevisions",
            "daemonsets/status",
            "deployments/status",
            "replicasets/status",
            "statefulsets/status",
        ],
    ),
    ("batch", &["cronjobs/status", "jobs/status"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("networking.k8s.io", &["ingresses/status"]),
];

fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Rule {
    let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
    Rule { verbs: owned(verbs), api_groups: owned(&[group]), resources: owned(resources), ..Rule::default() }
}

fn view() -> Vec<Rule> {
    OBJECTS.iter().chain(SEEN).map(|(group, resources)| rule(READ, group, resources)).collect()
}

fn edit() -> Vec<Rule> {
    let inside: &[&str] = &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"];
    let mut rules = view();
    rules.extend(OBJECTS.iter().map(|(group, resources)| rule(WRITE, group, resources)));
    rules.push(rule(READ, "", inside));
    rules.push(rule(WRITE, "", inside));
    rules.push(rule(ALL, "", &["pods", "secrets"]));
    rules.push(rule(&["create"], "", &["pods/eviction", "serviceaccounts/token"]));
    rules.push(rule(&["impersonate"], "", &["serviceaccounts"]));
    rules.push(rule(ALL, "coordination.k8s.io", &["leases"]));
    rules
}

fn admin() -> Vec<Rule> {
    let mut rules = edit();
    rules.push(rule(&["create"], "authorization.k8s.io", &["localsubjectaccessreviews"]));
    rules.push(rule(ALL, "rbac.authorization.k8s.io", &["rolebindings", "roles"]));
    rules
}

fn cluster_admin() -> Vec<Rule> {
    let mut paths = rule(&["*"], "*", &["*"]);
    paths.non_resource_urls = vec!["*".to_owned()];
    vec![rule(&["*"], "*", &["*"]), Rule { api_groups: Vec::new(), resources: Vec::new(), ..paths }]
}

/// The four roles.
pub(super) fn roles() -> [Role; 4] {
    [("cluster-admin", cluster_admin()), ("admin", admin()), ("edit", edit()), ("view", view())]
        .map(|(name, rules)| Role { name: name.to_owned(), rules, ..Role::default() })
}

#[cfg(test)]
mod tests {
    use super::super::covers::uncovered;
    use super::*;

    #[test]
    fn each_covers_the_weaker_one() {
        let [cluster, admin, edit, view] = roles();
        for (strong, weak) in [(&cluster, &admin), (&admin, &edit), (&edit, &view)] {
            assert!(uncovered(&strong.rules, &weak.rules).is_empty(), "{} {}", strong.name, weak.name);
            assert!(!uncovered(&weak.rules, &strong.rules).is_empty(), "{} {}", weak.name, strong.name);
        }
    }

    #[test]
    fn nobody_reads_secrets_with_view() {
        let [.., view] = roles();
        let request = super::super::rule::Request::resource("list", "", "secrets", "a");
        assert!(!view.rules.iter().any(|rule| rule.allows(&request)));
    }
}
