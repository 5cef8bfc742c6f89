//! Rights and what they act on, from the objects of a snapshot.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::builtin;
use super::rights::{Binding, Rights, Role, Selector};
use super::rule::Rule;
use super::subject::Subject;
use super::world::{Admission, RunningPod, World};
use crate::snapshot::{InputProblem, Object, ObjectId, Severity, Snapshot};
use crate::workload::Template;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The label by which a namespace asks for Pod Security.
pub(crate) const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// Everything about rights that a snapshot holds.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    /// Roles and bindings, with the roles for people that every cluster has.
    pub rights: Rights,
    /// What they act on.
    pub world: World,
    /// Where each role and binding stands, by kind, namespace and name.
    places: HashMap<(&'static str, String, String), ObjectId>,
    /// What could not be read: what somebody may do is then not known.
    pub problems: Vec<InputProblem>,
}

impl Manifests {
    /// Reads roles, bindings, accounts, namespaces and tokens.
    pub fn new(snapshot: &Snapshot, templates: &[Template]) -> Self {
        let mut manifests = Self::default();
        let (mut roles, mut bindings) = (Vec::new(), Vec::new());
        for kind in ["ClusterRole", "Role"] {
            for (id, object) in snapshot.of_kind(GROUP, kind) {
                manifests.place(kind, id, object);
                roles.push(manifests.role(object, kind == "ClusterRole"));
            }
        }
        for kind in ["ClusterRoleBinding", "RoleBinding"] {
            for (id, object) in snapshot.of_kind(GROUP, kind) {
                manifests.place(kind, id, object);
                bindings.push(manifests.binding(object));
            }
        }
        let known: HashSet<String> =
            roles.iter().filter(|role| role.namespace.is_empty()).map(|role| role.name.clone()).collect();
        roles.extend(builtin::roles().into_iter().filter(|role| !known.contains(&role.name)));
        manifests.rights = Rights::new(roles, bindings);
        manifests.world = world(snapshot, templates);
        let subjects = manifests.rights.subjects();
        manifests.world.identities(&subjects);
        manifests
    }

    /// The object of a role or binding; none for one that every cluster has.
    pub fn object(&self, kind: &'static str, namespace: &str, name: &str) -> Option<ObjectId> {
        self.places.get(&(kind, namespace.to_owned(), name.to_owned())).copied()
    }

    fn place(&mut self, kind: &'static str, id: ObjectId, object: &Object) {
        let namespace = object.namespace.as_deref().unwrap_or_default().to_owned();
        self.places.insert((kind, namespace, object.name.to_string()), id);
    }

    /// Reads a list entry by entry, so that one bad entry does not hide the others.
    fn entries<T: DeserializeOwned>(&mut self, object: &Object, pointer: &str) -> Vec<T> {
        let Some(node) = object.value.pointer(pointer).filter(|node| !node.is_null()) else { return Vec::new() };
        let mut read = Vec::new();
        for (index, item) in node.items().iter().enumerate() {
            match serde_json::from_value(item.to_json()) {
                Ok(entry) => read.push(entry),
                Err(error) => self.problem(object, &format!("{pointer}/{index}"), &error.to_string()),
            }
        }
        if node.items().is_empty() && node.kind_of_value() != "a list" {
            self.problem(object, pointer, &format!("it must be a list but is {}", node.kind_of_value()));
        }
        read
    }

    fn problem(&mut self, object: &Object, pointer: &str, why: &str) {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        self.problems.push(InputProblem {
            severity: Severity::Error,
            source: object.place(pointer),
            what: format!("{field} of {} {} is refused by the API server: {why}", object.kind, object.name),
            remedy: "correct it: what it gives is not known".to_owned(),
        });
    }

    fn role(&mut self, object: &Object, cluster: bool) -> Role {
        let rules: Vec<Rule> = self.entries(object, "/rules");
        let aggregates = (cluster && object.value.get("aggregationRule").is_some())
            .then(|| self.entries::<Selector>(object, "/aggregationRule/clusterRoleSelectors"));
        let namespace = if cluster { String::new() } else { namespace(object) };
        Role { namespace, name: object.name.to_string(), labels: labels(object), rules, aggregates }
    }

    fn binding(&mut self, object: &Object) -> Binding {
        let reference = &object.value["roleRef"];
        Binding {
            namespace: object.namespace.as_deref().unwrap_or_default().to_owned(),
            name: object.name.to_string(),
            subjects: self.entries::<Subject>(object, "/subjects"),
            cluster_role: reference.text_at("kind") == Some("ClusterRole"),
            role: reference.text_at("name").unwrap_or_default().to_owned(),
        }
    }
}

