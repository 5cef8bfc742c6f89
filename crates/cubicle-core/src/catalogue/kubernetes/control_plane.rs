//! The cluster's interfaces: API server, RBAC, etcd.

use super::kubernetes;
use crate::catalogue::entry::Entry;

const RBAC: &str = "https://kubernetes.io/docs/reference/access-authn-authz/rbac/";
const PRACTICES: &str = "https://kubernetes.io/docs/concepts/security/rbac-good-practices/";

pub(super) const ENTRIES: &[Entry] = &[
    kubernetes!(
        "control-plane.api-server",
        "CP-02",
        ControlPlane,
        Network,
        "A workspace cannot reach the API server by any address.",
        "Network policy for egress.",
        "No egress to the ClusterIP of default/kubernetes, to its EndpointSlices' addresses, or to the public endpoint, before and after address translation.",
        "Dials each of these addresses.",
        "The reference pod without walls connects from the same node in the same second.",
        &[
            "https://kubernetes.io/docs/concepts/services-networking/network-policies/",
            "NSA/CISA Kubernetes Hardening Guide 3: network separation"
        ]
    ),
    kubernetes!(
        "control-plane.anonymous",
        "CP-03",
        ControlPlane,
        Cluster,
        "A workspace cannot learn anything from the API server without a credential but its version and health.",
        "RBAC and the API server's authentication.",
        "No binding gives system:anonymous or system:unauthenticated more than system:public-info-viewer.",
        "Where the API server can be reached: asks for namespaces and API groups without a token; 401 or 403.",
        "The controller's own token gets an answer to the same request.",
        &[RBAC, "CIS Kubernetes Benchmark 1.2.1"]
    ),
    kubernetes!(
        "control-plane.service-account",
        "CP-04",
        ControlPlane,
        Cluster,
        "A workspace cannot do anything with a service account.",
        "RBAC: the union of rules for the account and its groups is empty but for discovery and self-review.",
        "Rules of the account and of system:serviceaccounts, system:serviceaccounts:<namespace> and system:authenticated.",
        "The controller asks for the rules as that account.",
        "The same review for the controller's account lists its rules.",
        &[RBAC, "CIS Kubernetes Benchmark 5.1.5"]
    ),
    kubernetes!(
        "control-plane.escalate",
        "CP-05",
        ControlPlane,
        Cluster,
        "A workspace cannot give itself rights.",
        "RBAC: no escalate, bind or impersonate, no write on roles and bindings.",
        "These verbs, and labels that aggregate into cluster roles.",
        "Access reviews per verb, as the workspace's account.",
        "The same reviews for a cluster administrator are allowed.",
        &[RBAC, PRACTICES, "CIS Kubernetes Benchmark 5.1.8"]
    ),
    kubernetes!(
        "control-plane.run-pods",
        "CP-06",
        ControlPlane,
        Cluster,
        "A workspace cannot run code in or as another pod.",
        "RBAC: no create on pods and workloads, no exec, attach, portforward, ephemeralcontainers.",
        "These resources and verbs.",
        "Access reviews in its own and a foreign namespace.",
        "The same reviews for a cluster administrator are allowed.",
        &[PRACTICES, "CIS Kubernetes Benchmark 5.1.4"]
    ),
    kubernetes!(
        "control-plane.read-secrets",
        "CP-07",
        ControlPlane,
        Cluster,
        "A workspace cannot read secrets or configuration of others.",
        "RBAC: no get, list or watch on secrets and configmaps.",
        "These verbs; list and watch return the contents.",
        "Access reviews in a foreign namespace.",
        "The same reviews for a cluster administrator are allowed.",
        &[PRACTICES, "CIS Kubernetes Benchmark 5.1.2"]
    ),
    kubernetes!(
        "control-plane.mint-tokens",
        "CP-08",
        ControlPlane,
        Cluster,
        "A workspace cannot make credentials.",
        "RBAC: no create on serviceaccounts/token, no approval of certificate requests.",
        "These resources and verbs.",
        "Access reviews.",
        "The same reviews for a cluster administrator are allowed.",
        &[PRACTICES, "CIS Kubernetes Benchmark 5.1.13"]
    ),
    kubernetes!(
        "control-plane.act-on-nodes",
        "CP-09",
        ControlPlane,
        Cluster,
        "A workspace cannot act on nodes.",
        "RBAC: no nodes/proxy (get is enough to execute), nodes/status, pods/status, pods/binding.",
        "These resources and verbs.",
        "Access reviews.",
        "The same reviews for a cluster administrator are allowed.",
        &[PRACTICES, "CIS Kubernetes Benchmark 5.1.10"]
    ),
    kubernetes!(
        "control-plane.change-admission",
        "CP-10",
        ControlPlane,
        Cluster,
        "A workspace cannot change admission or the API itself.",
        "RBAC: no write on webhooks, admission policies, custom resource definitions, API services, flow schemas.",
        "These resources and verbs.",
        "Access reviews.",
        "The same reviews for a cluster administrator are allowed.",
        &[
            "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/",
            "CIS Kubernetes Benchmark 5.1.12"
        ]
    ),
    kubernetes!(
        "control-plane.list-cluster",
        "CP-11",
        ControlPlane,
        Cluster,
        "A workspace cannot find out who else exists.",
        "RBAC: no list on namespaces, nodes, volumes, storage and priority classes.",
        "These resources and verbs.",
        "Access reviews.",
        "The same reviews for a cluster administrator are allowed.",
        &["https://kubernetes.io/docs/concepts/security/multi-tenancy/"]
    ),
    kubernetes!(
        "control-plane.preempt",
        "CP-12",
        ControlPlane,
        Cluster,
        "A workspace cannot push other tenants' pods off a node.",
        "Quota per priority class and preemptionPolicy Never.",
        "The pod's priority is not above the tenants' class; system classes are restricted by quota.",
        "A dry run of a pod with a system class is refused.",
        "The same dry run with the tenants' class is accepted.",
        &["https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/"]
    ),
    kubernetes!(
        "control-plane.choose-node",
        "CP-13",
        ControlPlane,
        Cluster,
        "A workspace cannot choose its node, pool or runtime.",
        "The controller alone writes the pod; labels with the node-restriction prefix.",
        "nodeSelector uses node-restriction.kubernetes.io/ labels; tolerations are fixed.",
        "The controller reads the admitted pod back and compares.",
        "A changed field is noticed by the same comparison.",
        &["https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction"]
    ),
    kubernetes!(
        "control-plane.etcd",
        "CP-14",
        ControlPlane,
        Network,
        "A workspace cannot reach etcd.",
        "Network policy and the host firewall.",
        "No egress to control-plane addresses on ports 2379 and 2380.",
        "Dials them.",
        "The reference pod without walls tries the same; if it fails too, nothing stands there.",
        &["https://kubernetes.io/docs/tasks/administer-cluster/securing-a-cluster/", "CIS Kubernetes Benchmark 2.1"]
    ),
];
