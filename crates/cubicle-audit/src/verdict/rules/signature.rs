//! Who verifies the signatures of images at admission: Sigstore's policy-controller and Kyverno.
//!
//! Whether a signature is good is seen by whoever has the image: manifests only tell whether
//! anybody looks. So a policy that looks never makes the verdict held, and a cluster with policies
//! that do not look at a workspace's namespace has a breach. Sources: docs.sigstore.dev,
//! policy-controller, "Overview"; kyverno.io, `ClusterPolicy` and `ImageValidatingPolicy`.

use std::collections::BTreeMap;

use super::super::finding::{Cause, Severity};
use super::super::scene::{Scene, title};
use super::super::tenancy::Workspace;
use crate::rbac::Selector;
use crate::snapshot::{Node, Object, Snapshot, verifies_signatures};

const SIGSTORE: &str = "policy.sigstore.dev";
const KYVERNO: &str = "kyverno.io";
const KYVERNO_POLICIES: &str = "policies.kyverno.io";

/// Whether any policy of a snapshot is about signatures, or may be: then somebody meant them to be
/// verified.
pub(crate) fn is_meant(snapshot: &Snapshot) -> bool {
    snapshot.unread.iter().any(|unread| verifies_signatures(&unread.group, &unread.kind))
        || snapshot.objects.iter().any(|object| what(object).is_some())
}

/// What a policy does about an image without a signature.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Refuse,
    /// It is told, warned of or let through.
    Tell,
}

/// What an object does, if it is about signatures.
fn what(object: &Object) -> Option<Does> {
    let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
    let spec = &object.value["spec"];
    let refuses = |does: bool| Some(if does { Does::Refuse } else { Does::Tell });
    match (group, &*object.kind) {
        (SIGSTORE, "ClusterImagePolicy") => {
            let passes = |one: &Node| one["static"].text_at("action") == Some("pass");
            let authorities = spec["authorities"].items();
            refuses(spec.text_at("mode") != Some("warn") && !authorities.is_empty() && !authorities.iter().any(passes))
        }
        (KYVERNO, "ClusterPolicy" | "Policy") => {
            let checks: Vec<&Node> =
                spec["rules"].items().iter().flat_map(|rule| rule["verifyImages"].items()).collect();
            let enforces = |text: Option<&str>| text.is_some_and(|text| text.eq_ignore_ascii_case("enforce"));
            // Each check's own word counts before that of its policy.
            let refuse = |check: &&Node| match check.text_at("failureAction") {
                None => enforces(spec.text_at("validationFailureAction")),
                own => enforces(own),
            };
            if checks.is_empty() { None } else { refuses(checks.iter().any(refuse)) }
        }
        (KYVERNO_POLICIES, "ImageValidatingPolicy" | "NamespacedImageValidatingPolicy") => {
            let actions = spec["validationActions"].items();
            refuses(actions.iter().any(|action| action.text() == Some("Deny")))
        }
        _ => None,
    }
}

/// Whether a policy looks at a namespace at all.
fn looks_at(scene: &Scene<'_>, object: &Object, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    if object.api_version.starts_with(SIGSTORE) {
        return sigstore_looks_at(scene, labels);
    }
    // What a cluster-wide policy matches may be any expression.
    object.namespace.as_deref().is_none_or(|own| own == namespace)
}

/// The controller's webhook says in which namespaces it looks; without a word, those that ask for it.
fn sigstore_looks_at(scene: &Scene<'_>, labels: &BTreeMap<String, String>) -> bool {
    let webhooks = scene.of_kind("admissionregistration.k8s.io", "ValidatingWebhookConfiguration");
    let own: Vec<&Node> = webhooks
        .flat_map(|(_, object)| object.value["webhooks"].items())
        .filter(|webhook| webhook.text_at("name").is_some_and(|name| name.ends_with(SIGSTORE)))
        .collect();
    if own.is_empty() {
        return labels.get("policy.sigstore.dev/include").is_some_and(|value| value == "true");
    }
    own.iter().any(|webhook| match webhook.get("namespaceSelector") {
        None => true,
        Some(node) => serde_json::from_value::<Selector>(node.to_json()).is_ok_and(|one| one.matches(labels)),
    })
}

