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

/// Runs a check over every container. Each flaw is a cause of its own: a container that is
/// privileged and adds capabilities has two, and mending one leaves the other.
fn each<Flaws: IntoIterator<Item = Flaw>>(
    scene: &Scene<'_>,
    workspace: &Workspace,
    causes: &mut Vec<Cause>,
    check: impl Fn(&Pod<'_>, &Container<'_>) -> Flaws,
) {
    let Some(pod) = pod(workspace) else { return };
    for container in pod.containers() {
        for flaw in check(&pod, &container) {
            let pointer = format!("{}{}", container.pointer(), flaw.field);
            let in_pod = |(field, value)| (format!("{}{field}", container.pointer()), value);
            let fix = scene.change_pod(workspace, flaw.changes.into_iter().map(in_pod).collect());
            let key = format!("{}{}{}", container.name(), flaw.field, flaw.value);
            let cause = Cause::breach(flaw.severity, key, flaw.sentence);
            causes.push(scene.in_pod(workspace, &pointer, cause).fixed_by(fix));
        }
    }
}

/// What is wrong with a container: the field, what a tenant could do, and how to set it right.
struct Flaw {
    severity: Severity,
    field: &'static str,
    /// What the field says, where several values of it are several causes.
    value: String,
    sentence: String,
    changes: Vec<(&'static str, Option<Value>)>,
}

const PRIVILEGED: &str = "/securityContext/privileged";

/// The flaw of a privileged container: whatever else it says, it counts for nothing.
fn privileged(container: &Container<'_>, severity: Severity, sentence: String) -> Option<Flaw> {
    let changes = vec![(PRIVILEGED, Some(json!(false)))];
    is_privileged(container).then(|| Flaw { severity, field: PRIVILEGED, value: String::new(), sentence, changes })
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
        let name = container.name();
        let (severity, value, sentence) = match user {
            Some(0) => (Severity::High, "=0", format!("be root in container {name}, which runs as user 0")),
            _ => {
                (Severity::Medium, "", format!("be root in container {name} if its image says so: nothing forbids it"))
            }
        };
        let mut changes = vec![("/securityContext/runAsNonRoot", Some(json!(true)))];
        if user == Some(0) {
            changes.push(("/securityContext/runAsUser", Some(json!(1000))));
        }
        let field = "/securityContext/runAsUser";
        let own = (!safe).then(|| Flaw { severity, field, value: value.to_owned(), sentence, changes });
        let sentence = format!("be root in container {name}, whose privileges make its user id meaningless");
        [own, privileged(container, Severity::Medium, sentence)].into_iter().flatten()
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
            value: String::new(),
            sentence: format!("gain privileges in container {} by running a setuid program", container.name()),
            changes: unprivileged(container, ("/securityContext/allowPrivilegeEscalation", json!(false))),
        })
    });
}

/// A change, with `privileged` taken away where it is set: the API server refuses privileged
/// containers that may not gain privileges.
fn unprivileged(container: &Container<'_>, change: (&'static str, Value)) -> Vec<(&'static str, Option<Value>)> {
    let mut changes = Vec::new();
    if is_privileged(container) {
        changes.push(("/securityContext/privileged", Some(json!(false))));
    }
    changes.push((change.0, Some(change.1)));
    changes
}

const CAPABILITIES: &str = "/securityContext/capabilities";
const ADDED: &str = "/securityContext/capabilities/add";
const DROPPED: &str = "/securityContext/capabilities/drop";

pub(super) fn capabilities(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |_, container| {
        let mut added = adds(container);
        added.sort_unstable();
        let name = container.name();
        let all = format!("use every capability of the node's root: container {name} is privileged");
        let by_adding = (!added.is_empty()).then(|| Flaw {
            severity: Severity::High,
            field: ADDED,
            value: format!("={}", added.join(",")),
            sentence: format!("use the capabilities {} in container {name}", added.join(", ")),
            changes: vec![(ADDED, None)],
        });
        let by_default = (!drops(container, "ALL")).then(|| Flaw {
            severity: Severity::Medium,
            field: CAPABILITIES,
            value: String::new(),
            sentence: format!("use the capabilities that the runtime gives container {name} by default"),
            changes: vec![(DROPPED, Some(json!(["ALL"])))],
        });
        [privileged(container, Severity::High, all), by_adding, by_default].into_iter().flatten()
    });
}

