//! Kubeflow: a namespace per profile, notebooks run as its `default-editor`.
//!
//! What a profile brings is read from the profile and notebook controllers.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Door, Made};
use crate::rbac::manifests::labels;
use crate::snapshot::Snapshot;
use crate::workload::{Template, templates};

const GROUP: &str = "kubeflow.org";
const PART_OF: &str = "app.kubernetes.io/part-of";

/// Services behind the gateway that take the caller from a header (kubeflow/kubeflow#7032, #6228).
pub(super) const DOORS: &[Door] = &[
    Door {
        label: ("app", "jupyter-web-app"),
        port: 5000,
        sentence: "send any user's address in the header kubeflow-userid to the notebook service and act as that user",
    },
    Door {
        label: ("kustomize.component", "profiles"),
        port: 8081,
        sentence: "send any user's address in the header kubeflow-userid to the access service and join that user's profile",
    },
];

pub(super) fn is_here(snapshot: &Snapshot) -> bool {
    ["Profile", "Notebook"].iter().any(|kind| snapshot.of_kind(GROUP, kind).next().is_some())
        || snapshot
            .of_kind("", "Namespace")
            .any(|(_, object)| labels(object).get(PART_OF).is_some_and(|part| part == "kubeflow-profile"))
}

pub(super) fn tenant(template: &Template, namespace: &BTreeMap<String, String>) -> Option<String> {
    let profile = namespace.get(PART_OF).is_some_and(|part| part == "kubeflow-profile");
    (template.labels.contains_key("notebook-name") || profile).then(|| template.namespace.clone())
}

/// What the controllers make of each profile and notebook, and a notebook where there is none.
pub(super) fn make(snapshot: &Snapshot) -> Vec<Made> {
    let templates = templates(snapshot);
    let mut made = notebooks(snapshot, &templates);
    for (_, profile) in snapshot.of_kind(GROUP, "Profile") {
        let (name, from) = (&*profile.name, profile.source);
        let mut add = |object| made.push(Made { object, from });
        if !snapshot.of_kind("", "Namespace").any(|(_, object)| *object.name == *name) {
            add(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": name, "labels": {PART_OF: "kubeflow-profile", "istio-injection": "enabled"}}}));
        }
        for (account, role) in [("default-editor", "kubeflow-edit"), ("default-viewer", "kubeflow-view")] {
            let present = snapshot
                .of_kind("", "ServiceAccount")
                .any(|(_, object)| *object.name == *account && object.namespace.as_deref() == Some(name));
            if present {
                continue;
            }
            add(
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": name}}),
            );
            add(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": account, "namespace": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": name}]}));
        }
        if !templates.iter().any(|one| one.namespace == name) {
            add(json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "notebook-0", "namespace": name,
                    "labels": {"notebook-name": "notebook", "statefulset": "notebook"}},
                "spec": {"serviceAccountName": "default-editor", "securityContext": {"fsGroup": 100},
                    "containers": [{"name": "notebook", "image": "ghcr.io/kubeflow/kubeflow/notebook-servers/jupyter-scipy:latest",
                        "ports": [{"name": "notebook-port", "containerPort": 8888}],
                        "resources": {"limits": {"cpu": "0.6", "memory": "1.2Gi"}}}]}}));
        }
    }
    made
}

/// The pod of each notebook that has none.
fn notebooks(snapshot: &Snapshot, templates: &[Template]) -> Vec<Made> {
    let mut made = Vec::new();
    for (_, notebook) in snapshot.of_kind(GROUP, "Notebook") {
        let namespace = notebook.namespace.as_deref().unwrap_or("default");
        let own = |one: &Template| {
            one.kind != "Notebook"
                && one.namespace == namespace
                && one.labels.get("notebook-name").is_some_and(|name| **name == *notebook.name)
        };
        if templates.iter().any(own) {
            continue;
        }
        let template = notebook.value["spec"]["template"].to_json();
        let mut labels = template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        labels.insert("notebook-name".to_owned(), json!(&*notebook.name));
        labels.insert("statefulset".to_owned(), json!(&*notebook.name));
        let metadata = json!({"name": format!("{}-0", notebook.name), "namespace": namespace, "labels": labels});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]});
        made.push(Made { object: pod, from: notebook.source });
    }
    made
}
