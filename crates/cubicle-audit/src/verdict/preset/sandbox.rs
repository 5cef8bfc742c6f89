//! agent-sandbox: a controller makes pods, and for each template a network policy, unless it is
//! told not to.
//!
//! What it makes is read from `extensions/controllers/sandboxtemplate_controller.go` (v0.5).

use serde_json::{Value, json};

use super::Made;
use crate::snapshot::{Object, ObjectId, Snapshot};
use crate::workload::{Template, templates};

const CORE: &str = "agents.x-k8s.io";
const EXTENSIONS: &str = "extensions.agents.x-k8s.io";
const SANDBOX: &str = "agents.x-k8s.io/sandbox-name-hash";
const TEMPLATE: &str = "agents.x-k8s.io/sandbox-template-ref-hash";

pub(super) fn is_here(snapshot: &Snapshot) -> bool {
    sources(snapshot).next().is_some()
}

fn sources(snapshot: &Snapshot) -> impl Iterator<Item = (ObjectId, &Object)> {
    snapshot.of_kind(CORE, "Sandbox").chain(snapshot.of_kind(EXTENSIONS, "SandboxTemplate"))
}

pub(super) fn tenant(template: &Template) -> Option<String> {
    (template.labels.contains_key(SANDBOX) || template.labels.contains_key(TEMPLATE)).then(|| template.name.clone())
}

/// A pod for each sandbox, two for each template, and each template's policy.
pub(super) fn make(snapshot: &Snapshot) -> Vec<Made> {
    let present = templates(snapshot).iter().any(|one| one.kind == "Pod" && tenant(one).is_some());
    let mut made = Vec::new();
    for (_, object) in sources(snapshot) {
        let (json, from) = (object.json(), object.source);
        let namespace = object.namespace.as_deref().unwrap_or("default");
        let of_template = &*object.kind == "SandboxTemplate";
        if of_template && json["spec"]["networkPolicyManagement"] != "Unmanaged" {
            made.push(Made { object: policy(&json, namespace, &object.name), from });
        }
        let names = if of_template {
            vec![format!("{}-a", object.name), format!("{}-b", object.name)]
        } else {
            vec![object.name.to_string()]
        };
        for name in names.iter().filter(|_| !present) {
            made.push(Made { object: pod(&json, namespace, name, of_template.then_some(&*object.name)), from });
        }
    }
    made
}

fn pod(owner: &Value, namespace: &str, name: &str, template: Option<&str>) -> Value {
    let source = &owner["spec"]["podTemplate"];
    let mut spec = if source["spec"].is_object() { source["spec"].clone() } else { json!({}) };
    let mut labels = source["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.insert(SANDBOX.to_owned(), json!(name));
    if let Some(template) = template {
        labels.insert(TEMPLATE.to_owned(), json!(template));
        // The controller mounts no token unless the template asks for one.
        if spec["automountServiceAccountToken"].is_null() {
            spec["automountServiceAccountToken"] = json!(false);
        }
    }
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels,
        "ownerReferences": [{"apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": name,
                             "uid": name, "controller": true}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

fn policy(owner: &Value, namespace: &str, name: &str) -> Value {
    let own = &owner["spec"]["networkPolicy"];
    let (ingress, egress) = if own.is_object() {
        let rules = |key: &str| own[key].as_array().cloned().map_or_else(|| json!([]), Value::Array);
        (rules("ingress"), rules("egress"))
    } else {
        let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"];
        let public = json!([
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": private}},
            {"ipBlock": {"cidr": "::/0", "except": ["fc00::/7"]}},
        ]);
        (json!([{"from": [{"podSelector": {"matchLabels": {"app": "sandbox-router"}}}]}]), json!([{"to": public}]))
    };
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": format!("{name}-network-policy"), "namespace": namespace},
        "spec": {
            "podSelector": {"matchLabels": {TEMPLATE: name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    })
}
