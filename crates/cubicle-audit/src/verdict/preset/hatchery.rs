//! Gen3's Hatchery: it makes the users' pods in one namespace for all.
//!
//! What it makes is read from `hatchery/pods.go`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Door, Made, embedded, held};
use crate::rbac::manifests::labels;
use crate::snapshot::{Object, ObjectId, Snapshot};
use crate::workload::{Template, templates};

/// Both believe who the caller says they are.
pub(super) const DOORS: &[Door] = &[
    Door {
        label: ("app", "ambassador"),
        port: 8080,
        sentence: "send any user's name in the header REMOTE_USER to the proxy and get that user's notebook, which asks for no password",
    },
    Door {
        label: ("app", "ambassador-gen3"),
        port: 8080,
        sentence: "send any user's name in the header REMOTE_USER to the proxy and get that user's notebook, which asks for no password",
    },
    Door {
        label: ("app", "hatchery"),
        port: 8000,
        sentence: "send any user's name in the header REMOTE_USER to Hatchery and launch or end that user's workspace",
    },
    Door {
        label: ("app", "workspace-proxy"),
        port: 8080,
        sentence: "send any user's name in the header REMOTE_USER to the proxy and get that user's notebook, which asks for no password",
    },
];

fn configuration(snapshot: &Snapshot) -> Option<(ObjectId, Value)> {
    snapshot.of_kind("", "ConfigMap").find_map(|(id, object)| {
        let text =
            held(object, "hatchery.json").or_else(|| (&*object.name == "manifest-hatchery").then(|| flat(object)))?;
        Some((id, embedded(&text)))
    })
}

/// A manifest's section as the cloud-automation scripts store it: one key per member.
fn flat(object: &Object) -> String {
    let mut whole = serde_json::Map::new();
    for entry in object.value["data"].entries() {
        let text = entry.node.text().unwrap_or_default();
        whole.insert(entry.key.to_string(), serde_json::from_str(text).unwrap_or_else(|_| json!(text)));
    }
    Value::Object(whole).to_string()
}

pub(super) fn is_here(snapshot: &Snapshot) -> bool {
    configuration(snapshot).is_some()
        || templates(snapshot).iter().any(|one| one.labels.get("app").is_some_and(|app| app == "hatchery"))
}

pub(super) fn tenant(template: &Template, namespace: &BTreeMap<String, String>) -> Option<String> {
    let named = template.labels.get("app").and_then(|app| app.strip_prefix("hatchery-"));
    let of_users = namespace.get("role").is_some_and(|role| role == "usercode");
    let name = template.pod["metadata"]["annotations"]["gen3username"].as_str();
    (named.is_some() || name.is_some() || of_users).then(|| name.or(named).unwrap_or(&template.name).to_owned())
}

/// The namespace of the users' pods.
fn namespace(snapshot: &Snapshot, configured: &Value) -> String {
    let labelled = snapshot
        .of_kind("", "Namespace")
        .find(|(_, object)| labels(object).get("role").is_some_and(|role| role == "usercode"))
        .map(|(_, object)| object.name.to_string());
    configured["user-namespace"]
        .as_str()
        .filter(|name| !name.is_empty() && !name.contains('$'))
        .map(str::to_owned)
        .or(labelled)
        .unwrap_or_else(|| "jupyter-pods".to_owned())
}

/// Two users' pods, if none runs.
pub(super) fn make(snapshot: &Snapshot) -> Vec<Made> {
    let Some((id, configured)) = configuration(snapshot) else { return Vec::new() };
    let place = |object: &Object| object.place("/data/hatchery.json");
    let Some(source) = snapshot.object(id).map(place) else { return Vec::new() };
    let namespace = namespace(snapshot, &configured);
    if templates(snapshot).iter().any(|one| one.namespace == namespace) {
        return Vec::new();
    }
    ["user-a", "user-b"].map(|user| Made { object: pod(&namespace, &configured, user), from: source }).into()
}

fn pod(namespace: &str, configured: &Value, user: &str) -> Value {
    let container = &configured["containers"][0];
    let sidecar = &configured["sidecar"];
    let text = |value: &Value, default: &str| value.as_str().unwrap_or(default).to_owned();
    let port = container["target-port"].as_i64().unwrap_or(8888);
    let resources = |of: &Value| {
        let both = json!({"cpu": text(&of["cpu-limit"], "1"), "memory": text(&of["memory-limit"], "512Mi")});
        json!({"limits": both, "requests": both})
    };
    let mut security = serde_json::Map::new();
    for (key, field) in [("user-uid", "runAsUser"), ("group-uid", "runAsGroup"), ("fs-gid", "fsGroup")] {
        if let Some(id) = container[key].as_i64().filter(|id| *id != 0) {
            security.insert(field.to_owned(), json!(id));
        }
    }
    let key =
        json!([{"name": "API_KEY", "value": "made per launch"}, {"name": "API_KEY_ID", "value": "made per launch"}]);
    let mut containers = vec![
        json!({
            "name": "fuse-container",
            "image": text(&sidecar["image"], "quay.io/cdis/ecs-ws-sidecar:master"),
            "securityContext": {"privileged": true, "runAsUser": 0, "runAsGroup": 0},
            "resources": resources(sidecar),
            "env": key,
            "volumeMounts": [{"name": "shared-data", "mountPath": "/data", "mountPropagation": "Bidirectional"}],
        }),
        json!({
            "name": "hatchery-container",
            "image": text(&container["image"], "quay.io/cdis/heal-notebooks:combined"),
            "securityContext": {"privileged": false},
            "ports": [{"containerPort": port}],
            "resources": resources(container),
            "env": key,
            "volumeMounts": [
                {"name": "shared-data", "mountPath": "/data", "mountPropagation": "HostToContainer"},
                {"name": "user-data", "mountPath": text(&container["user-volume-location"], "/home/jovyan/pd")},
            ],
        }),
    ];
    containers.extend(container["friends"].as_array().into_iter().flatten().cloned());
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("hatchery-{user}"),
            "namespace": namespace,
            "labels": {"app": format!("hatchery-{user}")},
            "annotations": {"gen3username": user},
        },
        "spec": {
            "enableServiceLinks": false,
            "restartPolicy": "Never",
            "securityContext": security,
            "containers": containers,
            "volumes": [
                {"name": "shared-data", "emptyDir": {}},
                {"name": "user-data", "persistentVolumeClaim": {"claimName": format!("claim-{user}")}},
            ],
        },
    })
}
