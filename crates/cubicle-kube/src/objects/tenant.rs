//! The tenant's namespace and what limits it, the home, and the account that can do nothing.

use cubicle_core::level::Kernel;
use cubicle_core::problem::Problem;
use cubicle_core::quantity::{Bytes, MilliCpu};
use k8s_openapi::api::core::v1::{LimitRange, Namespace, PersistentVolumeClaim, ResourceQuota, ServiceAccount};
use serde_json::{Value, json};

use super::pod::{TWIN_CPU, TWIN_MEMORY};
use super::{Request, typed};
use crate::names::{MANAGED_BY, OWNER, TENANT, TENANT_OBJECT, UNCLAIMED};

/// Objects of the namespace itself that nobody asked for: `kube-root-ca.crt`.
const CONFIG_MAPS: u32 = 1;

pub(super) fn labels(request: &Request<'_>) -> Value {
    json!({MANAGED_BY.0: MANAGED_BY.1, TENANT: request.namespace()})
}

pub(super) fn namespace(request: &Request<'_>) -> Result<Namespace, Problem> {
    let version = &request.settings.pod_security_version;
    let mut labels = labels(request);
    for mode in ["enforce", "audit", "warn"] {
        labels[format!("pod-security.kubernetes.io/{mode}")] = json!("restricted");
        labels[format!("pod-security.kubernetes.io/{mode}-version")] = json!(version);
    }
    let mut metadata = json!({"name": request.namespace(), "labels": labels});
    if request.member {
        // No label: what the network knows a pod by must not change when somebody claims it.
        metadata["annotations"] = json!({UNCLAIMED: "true"});
    }
    typed(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
}

pub(super) fn quota(request: &Request<'_>) -> Result<ResourceQuota, Problem> {
    let quota = &request.settings.quota;
    let share = quota.cpu.0.div_ceil(u64::from(request.settings.cpu_overcommit));
    // Room for the twins in which later proofs are made.
    let twins = u64::from(quota.pods);
    let memory = Bytes(quota.memory.0 + twins * TWIN_MEMORY.0).to_string();
    let mut hard = json!({
        "pods": (2 * twins).to_string(),
        "requests.cpu": MilliCpu(share + twins * TWIN_CPU.0).to_string(),
        "limits.cpu": MilliCpu(quota.cpu.0 + twins * TWIN_CPU.0).to_string(),
        "requests.memory": memory,
        "limits.memory": memory,
        "requests.ephemeral-storage": quota.ephemeral_storage.to_string(),
        "limits.ephemeral-storage": quota.ephemeral_storage.to_string(),
        "persistentvolumeclaims": quota.volumes.to_string(),
        "requests.storage": quota.storage.to_string(),
        "services": "0",
        "services.nodeports": "0",
        "services.loadbalancers": "0",
        "secrets": "0",
        "configmaps": CONFIG_MAPS.to_string(),
        "replicationcontrollers": "0",
        "resourcequotas": "1",
    });
    // Nobody but the controller makes anything here; a flood would be somebody else's.
    for kind in [
        "deployments.apps",
        "replicasets.apps",
        "statefulsets.apps",
        "daemonsets.apps",
        "jobs.batch",
        "cronjobs.batch",
        "ingresses.networking.k8s.io",
        "endpointslices.discovery.k8s.io",
    ] {
        hard[format!("count/{kind}")] = json!("0");
    }
    typed(json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": TENANT_OBJECT, "namespace": request.namespace(), "labels": labels(request)},
        "spec": {"hard": hard},
    }))
}

pub(super) fn limits(request: &Request<'_>) -> Result<LimitRange, Problem> {
    let quota = &request.settings.quota;
    let most = json!({
        "cpu": quota.cpu.to_string(),
        "memory": quota.memory.to_string(),
        "ephemeral-storage": quota.ephemeral_storage.to_string(),
    });
    // The workspace's own pod says everything itself. The defaults are for whatever else comes
    // in: it gets next to nothing.
    let little = json!({"cpu": "50m", "memory": "64Mi", "ephemeral-storage": "16Mi"});
    typed(json!({
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": TENANT_OBJECT, "namespace": request.namespace(), "labels": labels(request)},
        "spec": {"limits": [
            {"type": "Container", "max": most, "default": little, "defaultRequest": little},
            {"type": "PersistentVolumeClaim", "max": {"storage": quota.storage.to_string()}},
        ]},
    }))
}

pub(super) fn home(request: &Request<'_>) -> Result<PersistentVolumeClaim, Problem> {
    let mut labels = labels(request);
    labels[OWNER] = json!(request.identity.owner.id.as_str());
    typed(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": request.location.home(),
            "namespace": request.namespace(),
            "labels": labels,
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": request.settings.storage_class,
            "resources": {"requests": {"storage": request.template.spec.home.size.to_string()}},
        },
    }))
}

pub(super) fn account(request: &Request<'_>) -> Result<ServiceAccount, Problem> {
    typed(json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": TENANT_OBJECT, "namespace": request.namespace(), "labels": labels(request)},
        "automountServiceAccountToken": false,
    }))
}

/// Whether the level promises a user namespace.
pub(super) fn needs_user_namespace(request: &Request<'_>) -> bool {
    request.template.spec.level.choices().kernel >= Kernel::UserNamespace
}
