//! Nodes, network, images, services and neighbours of a cluster.

use super::kubernetes;
use crate::catalogue::entry::Entry;

const POLICY: &str = "https://kubernetes.io/docs/concepts/services-networking/network-policies/";
const KUBELET: &str = "https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/";

pub(super) const ENTRIES: &[Entry] = &[
    kubernetes!(
        "node.kubelet",
        "ND-01",
        Workload,
        Node,
        "A workspace cannot use the kubelet's interface.",
        "The kubelet's authentication and authorisation, and the host firewall: a pod may always reach its own node.",
        "anonymous is false and the authorisation mode is Webhook; no egress to node addresses.",
        "Dials port 10250 of its own and another node; where it connects, a request without a credential must get 401.",
        "The reference pod without walls connects from the same node in the same second.",
        &[KUBELET, "CIS Kubernetes Benchmark 4.2.1"]
    ),
    kubernetes!(
        "node.kubelet-read-only",
        "ND-02",
        Workload,
        Node,
        "A workspace cannot use the kubelet's read-only port.",
        "readOnlyPort is 0.",
        "The kubelet's configuration.",
        "Dials port 10255 of its own and another node.",
        "The reference pod without walls tries the same; if it fails too, nothing stands there.",
        &[KUBELET, "CIS Kubernetes Benchmark 4.2.4"]
    ),
    kubernetes!(
        "node.unpatched",
        "ND-12",
        Workload,
        Node,
        "A workspace cannot be on a node whose runtime or kernel has a known way out.",
        "Patching.",
        "Versions of kernel and runtime against a list.",
        "",
        "",
        &["CVE-2019-5736", "CVE-2024-21626", "CVE-2022-0185", "CVE-2022-0492"]
    ),
    kubernetes!(
        "network.services",
        "NW-08",
        Workload,
        Network,
        "A workspace cannot reach other tenants' services.",
        "Network policy; most network plugins apply it after address translation.",
        "The reachability matrix over services' back ends.",
        "Dials the ClusterIP of a canary's service.",
        "The reference pod without walls connects in the same second.",
        &[POLICY]
    ),
    kubernetes!(
        "network.node-ports",
        "NW-09",
        Workload,
        Network,
        "A workspace cannot reach services through node ports.",
        "Network policy and the host firewall.",
        "Services of type NodePort; address blocks against node addresses.",
        "Dials the canary's node port on its own node, another node, and a node's public address.",
        "The reference pod without walls connects in the same second.",
        &[POLICY]
    ),
    kubernetes!(
        "network.host-pods",
        "NW-10",
        Workload,
        Network,
        "A workspace cannot reach pods that use the node's network.",
        "Network policy by address block.",
        "The list of pods with hostNetwork or hostPort.",
        "Dials their ports.",
        "The reference pod without walls tries the same; if it fails too, nothing stands there.",
        &[POLICY]
    ),
    kubernetes!(
        "network.load-balancers",
        "NW-11",
        Workload,
        Network,
        "A workspace cannot reach services through load balancer addresses.",
        "Network policy.",
        "The addresses in the status of services.",
        "Dials them.",
        "The reference pod without walls connects in the same second.",
        &[POLICY]
    ),
    kubernetes!(
        "network.revocation",
        "NW-21",
        Workload,
        Network,
        "A workspace cannot keep a connection that is no longer allowed.",
        "The network plugin's treatment of existing connections, which Kubernetes leaves to it.",
        "The network plugin and its version.",
        "Holds a connection to an allowed canary; the controller takes the permission away; the connection must break.",
        "The connection works until then.",
        &[POLICY]
    ),
    kubernetes!(
        "network.notebook-port",
        "NW-23",
        Workload,
        Network,
        "A workspace cannot be reached on its notebook port except by the proxy.",
        "Network policy for ingress from the proxy alone, by a label that nobody else may set.",
        "The peers of the ingress rule.",
        "A canary in the hub's namespace without the proxy's label dials.",
        "The proxy reaches the same port in the same second.",
        &[POLICY]
    ),
    kubernetes!(
        "image.secrets",
        "IM-06",
        Workload,
        Image,
        "A workspace's image does not hold secrets in its variables, layers or history.",
        "The image's build.",
        "Walk of configuration, layers and history.",
        "",
        "",
        &["CIS Docker Benchmark 4.10", "NIST SP 800-190 section 4.1.4"]
    ),
    kubernetes!(
        "services.dns-listing",
        "SV-01",
        PlatformServices,
        Cluster,
        "A workspace cannot list other tenants' services by name.",
        "A name server's policy, or a view per tenant: Kubernetes' own answers across namespaces.",
        "The name server's configuration.",
        "Asks for wildcard, canary and reverse names.",
        "The canary's name is answered inside its own namespace in the same second.",
        &[
            "https://github.com/kubernetes/dns/blob/master/docs/specification.md",
            "https://kubernetes.io/docs/concepts/security/multi-tenancy/#dns"
        ]
    ),
    kubernetes!(
        "services.metrics",
        "SV-02",
        PlatformServices,
        Cluster,
        "A workspace cannot transfer zones or read the metrics of the platform.",
        "Network policy.",
        "No egress to the metric ports of name servers, kube-state-metrics and Prometheus.",
        "Dials them and asks for a zone transfer.",
        "The reference pod without walls connects in the same second.",
        &["RFC 5936", POLICY]
    ),
    kubernetes!(
        "services.other-user-route",
        "SV-12",
        PlatformServices,
        Cluster,
        "A workspace's user cannot reach another user's workspace through the proxy.",
        "The hub's authentication per route.",
        "The hub's route table.",
        "The controller, as another user, asks for the route in plain and encoded spellings and as a WebSocket upgrade.",
        "The owner's own request is answered in the same second.",
        &["OWASP ASVS 4.1.2", "CWE-639"]
    ),
    kubernetes!(
        "services.cookies",
        "SV-13",
        PlatformServices,
        Cluster,
        "A workspace cannot steal or plant another user's cookies.",
        "An origin per workspace, __Host- cookies.",
        "The site's browser option: one origin for all gives this up.",
        "The controller inspects the cookies and policies of two users.",
        "A cookie with a parent domain is noticed by the same inspection.",
        &["RFC 6265bis", "https://jupyterhub.readthedocs.io/en/stable/explanation/websecurity.html"]
    ),
    kubernetes!(
        "services.loopback-servers",
        "SV-14",
        PlatformServices,
        Cluster,
        "A workspace's loopback servers cannot be reached from outside without its own authentication.",
        "Servers bind to loopback; the proxy asks for the user.",
        "The notebook's configuration.",
        "A canary dials the pod's address; a request through the proxy without a session is refused.",
        "The owner's request through the proxy is answered.",
        &["https://jupyter-server-proxy.readthedocs.io/en/latest/"]
    ),
    kubernetes!(
        "services.logs",
        "SV-15",
        PlatformServices,
        Cluster,
        "A workspace cannot read other workspaces' logs and metrics.",
        "RBAC, and no mount of the node's log folder.",
        "pods/log and metrics; hostPath of /var/log.",
        "Access reviews.",
        "The same reviews for a cluster administrator are allowed.",
        &["https://kubernetes.io/docs/concepts/security/rbac-good-practices/"]
    ),
    kubernetes!(
        "neighbour.accelerators",
        "NN-11",
        Workload,
        Pod,
        "A workspace cannot take other workspaces' time and memory on an accelerator.",
        "Exclusive devices or hardware partitions; time slicing separates nothing.",
        "The device plugin's configuration.",
        "Lists its devices.",
        "The node lists more.",
        &["https://docs.nvidia.com/datacenter/tesla/mig-user-guide/"]
    ),
    kubernetes!(
        "neighbour.own-culling",
        "NN-12",
        Workload,
        Pod,
        "A workspace cannot stop its own idle stop.",
        "Activity is what the proxy sees its user do.",
        "The source of activity in the code.",
        "",
        "",
        &["https://github.com/jupyterhub/jupyterhub-idle-culler"]
    ),
];
