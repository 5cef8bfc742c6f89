//! Volumes and what a workspace is handed in its environment.

use serde_json::Value;

use super::super::finding::{Cause, Severity};
use super::super::scene::{Scene, title};
use super::super::tenancy::Workspace;
use crate::pod_security::Pod;

fn claims(workspace: &Workspace) -> impl Iterator<Item = (usize, &str)> {
    let volumes = workspace.template.pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes
        .enumerate()
        .filter_map(|(index, volume)| Some((index, volume["persistentVolumeClaim"]["claimName"].as_str()?)))
}

pub(super) fn other_claims(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let namespace = workspace.template.namespace.as_str();
    for (_, claim) in claims(workspace) {
        let found = scene
            .of_kind("", "PersistentVolumeClaim")
            .find(|(_, object)| *object.name == *claim && object.namespace.as_deref() == Some(namespace));
        let Some((_, object)) = found else { continue };
        let Some(name) = object.value["spec"].text_at("volumeName") else { continue };
        let volume = scene.of_kind("", "PersistentVolume").find(|(_, object)| *object.name == *name);
        let Some((_, volume)) = volume else { continue };
        let reference = &volume.value["spec"]["claimRef"];
        let owner = (reference.text_at("namespace").unwrap_or_default(), reference.text_at("name").unwrap_or_default());
        if owner.1.is_empty() {
            let sentence = format!("take volume {name} by naming it: the volume does not say for whose claim it is");
            let cause = Cause::breach(Severity::Medium, name, sentence);
            let location = scene.location(volume.place("/spec"));
            causes.push(cause.at(title(volume), Some(location)));
        } else if owner != (namespace, claim) {
            let sentence = format!("name volume {name}, which belongs to claim {}/{}", owner.0, owner.1);
            let cause = Cause::breach(Severity::High, name, sentence);
            let location = scene.location(object.place("/spec/volumeName"));
            causes.push(cause.at(title(object), Some(location)));
        }
    }
}

/// Mounts of a container with their place.
fn mounts<'a>(workspace: &'a Workspace) -> Vec<(String, String, &'a Value)> {
    let Ok(pod) = Pod::new(&workspace.template.pod) else { return Vec::new() };
    let mut found = Vec::new();
    for container in pod.containers() {
        let list: &'a [Value] = container.value["volumeMounts"].as_array().map_or(&[], Vec::as_slice);
        for (index, mount) in list.iter().enumerate() {
            found.push((container.name(), format!("{}/volumeMounts/{index}", container.pointer()), mount));
        }
    }
    found
}

pub(super) fn leave_home(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for (name, pointer, mount) in mounts(workspace) {
        let expanded = mount["subPathExpr"].as_str().unwrap_or_default();
        let fixed = mount["subPath"].as_str().unwrap_or_default();
        let leaves = |path: &str| path.split('/').any(|part| part == "..") || path.starts_with('/');
        if leaves(fixed) || leaves(expanded) {
            let sentence =
                format!("mount a folder outside its own in container {name}: the sub-path is {fixed}{expanded}");
            let cause = Cause::breach(Severity::High, pointer.clone(), sentence);
            causes.push(scene.in_pod(workspace, &pointer, cause));
        }
    }
}

pub(super) fn other_homes(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let volumes = workspace.template.pod["spec"]["volumes"].as_array().into_iter().flatten();
    for (index, volume) in volumes.enumerate() {
        let name = volume["name"].as_str().unwrap_or_default();
        let whole = mounts(workspace).into_iter().find(|(_, _, mount)| {
            mount["name"] == name
                && mount["subPath"].as_str().unwrap_or_default().is_empty()
                && mount["subPathExpr"].as_str().unwrap_or_default().is_empty()
        });
        let Some((container, ..)) = whole else { continue };
        let pointer = format!("/spec/volumes/{index}");
        let read_only = volume["persistentVolumeClaim"]["readOnly"] == Value::Bool(true)
            || volume["nfs"]["readOnly"] == Value::Bool(true);
        if let Some(other) = scene.sharing.with_volume(workspace, volume).filter(|_| !read_only) {
            let sentence =
                format!("open other tenants' files in volume {name}, which container {container} mounts whole");
            let cause = Cause::breach(Severity::High, name, sentence).seen([format!(
                "{} and {} mount the same volume",
                workspace.title(),
                other.title()
            )]);
            causes.push(scene.in_pod(workspace, &pointer, cause));
        }
    }
}

/// Names of variables that hold what a tenant must not have.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    [
        "PASSWORD",
        "SECRET",
        "ACCESS_KEY",
        "API_KEY",
        "PRIVATE_KEY",
        "DATABASE_URL",
        "DB_URL",
        "CONFIGPROXY_AUTH_TOKEN",
        "COOKIE",
    ]
    .iter()
    .any(|word| name.contains(word))
        || name.ends_with("_TOKEN") && name != "JUPYTERHUB_API_TOKEN" && name != "JPY_API_TOKEN"
        || name == "TOKEN"
}

pub(super) fn secrets_in_environment(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let Ok(pod) = Pod::new(&workspace.template.pod) else { return };
    for container in pod.containers() {
        let name = container.name();
        let variables = container.value["env"].as_array().into_iter().flatten();
        for (index, variable) in variables.enumerate() {
            let variable_name = variable["name"].as_str().unwrap_or_default();
            let from = variable["valueFrom"]["secretKeyRef"]["name"].as_str();
            let literal = variable["value"].as_str().is_some_and(|value| !value.is_empty());
            let sentence = match from {
                Some(secret) => {
                    format!("read secret {secret} in the environment of container {name} as {variable_name}")
                }
                None if literal && is_secret(variable_name) => {
                    format!(
                        "read {variable_name} in the environment of container {name}, and so can whoever reads the pod"
                    )
                }
                None => continue,
            };
            let pointer = format!("{}/env/{index}", container.pointer());
            let cause = Cause::breach(Severity::Medium, format!("{name}:{variable_name}"), sentence);
            causes.push(scene.in_pod(workspace, &pointer, cause));
        }
        let sources = container.value["envFrom"].as_array().into_iter().flatten();
        for (index, source) in sources.enumerate() {
            if let Some(secret) = source["secretRef"]["name"].as_str() {
                let pointer = format!("{}/envFrom/{index}", container.pointer());
                let sentence = format!("read all of secret {secret} in the environment of container {name}");
                let cause = Cause::breach(Severity::Medium, format!("{name}:{secret}"), sentence);
                causes.push(scene.in_pod(workspace, &pointer, cause));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn names_of_secrets_are_known_and_the_workspaces_own_token_is_not_one() {
        for name in ["DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "API_KEY", "CONFIGPROXY_AUTH_TOKEN", "GITHUB_TOKEN"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["JUPYTERHUB_API_TOKEN", "HOME", "TOKENIZERS_PARALLELISM", "GEN3_ENDPOINT"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
