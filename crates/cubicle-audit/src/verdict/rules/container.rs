//! What a workspace's containers are allowed to be.

use serde_json::{Value, json};

use super::super::finding::{Cause, Severity};
use super::super::scene::Scene;
use super::super::tenancy::Workspace;
use crate::pod_security::{Container, Pod};

/// The pod as the checks read it. A pod with fields of the wrong type was told already.
fn pod(workspace: &Workspace) -> Option<Pod<'_>> {
    Pod::new(&workspace.template.pod).ok()
}

/// Runs a check over every container.
fn each(
    scene: &Scene<'_>,
    workspace: &Workspace,
    causes: &mut Vec<Cause>,
    check: impl Fn(&Pod<'_>, &Container<'_>) -> Option<Flaw>,
) {
    let Some(pod) = pod(workspace) else { return };
    for container in pod.containers() {
        let Some(flaw) = check(&pod, &container) else { continue };
        let pointer = format!("{}{}", container.pointer(), flaw.field);
        let fix = scene.change_pod(
            workspace,
            flaw.changes.into_iter().map(|(field, value)| (format!("{}{field}", container.pointer()), value)).collect(),
        );
        let cause = Cause::breach(flaw.severity, format!("{}{}", container.name(), flaw.field), flaw.sentence);
        causes.push(scene.in_pod(workspace, &pointer, cause).fixed_by(fix));
    }
}

/// What is wrong with a container: the field, what a tenant could do, and how to set it right.
struct Flaw {
    severity: Severity,
    field: &'static str,
    sentence: String,
    changes: Vec<(&'static str, Option<Value>)>,
}

fn flag(container: &Container<'_>, name: &str) -> Option<bool> {
    container.security()?.get(name)?.as_bool()
}

fn is_privileged(container: &Container<'_>) -> bool {
    flag(container, "privileged") == Some(true)
}

/// The value of a container's security context, or of the pod's.
fn effective<'a>(pod: &Pod<'a>, container: &Container<'a>, name: &str) -> Option<&'a Value> {
    let of = |context: Option<&'a Value>| context?.get(name).filter(|value| !value.is_null());
    of(container.security()).or_else(|| of(pod.security()))
}

fn drops(container: &Container<'_>, name: &str) -> bool {
    let list = container.security().map_or(&Value::Null, |context| &context["capabilities"]["drop"]);
    list.as_array().is_some_and(|list| list.iter().any(|one| one == name || one == "ALL"))
}

fn adds<'a>(container: &Container<'a>) -> Vec<&'a str> {
    let list = container.security().map_or(&Value::Null, |context| &context["capabilities"]["add"]);
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

const CONTEXT: &str = "/securityContext";

pub(super) fn root_user(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |pod, container| {
        let user = effective(pod, container, "runAsUser").and_then(Value::as_i64);
        let non_root = effective(pod, container, "runAsNonRoot").and_then(Value::as_bool) == Some(true);
        let safe = user.is_some_and(|user| user != 0) || user.is_none() && non_root;
        if safe && !is_privileged(container) {
            return None;
        }
        let name = container.name();
        let sentence = match user {
            Some(0) => format!("be root in container {name}, which runs as user 0"),
            Some(_) => format!("be root in container {name}, whose privileges make its user id meaningless"),
            None => format!("be root in container {name} if its image says so: nothing forbids it"),
        };
        let mut changes = vec![("/securityContext/runAsNonRoot", Some(json!(true)))];
        if user == Some(0) {
            changes.push(("/securityContext/runAsUser", Some(json!(1000))));
        }
        if is_privileged(container) {
            changes.push(("/securityContext/privileged", Some(json!(false))));
        }
        let severity = if user == Some(0) { Severity::High } else { Severity::Medium };
        Some(Flaw { severity, field: "/securityContext/runAsUser", sentence, changes })
    });
}

