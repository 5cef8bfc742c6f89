//! What each network plugin answers to the questions that the standards leave open, and where
//! that is written. `docs/network-plugins.md` has the same as a table. What nobody has written
//! down is not known, so it stays open: it may be, and nothing must.

use super::Match::{Maybe, No, Yes};
use super::profile::{Answers, Profile};

/// Nothing but the standards.
pub(super) const STANDARD: Answers = Answers {
    network_policy: true,
    bare_pods: true,
    cluster_policy: Yes,
    block_matches_pod: Maybe,
    single_block_matches_pod: true,
    block_matches_node: Maybe,
    host_network_is_ordinary: Maybe,
    any_peer_matches_host_network: Maybe,
    own_node_in: Maybe,
    own_node_out: Maybe,
    service_address_seen: Maybe,
};

/// A plugin of which nothing is written. Cluster-wide policies are young, and each plugin has
/// some of their versions in some of its own.
const UNKNOWN: Answers = Answers { cluster_policy: Maybe, ..STANDARD };

impl Profile {
    pub(crate) fn answers(self) -> Answers {
        match self {
            Self::Standard => STANDARD,
            Self::Cilium => cilium(),
            Self::Calico => calico(),
            Self::Antrea => antrea(),
            Self::OvnKubernetes => ovn_kubernetes(),
            Self::AwsVpcCni => aws_vpc_cni(),
            Self::Kindnet => kindnet(),
            Self::KubeRouter => kube_router(),
            Self::None => none(),
        }
    }
}

/// - A block matches no pod, not even one that names its address: cilium/cilium issues 9209 and 19601.
/// - Since 1.15 a block can be made to match nodes, and before it did not: the page "Network
///   Policy" of Cilium's documentation, `policy-cidr-match-mode`.
/// - Pods on their host's network are the host: cilium/cilium issue 16308.
/// - Cluster-wide policies of the standard are asked for in cilium/cilium issue 23380.
fn cilium() -> Answers {
    Answers { block_matches_pod: No, single_block_matches_pod: false, host_network_is_ordinary: No, ..UNKNOWN }
}

/// - A block matches "packets with IP in any of the listed CIDRs", whoever has it: `nets` of an
///   EntityRule in Calico's reference of NetworkPolicy.
/// - Policies are enforced on the interfaces of workloads; a host's own need HostEndpoints: "Host
///   endpoints, overview" of its reference.
fn calico() -> Answers {
    Answers { block_matches_pod: Yes, block_matches_node: Yes, host_network_is_ordinary: No, ..UNKNOWN }
}

/// - A block matches a pod: antrea-io/antrea issue 1764, where one that did not was a defect.
/// - What a node itself sends to its pods is let in before policies: antrea-io/antrea pull request 1816.
/// - AdminNetworkPolicy is behind a feature gate since 1.13: "AdminNetworkPolicy API Support in Antrea".
fn antrea() -> Answers {
    Answers { block_matches_pod: Yes, own_node_in: Yes, ..UNKNOWN }
}

/// - "Network policies cannot block traffic from localhost or from their resident nodes", and a
///   peer of all pods has those on their host's network in it: "About network policy" of OpenShift's
///   documentation. What other selectors mean for them is not said.
/// - Policies of a client see pods, not services: its access lists are set to be applied after load
///   balancing (`apply-after-lb`; "OVN ACLs" of its documentation).
fn ovn_kubernetes() -> Answers {
    Answers { any_peer_matches_host_network: Yes, own_node_in: Yes, service_address_seen: No, ..UNKNOWN }
}

/// - Pods without an owner are left alone, and selectors become blocks, so that a block of a pod's
///   address is that pod: "Limit Pod traffic with Kubernetes network policies" of the EKS user guide.
fn aws_vpc_cni() -> Answers {
    Answers { bare_pods: false, block_matches_pod: Yes, ..UNKNOWN }
}

/// - Cluster-wide policies are a variant of its installation: README of
///   kubernetes-sigs/kube-network-policies.
fn kindnet() -> Answers {
    UNKNOWN
}

/// - A block is a set of addresses, whoever has one: `evalIPBlockPeer` in
///   cloudnativelabs/kube-router, pkg/controllers/netpol/policy.go.
/// - What a node itself sends to its pods is let in: the rule "when source is the pod's local node"
///   in pkg/controllers/netpol/pod.go, and its document on how network policy works.
fn kube_router() -> Answers {
    Answers { block_matches_pod: Yes, block_matches_node: Yes, own_node_in: Yes, ..UNKNOWN }
}

/// Nothing is enforced, so nothing is open.
fn none() -> Answers {
    Answers {
        network_policy: false,
        cluster_policy: No,
        block_matches_pod: No,
        block_matches_node: No,
        host_network_is_ordinary: No,
        any_peer_matches_host_network: No,
        own_node_in: Yes,
        own_node_out: Yes,
        service_address_seen: No,
        ..STANDARD
    }
}
