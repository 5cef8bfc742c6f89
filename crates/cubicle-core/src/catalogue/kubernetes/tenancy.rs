//! Namespaces as walls between tenants.

use super::kubernetes;
use crate::catalogue::entry::Entry;

const TENANCY: &str = "https://kubernetes.io/docs/concepts/security/multi-tenancy/";
const QUOTA: &str = "https://kubernetes.io/docs/concepts/policy/resource-quotas/";

pub(super) const ENTRIES: &[Entry] = &[
    kubernetes!(
        "tenancy.own-namespace",
        "NS-01",
        ControlPlane,
        Namespace,
        "A workspace cannot share a namespace with another user.",
        "A namespace per user.",
        "All pods of a namespace carry one user id.",
        "The controller lists the pods of the namespace.",
        "The same list in a namespace with two users is noticed.",
        &[TENANCY]
    ),
    kubernetes!(
        "tenancy.name-collision",
        "NS-02",
        ControlPlane,
        Namespace,
        "A workspace cannot collide with another user's names.",
        "The names that Cubicle makes are injective in the user's id.",
        "Property test over pairs: case, punctuation, Unicode, the cut at 63 characters.",
        "",
        "",
        &["RFC 1123 section 2.1", "https://kubernetes.io/docs/concepts/overview/working-with-objects/names/"]
    ),
    kubernetes!(
        "tenancy.quota",
        "NS-03",
        ControlPlane,
        Namespace,
        "A workspace cannot take more than its tenant's share of processor, memory, pods, storage and accelerators.",
        "ResourceQuota.",
        "Requests and limits of each, and used is not above hard.",
        "A dry run beyond the quota is refused.",
        "The same dry run within the quota is accepted.",
        &[QUOTA]
    ),
    kubernetes!(
        "tenancy.object-flood",
        "NS-04",
        ControlPlane,
        Namespace,
        "A workspace cannot flood the cluster with objects.",
        "ResourceQuota of counts.",
        "count/ quotas for secrets, configmaps, services, claims and jobs.",
        "A dry run beyond the quota is refused.",
        "The same dry run within the quota is accepted.",
        &[QUOTA]
    ),
    kubernetes!(
        "tenancy.unbounded-container",
        "NS-05",
        ControlPlane,
        Namespace,
        "A workspace cannot run a container without limits.",
        "LimitRange, or limits in the pod's specification.",
        "Default and maximum for processor, memory and ephemeral storage.",
        "The probe reads its cgroup.",
        "The same reader sees no limit in a cgroup without one.",
        &["https://kubernetes.io/docs/concepts/policy/limit-range/"]
    ),
    kubernetes!(
        "tenancy.edit-walls",
        "NS-06",
        ControlPlane,
        Namespace,
        "A workspace cannot edit its own walls.",
        "RBAC: no write on quotas, limit ranges, network policies and namespace labels.",
        "These resources and verbs for tenants.",
        "Access reviews.",
        "The same reviews for a cluster administrator are allowed.",
        &[TENANCY]
    ),
    kubernetes!(
        "tenancy.pod-security",
        "NS-07",
        ControlPlane,
        Namespace,
        "A workspace cannot be launched below its Pod Security level.",
        "Pod Security admission with a pinned version.",
        "The namespace's enforce label and its version; no exemptions.",
        "The controller tries pods that break the level, as a dry run.",
        "A pod that keeps the level is accepted by the same dry run.",
        &["https://kubernetes.io/docs/concepts/security/pod-security-admission/", "CIS Kubernetes Benchmark 5.2"]
    ),
    kubernetes!(
        "tenancy.default-deny",
        "NS-08",
        ControlPlane,
        Namespace,
        "A workspace cannot be in a namespace without default deny in both directions.",
        "Network policy.",
        "A policy that selects every pod, has both types and no rule; nothing else widens it.",
        "The network guarantees.",
        "The reference pod without walls connects.",
        &[
            "https://kubernetes.io/docs/concepts/services-networking/network-policies/#default-policies",
            "CIS Kubernetes Benchmark 5.3.2"
        ]
    ),
    kubernetes!(
        "tenancy.borrowed-objects",
        "NS-09",
        ControlPlane,
        Namespace,
        "A workspace cannot borrow another namespace's objects.",
        "Admission policy.",
        "Role binding subjects, ExternalName services, endpoints with foreign addresses, reference grants, data sources, ingress back ends.",
        "",
        "",
        &["CVE-2021-25740", "https://gateway-api.sigs.k8s.io/api-types/referencegrant/"]
    ),
    kubernetes!(
        "tenancy.publish",
        "NS-10",
        ControlPlane,
        Namespace,
        "A workspace cannot publish itself or take over addresses.",
        "Quota of node ports and load balancers, denial of external addresses.",
        "services.nodeports and services.loadbalancers are 0; external addresses are denied.",
        "A dry run of such a service is refused.",
        "A dry run of a plain service is accepted.",
        &["CVE-2020-8554", QUOTA]
    ),
    kubernetes!(
        "tenancy.default-account",
        "NS-11",
        ControlPlane,
        Namespace,
        "A workspace cannot inherit rights from the default service account.",
        "No binding and no pull secret on it.",
        "Bindings of default and of the service account groups; imagePullSecrets.",
        "The rules review of the default account.",
        "The same review for the controller's account lists its rules.",
        &["CIS Kubernetes Benchmark 5.1.5"]
    ),
    kubernetes!(
        "tenancy.spoof-labels",
        "NS-12",
        ControlPlane,
        Namespace,
        "A workspace cannot take on labels that others trust.",
        "RBAC and admission: labels that any selector allows are writable by administrators only.",
        "Every label of an allowing namespaceSelector or podSelector.",
        "Access reviews for patching pods and namespaces.",
        "The same reviews for a cluster administrator are allowed.",
        &[TENANCY]
    ),
];
