//! Pods, and everything that makes pods, as one list of templates.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::snapshot::{Node, Object, ObjectId, Snapshot};

/// Kinds that hold a pod template, and where.
const TEMPLATES: &[(&str, &str, &str)] = &[
    ("", "Pod", ""),
    ("", "ReplicationController", "/spec/template"),
    ("", "PodTemplate", "/template"),
    ("apps", "DaemonSet", "/spec/template"),
    ("apps", "Deployment", "/spec/template"),
    ("apps", "ReplicaSet", "/spec/template"),
    ("apps", "StatefulSet", "/spec/template"),
    ("extensions", "DaemonSet", "/spec/template"),
    ("extensions", "Deployment", "/spec/template"),
    ("extensions", "ReplicaSet", "/spec/template"),
    ("batch", "Job", "/spec/template"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
    ("kubeflow.org", "Notebook", "/spec/template"),
    ("agents.x-k8s.io", "Sandbox", "/spec/podTemplate"),
    ("extensions.agents.x-k8s.io", "SandboxTemplate", "/spec/podTemplate"),
];

/// A pod as it is or will be made.
#[derive(Debug, Clone)]
pub struct Template {
    /// The object that holds it.
    pub object: ObjectId,
    /// That object's kind.
    pub kind: String,
    /// The namespace of the pods.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// Where in the object the pod stands, as a JSON pointer; empty for a pod itself.
    pub pointer: &'static str,
    /// `metadata` and `spec` of the pod.
    pub pod: Value,
    /// The labels of the pods.
    pub labels: BTreeMap<String, String>,
}

impl Template {
    /// `Kind namespace/name`, for people.
    pub fn title(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    /// The name of the pods' service account.
    pub fn service_account(&self) -> &str {
        let named = |key: &str| self.pod["spec"][key].as_str().filter(|name| !name.is_empty());
        named("serviceAccountName").or_else(|| named("serviceAccount")).unwrap_or("default")
    }

    /// Whether the token of the service account is mounted without being asked for: the pod's
    /// word counts before the account's, and silence means yes.
    pub fn mounts_token(&self, account: Option<&Object>) -> bool {
        let of_account = || account.and_then(|object| object.value.get("automountServiceAccountToken")?.bool());
        self.pod["spec"]["automountServiceAccountToken"].as_bool().or_else(of_account).unwrap_or(true)
    }

    /// A pointer into the object for a pointer into the pod.
    pub fn in_object(&self, pointer: &str) -> String {
        format!("{}{pointer}", self.pointer)
    }
}

/// Where an object keeps its pods' template; none where its kind makes none.
fn pointer_of(object: &Object) -> Option<&'static str> {
    let group = object.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    TEMPLATES.iter().find(|(own, kind, _)| *own == group && *kind == &*object.kind).map(|(_, _, pointer)| *pointer)
}

/// The controller of an object, or its first owner, as kind and name.
fn owner(object: &Object) -> Option<(&str, &str)> {
    let owners = object.value.at(&["metadata", "ownerReferences"])?.items();
    let is_controller = |owner: &&Node| owner.get("controller").and_then(Node::bool) == Some(true);
    let owner = owners.iter().find(is_controller).or(owners.first())?;
    Some((owner.text_at("kind")?, owner.text_at("name")?))
}

/// Which workload of a snapshot made which object.
#[derive(Debug, Default)]
pub struct Owners<'a>(HashMap<(&'a str, &'a str, &'a str), ObjectId>);

impl<'a> Owners<'a> {
    /// The workloads of a snapshot.
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let workloads = (0_u32..).map(ObjectId).zip(&snapshot.objects).filter(|(_, object)| {
            !object.name.is_empty() && pointer_of(object).is_some_and(|pointer| !pointer.is_empty())
        });
        let key = |object: &'a Object| (object.namespace.as_deref().unwrap_or("default"), &*object.kind, &*object.name);
        Self(workloads.map(|(id, object)| (key(object), id)).collect())
    }

    /// The workload that made an object: one step up.
    pub fn of(&self, object: &Object) -> Option<ObjectId> {
        let (kind, name) = owner(object)?;
        self.0.get(&(object.namespace.as_deref().unwrap_or("default"), kind, name)).copied()
    }

    /// The workload that somebody wrote, above everything that was made of it, with where it keeps
    /// its pods' template.
    pub fn written(&self, snapshot: &Snapshot, object: &Object) -> Option<(ObjectId, &'static str)> {
        let mut top = self.of(object)?;
        // ReplicaSet and Deployment, Job and CronJob: nothing is deeper; a circle ends here.
        for _ in 0..4 {
            match snapshot.object(top).and_then(|object| self.of(object)) {
                Some(above) if above != top => top = above,
                _ => break,
            }
        }
        Some((top, pointer_of(snapshot.object(top)?)?))
    }
}