pub(super) fn host_root(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let Some(pod) = pod(workspace) else { return };
    if pod.has_user_namespace() {
        return;
    }
    let cause = Cause::breach(
        Severity::Low,
        "hostUsers",
        "keep its user ids on the node after an escape: no user namespace maps them away",
    );
    let fix = scene.set_in_pod(workspace, "/spec/hostUsers", json!(false));
    causes.push(scene.in_pod(workspace, "/spec/hostUsers", cause).fixed_by(fix));
}

pub(super) fn privilege_by_exec(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |_, container| {
        (flag(container, "allowPrivilegeEscalation") != Some(false)).then(|| Flaw {
            severity: Severity::Medium,
            field: "/securityContext/allowPrivilegeEscalation",
            sentence: format!("gain privileges in container {} by running a setuid program", container.name()),
            changes: unprivileged(container, ("/securityContext/allowPrivilegeEscalation", json!(false))),
        })
    });
}

/// A change, with `privileged` taken away where it is set: the API server refuses privileged
/// containers that drop privileges.
fn unprivileged(container: &Container<'_>, change: (&'static str, Value)) -> Vec<(&'static str, Option<Value>)> {
    let mut changes = Vec::new();
    if is_privileged(container) {
        changes.push(("/securityContext/privileged", Some(json!(false))));
    }
    changes.push((change.0, Some(change.1)));
    changes
}

pub(super) fn capabilities(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |_, container| {
        let added = adds(container);
        let name = container.name();
        let sentence = if is_privileged(container) {
            format!("use every capability of the node's root: container {name} is privileged")
        } else if !added.is_empty() {
            format!("use the capabilities {} in container {name}", added.join(", "))
        } else if !drops(container, "ALL") {
            format!("use the capabilities that the runtime gives container {name} by default")
        } else {
            return None;
        };
        let mut changes = unprivileged(container, ("/securityContext/capabilities/drop", json!(["ALL"])));
        if !added.is_empty() {
            changes.push(("/securityContext/capabilities/add", None));
        }
        let severity = if is_privileged(container) || !added.is_empty() { Severity::High } else { Severity::Medium };
        Some(Flaw { severity, field: "/securityContext/capabilities", sentence, changes })
    });
}

pub(super) fn raw_sockets(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |_, container| {
        let added = adds(container).iter().any(|name| matches!(*name, "NET_RAW" | "ALL"));
        if !is_privileged(container) && !added && drops(container, "NET_RAW") {
            return None;
        }
        let sentence =
            format!("open raw sockets in container {} and send packets in the name of others", container.name());
        let mut changes = unprivileged(container, ("/securityContext/capabilities/drop", json!(["ALL"])));
        if added {
            changes.push(("/securityContext/capabilities/add", None));
        }
        Some(Flaw { severity: Severity::Medium, field: "/securityContext/capabilities", sentence, changes })
    });
}

fn is_filtered(pod: &Pod<'_>, container: &Container<'_>) -> bool {
    let kind =
        effective(pod, container, "seccompProfile").map_or("", |profile| profile["type"].as_str().unwrap_or_default());
    matches!(kind, "RuntimeDefault" | "Localhost") && !is_privileged(container)
}

pub(super) fn system_call_filter(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |pod, container| {
        (!is_filtered(pod, container)).then(|| Flaw {
            severity: Severity::Medium,
            field: "/securityContext/seccompProfile",
            sentence: format!("call every system call of the node's kernel from container {}", container.name()),
            changes: unprivileged(container, ("/securityContext/seccompProfile", json!({"type": "RuntimeDefault"}))),
        })
    });
}

pub(super) fn process_files(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |_, container| {
        let mount = container.security()?.get("procMount").and_then(Value::as_str).unwrap_or("Default");
        if mount == "Default" && !is_privileged(container) {
            return None;
        }
        let mut changes = vec![("/securityContext/procMount", Some(json!("Default")))];
        if is_privileged(container) {
            changes.push(("/securityContext/privileged", Some(json!(false))));
        }
        let sentence = format!("read the kernel's own files below /proc in container {}", container.name());
        Some(Flaw { severity: Severity::Medium, field: "/securityContext/procMount", sentence, changes })
    });
}