fn namespace(object: &Object) -> String {
    object.namespace.as_deref().unwrap_or("default").to_owned()
}

/// The labels of an object.
pub(crate) fn labels(object: &Object) -> BTreeMap<String, String> {
    let json = object.value["metadata"]["labels"].to_json();
    let Value::Object(map) = json else { return BTreeMap::new() };
    map.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect()
}

fn world(snapshot: &Snapshot, templates: &[Template]) -> World {
    let mut world = World::default();
    // Every namespace that anything stands in exists, labelled or not.
    for namespace in snapshot.objects.iter().filter_map(|object| object.namespace.as_deref()) {
        world.namespace(namespace, Admission::Anything);
    }
    for (_, object) in snapshot.of_kind("", "Namespace") {
        let admission = match labels(object).get(ENFORCE).map(String::as_str) {
            Some("restricted") => Admission::Restricted,
            Some("baseline") => Admission::Baseline,
            // The API server reads a word it does not know as restricted, for pods.
            Some("privileged") | None => Admission::Anything,
            Some(_) => Admission::Restricted,
        };
        world.namespace(&object.name, admission);
    }
    let mut accounts = HashMap::new();
    for (_, object) in snapshot.of_kind("", "ServiceAccount") {
        world.account(&namespace(object), &object.name);
        accounts.insert((namespace(object), object.name.to_string()), object);
    }
    for (_, object) in snapshot.of_kind("", "Secret") {
        if object.value.text_at("type") == Some("kubernetes.io/service-account-token") {
            let owner = &object.value["metadata"]["annotations"];
            if let Some(account) = owner.text_at("kubernetes.io/service-account.name") {
                world.token_secret(&namespace(object), &object.name, account);
            }
        }
    }
    for (_, object) in snapshot.of_kind("", "ConfigMap") {
        world.config_map(&namespace(object), &object.name);
    }
    for template in templates {
        let account = template.service_account();
        let object = accounts.get(&(template.namespace.clone(), account.to_owned())).copied();
        world.pod(RunningPod {
            namespace: template.namespace.clone(),
            name: template.name.clone(),
            account: account.to_owned(),
            token: template.mounts_token(object) || asks_for_token(&template.pod),
        });
    }
    world
}

/// Whether a pod mounts a token by a volume of its own.
pub(crate) fn asks_for_token(pod: &Value) -> bool {
    let volumes = pod["spec"]["volumes"].as_array().map_or(&[][..], Vec::as_slice);
    volumes.iter().any(|volume| {
        let sources = volume["projected"]["sources"].as_array().map_or(&[][..], Vec::as_slice);
        sources.iter().any(|source| source["serviceAccountToken"].is_object())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Identity, Power, Request, escalate};
    use super::*;
    use crate::workload::templates;

    fn read(objects: &[Value]) -> Manifests {
        let snapshot = Snapshot::from_json("x", objects);
        let templates = templates(&snapshot);
        Manifests::new(&snapshot, &templates)
    }

    fn bound(role: &str) -> Value {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
               "roleRef": {"kind": "ClusterRole", "name": role},
               "subjects": [{"kind": "ServiceAccount", "name": "hub", "namespace": "a"}]})
    }

    #[test]
    fn roles_that_every_cluster_has_need_no_manifest() {
        let manifests = read(&[bound("admin")]);
        let hub = Identity::service_account("a", "hub");
        let request = Request::resource("list", "", "secrets", "other");
        assert!(manifests.rights.allowed(&hub, &request).is_some());
        assert_eq!(manifests.rights.dangling().count(), 0);
        let escalation = escalate(&manifests.rights, &manifests.world, &hub);
        assert!(escalation.way_to(&Power::Node).is_some());
    }

    #[test]
    fn a_bad_rule_is_told_and_the_others_are_read() {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"},
            "rules": [{"verbs": "get", "apiGroups": [""], "resources": ["pods"]},
                      {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}]});
        let manifests = read(&[role, bound("r")]);
        assert_eq!(manifests.problems.len(), 1);
        let hub = Identity::service_account("a", "hub");
        assert!(manifests.rights.allowed(&hub, &Request::resource("list", "", "pods", "")).is_some());
    }

    #[test]
    fn a_manifest_of_a_built_in_role_counts() {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                          "metadata": {"name": "admin"}, "rules": []});
        let manifests = read(&[role, bound("admin")]);
        let hub = Identity::service_account("a", "hub");
        assert!(manifests.rights.allowed(&hub, &Request::resource("list", "", "pods", "")).is_none());
    }
}
