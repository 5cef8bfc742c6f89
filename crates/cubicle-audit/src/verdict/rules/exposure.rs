//! What a namespace takes from others through services, and what it gives away of itself.

use serde_json::json;

use super::super::finding::{Cause, Severity};
use super::super::fix::Fix;
use super::super::scene::{Scene, target, title};
use super::super::tenancy::Workspace;
use super::super::wire::Borrowed;
use super::admission::of_service;
use super::tenancy;
use crate::admission::Answer;
use crate::rbac::Request;
use crate::snapshot::SourceRef;

pub(super) fn borrowed(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    tenancy::borrowed(scene, workspace, causes);
    for Borrowed { object: id, place: (line, column), what, certain, is_list } in
        scene.wire.borrowed(&workspace.template.namespace)
    {
        let Some(object) = scene.snapshot.object(id) else { continue };
        let source = match line {
            0 => object.source,
            line => SourceRef { file: object.source.file, line, column },
        };
        let cause = match certain {
            true => Cause::breach(Severity::Medium, what.clone(), what),
            false => Cause::unproven(what.clone(), what),
        };
        // A list of addresses is there for them alone; of an Ingress only a part is at fault.
        let fix = is_list.then(|| Fix::Delete { target: target(object) });
        causes.push(cause.at(title(object), Some(scene.location(source))).fixed_by(fix));
    }
}

pub(super) fn publish(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    tenancy::publish(scene, workspace, causes);
    let namespace = workspace.template.namespace.as_str();
    for (id, object) in scene.of_kind("", "Service") {
        if object.namespace.as_deref().unwrap_or("default") != namespace {
            continue;
        }
        let spec = &object.value["spec"];
        for address in spec["externalIPs"].items().iter().filter_map(|item| item.text()) {
            let sentence = format!("take the address {address} for itself: what others send there comes to it");
            let fix = scene.set_in(id, "/spec/externalIPs", json!([]));
            let location = scene.location(object.place("/spec/externalIPs"));
            let cause = Cause::breach(Severity::High, format!("external {address}"), sentence);
            causes.push(cause.at(title(object), Some(location)).fixed_by(fix));
        }
    }
    for door in scene.wire.services_of(&workspace.template) {
        let Some(object) = scene.snapshot.object(door.object) else { continue };
        let kind = object.value["spec"].text_at("type").unwrap_or_default();
        if kind == "NodePort" || kind == "LoadBalancer" {
            let sentence = format!("be reached from outside by {}, of type {kind}", title(object));
            let location = scene.location(object.place("/spec/type"));
            let fix = scene.set_in(door.object, "/spec/type", json!("ClusterIP"));
            let cause = Cause::breach(Severity::Medium, format!("published {}", door.name), sentence);
            causes.push(cause.at(title(object), Some(location)).fixed_by(fix));
        }
    }
    let identity = scene.identity(workspace);
    let request = |verb: &str| Request::resource(verb, "", "services", namespace);
    let may = ["create", "patch", "update"]
        .iter()
        .any(|verb| scene.manifests.rights.allowed(&identity, &request(verb)).is_some());
    if !may {
        return;
    }
    let answer = of_service(scene, namespace, json!({"type": "ClusterIP", "externalIPs": ["192.0.2.1"]}));
    let why = match answer {
        Answer::Refused(_) => return,
        Answer::NotAsked => None,
        Answer::Admitted { by } => Some(format!("{by}, lets it pass")),
        Answer::Unknown(why) | Answer::DependsOnRequester(why) => {
            Some(format!("{why}; whether it refuses this, a dry run knows"))
        }
    };
    let sentence = "take over any address through externalIPs of a service: no admission policy among the manifests is known to deny them, and whether the API server does (DenyServiceExternalIPs) no manifest tells";
    let location = scene.namespace(namespace).map(|(object, _)| scene.location(object.source));
    let cause = Cause::unproven("external addresses", sentence).seen(why);
    let fix = Fix::Manifests { objects: denial() };
    causes.push(cause.at(format!("Namespace {namespace}"), location).fixed_by(fix));
}

fn denial() -> Vec<serde_json::Value> {
    vec![
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "deny-external-addresses"},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["services"]},
                ]},
                "validations": [{
                    "expression": "!has(object.spec.externalIPs) || object.spec.externalIPs.size() == 0",
                    "message": "external addresses of services are not allowed (CVE-2020-8554)",
                }],
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "deny-external-addresses"},
            "spec": {"policyName": "deny-external-addresses", "validationActions": ["Deny"]},
        }),
    ]
}
