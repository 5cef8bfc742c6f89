//! What stands around a running workspace, against what stood there when its walls were proven.
//!
//! Digests of the objects as they are, not of what would be made now: an upgrade of Cubicle or an
//! edited template is no drift.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, Namespace, Pod, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Context;
use crate::names::{DOORS, TENANT_OBJECT};

/// Digests of everything that is part of this workspace's walls, by kind and name.
pub(super) async fn digests(context: &Context, pod: &Pod) -> Result<BTreeMap<String, String>, kube::Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let client = &context.client;
    let everything = ListParams::default();
    let policies = Api::<NetworkPolicy>::namespaced(client.clone(), &namespace);
    let quotas = Api::<ResourceQuota>::namespaced(client.clone(), &namespace);
    let limits = Api::<LimitRange>::namespaced(client.clone(), &namespace);
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
    let namespaces = Api::<Namespace>::all(client.clone());
    let own = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or(TENANT_OBJECT);
    let (policies, quotas, limits, account, namespace) = tokio::try_join!(
        policies.list(&everything),
        quotas.list(&everything),
        limits.list(&everything),
        accounts.get_opt(own),
        namespaces.get_opt(&namespace),
    )?;
    let mut found = BTreeMap::new();
    found.insert(key(pod), digest(&pod_value(pod, &context.settings.allowed_annotations)));
    for policy in policies.items.iter().filter(|policy| !is_of_others(policy, pod)) {
        found.insert(key(policy), digest(&json!(policy.spec)));
    }
    for quota in &quotas.items {
        found.insert(key(quota), digest(&json!(quota.spec)));
    }
    for limit in &limits.items {
        found.insert(key(limit), digest(&json!(limit.spec)));
    }
    if let Some(account) = &account {
        found.insert(key(account), digest(&json!([account.automount_service_account_token, account.secrets])));
    }
    if let Some(namespace) = &namespace {
        found.insert(key(namespace), digest(&json!(namespace.labels())));
    }
    Ok(found)
}

/// What differs, in sentences.
pub(super) fn differences(proven: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let gone = proven.keys().filter(|name| !now.contains_key(*name)).map(|name| format!("{name} is gone"));
    let other = now.iter().filter_map(|(name, digest)| match proven.get(name) {
        None => Some(format!("{name} is new")),
        Some(known) if known != digest => Some(format!("{name} is not what it was when the walls were proven")),
        Some(_) => None,
    });
    gone.chain(other).collect()
}

/// The doors of others in the same namespace: they select pods alone that have these, and this one has not.
fn is_of_others(policy: &NetworkPolicy, pod: &Pod) -> bool {
    let Some(selector) = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref()) else { return false };
    let labels = selector.match_labels.as_ref();
    selector.match_expressions.iter().flatten().next().is_none()
        && labels.is_some_and(|labels| {
            labels.len() == 1
                && labels.get(DOORS).is_some_and(|other| pod.labels().get(DOORS).is_some_and(|own| own != other))
        })
}

/// All of a pod but what the cluster itself writes there.
fn pod_value(pod: &Pod, allowed_annotations: &[String]) -> Value {
    let metadata = &pod.metadata;
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !allowed_annotations.contains(name));
    json!([metadata.labels, annotations, metadata.owner_references, metadata.uid, pod.spec])
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}", K::kind(&()), object.name_any())
}

fn digest(value: &impl Serialize) -> String {
    // Maps of serde_json are sorted, so that the text is one.
    let text = serde_json::to_string(value).unwrap_or_default();
    Sha256::digest(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, selector: Value) -> NetworkPolicy {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"podSelector": selector, "policyTypes": ["Ingress"]},
        }))
        .expect("a policy")
    }

    #[test]
    fn only_the_doors_of_others_do_not_count() {
        let pod =
            |labels: Value| serde_json::from_value::<Pod>(json!({"metadata": {"labels": labels}})).expect("a pod");
        let mine = pod(json!({DOORS: "doors-mine"}));
        let doors = |of: &str| json!({"matchLabels": {DOORS: of}});
        assert!(is_of_others(&policy("doors-other", doors("doors-other")), &mine));
        assert!(!is_of_others(&policy("doors-mine", doors("doors-mine")), &mine));
        assert!(!is_of_others(&policy("doors-other", doors("doors-mine")), &mine));
        assert!(!is_of_others(&policy("allow-all", json!({})), &mine));
        let wider = json!({"matchLabels": {DOORS: "doors-other"}, "matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]});
        assert!(!is_of_others(&policy("doors-other", wider), &mine));
        // Of a pod that does not say which doors it has, all count.
        assert!(!is_of_others(&policy("doors-other", doors("doors-other")), &pod(json!({}))));
    }

    #[test]
    fn what_came_what_went_and_what_changed_is_named() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let proven = map(&[("NetworkPolicy default-deny", "1"), ("Pod w", "2")]);
        assert!(differences(&proven, &proven).is_empty());
        let now = map(&[("NetworkPolicy allow-all", "3"), ("Pod w", "4")]);
        let found = differences(&proven, &now).join("; ");
        for part in ["default-deny is gone", "allow-all is new", "Pod w is not what it was"] {
            assert!(found.contains(part), "{found}");
        }
    }
}
