//! What the cluster's admission says to what a guarantee forbids.
//!
//! A refusal never makes a verdict held: the policy may be younger than the pod, and pods that are
//! tried here are not all there are. It takes the certainty from a breach and is told in its own
//! words; a policy that is evaluated and lets the pod pass takes nothing.

use serde_json::{Map, Value, json};

use cubicle_core::report::Verdict;

use super::super::finding::Cause;
use super::super::scene::Scene;
use super::super::tenancy::Workspace;
use crate::admission::{Answer, Asked, Refusal, TokenVolume, admitted_form};

/// Makes a pod a bad one.
type Spoil = fn(&mut Value);

/// Pods below Pod Security restricted, as changes of a pod's spec: what is tried where nothing else
/// stands before them.
const BAD_PODS: &[(&str, Spoil)] = &[
    ("a privileged container", |pod| in_container(pod, "privileged", json!(true))),
    ("a privileged init container", |pod| {
        let context = json!({"privileged": true});
        pod["spec"]["initContainers"] =
            json!([{"name": "first", "image": "example.test/first:1", "securityContext": context}]);
    }),
    ("the node's network", |pod| pod["spec"]["hostNetwork"] = json!(true)),
    ("the node's processes", |pod| pod["spec"]["hostPID"] = json!(true)),
    ("the node's shared memory", |pod| pod["spec"]["hostIPC"] = json!(true)),
    ("a folder of the node", |pod| {
        let volume = json!({"name": "node", "hostPath": {"path": "/"}});
        match pod["spec"]["volumes"].as_array_mut() {
            Some(volumes) => volumes.push(volume),
            None => pod["spec"]["volumes"] = json!([volume]),
        }
    }),
    ("a port of the node", |pod| {
        pod["spec"]["containers"][0]["ports"] =
            json!([{"name": "node", "containerPort": 8443, "hostPort": 8443, "protocol": "TCP"}]);
    }),
    ("the capability SYS_ADMIN", |pod| {
        in_container(pod, "capabilities", json!({"add": ["SYS_ADMIN"], "drop": ["ALL"]}))
    }),
    ("the default capabilities", |pod| in_container(pod, "capabilities", Value::Null)),
    ("a container that may gain privileges", |pod| in_container(pod, "allowPrivilegeEscalation", json!(true))),
    ("user 0", |pod| {
        in_container(pod, "runAsUser", json!(0));
        in_container(pod, "runAsNonRoot", json!(false));
    }),
    ("every system call", |pod| in_container(pod, "seccompProfile", json!({"type": "Unconfined"}))),
    ("an unmasked /proc", |pod| in_container(pod, "procMount", json!("Unmasked"))),
];

/// Sets a field of the first container's security context; null takes it away.
fn in_container(pod: &mut Value, key: &str, value: Value) {
    if let Some(container) = pod["spec"]["containers"].get_mut(0).and_then(Value::as_object_mut) {
        let context = container.entry("securityContext").or_insert_with(|| json!({}));
        match context.as_object_mut() {
            Some(context) if value.is_null() => drop(context.remove(key)),
            Some(context) => drop(context.insert(key.to_owned(), value)),
            None => *context = json!({key: value}),
        }
    }
}

/// The limits that a namespace gives to containers which set none.
fn limits(scene: &Scene<'_>, namespace: &str) -> Map<String, Value> {
    let ranges =
        scene.objects("LimitRange", namespace).iter().map(|(_, object)| object.value["spec"]["limits"].to_json());
    let mut all = Map::new();
    for range in ranges {
        for limit in range.as_array().into_iter().flatten().filter(|limit| limit["type"] == "Container") {
            all.extend(limit["default"].as_object().cloned().unwrap_or_default());
        }
    }
    all
}

/// A workspace's pod as it reaches the policies.
fn form(scene: &Scene<'_>, workspace: &Workspace) -> Value {
    let template = &workspace.template;
    let token = match template.mounts_token(scene.account(template)) {
        true => TokenVolume::Mounted,
        false => TokenVolume::Left,
    };
    let limits = limits(scene, &template.namespace);
    let mut pod = template.pod.clone();
    let mut name = template.name.clone();
    if template.kind != "Pod" {
        // The controller names its pods after itself and owns them.
        name.push_str("-00000");
        if let Some(pod) = pod.as_object_mut() {
            let metadata = pod.entry("metadata").or_insert_with(|| json!({}));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert("ownerReferences".to_owned(), json!([owner(scene, workspace)]));
            }
        }
    }
    admitted_form(&pod, (&template.namespace, &name), token, &limits)
}

/// Who owns the pods of a workload.
fn owner(scene: &Scene<'_>, workspace: &Workspace) -> Value {
    let template = &workspace.template;
    let version = scene.snapshot.object(template.object).map_or("", |object| &*object.api_version);
    let (kind, name) = match template.kind.as_str() {
        "Deployment" => ("ReplicaSet", format!("{}-00000", template.name)),
        "CronJob" => ("Job", format!("{}-00000", template.name)),
        kind => (kind, template.name.clone()),
    };
    json!({
        "apiVersion": version, "kind": kind, "name": name, "uid": "00000000-0000-0000-0000-000000000000",
        "controller": true, "blockOwnerDeletion": true,
    })
}

