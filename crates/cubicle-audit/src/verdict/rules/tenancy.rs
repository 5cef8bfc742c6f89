//! Namespaces, quotas and limits around a workspace.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::finding::{Cause, Severity};
use super::super::fix::Fix;
use super::super::scene::{Scene, title};
use super::super::tenancy::Workspace;
use super::admission::{unless_pods_are_refused, unless_service_is_refused};
use crate::pod_security::{Level, Pod, Role};
use crate::rbac::Selector;
use crate::rbac::manifests::ENFORCE;
use crate::snapshot::{Object, ObjectId};

pub(super) fn own_namespace(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let namespace = &workspace.template.namespace;
    if let Some(other) = scene.sharing.with_namespace(workspace) {
        let sentence = format!("share namespace {namespace}, its quotas, accounts and secrets with other tenants");
        let location = scene.namespace(namespace).map(|(object, _)| scene.location(object.source));
        let cause = Cause::breach(Severity::Medium, "shared", sentence)
            .at(format!("Namespace {namespace}"), location)
            .seen([format!("{} and {}", workspace.title(), other.title())]);
        causes.push(cause);
    }
}

/// Whether any quota of a namespace limits one of these.
fn has_quota(scene: &Scene<'_>, namespace: &str, keys: &[&str]) -> bool {
    scene.objects("ResourceQuota", namespace).iter().any(|(_, object)| {
        // A quota with a scope counts some pods only.
        let scoped =
            object.value["spec"].get("scopes").is_some() || object.value["spec"].get("scopeSelector").is_some();
        !scoped && keys.iter().any(|key| object.value["spec"]["hard"].get(key).is_some())
    })
}

/// The quota that a namespace would need beside those it has.
fn quota_fix(scene: &Scene<'_>, namespace: &str, missing: &[(&str, &str)]) -> Option<Fix> {
    let hard: serde_json::Map<String, Value> =
        missing.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let objects = scene.objects("ResourceQuota", namespace);
    let whole = objects.iter().find(|(_, object)| {
        object.value["spec"].get("scopes").is_none() && object.value["spec"].get("scopeSelector").is_none()
    });
    if let Some((id, object)) = whole {
        let mut merged = object.value["spec"]["hard"].to_json().as_object().cloned().unwrap_or_default();
        merged.extend(hard);
        return scene.set_in(*id, "/spec/hard", Value::Object(merged));
    }
    Some(Fix::Manifests {
        objects: vec![json!({
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "tenant", "namespace": namespace},
            "spec": {"hard": hard},
        })],
    })
}

fn quotas(
    scene: &Scene<'_>,
    workspace: &Workspace,
    wanted: &[(&[&str], &str, &str)],
    causes: &mut Vec<Cause>,
    verb: &str,
) {
    let namespace = &workspace.template.namespace;
    let missing: Vec<_> = wanted.iter().filter(|(keys, ..)| !has_quota(scene, namespace, keys)).collect();
    if missing.is_empty() {
        return;
    }
    let named: Vec<&str> = missing.iter().map(|(_, name, _)| *name).collect();
    let values: Vec<(&str, &str)> =
        missing.iter().filter_map(|(keys, _, value)| Some((*keys.first()?, *value))).collect();
    let quota = scene.objects("ResourceQuota", namespace).first();
    let (object, location) = match quota {
        Some((_, object)) => (title(object), Some(scene.location(object.source))),
        None => (
            format!("Namespace {namespace}"),
            scene.namespace(namespace).map(|(object, _)| scene.location(object.source)),
        ),
    };
    let sentence = format!("{verb} {} than its share: namespace {namespace} has no quota of it", named.join(", "));
    let cause = Cause::breach(Severity::Medium, named.join(","), sentence);
    causes.push(cause.at(object, location).fixed_by(quota_fix(scene, namespace, &values)));
}

pub(super) fn quota(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let wanted: &[(&[&str], &str, &str)] = &[
        (&["limits.cpu"], "more processor", "8"),
        (&["limits.memory"], "more memory", "32Gi"),
        (&["pods", "count/pods"], "more pods", "10"),
        (&["requests.storage"], "more storage", "100Gi"),
    ];
    quotas(scene, workspace, wanted, causes, "take");
}

pub(super) fn object_quota(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    // Only who may create objects can flood: an account without rights needs no counts.
    let identity = scene.identity(workspace);
    let creates = scene
        .manifests
        .rights
        .grants(&identity)
        .iter()
        .any(|grant| grant.rule.verbs.iter().any(|verb| verb == "*" || verb == "create"));
    if !creates {
        return;
    }
    let wanted: &[(&[&str], &str, &str)] = &[
        (&["count/secrets", "secrets"], "more secrets", "50"),
        (&["count/configmaps", "configmaps"], "more config maps", "50"),
        (&["count/services", "services"], "more services", "10"),
        (&["persistentvolumeclaims", "count/persistentvolumeclaims"], "more claims", "10"),
        (&["count/jobs.batch"], "more jobs", "50"),
    ];
    quotas(scene, workspace, wanted, causes, "make");
}

