//! All roles and bindings of a cluster, and what they give to whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::rule::{Request, Rule, list};
use super::subject::{Identity, MASTERS, Subject, SubjectKind};

/// A Role or a ClusterRole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// Empty for a ClusterRole.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// Labels, for aggregation.
    pub labels: BTreeMap<String, String>,
    /// Its rules; the API server overwrites those of a role that aggregates.
    pub rules: Vec<Rule>,
    /// Label selectors of the ClusterRoles whose rules it collects; none when it does not.
    pub aggregates: Option<Vec<Selector>>,
}

/// A label selector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selector {
    /// Labels that must be there.
    #[serde(deserialize_with = "map")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(deserialize_with = "list")]
    pub match_expressions: Vec<Requirement>,
}

fn map<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// One requirement of a label selector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// The values for `In` and `NotIn`.
    #[serde(default, deserialize_with = "list")]
    pub values: Vec<String>,
}

impl Selector {
    /// Whether labels satisfy the selector; an empty selector is satisfied by all. An operator
    /// that does not exist is satisfied by none: the API server would have refused it.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|one| {
                let value = labels.get(&one.key);
                match one.operator.as_str() {
                    "In" => value.is_some_and(|value| one.values.contains(value)),
                    "NotIn" => value.is_none_or(|value| !one.values.contains(value)),
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
    }
}

/// A RoleBinding or a ClusterRoleBinding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Empty for a ClusterRoleBinding.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// Who.
    pub subjects: Vec<Subject>,
    /// Whether it refers to a ClusterRole rather than to a Role of its namespace.
    pub cluster_role: bool,
    /// The role's name.
    pub role: String,
}

/// A rule that counts for somebody, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Where it counts: a namespace, or everywhere when empty.
    pub scope: &'a str,
    /// The binding that gives it.
    pub binding: &'a Binding,
    /// The role that holds it.
    pub role: &'a Role,
}

/// The roles and bindings of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    roles: HashMap<(String, String), Role>,
    bindings: Vec<Binding>,
    /// Bindings whose role is not there, by position: they give nothing until somebody creates
    /// the role.
    dangling: Vec<usize>,
}

impl Rights {
    /// Takes roles and bindings as they stand in the manifests; aggregation is applied.
    pub fn new(roles: impl IntoIterator<Item = Role>, bindings: impl IntoIterator<Item = Binding>) -> Self {
        let roles: HashMap<_, _> =
            roles.into_iter().map(|role| ((role.namespace.clone(), role.name.clone()), role)).collect();
        let mut rights = Self { roles, bindings: bindings.into_iter().collect(), dangling: Vec::new() };
        rights.aggregate();
        rights.dangling =
            (0..rights.bindings.len()).filter(|at| rights.role_of(&rights.bindings[*at]).is_none()).collect();
        rights
    }

    /// Collects the rules of aggregated roles until nothing changes: a role that aggregates may
    /// be collected by another.
    fn aggregate(&mut self) {
        let collectors: Vec<_> = self
            .roles
            .values()
            .filter(|role| role.namespace.is_empty() && role.aggregates.is_some())
            .map(|role| role.name.clone())
            .collect();
        // A chain is at most as long as there are collectors.
        for _ in 0..=collectors.len() {
            let mut changed = false;
            for name in &collectors {
                let key = (String::new(), name.clone());
                let Some(selectors) = self.roles.get(&key).and_then(|role| role.aggregates.clone()) else { continue };
                let mut collected: Vec<&Role> = self
                    .roles
                    .values()
                    .filter(|role| role.namespace.is_empty() && role.name != *name)
                    .filter(|role| selectors.iter().any(|selector| selector.matches(&role.labels)))
                    .collect();
                collected.sort_by(|one, other| one.name.cmp(&other.name));
                let mut rules: Vec<Rule> = Vec::new();
                for rule in collected.into_iter().flat_map(|role| &role.rules) {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
                if let Some(role) = self.roles.get_mut(&key)
                    && role.rules != rules
                {
                    role.rules = rules;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }

    /// The role with this name; an empty namespace asks for a ClusterRole.
    pub fn role(&self, namespace: &str, name: &str) -> Option<&Role> {
        self.roles.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The role that a binding refers to.
    pub fn role_of(&self, binding: &Binding) -> Option<&Role> {
        let namespace = if binding.cluster_role { "" } else { &binding.namespace };
        // A ClusterRoleBinding cannot refer to a Role.
        if !binding.cluster_role && binding.namespace.is_empty() {
            return None;
        }
        self.role(namespace, &binding.role)
    }

    /// Every binding.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// Every role, in no order.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    /// Bindings whose role is not among the manifests: what they give is unknown.
    pub fn dangling(&self) -> impl Iterator<Item = &Binding> {
        self.dangling.iter().map(|at| &self.bindings[*at])
    }

    /// Every rule that counts for somebody anywhere.
    pub fn grants<'a>(&'a self, identity: &Identity) -> Vec<Grant<'a>> {
        let mut grants = Vec::new();
        for binding in &self.bindings {
            if !binding.subjects.iter().any(|subject| subject.is(identity, &binding.namespace)) {
                continue;
            }
            let Some(role) = self.role_of(binding) else { continue };
            grants.extend(role.rules.iter().map(|rule| Grant { rule, scope: &binding.namespace, binding, role }));
        }
        grants
    }

    /// Whether somebody is in the group that is asked nothing.
    pub fn is_unbounded(identity: &Identity) -> bool {
        identity.groups.contains(MASTERS)
    }

    /// The rule that allows a request; none when the request is denied. Members of
    /// `system:masters` are allowed without a rule: ask [`Rights::is_unbounded`] first.
    pub fn allowed<'a>(&'a self, identity: &Identity, request: &Request) -> Option<Grant<'a>> {
        let namespace = request.namespace();
        self.grants(identity)
            .into_iter()
            .find(|grant| (grant.scope.is_empty() || grant.scope == namespace) && grant.rule.allows(request))
    }

    /// Every subject that may do something, with the grant that lets it.
    pub fn who_can<'a>(&'a self, request: &Request) -> Vec<(Subject, Grant<'a>)> {
        let namespace = request.namespace();
        let mut found: BTreeMap<Subject, Grant<'a>> = BTreeMap::new();
        for binding in &self.bindings {
            if !binding.namespace.is_empty() && binding.namespace != namespace {
                continue;
            }
            let Some(role) = self.role_of(binding) else { continue };
            let Some(rule) = role.rules.iter().find(|rule| rule.allows(request)) else { continue };
            for subject in binding.subjects.iter().filter(|subject| subject.kind != SubjectKind::Other) {
                let mut subject = subject.clone();
                if subject.kind == SubjectKind::ServiceAccount && subject.namespace.is_empty() {
                    subject.namespace.clone_from(&binding.namespace);
                }
                found.entry(subject).or_insert(Grant { rule, scope: &binding.namespace, binding, role });
            }
        }
        found.into_iter().collect()
    }