fn ask(scene: &Scene<'_>, (kind, resource): (&str, &str), namespace: &str, object: &Value) -> Answer {
    let namespace_labels = scene.namespace(namespace).map(|(_, labels)| labels);
    scene.admission.asks(&Asked { object, kind, resource, namespace, namespace_labels })
}

/// What admission says to a workspace's own pod; nothing where the pod is there already.
pub(crate) fn of_pod(scene: &Scene<'_>, workspace: &Workspace) -> Answer {
    let object = scene.snapshot.object(workspace.template.object);
    let exists = object.is_some_and(|object| {
        object.value["metadata"].get("uid").is_some() || object.value["status"].text_at("phase").is_some()
    });
    if exists {
        Answer::NotAsked
    } else {
        ask(scene, ("Pod", "pods"), &workspace.template.namespace, &form(scene, workspace))
    }
}

/// A breach by a pod that admission refuses, or may refuse, is not certain. Whoever makes the pod may
/// do so, so a policy about who asks changes nothing.
pub(crate) fn weigh(cause: &mut Cause, answer: &Answer) {
    if cause.verdict != Verdict::Breached {
        return;
    }
    match answer {
        Answer::Refused(refusal) => refuse(cause, refusal),
        Answer::Unknown(why) => doubt(cause, why),
        Answer::NotAsked | Answer::Admitted { .. } | Answer::DependsOnRequester(_) => {}
    }
}

fn refuse(cause: &mut Cause, Refusal { policy, message }: &Refusal) {
    cause.verdict = Verdict::Unproven;
    cause.refused = Some(format!("{policy}: {message}"));
}

fn doubt(cause: &mut Cause, why: &str) {
    cause.verdict = Verdict::Unproven;
    cause.witness.push(format!("{why}; whether it refuses this, a dry run knows"));
}

/// Takes the certainty from a breach where an admission policy stands in for the wall, as far as the
/// pods tell that are tried: each as the workspace's own pod, with and without its labels.
pub(super) fn unless_pods_are_refused(scene: &Scene<'_>, workspace: &Workspace, mut cause: Cause) -> Cause {
    if scene.admission.is_silent() {
        return cause;
    }
    let own = form(scene, workspace);
    // A pod that is none was told as broken; there is nothing to try.
    if !own["spec"].is_object() || !own["spec"]["containers"].get(0).is_some_and(Value::is_object) {
        return cause;
    }
    let mut without_labels = own.clone();
    without_labels["metadata"].as_object_mut().map(|metadata| metadata.remove("labels"));
    let (mut refused, mut passed, mut doubtful) = (None, None, None);
    for (what, spoil) in BAD_PODS {
        for base in [&own, &without_labels] {
            let mut pod = base.clone();
            spoil(&mut pod);
            match ask(scene, ("Pod", "pods"), &workspace.template.namespace, &pod) {
                Answer::NotAsked => drop(passed.get_or_insert(*what)),
                Answer::Admitted { by } => return cause.seen([format!("{by}, lets a pod with {what} pass")]),
                Answer::Refused(refusal) => drop(refused.get_or_insert(refusal)),
                Answer::DependsOnRequester(why) | Answer::Unknown(why) => drop(doubtful.get_or_insert(why)),
            }
        }
    }
    match (passed, doubtful, refused) {
        (Some(_), None, None) | (None, None, None) => {}
        (Some(what), ..) => cause = cause.seen([format!("no admission policy is about every pod with {what}")]),
        (None, Some(why), _) => doubt(&mut cause, &why),
        (None, None, Some(Refusal { policy, message })) => {
            let tried = BAD_PODS.len();
            let message =
                format!("{message} (as each of {tried} kinds of pods that were tried; others, a dry run knows)");
            refuse(&mut cause, &Refusal { policy, message });
        }
    }
    cause
}

/// The same for a service of a workspace's namespace.
pub(super) fn unless_service_is_refused(scene: &Scene<'_>, namespace: &str, spec: Value, mut cause: Cause) -> Cause {
    match of_service(scene, namespace, spec) {
        Answer::NotAsked => {}
        Answer::Admitted { by } => cause = cause.seen([format!("{by}, lets it pass")]),
        Answer::Refused(refusal) => refuse(&mut cause, &refusal),
        Answer::DependsOnRequester(why) | Answer::Unknown(why) => doubt(&mut cause, &why),
    }
    cause
}

/// What admission says to a service that somebody in a namespace makes.
pub(super) fn of_service(scene: &Scene<'_>, namespace: &str, mut spec: Value) -> Answer {
    if scene.admission.is_silent() {
        return Answer::NotAsked;
    }
    spec["ports"] = json!([{"port": 80, "targetPort": 80, "protocol": "TCP"}]);
    spec["selector"] = json!({"app": "workspace"});
    spec["sessionAffinity"] = json!("None");
    let metadata = json!({"name": "published", "namespace": namespace});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
    ask(scene, ("Service", "services"), namespace, &service)
}