pub(super) fn publish(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let identity = scene.identity(workspace);
    let request = |verb: &str| crate::rbac::Request::resource(verb, "", "services", &workspace.template.namespace);
    let may =
        ["create", "patch", "update"].iter().find_map(|verb| scene.manifests.rights.allowed(&identity, &request(verb)));
    let namespace = &workspace.template.namespace;
    if may.is_none() {
        return;
    }
    for (key, what, kind) in
        [("services.nodeports", "node ports", "NodePort"), ("services.loadbalancers", "load balancers", "LoadBalancer")]
    {
        let none = scene.objects("ResourceQuota", namespace).iter().any(|(_, object)| {
            let hard = object.value["spec"]["hard"].to_json();
            hard[key] == "0" || hard[key] == 0
        });
        if !none {
            let cause =
                Cause::breach(Severity::Medium, key, format!("publish itself by {what}, which no quota sets to 0"));
            let location = scene.namespace(namespace).map(|(object, _)| scene.location(object.source));
            let fix = quota_fix(scene, namespace, &[(key, "0")]);
            let cause = cause.at(format!("Namespace {namespace}"), location).fixed_by(fix);
            causes.push(unless_service_is_refused(scene, namespace, json!({"type": kind}), cause));
        }
    }
}

/// Whether a namespace's limit range gives containers a default limit.
fn has_default(scene: &Scene<'_>, namespace: &str, resource: &str) -> bool {
    scene.objects("LimitRange", namespace).iter().any(|(_, object)| {
        object.value["spec"]["limits"].items().iter().any(|limit| {
            limit.text_at("type") == Some("Container")
                && (limit["default"].get(resource).is_some() || limit["max"].get(resource).is_some())
        })
    })
}

/// Containers that set no limit of a resource, with the pointer where it belongs.
fn unlimited(scene: &Scene<'_>, workspace: &Workspace, resource: &str) -> Vec<(String, String)> {
    let template = &workspace.template;
    let by_pod = !template.pod["spec"]["resources"]["limits"][resource].is_null();
    if by_pod || has_default(scene, &template.namespace, resource) {
        return Vec::new();
    }
    let Ok(pod) = Pod::new(&template.pod) else { return Vec::new() };
    pod.containers()
        .filter(|container| container.role != Role::Ephemeral)
        .filter(|container| container.value["resources"]["limits"][resource].is_null())
        .map(|container| (container.name(), format!("{}/resources/limits/{resource}", container.pointer())))
        .collect()
}

fn limit(
    scene: &Scene<'_>,
    workspace: &Workspace,
    causes: &mut Vec<Cause>,
    (resource, default, sentence): (&str, &str, &str),
) {
    for (name, pointer) in unlimited(scene, workspace, resource) {
        let cause =
            Cause::breach(Severity::Medium, format!("{name}:{resource}"), format!("{sentence} in container {name}"))
                .fixed_by(scene.set_in_pod(workspace, &pointer, json!(default)));
        causes.push(scene.in_pod(workspace, &pointer, cause));
    }
}

pub(super) fn processor(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    limit(scene, workspace, causes, ("cpu", "1", "use every processor of its node"));
}

pub(super) fn memory(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    limit(scene, workspace, causes, ("memory", "2Gi", "use all memory of its node"));
}

pub(super) fn temporary_files(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    limit(scene, workspace, causes, ("ephemeral-storage", "2Gi", "fill its node's disk"));
}

pub(super) fn limits(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let namespace = &workspace.template.namespace;
    let missing: Vec<&str> = ["cpu", "memory", "ephemeral-storage"]
        .into_iter()
        .filter(|resource| !unlimited(scene, workspace, resource).is_empty())
        .collect();
    if missing.is_empty() {
        return;
    }
    let sentence =
        format!("run a container without a limit of {}: namespace {namespace} gives none", missing.join(", "));
    let values = [("cpu", "1"), ("memory", "2Gi"), ("ephemeral-storage", "2Gi")];
    let default: serde_json::Map<String, Value> = values
        .iter()
        .filter(|(key, _)| missing.contains(key))
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let fix = Fix::Manifests {
        objects: vec![json!({
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "tenant", "namespace": namespace},
            "spec": {"limits": [{"type": "Container", "default": default}]},
        })],
    };
    let location = scene.namespace(namespace).map(|(object, _)| scene.location(object.source));
    let cause = Cause::breach(Severity::Medium, missing.join(","), sentence).fixed_by(fix);
    causes.push(cause.at(format!("Namespace {namespace}"), location));
}

