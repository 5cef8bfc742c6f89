//! What of the node a workspace can touch.

use serde_json::Value;

use super::super::finding::{Cause, Severity};
use super::super::scene::Scene;
use super::super::tenancy::Workspace;

/// Index, name and object of each volume.
fn volumes(workspace: &Workspace) -> impl Iterator<Item = (usize, &str, &Value)> {
    let list = workspace.template.pod["spec"]["volumes"].as_array();
    list.into_iter()
        .flatten()
        .enumerate()
        .map(|(index, volume)| (index, volume["name"].as_str().unwrap_or_default(), volume))
}

/// The volumes of a pod that are folders of the node: directly, or through a claim whose volume
/// is one.
pub(super) fn host_paths<'a>(scene: &'a Scene<'_>, workspace: &'a Workspace) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for (index, name, volume) in volumes(workspace) {
        if let Some(path) = volume["hostPath"]["path"].as_str() {
            found.push((format!("/spec/volumes/{index}"), name.to_owned(), path.to_owned()));
        }
        let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() else { continue };
        let namespace = &workspace.template.namespace;
        for (_, object) in scene.of_kind("", "PersistentVolume") {
            let reference = &object.value["spec"]["claimRef"];
            let bound =
                reference.text_at("name") == Some(claim) && reference.text_at("namespace") == Some(namespace.as_str());
            if bound && let Some(path) = object.value["spec"]["hostPath"].text_at("path") {
                found.push((format!("/spec/volumes/{index}"), name.to_owned(), path.to_owned()));
            }
        }
    }
    found
}

pub(super) fn host_files(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for (pointer, name, path) in host_paths(scene, workspace) {
        let sentence = format!("reach the node's {path} through volume {name}");
        let cause = Cause::breach(Severity::High, format!("{name}:{path}"), sentence);
        causes.push(scene.in_pod(workspace, &pointer, cause));
    }
    let Ok(pod) = crate::pod_security::Pod::new(&workspace.template.pod) else { return };
    for container in pod.containers() {
        let mounts = container.value["volumeMounts"].as_array().into_iter().flatten();
        for (index, mount) in mounts.enumerate() {
            if mount["mountPropagation"] == "Bidirectional" {
                let pointer = format!("{}/volumeMounts/{index}/mountPropagation", container.pointer());
                let name = container.name();
                let sentence = format!("have what container {name} mounts appear on the node and in other pods");
                let fix = scene.change_pod(workspace, vec![(pointer.clone(), None)]);
                let cause = Cause::breach(Severity::High, pointer.clone(), sentence).fixed_by(fix);
                causes.push(scene.in_pod(workspace, &pointer, cause));
            }
        }
    }
}

/// Sockets by which one commands a runtime, and the folders that hold them.
const SOCKETS: &[&str] = &[
    "/run/containerd/containerd.sock",
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/crio/crio.sock",
    "/var/run/crio/crio.sock",
    "/var/run/containerd/containerd.sock",
];

pub(super) fn runtime_sockets(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for (pointer, name, path) in host_paths(scene, workspace) {
        let folder = if path == "/" { path.clone() } else { format!("{}/", path.trim_end_matches('/')) };
        let holds = SOCKETS.iter().find(|socket| **socket == path || socket.starts_with(&folder));
        if let Some(socket) = holds {
            let sentence = format!("command the node's container runtime by {socket} in volume {name}");
            let cause = Cause::breach(Severity::High, format!("{name}:{path}"), sentence);
            causes.push(scene.in_pod(workspace, &pointer, cause));
        }
    }
}

pub(super) fn declared_kernel(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let class = workspace.template.pod["spec"]["runtimeClassName"].as_str().unwrap_or_default();
    let known = scene.of_kind("node.k8s.io", "RuntimeClass").find(|(_, object)| *object.name == *class);
    let pointer = "/spec/runtimeClassName";
    let cause = match known {
        _ if class.is_empty() => Cause::breach(
            Severity::High,
            "none",
            "attack the node's kernel: no runtime class gives the workspace another",
        ),
        None => Cause::unproven(class, format!("the runtime class {class} is not among the manifests")),
        Some((_, object)) if matches!(object.value.text_at("handler"), Some("runc" | "crun")) => Cause::breach(
            Severity::High,
            class,
            format!("attack the node's kernel: the handler of {class} is no sandbox"),
        ),
        Some(_) => return,
    };
    causes.push(scene.in_pod(workspace, pointer, cause));
}

pub(super) fn own_machine(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let spec = &workspace.template.pod["spec"];
    let selected = spec["nodeSelector"].as_object().is_some_and(|map| !map.is_empty())
        || spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"].is_object();
    let apart = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        .as_array()
        .is_some_and(|list| !list.is_empty());
    if selected && apart {
        return;
    }
    let cause = Cause::breach(
        Severity::Medium,
        "placement",
        "run on one machine with another tenant: nothing keeps their pods apart",
    );
    causes.push(scene.in_pod(workspace, "/spec/affinity", cause));
}

pub(super) fn devices(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for (pointer, name, path) in host_paths(scene, workspace) {
        if path == "/" || path == "/dev" || path.starts_with("/dev/") || path == "/sys" {
            let sentence = format!("open devices of the node through volume {name}, which is its {path}");
            let cause = Cause::breach(Severity::High, format!("{name}:{path}"), sentence);
            causes.push(scene.in_pod(workspace, &pointer, cause));
        }
    }
    let Ok(pod) = crate::pod_security::Pod::new(&workspace.template.pod) else { return };
    for container in pod.containers() {
        if container.security().is_some_and(|context| context["privileged"] == Value::Bool(true)) {
            let pointer = format!("{}/securityContext/privileged", container.pointer());
            let sentence = format!("open every device of the node through container {}", container.name());
            let fix = scene.set_in_pod(workspace, &pointer, Value::Bool(false));
            let cause = Cause::breach(Severity::High, container.name(), sentence).fixed_by(fix);
            causes.push(scene.in_pod(workspace, &pointer, cause));
        }
    }
}