pub(super) fn raw_sockets(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |_, container| {
        let name = container.name();
        let sentence =
            |why: &str| format!("open raw sockets in container {name} and send packets in the name of others{why}");
        let flaw = |field, changes, why| Flaw {
            severity: Severity::Medium,
            field,
            value: String::new(),
            sentence: sentence(why),
            changes,
        };
        let added = adds(container).iter().any(|name| matches!(*name, "NET_RAW" | "ALL"));
        let by_adding = added.then(|| flaw(ADDED, vec![(ADDED, None)], ": the capability is added"));
        let changes = vec![(DROPPED, Some(json!(["ALL"])))];
        let by_default = (!drops(container, "NET_RAW")).then(|| flaw(CAPABILITIES, changes, ""));
        let all = privileged(container, Severity::Medium, sentence(": it is privileged"));
        [all, by_adding, by_default].into_iter().flatten()
    });
}

fn is_filtered(pod: &Pod<'_>, container: &Container<'_>) -> bool {
    let kind =
        effective(pod, container, "seccompProfile").map_or("", |profile| profile["type"].as_str().unwrap_or_default());
    matches!(kind, "RuntimeDefault" | "Localhost")
}

pub(super) fn system_call_filter(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |pod, container| {
        let name = container.name();
        let own = (!is_filtered(pod, container)).then(|| Flaw {
            severity: Severity::Medium,
            field: "/securityContext/seccompProfile",
            value: String::new(),
            sentence: format!("call every system call of the node's kernel from container {name}"),
            changes: vec![("/securityContext/seccompProfile", Some(json!({"type": "RuntimeDefault"})))],
        });
        let sentence =
            format!("call every system call of the node's kernel from container {name}, which is privileged");
        [own, privileged(container, Severity::Medium, sentence)].into_iter().flatten()
    });
}

pub(super) fn process_files(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |_, container| {
        let mount = container.security().and_then(|context| context.get("procMount")?.as_str()).unwrap_or("Default");
        let sentence = format!("read the kernel's own files below /proc in container {}", container.name());
        let own = (mount != "Default").then(|| Flaw {
            severity: Severity::Medium,
            field: "/securityContext/procMount",
            value: String::new(),
            sentence: sentence.clone(),
            changes: vec![("/securityContext/procMount", Some(json!("Default")))],
        });
        [own, privileged(container, Severity::Medium, format!("{sentence}, which is privileged"))].into_iter().flatten()
    });
}

pub(super) fn change_image(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |_, container| {
        (flag(container, "readOnlyRootFilesystem") != Some(true)).then(|| Flaw {
            severity: Severity::Low,
            field: "/securityContext/readOnlyRootFilesystem",
            value: String::new(),
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
        let name = container.name();
        let kind = effective(pod, container, "appArmorProfile").and_then(|profile| profile["type"].as_str());
        let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
        let unconfined = kind == Some("Unconfined") || kind.is_none() && pod.annotation(&key) == Some("unconfined");
        let sentence = format!("act outside the node's security module in container {name}");
        let own = unconfined.then(|| Flaw {
            severity: Severity::Medium,
            field: CONTEXT,
            value: String::new(),
            sentence: sentence.clone(),
            changes: vec![("/securityContext/appArmorProfile", Some(json!({"type": "RuntimeDefault"})))],
        });
        [own, privileged(container, Severity::Medium, format!("{sentence}, which is privileged"))].into_iter().flatten()
    });
}

pub(super) fn device_nodes(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    each(scene, workspace, causes, |_, container| {
        let name = container.name();
        let sentence = format!("open the node's disks and memory through container {name}, which is privileged");
        privileged(container, Severity::High, sentence)
    });
}

/// The user id of a pod's containers where the manifest names one.
fn user(workspace: &Workspace) -> Option<i64> {
    let pod = pod(workspace)?;
    pod.containers().find_map(|container| effective(&pod, &container, "runAsUser").and_then(Value::as_i64))
}

/// The user id that a workspace has on its node, none where its image names it; nothing when it has a user
/// namespace or cannot be read.
pub(in crate::verdict) fn host_user(workspace: &Workspace) -> Option<Option<i64>> {
    (!pod(workspace)?.has_user_namespace()).then(|| user(workspace))
}

pub(super) fn shared_ids(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let Some(own) = host_user(workspace) else { return };
    let twin = scene.sharing.with_user(workspace, own);
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
