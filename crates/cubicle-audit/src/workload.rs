//! Pods, and everything that makes pods, as one list of templates.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::snapshot::{Object, ObjectId, Snapshot};

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

/// Every pod and pod template of a snapshot. A pod that a workload of the snapshot has made is
/// left out: its template stands for it.
pub fn templates(snapshot: &Snapshot) -> Vec<Template> {
    let mut found = Vec::new();
    for (at, object) in snapshot.objects.iter().enumerate() {
        let group = object.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let Some((_, _, pointer)) = TEMPLATES.iter().find(|(own, kind, _)| *own == group && *kind == &*object.kind)
        else {
            continue;
        };
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