pub(super) fn verified(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let namespace = &workspace.template.namespace;
    let known = scene.namespace(namespace);
    let mut labels = known.map(|(_, labels)| labels.clone()).unwrap_or_default();
    labels.insert("kubernetes.io/metadata.name".to_owned(), namespace.clone());
    let policies: Vec<(&Object, Does, bool)> = scene
        .snapshot
        .objects
        .iter()
        .filter_map(|object| Some((object, what(object)?, looks_at(scene, object, namespace, &labels))))
        .collect();
    let location = known.map(|(object, _)| scene.location(object.source));
    let place = format!("Namespace {namespace}");
    if let Some((policy, ..)) = policies.iter().find(|(_, does, looks)| *does == Does::Refuse && *looks) {
        let sentence = format!("run an image that nobody has signed, unless {} refuses it", title(policy));
        let told = "whether it looks at this image, and whom it trusts, a dry run knows".to_owned();
        causes.push(Cause::unproven("verified", sentence).at(place, location).seen([told]));
        return;
    }
    let sentence = format!("run an image that nobody has signed: nothing refuses one in namespace {namespace}");
    let told = policies.iter().map(|(policy, _, looks)| {
        let why = if *looks { "lets such images through" } else { "does not look at this namespace" };
        format!("{} {why}", title(policy))
    });
    let cause = Cause::breach(Severity::Medium, "signature", sentence).at(place, location).seen(told.take(5));
    causes.push(cause);
}

#[cfg(test)]
mod tests {
    use cubicle_core::report::Verdict;
    use serde_json::{Value, json};

    use crate::snapshot::Snapshot;
    use crate::verdict::{Options, audit};

    fn judged(labels: Value, policies: &[Value]) -> Verdict {
        let mut objects = vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": labels}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}),
        ];
        objects.extend(policies.iter().cloned());
        let report = audit(&mut Snapshot::from_json("x", &objects), &Options::default());
        report.guarantees.iter().find(|one| one.alias == "IM-03").expect("it is there").verdict
    }

    fn sigstore(spec: Value) -> Value {
        json!({"apiVersion": "policy.sigstore.dev/v1beta1", "kind": "ClusterImagePolicy", "metadata": {"name": "s"}, "spec": spec})
    }

    fn kyverno(name: &str, namespace: Option<&str>, spec: Value) -> Value {
        let kind = if namespace.is_some() { "Policy" } else { "ClusterPolicy" };
        json!({"apiVersion": "kyverno.io/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec})
    }

    #[test]
    fn where_no_policy_is_about_signatures_nobody_claims_them() {
        assert_eq!(judged(json!({}), &[]), Verdict::NotClaimed);
        let other = kyverno("k", None, json!({"rules": [{"name": "r", "validate": {"pattern": {}}}]}));
        assert_eq!(judged(json!({}), &[other]), Verdict::NotClaimed);
    }

    #[test]
    fn a_policy_that_may_look_is_never_held_and_one_that_does_not_look_is_a_breach() {
        let keyed = json!({"images": [{"glob": "**"}], "authorities": [{"key": {"data": "k"}}]});
        let asks = json!({"policy.sigstore.dev/include": "true"});
        assert_eq!(judged(asks.clone(), &[sigstore(keyed.clone())]), Verdict::Unproven);
        assert_eq!(judged(json!({}), &[sigstore(keyed.clone())]), Verdict::Breached);
        let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "policy.sigstore.dev"}, "webhooks": [{"name": "policy.sigstore.dev", "namespaceSelector":
            {"matchExpressions": [{"key": "policy.sigstore.dev/exclude", "operator": "DoesNotExist"}]}}]});
        assert_eq!(judged(json!({}), &[sigstore(keyed.clone()), webhook]), Verdict::Unproven);
        let mut warns = keyed.clone();
        warns["mode"] = json!("warn");
        assert_eq!(judged(asks.clone(), &[sigstore(warns)]), Verdict::Breached);
        let passes = json!({"images": [{"glob": "**"}], "authorities": [{"static": {"action": "pass"}}]});
        assert_eq!(judged(asks, &[sigstore(passes)]), Verdict::Breached);
    }

    #[test]
    fn kyverno_is_read_by_what_it_does_on_failure() {
        let rule = |action: &str| json!([{"name": "r", "verifyImages": [{"imageReferences": ["*"], "failureAction": action}]}]);
        assert_eq!(judged(json!({}), &[kyverno("k", None, json!({"rules": rule("Enforce")}))]), Verdict::Unproven);
        assert_eq!(judged(json!({}), &[kyverno("k", None, json!({"rules": rule("Audit")}))]), Verdict::Breached);
        assert_eq!(judged(json!({}), &[kyverno("k", Some("m"), json!({"rules": rule("Enforce")}))]), Verdict::Breached);
        let old =
            json!({"validationFailureAction": "enforce", "rules": [{"name": "r", "verifyImages": [{"image": "*"}]}]});
        assert_eq!(judged(json!({}), &[kyverno("k", None, old)]), Verdict::Unproven);
        let image = |action: &str| {
            json!({"apiVersion": "policies.kyverno.io/v1alpha1", "kind": "ImageValidatingPolicy",
            "metadata": {"name": "i"}, "spec": {"validationActions": [action]}})
        };
        assert_eq!(judged(json!({}), &[image("Deny")]), Verdict::Unproven);
        assert_eq!(judged(json!({}), &[image("Audit")]), Verdict::Breached);
    }
}
