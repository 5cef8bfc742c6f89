//! The kinds the API server has by itself, and those whose meaning is known here.

/// Namespaced kinds by API group ("" is the core group).
const NAMESPACED: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "Binding",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    ("apps", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("authorization.k8s.io", &["LocalSubjectAccessReview"]),
    ("autoscaling", &["HorizontalPodAutoscaler"]),
    ("batch", &["CronJob", "Job"]),
    ("coordination.k8s.io", &["Lease", "LeaseCandidate"]),
    ("discovery.k8s.io", &["EndpointSlice"]),
    ("events.k8s.io", &["Event"]),
    // Served until 1.15 (NetworkPolicy) and 1.21 (Ingress).
    ("extensions", &["DaemonSet", "Deployment", "Ingress", "NetworkPolicy", "ReplicaSet"]),
    (
        "gateway.networking.k8s.io",
        &[
            "BackendTLSPolicy",
            "Gateway",
            "GRPCRoute",
            "HTTPRoute",
            "ListenerSet",
            "ReferenceGrant",
            "TCPRoute",
            "TLSRoute",
            "UDPRoute",
        ],
    ),
    ("networking.k8s.io", &["Ingress", "NetworkPolicy"]),
    ("policy", &["PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io", &["Role", "RoleBinding"]),
    ("resource.k8s.io", &["ResourceClaim", "ResourceClaimTemplate"]),
    ("scheduling.k8s.io", &["PodGroup", "Workload"]),
    ("storage.k8s.io", &["CSIStorageCapacity"]),
];

/// Cluster-wide kinds by API group.
const CLUSTER_WIDE: &[(&str, &[&str])] = &[
    ("", &["ComponentStatus", "Namespace", "Node", "PersistentVolume"]),
    (
        "admissionregistration.k8s.io",
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io", &["APIService"]),
    ("authentication.k8s.io", &["SelfSubjectReview", "TokenReview"]),
    ("authorization.k8s.io", &["SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"]),
    ("certificates.k8s.io", &["CertificateSigningRequest", "ClusterTrustBundle", "PodCertificateRequest"]),
    ("flowcontrol.apiserver.k8s.io", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("gateway.networking.k8s.io", &["GatewayClass"]),
    ("networking.k8s.io", &["IngressClass", "IPAddress", "ServiceCIDR"]),
    ("node.k8s.io", &["RuntimeClass"]),
    ("policy", &["PodSecurityPolicy"]),
    ("policy.networking.k8s.io", &["AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"]),
    ("rbac.authorization.k8s.io", &["ClusterRole", "ClusterRoleBinding"]),
    ("resource.k8s.io", &["DeviceClass", "DeviceTaintRule", "ResourceSlice"]),
    ("scheduling.k8s.io", &["PriorityClass"]),
    ("storage.k8s.io", &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment", "VolumeAttributesClass"]),
    ("storagemigration.k8s.io", &["StorageVersionMigration"]),
];

/// Whether a kind belongs to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Namespaced,
    ClusterWide,
    /// A kind that Kubernetes itself does not have.
    Unknown,
}

/// The group of an `apiVersion`; "" is the core group.
pub(super) fn group(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// The scope of a kind.
pub(super) fn scope(api_version: &str, kind: &str) -> Scope {
    let group = group(api_version);
    let has = |table: &[(&str, &[&str])]| table.iter().any(|(name, kinds)| *name == group && kinds.contains(&kind));
    if has(NAMESPACED) {
        Scope::Namespaced
    } else if has(CLUSTER_WIDE) {
        Scope::ClusterWide
    } else {
        Scope::Unknown
    }
}

/// Kinds of Kubernetes that no rule looks at, and that a busy cluster has many of.
const IDLE: &[(&str, &[&str])] = &[
    ("", &["Binding", "ComponentStatus", "Event", "PodTemplate"]),
    ("apiextensions.k8s.io", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io", &["APIService"]),
    ("apps", &["ControllerRevision"]),
    ("autoscaling", &["HorizontalPodAutoscaler"]),
    ("authentication.k8s.io", &["SelfSubjectReview", "TokenReview"]),
    (
        "authorization.k8s.io",
        &["LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"],
    ),
    ("certificates.k8s.io", &["CertificateSigningRequest", "ClusterTrustBundle", "PodCertificateRequest"]),
    ("coordination.k8s.io", &["Lease", "LeaseCandidate"]),
    ("events.k8s.io", &["Event"]),
    ("flowcontrol.apiserver.k8s.io", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("networking.k8s.io", &["IPAddress", "ServiceCIDR"]),
    ("policy", &["PodDisruptionBudget"]),
    ("storage.k8s.io", &["CSIDriver", "CSINode", "CSIStorageCapacity", "VolumeAttachment", "VolumeAttributesClass"]),
    ("storagemigration.k8s.io", &["StorageVersionMigration"]),
];

/// Groups of known layouts.
const LAYOUTS: &[&str] = &["agents.x-k8s.io", "extensions.agents.x-k8s.io", "kubeflow.org"];

/// Policies that may verify the signatures of images.
const SIGNATURES: &[(&str, &[&str])] = &[
    ("kyverno.io", &["ClusterPolicy", "Policy"]),
    ("policies.kyverno.io", &["ImageValidatingPolicy", "NamespacedImageValidatingPolicy"]),
    ("policy.sigstore.dev", &["ClusterImagePolicy"]),
];

/// Whether objects of a kind may verify the signatures of images.
pub(crate) fn verifies_signatures(group: &str, kind: &str) -> bool {
    SIGNATURES.iter().any(|(name, kinds)| *name == group && kinds.contains(&kind))
}

/// What a live cluster is asked about a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Rules look at its objects, or they change what the rules say.
    Objects,
    /// It is not understood; how many there are is told.
    Number,
    /// It changes no verdict.
    None,
}

/// What a live cluster is asked about a kind.
#[must_use]
pub fn interest(group: &str, kind: &str) -> Interest {
    let has = |table: &[(&str, &[&str])]| table.iter().any(|(name, kinds)| *name == group && kinds.contains(&kind));
    let is_known = has(NAMESPACED) || has(CLUSTER_WIDE) || verifies_signatures(group, kind);
    if has(IDLE) {
        Interest::None
    } else if is_known || LAYOUTS.contains(&group) || crate::network::cluster::changes_the_network(group, kind) {
        Interest::Objects
    } else {
        Interest::Number
    }
}

/// Whether this is a list of objects: `List`, or `PodList` with items.
pub(super) fn is_list(api_version: &str, kind: &str) -> bool {
    kind.strip_suffix("List")
        .is_some_and(|item| (item.is_empty() && api_version == "v1") || scope(api_version, item) != Scope::Unknown)
}