pub(super) fn change_image(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |_, container| {
        (flag(container, "readOnlyRootFilesystem") != Some(true)).then(|| Flaw {
            severity: Severity::Low,
            field: "/securityContext/readOnlyRootFilesystem",
            sentence: format!("change the programs of container {} while it runs", container.name()),
            changes: vec![("/securityContext/readOnlyRootFilesystem", Some(json!(true)))],
        })
    });
}

pub(super) fn host_namespaces(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for (field, sentence) in [
        ("hostNetwork", "listen and connect as the node itself: no network policy applies to it"),
        ("hostPID", "see and signal every process of the node"),
        ("hostIPC", "read the shared memory of the node's processes"),
    ] {
        if workspace.template.pod["spec"][field] == Value::Bool(true) {
            let pointer = format!("/spec/{field}");
            let fix = scene.change_pod(workspace, vec![(pointer.clone(), None)]);
            let cause = Cause::breach(Severity::High, field, sentence);
            causes.push(scene.in_pod(workspace, &pointer, cause).fixed_by(fix));
        }
    }
}

pub(super) fn other_processes(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    if workspace.template.pod["spec"]["shareProcessNamespace"] != Value::Bool(true) {
        return;
    }
    let pointer = "/spec/shareProcessNamespace";
    let cause = Cause::breach(Severity::Medium, "shared", "see and signal the processes of its pod's other containers");
    let fix = scene.change_pod(workspace, vec![(pointer.to_owned(), None)]);
    causes.push(scene.in_pod(workspace, pointer, cause).fixed_by(fix));
}

pub(super) fn security_module(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |pod, container| {
        let kind = effective(pod, container, "appArmorProfile").and_then(|profile| profile["type"].as_str());
        let key = format!("container.apparmor.security.beta.kubernetes.io/{}", container.name());
        let unconfined = kind == Some("Unconfined")
            || kind.is_none() && pod.annotation(&key) == Some("unconfined")
            || is_privileged(container);
        unconfined.then(|| Flaw {
            severity: Severity::Medium,
            field: CONTEXT,
            sentence: format!("act outside the node's security module in container {}", container.name()),
            changes: unprivileged(container, ("/securityContext/appArmorProfile", json!({"type": "RuntimeDefault"}))),
        })
    });
}

pub(super) fn device_nodes(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |_, container| {
        is_privileged(container).then(|| Flaw {
            severity: Severity::High,
            field: "/securityContext/privileged",
            sentence: format!(
                "open the node's disks and memory through container {}, which is privileged",
                container.name()
            ),
            changes: vec![("/securityContext/privileged", Some(json!(false)))],
        })
    });
}

/// The user id of a pod's containers where the manifest names one.
fn user(workspace: &Workspace) -> Option<i64> {
    let pod = pod(workspace)?;
    pod.containers().find_map(|container| effective(&pod, &container, "runAsUser").and_then(Value::as_i64))
}

pub(super) fn shared_ids(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    if pod(workspace).is_none_or(|pod| pod.has_user_namespace()) {
        return;
    }
    let own = user(workspace);
    let twin = scene.workspaces.iter().find(|other| {
        other.tenant != workspace.tenant
            && user(other) == own
            && pod(other).is_some_and(|pod| !pod.has_user_namespace())
    });
    let Some(twin) = twin else { return };
    let who = own.map_or_else(|| "whichever user their images name".to_owned(), |user| format!("user {user}"));
    let cause = Cause::breach(
        Severity::Low,
        "ids",
        format!("use up what the kernel counts per user: other tenants' workspaces also run as {who}"),
    )
    .seen([format!("{} and {}", workspace.title(), twin.title())]);
    let fix = scene.set_in_pod(workspace, "/spec/hostUsers", json!(false));
    causes.push(scene.in_pod(workspace, "/spec/hostUsers", cause).fixed_by(fix));
}
