//! Zero to JupyterHub: KubeSpawner makes the users' pods.
//!
//! What it makes is read from `kubespawner/spawner.py` and the chart's `values.yaml` (4.x).

use serde_json::{Map, Value, json};

use super::{Made, embedded, held};
use crate::snapshot::{Object, ObjectId, Snapshot};
use crate::workload::{Template, templates};

const COMPONENT: &[&str] = &["app.kubernetes.io/component", "component"];
const USER: &[&str] = &["hub.jupyter.org/username", "hub.jupyter.org/user"];

fn is_workspace(template: &Template) -> bool {
    COMPONENT.iter().any(|key| template.labels.get(*key).is_some_and(|value| value == "singleuser-server"))
}

fn is_hub(template: &Template) -> bool {
    COMPONENT.iter().any(|key| template.labels.get(*key).is_some_and(|value| value == "hub"))
        && ["app", "app.kubernetes.io/name"]
            .iter()
            .any(|key| template.labels.get(*key).is_some_and(|value| value == "jupyterhub"))
}

pub(super) fn is_here(snapshot: &Snapshot) -> bool {
    templates(snapshot).iter().any(|template| is_workspace(template) || is_hub(template))
}

pub(super) fn tenant(template: &Template) -> Option<String> {
    is_workspace(template)
        .then(|| USER.iter().find_map(|key| template.labels.get(*key)).unwrap_or(&template.name).clone())
}

/// Two users' pods beside each hub that has none.
pub(super) fn make(snapshot: &Snapshot) -> Vec<Made> {
    let templates = templates(snapshot);
    let mut made = Vec::new();
    for hub in templates.iter().filter(|template| is_hub(template)) {
        if templates.iter().any(|one| is_workspace(one) && one.namespace == hub.namespace) {
            continue;
        }
        let (values, from) = values(snapshot, hub);
        for user in ["user-a", "user-b"] {
            made.push(Made { object: pod(hub, &values, user), from });
        }
    }
    made
}

/// The chart's values as the hub reads them, and where they stand.
fn values(snapshot: &Snapshot, hub: &Template) -> (Value, crate::snapshot::SourceRef) {
    let own = |(_, object): &(ObjectId, &Object)| object.namespace.as_deref() == Some(hub.namespace.as_str());
    let found = snapshot.of_kind("", "Secret").filter(own).find_map(|(_, object)| {
        let key = if object.value["stringData"].get("values.yaml").is_some() { "stringData" } else { "data" };
        Some((embedded(&held(object, "values.yaml")?), object.place(&format!("/{key}/values.yaml"))))
    });
    let place = || snapshot.object(hub.object).map(|object| object.source);
    found.unwrap_or_else(|| {
        let nowhere = crate::snapshot::SourceRef { file: crate::snapshot::FileId(0), line: 0, column: 0 };
        (Value::Null, place().unwrap_or(nowhere))
    })
}

fn pod(hub: &Template, values: &Value, user: &str) -> Value {
    let single = &values["singleuser"];
    let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
    let account = single["serviceAccountName"].as_str();
    let mut labels = Map::new();
    for key in ["app", "app.kubernetes.io/name", "app.kubernetes.io/instance", "release", "chart"] {
        if let Some(value) = hub.labels.get(key) {
            labels.insert(key.to_owned(), json!(value));
        }
    }
    for key in COMPONENT.iter().filter(|key| hub.labels.contains_key(**key)) {
        labels.insert((*key).to_owned(), json!("singleuser-server"));
    }
    labels.insert("hub.jupyter.org/network-access-hub".to_owned(), json!("true"));
    labels.insert("hub.jupyter.org/username".to_owned(), json!(user));
    if let Some(extra) = single["extraLabels"].as_object() {
        labels.extend(extra.clone());
    }
    let image = &single["image"];
    let name = image["name"].as_str().unwrap_or("quay.io/jupyterhub/k8s-singleuser-sample");
    let tag = image["tag"].as_str().unwrap_or("latest");
    let mut limits = Map::new();
    for kind in ["cpu", "memory"] {
        let limit = &single[kind]["limit"];
        if !limit.is_null() {
            limits.insert(kind.to_owned(), json!(limit.as_str().map_or_else(|| limit.to_string(), str::to_owned)));
        }
    }
    let mut spec = json!({
        "automountServiceAccountToken": account.is_some(),
        "securityContext": {"fsGroup": or(&single["fsGid"], json!(100))},
        "containers": [{
            "name": "notebook",
            "image": format!("{name}:{tag}"),
            "ports": [{"name": "notebook-port", "containerPort": 8888}],
            "resources": {"limits": limits},
            "env": [{"name": "JUPYTERHUB_API_TOKEN", "value": "made per server"}],
            "securityContext": {
                "runAsUser": or(&single["uid"], json!(1000)),
                "allowPrivilegeEscalation": or(&single["allowPrivilegeEscalation"], json!(false)),
            },
            "volumeMounts": [{"name": "home", "mountPath": "/home/jovyan"}],
        }],
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": format!("claim-{user}")}}],
    });
    if let Some(account) = account {
        spec["serviceAccountName"] = json!(account);
    }
    // The chart keeps pods from the metadata address by a container that changes the pod's rules.
    if single["cloudMetadata"]["blockWithIptables"] != Value::Bool(false) {
        spec["initContainers"] = json!([{
            "name": "block-cloud-metadata",
            "image": "quay.io/jupyterhub/k8s-network-tools",
            "securityContext": {"privileged": true, "runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}},
        }]);
    }
    if let Some(extra) = single["extraPodConfig"].as_object() {
        for (key, value) in extra {
            spec[key] = value.clone();
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("jupyter-{user}"), "namespace": hub.namespace, "labels": labels},
        "spec": spec,
    })
}
