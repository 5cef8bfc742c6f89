//! The pod that was admitted against the pod that was asked for, field by field (rule 10).
//!
//! Everything that has a default is written out in the request, so the two are equal unless
//! somebody stands in between: a webhook, a defaulting policy, an administrator. Only what is
//! listed here may differ.

use cubicle_core::quantity::{Bytes, MilliCpu};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

/// What the cluster itself fills in, and nobody can ask for.
const FILLED_IN: &[&str] = &[".spec.nodeName"];
/// Parts of the metadata that the API server keeps for itself.
const KEPT: &[&str] = &[
    ".metadata.uid",
    ".metadata.resourceVersion",
    ".metadata.generation",
    ".metadata.creationTimestamp",
    ".metadata.managedFields",
];

/// Every difference, as a path with what was asked and what came. Empty when there is none.
pub fn differences(asked: &Pod, admitted: &Pod, allowed_annotations: &[String]) -> Vec<String> {
    let value = |pod: &Pod| {
        let mut value = serde_json::to_value(pod).unwrap_or(Value::Null);
        if let Some(map) = value.as_object_mut() {
            map.remove("status");
        }
        value
    };
    let (asked, mut admitted) = (value(asked), value(admitted));
    if let Some(annotations) = admitted.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|name, _| !allowed_annotations.contains(name));
    }
    let mut found = Vec::new();
    if asked.is_null() || admitted.is_null() {
        found.push("the pod cannot be read".to_owned());
    }
    compare(&asked, &admitted, &mut String::new(), &mut found);
    found
}

fn compare(asked: &Value, admitted: &Value, path: &mut String, found: &mut Vec<String>) {
    if KEPT.contains(&path.as_str()) || (FILLED_IN.contains(&path.as_str()) && asked.is_null()) {
        return;
    }
    match (asked, admitted) {
        (Value::Object(one), Value::Object(other)) => {
            let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let length = path.len();
                path.push('.');
                path.push_str(name);
                let get = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or(Value::Null);
                compare(&get(one), &get(other), path, found);
                path.truncate(length);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                compare(one, other, path, found);
                path.truncate(length);
            }
        }
        (one, other) if nothing(one) && nothing(other) => {}
        (one, other) if one == other || same_quantity(one, other) => {}
        (one, other) => found.push(format!("{path} is {} instead of {}", shown(other), shown(one))),
    }
}

/// Absent, null and empty say the same, and so does `false` for the three host namespaces:
/// the types leave them out.
fn nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// The API server writes quantities in a form of its own.
fn same_quantity(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_str(), other.as_str()) else { return false };
    let bytes = |text| Bytes::parse(text).ok();
    let processors = |text| MilliCpu::parse(text).ok();
    (bytes(one).is_some() && bytes(one) == bytes(other))
        || (processors(one).is_some() && processors(one) == processors(other))
}

/// A value, bounded: what a webhook put there is somebody else's text.
fn shown(value: &Value) -> String {
    let text: String = value.to_string().chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if value.is_null() { "absent".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::tests::{identity, request, settings, template};

    fn asked() -> Pod {
        let (settings, identity, template) = (settings(), identity(), template());
        let location = crate::names::Location::of(settings.tenancy, &identity);
        crate::objects::pod(&request(&settings, &identity, &location, &template)).expect("made")
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut admitted = serde_json::to_value(asked()).expect("json");
        admitted["metadata"]["uid"] = json!("1");
        admitted["metadata"]["resourceVersion"] = json!("2");
        admitted["spec"]["nodeName"] = json!("node-1");
        admitted["status"] = json!({"phase": "Running"});
        change(&mut admitted);
        differences(&asked(), &serde_json::from_value(admitted).expect("a pod"), &["cni.example/ip".to_owned()])
    }

    #[test]
    fn what_the_cluster_fills_in_is_no_difference() {
        assert_eq!(changed(|_| {}), Vec::<String>::new());
        assert!(changed(|pod| pod["metadata"]["annotations"]["cni.example/ip"] = json!("10.0.0.1")).is_empty());
        assert!(changed(|pod| pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("1000m")).is_empty());
    }

    #[test]
    fn every_weakening_is_seen_with_its_field() {
        type Change = fn(&mut Value);
        let changes: &[(&str, Change)] = &[
            (".spec.containers is", |pod| {
                let extra = json!({"name": "sidecar", "image": "x", "securityContext": {"privileged": true}});
                pod["spec"]["containers"].as_array_mut().expect("list").push(extra);
            }),
            (".spec.initContainers", |pod| pod["spec"]["initContainers"] = json!([{"name": "x", "image": "x"}])),
            (".spec.hostUsers", |pod| pod["spec"]["hostUsers"] = json!(true)),
            (".spec.hostUsers", |pod| pod["spec"]["hostUsers"] = Value::Null),
            (".spec.hostNetwork", |pod| pod["spec"]["hostNetwork"] = json!(true)),
            (".spec.automountServiceAccountToken", |pod| pod["spec"]["automountServiceAccountToken"] = json!(true)),
            (".spec.volumes", |pod| {
                let token =
                    json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}});
                pod["spec"]["volumes"].as_array_mut().expect("list").push(token);
            }),
            (".securityContext.readOnlyRootFilesystem", |pod| {
                pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = json!(false);
            }),
            (".env", |pod| pod["spec"]["containers"][0]["env"] = json!([{"name": "X", "value": "y"}])),
            (".args", |pod| pod["spec"]["containers"][0]["args"] = json!(["later"])),
            (".image", |pod| pod["spec"]["containers"][0]["image"] = json!("other@sha256:00")),
            (".metadata.labels", |pod| pod["metadata"]["labels"]["app"] = json!("hub")),
            (".metadata.annotations", |pod| {
                pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] = json!("second");
            }),
            (".metadata.ownerReferences", |pod| pod["metadata"]["ownerReferences"] = json!([])),
            (".spec.runtimeClassName", |pod| pod["spec"]["runtimeClassName"] = json!("weak")),
            (".resources.limits.memory", |pod| {
                pod["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!("64Gi");
            }),
        ];
        for (path, change) in changes {
            let found = changed(change);
            assert!(found.iter().any(|one| one.contains(path)), "{path} was not seen: {found:?}");
        }
    }
}
