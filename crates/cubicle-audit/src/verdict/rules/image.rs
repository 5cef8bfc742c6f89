//! Which images a workspace runs.

use cubicle_core::report::Verdict;
use cubicle_core::scan::Scan;
use serde_json::json;

use super::super::finding::{Cause, Severity};
use super::super::scene::Scene;
use super::super::tenancy::Workspace;
use crate::pod_security::Pod;

/// Container name, pointer and image of every container that names one.
fn images(workspace: &Workspace) -> Vec<(String, String, String)> {
    let Ok(pod) = Pod::new(&workspace.template.pod) else { return Vec::new() };
    pod.containers()
        .filter_map(|container| {
            let image = container.value["image"].as_str()?;
            Some((container.name(), format!("{}/image", container.pointer()), image.to_owned()))
        })
        .collect()
}

/// Whether an image is named by what it holds.
fn is_pinned(image: &str) -> bool {
    image.rsplit_once("@sha256:").is_some_and(|(_, digest)| {
        digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The registry of an image; `docker.io` where none is named.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

pub(super) fn pinned(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for (name, pointer, image) in images(workspace).into_iter().filter(|(_, _, image)| !is_pinned(image)) {
        let sentence = format!("be given other programs in container {name}: the tag of {image} may move");
        let cause = Cause::breach(Severity::Medium, format!("{name}:{image}"), sentence);
        causes.push(scene.in_pod(workspace, &pointer, cause));
    }
}

pub(super) fn registry(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    if scene.registries.is_empty() {
        return;
    }
    for (name, pointer, image) in images(workspace) {
        let fits = scene.registries.iter().any(|allowed| {
            let allowed = allowed.trim_end_matches('/');
            registry_of(&image) == allowed || image.starts_with(&format!("{allowed}/"))
        });
        if !fits {
            let sentence = format!("run {image} in container {name}, from a registry that is not on the list");
            let cause = Cause::breach(Severity::Medium, format!("{name}:{image}"), sentence);
            causes.push(scene.in_pod(workspace, &pointer, cause));
        }
    }
}

pub(super) fn user(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let Ok(pod) = Pod::new(&workspace.template.pod) else { return };
    let set = |context: Option<&serde_json::Value>| context.is_some_and(|context| context["runAsUser"].is_i64());
    for container in pod.containers() {
        if set(container.security()) || set(pod.security()) {
            continue;
        }
        let name = container.name();
        let sentence = format!("run as whichever user the image of container {name} names: the pod names none");
        let field = "/securityContext/runAsUser";
        let pointer = format!("{}{field}", container.pointer());
        let fix = scene.set_in_pod(workspace, &pointer, json!(1000));
        let cause = Cause::breach(Severity::Low, format!("{name}{field}"), sentence).fixed_by(fix);
        causes.push(scene.in_pod(workspace, &pointer, cause));
    }
}

/// Containers with the scan that is about their image.
fn scanned<'a>(scene: &'a Scene<'_>, workspace: &Workspace) -> Vec<(String, String, String, Option<&'a Scan>)> {
    let of = |image: &str| {
        let digest = image.split_once('@').map(|(_, digest)| digest.to_owned());
        scene.scans.iter().find(|scan| digest.as_ref().is_some_and(|digest| scan.digests.contains(digest)))
    };
    images(workspace)
        .into_iter()
        .map(|(name, pointer, image)| {
            let scan = of(&image);
            (name, pointer, image, scan)
        })
        .collect()
}

pub(super) fn known_exploits(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let Some((rule, now)) = scene.scan_rule else { return };
    for (name, pointer, image, scan) in scanned(scene, workspace) {
        let digest = image.split_once('@').map(|(_, digest)| digest.to_owned());
        let judged = match scan {
            Some(scan) => rule.judge(Some(scan), &digest.into_iter().collect::<Vec<_>>(), now),
            None => {
                let sentence = format!("run known exploits in container {name}: no scan is about {image}");
                causes.push(scene.in_pod(workspace, &pointer, Cause::unproven(format!("{name}:{image}"), sentence)));
                continue;
            }
        };
        let key = format!("{name}:{image}");
        let cause = match judged.verdict {
            Verdict::Held => continue,
            Verdict::Breached => {
                let sentence = format!("use what is known to be wrong in container {name}: {}", judged.reason);
                Cause::breach(Severity::High, key, sentence)
            }
            _ => Cause::unproven(key, format!("run known exploits in container {name}: {}", judged.reason)),
        };
        causes.push(scene.in_pod(workspace, &pointer, cause));
    }
}

pub(super) fn secrets(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for (name, pointer, image, scan) in scanned(scene, workspace) {
        for secret in scan.into_iter().flat_map(|scan| &scan.secrets) {
            let sentence = format!("read a secret that its image holds in container {name}: {secret}");
            let cause = Cause::breach(Severity::High, format!("{name}:{image}:{secret}"), sentence);
            causes.push(scene.in_pod(workspace, &pointer, cause));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pinned_by_a_whole_digest_only() {
        let digest = "a".repeat(64);
        assert!(is_pinned(&format!("r.example/x@sha256:{digest}")));
        assert!(is_pinned(&format!("x:1@sha256:{digest}")));
        assert!(!is_pinned("x:1"));
        assert!(!is_pinned("x@sha256:abc"));
        assert!(!is_pinned(&format!("x@sha256:{}", "g".repeat(64))));
    }

    #[test]
    fn the_registry_is_the_first_part_only_if_it_looks_like_a_host() {
        assert_eq!(registry_of("nginx"), "docker.io");
        assert_eq!(registry_of("jupyter/base"), "docker.io");
        assert_eq!(registry_of("quay.io/a/b:1"), "quay.io");
        assert_eq!(registry_of("localhost/a"), "localhost");
        assert_eq!(registry_of("host:5000/a"), "host:5000");
    }
}
