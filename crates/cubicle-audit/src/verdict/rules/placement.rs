//! Where a workspace runs, and who decides that.

use serde_json::Value;

use super::super::finding::{Cause, Severity};
use super::super::scene::Scene;
use super::super::tenancy::Workspace;

/// Labels that every node has and that tell nothing apart which matters here.
const COMMON: [&str; 4] =
    ["kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/arch"];

/// A kubelet may not set labels with this prefix on its own node (admission plugin
/// NodeRestriction).
const RESTRICTED: &str = "node-restriction.kubernetes.io/";

/// Keys of labels of nodes that a pod asks for, each with a pointer to where.
fn asked_labels(spec: &Value) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for key in spec["nodeSelector"].as_object().into_iter().flatten().map(|(key, _)| key) {
        let escaped = key.replace('~', "~0").replace('/', "~1");
        found.push((key.clone(), format!("/spec/nodeSelector/{escaped}")));
    }
    let required = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let terms = spec.pointer(required).and_then(Value::as_array);
    for (term, list) in terms.into_iter().flatten().enumerate() {
        for (at, one) in list["matchExpressions"].as_array().into_iter().flatten().enumerate() {
            if let Some(key) = one["key"].as_str() {
                found.push((key.to_owned(), format!("/spec{required}/{term}/matchExpressions/{at}")));
            }
        }
    }
    found
}

pub(super) fn choose_node(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let spec = &workspace.template.pod["spec"];
    for (key, pointer) in asked_labels(spec) {
        if COMMON.contains(&key.as_str()) || key.starts_with(RESTRICTED) {
            continue;
        }
        let sentence = format!(
            "be placed on a node that a stolen kubelet has labelled: {key} lacks the prefix {RESTRICTED}, so every node may give it to itself"
        );
        causes.push(scene.in_pod(workspace, &pointer, Cause::breach(Severity::Low, key, sentence)));
    }
    for (at, toleration) in spec["tolerations"].as_array().into_iter().flatten().enumerate() {
        let key = toleration["key"].as_str().unwrap_or_default();
        let pointer = format!("/spec/tolerations/{at}");
        if key.is_empty() && toleration["operator"] == "Exists" {
            let sentence = "run on any node whatever its taints, those of the control plane among them";
            let fix = scene.change_pod(workspace, vec![(pointer.clone(), None)]);
            let cause = Cause::breach(Severity::High, "every taint", sentence).fixed_by(fix);
            causes.push(scene.in_pod(workspace, &pointer, cause));
        } else if matches!(key, "node-role.kubernetes.io/control-plane" | "node-role.kubernetes.io/master") {
            let sentence = format!("run beside the control plane: it tolerates {key}");
            let fix = scene.change_pod(workspace, vec![(pointer.clone(), None)]);
            let cause = Cause::breach(Severity::High, key, sentence).fixed_by(fix);
            causes.push(scene.in_pod(workspace, &pointer, cause));
        }
    }
    // A pod that runs has the node that the scheduler chose; a manifest that names one chose it.
    let object = scene.snapshot.object(workspace.template.object);
    let is_placed = object.is_some_and(|object| object.value["status"].get("phase").is_some());
    if !is_placed && let Some(node) = spec["nodeName"].as_str() {
        let pointer = "/spec/nodeName";
        let sentence = format!("run on node {node} past the scheduler, and past what keeps others from it");
        let fix = scene.change_pod(workspace, vec![(pointer.to_owned(), None)]);
        let cause = Cause::breach(Severity::Medium, "nodeName", sentence).fixed_by(fix);
        causes.push(scene.in_pod(workspace, pointer, cause));
    }
}