pub(super) fn shared_memory(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let volumes = workspace.template.pod["spec"]["volumes"].as_array().into_iter().flatten();
    for (index, volume) in volumes.enumerate() {
        if volume["emptyDir"]["medium"] == "Memory" && volume["emptyDir"]["sizeLimit"].is_null() {
            let name = volume["name"].as_str().unwrap_or_default();
            let pointer = format!("/spec/volumes/{index}/emptyDir/sizeLimit");
            let cause =
                Cause::breach(Severity::Low, name, format!("fill memory through volume {name}, which has no size"))
                    .fixed_by(scene.set_in_pod(workspace, &pointer, json!("64Mi")));
            causes.push(scene.in_pod(workspace, &pointer, cause));
        }
    }
}

pub(super) fn preempt(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let class = workspace.template.pod["spec"]["priorityClassName"].as_str().unwrap_or_default();
    let value = match class {
        "" => return,
        "system-cluster-critical" | "system-node-critical" => i64::MAX,
        _ => scene
            .of_kind("scheduling.k8s.io", "PriorityClass")
            .find(|(_, object)| *object.name == *class)
            .filter(|(_, object)| object.value.text_at("preemptionPolicy") != Some("Never"))
            .and_then(|(_, object)| object.value.get("value")?.integer())
            .unwrap_or(0),
    };
    if value > 0 {
        let pointer = "/spec/priorityClassName";
        let cause = Cause::breach(
            Severity::Medium,
            class,
            format!("push other tenants' pods off a node: its priority class is {class}"),
        );
        causes.push(scene.in_pod(workspace, pointer, cause));
    }
}

pub(super) fn pod_security(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let name = &workspace.template.namespace;
    let known = scene.namespace(name);
    let set = known.map(|(_, labels)| labels);
    let level = set.and_then(|labels| labels.get(ENFORCE)).map(String::as_str);
    let version = set.and_then(|labels| labels.get(&format!("{ENFORCE}-version"))).map(String::as_str);
    let wanted = Level::Restricted;
    let label = |key: &str| key.replace('~', "~0").replace('/', "~1");
    let location =
        known.map(|(object, _)| scene.location(object.place(&format!("/metadata/labels/{}", label(ENFORCE)))));
    let add = |changes: Vec<(String, &str)>| -> Option<Fix> {
        let found = scene.of_kind("", "Namespace").find(|(_, object)| *object.name == **name);
        match found {
            Some((id, object)) => {
                let mut merged = object.value["metadata"]["labels"].to_json().as_object().cloned().unwrap_or_default();
                merged.extend(changes.into_iter().map(|(key, value)| (key, json!(value))));
                scene.set_in(id, "/metadata/labels", Value::Object(merged))
            }
            None => {
                let set: serde_json::Map<String, Value> =
                    changes.into_iter().map(|(key, value)| (key, json!(value))).collect();
                let object =
                    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": set}});
                Some(Fix::Manifests { objects: vec![object] })
            }
        }
    };
    let newest = format!("v1.{}", crate::pod_security::NEWEST);
    if level.and_then(|level| level.parse::<Level>().ok()) != Some(wanted) {
        let now = level.map_or_else(|| "nothing".to_owned(), |level| format!("only {level}"));
        let sentence = format!("be launched below Pod Security restricted: namespace {name} enforces {now}");
        let changes = vec![(ENFORCE.to_owned(), "restricted"), (format!("{ENFORCE}-version"), newest.as_str())];
        let cause = Cause::breach(Severity::Medium, "level", sentence).fixed_by(add(changes));
        let cause = cause.at(format!("Namespace {name}"), location);
        causes.push(unless_pods_are_refused(scene, workspace, cause));
    } else if version.is_none_or(|version| version == "latest") {
        let sentence = format!("be judged by another standard after an upgrade: namespace {name} pins no version");
        let cause = Cause::breach(Severity::Low, "version", sentence)
            .fixed_by(add(vec![(format!("{ENFORCE}-version"), newest.as_str())]));
        causes.push(cause.at(format!("Namespace {name}"), location));
    }
}

/// A policy's own selector and the directions it isolates.
fn isolates(object: &Object) -> (Option<Selector>, BTreeSet<&'static str>) {
    let spec = object.value["spec"].to_json();
    let selector = match &spec["podSelector"] {
        Value::Null => Some(Selector::default()),
        selector => serde_json::from_value(selector.clone()).ok(),
    };
    let mut types = BTreeSet::new();
    match spec["policyTypes"].as_array() {
        Some(list) if !list.is_empty() => {
            for (name, word) in [("Ingress", "in"), ("Egress", "out")] {
                if list.iter().any(|one| one == name) {
                    types.insert(word);
                }
            }
        }
        _ => {
            types.insert("in");
            if spec["egress"].as_array().is_some_and(|rules| !rules.is_empty()) {
                types.insert("out");
            }
        }
    }
    (selector, types)
}