/// Leaves out workloads whose pods are there themselves: what runs is what counts, and what it was
/// made of would count it twice.
pub fn without_makers(snapshot: &Snapshot, mut templates: Vec<Template>) -> Vec<Template> {
    let owners = Owners::new(snapshot);
    let mut makers = HashSet::new();
    for template in &templates {
        let Some(object) = snapshot.object(template.object) else { continue };
        let finished = matches!(object.value["status"].text_at("phase"), Some("Succeeded" | "Failed"));
        if template.kind != "Pod" || finished {
            continue;
        }
        let mut below = Some(object);
        // As above: a circle of owners ends.
        for _ in 0..4 {
            let Some(maker) = below.and_then(|object| owners.of(object)) else { break };
            makers.insert(maker);
            below = snapshot.object(maker);
        }
    }
    // A ReplicaSet without pods, of a Deployment that is there, is an old or an empty revision.
    templates.retain(|template| {
        let object = snapshot.object(template.object);
        let is_made = template.kind != "Pod" && object.is_some_and(|object| owners.of(object).is_some());
        !makers.contains(&template.object) && !is_made
    });
    templates
}

/// Every pod and pod template of a snapshot.
pub fn templates(snapshot: &Snapshot) -> Vec<Template> {
    let mut found = Vec::new();
    for (at, object) in snapshot.objects.iter().enumerate() {
        let Some(pointer) = pointer_of(object) else { continue };
        let Some(node) = object.value.pointer(pointer) else { continue };
        let pod = node.to_json();
        let labels = pod["metadata"]["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let name = match &*object.name {
            "" => object.value["metadata"].text_at("generateName").unwrap_or_default(),
            name => name,
        };
        found.push(Template {
            object: ObjectId(u32::try_from(at).unwrap_or(u32::MAX)),
            kind: object.kind.to_string(),
            namespace: object.namespace.as_deref().unwrap_or("default").to_owned(),
            name: name.to_owned(),
            pointer,
            pod,
            labels,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_that_makes_pods_is_unfolded() {
        let spec = json!({"serviceAccountName": "x", "containers": []});
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
        let objects = [
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}}, "spec": spec}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": template}}),
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"},
                   "spec": {"jobTemplate": {"spec": {"template": template}}}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}),
        ];
        let found = templates(&Snapshot::from_json("x", &objects));
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|one| one.service_account() == "x" && one.labels["a"] == "b"));
        assert_eq!(found[2].in_object("/spec"), "/spec/jobTemplate/spec/template/spec");
    }

    #[test]
    fn what_runs_counts_once() {
        let owned = |kind: &str, name: &str, owner: Option<(&str, &str)>, phase: &str| {
            let owners: Vec<Value> =
                owner.into_iter().map(|(kind, name)| json!({"kind": kind, "name": name, "controller": true})).collect();
            let version = match kind {
                "Pod" => "v1",
                "Job" | "CronJob" => "batch/v1",
                _ => "apps/v1",
            };
            let template = json!({"spec": {"containers": []}});
            json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "ownerReferences": owners},
                   "spec": {"template": template, "jobTemplate": {"spec": {"template": template}}},
                   "status": {"phase": phase}})
        };
        let objects = [
            owned("Deployment", "d", None, ""),
            owned("ReplicaSet", "d-1", Some(("Deployment", "d")), ""),
            owned("ReplicaSet", "d-2", Some(("Deployment", "d")), ""),
            owned("Pod", "d-2-x", Some(("ReplicaSet", "d-2")), "Running"),
            owned("CronJob", "c", None, ""),
            owned("Job", "c-1", Some(("CronJob", "c")), ""),
            owned("Pod", "c-1-x", Some(("Job", "c-1")), "Succeeded"),
            owned("Deployment", "not-yet", None, ""),
            owned("ReplicaSet", "self", Some(("ReplicaSet", "self")), ""),
            owned("Pod", "self-x", Some(("ReplicaSet", "self")), "Running"),
        ];
        let snapshot = Snapshot::from_json("x", &objects);
        let left: Vec<String> =
            without_makers(&snapshot, templates(&snapshot)).into_iter().map(|one| one.name).collect();
        assert_eq!(left, ["d-2-x", "c", "c-1-x", "not-yet", "self-x"]);
        let owners = Owners::new(&snapshot);
        let written = |at: usize| owners.written(&snapshot, &snapshot.objects[at]).map(|(id, pointer)| (id.0, pointer));
        assert_eq!(written(3), Some((0, "/spec/template")));
        assert_eq!(written(6), Some((4, "/spec/jobTemplate/spec/template")));
        assert_eq!(written(7), None);
    }

    #[test]
    fn the_pod_decides_about_its_token_before_the_account() {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x"},
                             "automountServiceAccountToken": false});
        let snapshot = Snapshot::from_json("x", [&account]);
        let pod = |set: Option<bool>| {
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}});
            if let Some(set) = set {
                pod["spec"]["automountServiceAccountToken"] = json!(set);
            }
            templates(&Snapshot::from_json("x", [&pod])).remove(0)
        };
        let account = snapshot.objects.first();
        assert!(pod(None).mounts_token(None));
        assert!(!pod(None).mounts_token(account));
        assert!(pod(Some(true)).mounts_token(account));
        assert!(!pod(Some(false)).mounts_token(None));
    }
}