    /// Everybody whom a binding names.
    pub fn subjects(&self) -> BTreeSet<Identity> {
        self.bindings
            .iter()
            .flat_map(|binding| binding.subjects.iter().filter_map(|subject| subject.identity(&binding.namespace)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verb: &str, resource: &str) -> Rule {
        Rule {
            verbs: vec![verb.to_owned()],
            api_groups: vec![String::new()],
            resources: vec![resource.to_owned()],
            ..Rule::default()
        }
    }

    fn role(namespace: &str, name: &str, rules: Vec<Rule>) -> Role {
        Role { namespace: namespace.to_owned(), name: name.to_owned(), rules, ..Role::default() }
    }

    fn binding(namespace: &str, cluster_role: bool, role: &str) -> Binding {
        let subjects = vec![Subject { kind: SubjectKind::User, name: "eve".to_owned(), namespace: String::new() }];
        Binding { namespace: namespace.to_owned(), name: "b".to_owned(), subjects, cluster_role, role: role.to_owned() }
    }

    #[test]
    fn a_role_binding_gives_a_cluster_role_in_its_namespace_only() {
        let rights = Rights::new([role("", "reader", vec![rule("get", "pods")])], [binding("a", true, "reader")]);
        let eve = Identity::user("eve", []);
        assert!(rights.allowed(&eve, &Request::resource("get", "", "pods", "a")).is_some());
        assert!(rights.allowed(&eve, &Request::resource("get", "", "pods", "b")).is_none());
        assert!(rights.allowed(&eve, &Request::resource("get", "", "pods", "")).is_none());
    }

    #[test]
    fn a_role_binding_never_gives_paths() {
        let paths = Rule { verbs: vec!["get".to_owned()], non_resource_urls: vec!["*".to_owned()], ..Rule::default() };
        let rights = Rights::new([role("", "paths", vec![paths])], [binding("a", true, "paths")]);
        let request = Request::Path { verb: "get".to_owned(), path: "/metrics".to_owned() };
        assert!(rights.allowed(&Identity::user("eve", []), &request).is_none());
    }

    #[test]
    fn a_binding_without_its_role_gives_nothing_and_is_listed() {
        let rights = Rights::new([role("a", "cluster-only", vec![])], [binding("a", true, "cluster-only")]);
        assert_eq!(rights.dangling().count(), 1);
        let rights = Rights::new([role("a", "own", vec![])], [binding("", false, "own")]);
        assert_eq!(rights.dangling().count(), 1);
    }

    #[test]
    fn aggregation_follows_chains_and_overwrites() {
        let labelled = |mut role: Role, label: &str| {
            role.labels.insert(label.to_owned(), "true".to_owned());
            role
        };
        let collecting = |mut role: Role, label: &str| {
            let match_labels = BTreeMap::from([(label.to_owned(), "true".to_owned())]);
            role.aggregates = Some(vec![Selector { match_labels, ..Selector::default() }]);
            role
        };
        let rights = Rights::new(
            [
                collecting(role("", "admin", vec![rule("delete", "nodes")]), "to-admin"),
                labelled(collecting(role("", "edit", vec![]), "to-edit"), "to-admin"),
                labelled(role("", "one", vec![rule("get", "pods")]), "to-edit"),
            ],
            [binding("", true, "admin")],
        );
        let eve = Identity::user("eve", []);
        assert!(rights.allowed(&eve, &Request::resource("get", "", "pods", "a")).is_some());
        assert!(rights.allowed(&eve, &Request::resource("delete", "", "nodes", "")).is_none());
    }

    #[test]
    fn roles_that_collect_each_other_end() {
        let mut one = role("", "one", vec![]);
        one.aggregates = Some(vec![Selector::default()]);
        let mut two = role("", "two", vec![rule("get", "pods")]);
        two.aggregates = Some(vec![Selector::default()]);
        let rights = Rights::new([one, two, role("", "three", vec![rule("list", "pods")])], []);
        assert!(rights.role("", "one").is_some_and(|role| role.rules.contains(&rule("list", "pods"))));
    }
}