/// The manifest that denies everything in a namespace.
pub(super) fn deny_all(namespace: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    })
}

/// Policies of other namespaces whose selector fits a workspace: they were meant for it, and do
/// nothing there.
pub(super) fn misplaced<'a>(scene: &Scene<'a>, workspace: &Workspace) -> Vec<(ObjectId, &'a Object)> {
    let template = &workspace.template;
    scene
        .strays
        .iter()
        .filter(|(_, object, selector)| {
            object.namespace.as_deref() != Some(template.namespace.as_str()) && selector.matches(&template.labels)
        })
        .map(|(id, object, _)| (*id, *object))
        .collect()
}

pub(super) fn default_deny(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let namespace = &workspace.template.namespace;
    let mut isolated = BTreeSet::new();
    for (_, object) in scene.objects("NetworkPolicy", namespace) {
        let (selector, types) = isolates(object);
        if selector.is_some_and(|selector| selector.match_labels.is_empty() && selector.match_expressions.is_empty()) {
            isolated.extend(types);
        }
    }
    let missing: Vec<&str> = ["in", "out"].into_iter().filter(|word| !isolated.contains(word)).collect();
    if missing.is_empty() {
        return;
    }
    let directions = match missing.as_slice() {
        ["in"] => "be reached by everything",
        ["out"] => "reach everything",
        _ => "reach, and be reached by, everything",
    };
    let sentence = format!(
        "{directions} from any pod of namespace {namespace} that no other policy selects: no policy there denies by default"
    );
    let (object, location) = match misplaced(scene, workspace).first() {
        Some((_, object)) => (title(object), Some(scene.location(object.source))),
        None => (
            format!("Namespace {namespace}"),
            scene.namespace(namespace).map(|(object, _)| scene.location(object.source)),
        ),
    };
    let witness = misplaced(scene, workspace).into_iter().map(|(_, object)| {
        let own = object.namespace.as_deref().unwrap_or_default();
        format!(
            "{} selects labels of this workspace, but stands in namespace {own}, where it selects nothing",
            title(object)
        )
    });
    let cause = Cause::breach(Severity::High, missing.join(","), sentence)
        .seen(witness.collect::<Vec<_>>())
        .fixed_by(Fix::Manifests { objects: vec![deny_all(namespace)] });
    causes.push(cause.at(object, location));
}

pub(super) fn borrowed(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let namespace = &workspace.template.namespace;
    let mut add = |object: &Object, pointer: &str, what: String| {
        let location = scene.location(object.place(pointer));
        let cause = Cause::breach(Severity::Medium, what.clone(), what);
        causes.push(cause.at(title(object), Some(location)));
    };
    for (_, object) in scene.of_kind("rbac.authorization.k8s.io", "RoleBinding") {
        let own = object.namespace.as_deref().unwrap_or_default();
        for (index, subject) in object.value["subjects"].items().iter().enumerate() {
            let other = subject.text_at("namespace").unwrap_or(own);
            if subject.text_at("kind") == Some("ServiceAccount") && other == namespace && own != namespace {
                let name = subject.text_at("name").unwrap_or_default();
                let what = format!("use rights in namespace {own} that its account {namespace}/{name} was given there");
                add(object, &format!("/subjects/{index}"), what);
            }
        }
    }
    for (_, object) in scene.of_kind("", "Service") {
        let external = object.value["spec"].text_at("externalName").unwrap_or_default();
        let inside = external.trim_end_matches('.').ends_with(".svc.cluster.local") || external.ends_with(".svc");
        let own = object.namespace.as_deref().unwrap_or_default();
        let other = external.split('.').nth(1).unwrap_or_default();
        if own == namespace && inside && other != namespace {
            let what = format!("stand behind a name of its own for {external}, a service of another namespace");
            add(object, "/spec/externalName", what);
        }
    }
    for (_, object) in scene.of_kind("gateway.networking.k8s.io", "ReferenceGrant") {
        let own = object.namespace.as_deref().unwrap_or_default();
        for (index, from) in object.value["spec"]["from"].items().iter().enumerate() {
            if from.text_at("namespace") == Some(namespace) && own != namespace && !scene.sharing.is_tenants(own) {
                let what = format!("route to objects of namespace {own}, which grants it");
                add(object, &format!("/spec/from/{index}"), what);
            }
        }
    }
    for (_, object) in scene.of_kind("", "PersistentVolumeClaim") {
        let other = object.value["spec"]["dataSourceRef"].text_at("namespace").unwrap_or(namespace);
        if object.namespace.as_deref() == Some(namespace) && other != namespace {
            let what = format!("fill a volume from data of namespace {other}");
            add(object, "/spec/dataSourceRef/namespace", what);
        }
    }
}
