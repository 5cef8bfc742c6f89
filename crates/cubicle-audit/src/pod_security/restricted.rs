//! The checks of level `restricted`.

use serde_json::Value;

use super::baseline::{contexts, is_filter, proc_mount};
use super::pod::{Pod, list, member, text};
use super::version::Version;
use super::{Level, Violation};

/// Volumes that come from the cluster and not from the node or a server the pod names.
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Runs the checks.
pub(super) fn check(pod: &Pod<'_>, version: Version, found: &mut Vec<Violation>) {
    // From 1.25 a pod that says it is for Windows is spared what Windows does not have.
    let windows = version.at_least(25) && pod.is_windows();
    // From 1.35 root in a user namespace is nobody outside of it.
    let mapped = version.at_least(35) && pod.has_user_namespace();
    volumes(pod, found);
    if version.at_least(8) && !windows {
        privilege_escalation(pod, found);
    }
    if version.at_least(22) && !windows {
        capabilities(pod, found);
    }
    if version.at_least(19) && !windows {
        seccomp(pod, found);
    }
    if !mapped {
        non_root(pod, found);
        if version.at_least(23) {
            user_zero(pod, found);
        }
    }
    if version.at_least(35) {
        proc_mount(pod, Level::Restricted, found);
    }
}

fn add(found: &mut Vec<Violation>, check: &'static str, pointer: String, what: String) {
    found.push(Violation { check, level: Level::Restricted, pointer, what });
}

fn volumes(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    for (index, volume) in list(pod.spec(), &["volumes"]).iter().enumerate() {
        if VOLUMES.iter().any(|kind| member(volume, kind).is_some()) {
            continue;
        }
        // A volume without a source is an emptyDir by default.
        let sources = volume.as_object().into_iter().flatten();
        let mut sources = sources.filter(|(key, value)| *key != "name" && !value.is_null());
        let Some((kind, _)) = sources.next() else { continue };
        let what = format!("volume {} is {kind}", text(volume, &["name"]));
        add(found, "restrictedVolumes", format!("/spec/volumes/{index}"), what);
    }
}

fn privilege_escalation(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    for container in pod.containers() {
        let set = container.security().and_then(|context| member(context, "allowPrivilegeEscalation"));
        if set != Some(&Value::Bool(false)) {
            let pointer = format!("{}/securityContext/allowPrivilegeEscalation", container.pointer());
            let what = format!("container {} does not set allowPrivilegeEscalation to false", container.name());
            add(found, "allowPrivilegeEscalation", pointer, what);
        }
    }
}

fn capabilities(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    for container in pod.containers() {
        let at = format!("{}/securityContext/capabilities", container.pointer());
        let context = container.security().unwrap_or(&Value::Null);
        if !list(context, &["capabilities", "drop"]).iter().any(|name| name == "ALL") {
            let what = format!("container {} does not drop all capabilities", container.name());
            add(found, "capabilities_restricted", format!("{at}/drop"), what);
        }
        for (index, name) in list(context, &["capabilities", "add"]).iter().enumerate() {
            if name != "NET_BIND_SERVICE" {
                let added = name.as_str().unwrap_or_default();
                let what = format!("container {} adds the capability {added}", container.name());
                add(found, "capabilities_restricted", format!("{at}/add/{index}"), what);
            }
        }
    }
}

fn seccomp(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    let check = "seccompProfile_restricted";
    let before = found.len();
    for (who, at, context) in contexts(pod) {
        if member(context, "seccompProfile").is_some() && !is_filter(context) {
            let kind = text(context, &["seccompProfile", "type"]);
            let what = format!("{who} sets seccompProfile.type to \"{kind}\"");
            add(found, check, format!("{at}/seccompProfile/type"), what);
        }
    }
    if found.len() > before || pod.security().is_some_and(is_filter) {
        return;
    }
    for container in pod.containers() {
        if container.security().is_none_or(|context| member(context, "seccompProfile").is_none()) {
            let what = format!("neither the pod nor container {} sets seccompProfile.type", container.name());
            add(found, check, format!("{}/securityContext/seccompProfile", container.pointer()), what);
        }
    }
}

fn non_root(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    let check = "runAsNonRoot";
    let before = found.len();
    for (who, at, context) in contexts(pod) {
        if member(context, "runAsNonRoot") == Some(&Value::Bool(false)) {
            let what = format!("{who} sets runAsNonRoot to false");
            add(found, check, format!("{at}/runAsNonRoot"), what);
        }
    }
    let by_pod = pod.security().and_then(|context| member(context, "runAsNonRoot")) == Some(&Value::Bool(true));
    if found.len() > before || by_pod {
        return;
    }
    for container in pod.containers() {
        if container.security().and_then(|context| member(context, "runAsNonRoot")).is_none() {
            let what = format!("neither the pod nor container {} sets runAsNonRoot", container.name());
            add(found, check, format!("{}/securityContext/runAsNonRoot", container.pointer()), what);
        }
    }
}

fn user_zero(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    for (who, at, context) in contexts(pod) {
        if member(context, "runAsUser").and_then(Value::as_i64) == Some(0) {
            add(found, "runAsUser", format!("{at}/runAsUser"), format!("{who} sets runAsUser to 0"));
        }
    }
}
