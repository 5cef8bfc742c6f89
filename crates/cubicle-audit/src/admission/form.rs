//! A pod as it reaches the validating policies: with the API server's defaults, the token that is
//! mounted unasked, the namespace's limits, and without fields that say nothing.

use serde_json::{Map, Value, json};

/// Whether the token of the pod's account is mounted unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenVolume {
    /// It is.
    Mounted,
    /// It is not.
    Left,
}

/// Fields of a pod's spec that are not kept where they are false.
const FALSE_IS_NOTHING: [&str; 3] = ["hostNetwork", "hostPID", "hostIPC"];

fn default(entries: &mut Map<String, Value>, key: &str, value: Value) {
    entries.entry(key).or_insert(value);
}

/// Takes away what is not kept: nulls, empty lists and empty texts.
fn prune(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.values_mut().for_each(prune);
            entries.retain(|_, value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::String(text) => !text.is_empty(),
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

/// The image's tag decides whether it is pulled each time.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    let is_latest = !image.contains('@') && name.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest");
    if is_latest { "Always" } else { "IfNotPresent" }
}

fn container(entries: &mut Map<String, Value>, token: TokenVolume, limits: &Map<String, Value>) {
    let image = entries.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = pull_policy(image);
    default(entries, "imagePullPolicy", json!(policy));
    default(entries, "resources", json!({}));
    default(entries, "terminationMessagePath", json!("/dev/termination-log"));
    default(entries, "terminationMessagePolicy", json!("File"));
    for port in entries.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            default(port, "protocol", json!("TCP"));
        }
    }
    if let Some(resources) = entries.get_mut("resources").and_then(Value::as_object_mut) {
        if !limits.is_empty() {
            default(resources, "limits", json!({}));
            if let Some(own) = resources.get_mut("limits").and_then(Value::as_object_mut) {
                for (key, value) in limits {
                    default(own, key, value.clone());
                }
            }
        }
        // What is limited and not requested is requested as much.
        if let Some(limited) = resources.get("limits").and_then(Value::as_object).cloned() {
            default(resources, "requests", json!({}));
            if let Some(own) = resources.get_mut("requests").and_then(Value::as_object_mut) {
                for (key, value) in limited {
                    default(own, &key, value);
                }
            }
        }
    }
    if token == TokenVolume::Mounted {
        let mount = json!({
            "name": "kube-api-access-00000", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true,
        });
        default(entries, "volumeMounts", json!([]));
        if let Some(mounts) = entries.get_mut("volumeMounts").and_then(Value::as_array_mut) {
            mounts.push(mount);
        }
    }
}

/// The pod of a template, as the policies see it. `limits` are what the namespace's limit ranges
/// give a container that sets none.
pub(crate) fn admitted_form(
    pod: &Value,
    (namespace, name): (&str, &str),
    token: TokenVolume,
    limits: &Map<String, Value>,
) -> Value {
    let mut metadata = pod["metadata"].clone();
    if !metadata.is_object() {
        metadata = json!({});
    }
    metadata["namespace"] = json!(namespace);
    if metadata["name"].as_str().is_none_or(str::is_empty) {
        metadata["name"] = json!(name);
    }
    let mut spec = pod["spec"].clone();
    prune(&mut metadata);
    prune(&mut spec);
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|key, value| !FALSE_IS_NOTHING.contains(&key.as_str()) || *value != Value::Bool(false));
        let account = ["serviceAccountName", "serviceAccount"].iter().find_map(|key| spec.get(*key)?.as_str());
        let account = account.unwrap_or("default").to_owned();
        default(spec, "serviceAccountName", json!(account));
        default(spec, "serviceAccount", json!(account));
        for (key, value) in [
            ("securityContext", json!({})),
            ("restartPolicy", json!("Always")),
            ("dnsPolicy", json!("ClusterFirst")),
            ("schedulerName", json!("default-scheduler")),
            ("terminationGracePeriodSeconds", json!(30)),
            ("enableServiceLinks", json!(true)),
        ] {
            default(spec, key, value);
        }
        for key in ["containers", "initContainers"] {
            for one in spec.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(one) = one.as_object_mut() {
                    container(one, token, limits);
                }
            }
        }
        if token == TokenVolume::Mounted {
            let sources = json!([
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            ]);
            default(spec, "volumes", json!([]));
            if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
                let projected = json!({"defaultMode": 420, "sources": sources});
                volumes.push(json!({"name": "kube-api-access-00000", "projected": projected}));
            }
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}
