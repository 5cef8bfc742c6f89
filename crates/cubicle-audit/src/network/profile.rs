//! How a network plugin decides what the standards leave open.

use std::fmt;
use std::str::FromStr;

use super::Match;

/// A network plugin, or the standards alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// What the standards say; what they leave open is open.
    #[default]
    Standard,
    /// Cilium.
    Cilium,
    /// Calico.
    Calico,
    /// Antrea.
    Antrea,
    /// OVN-Kubernetes.
    OvnKubernetes,
    /// The AWS VPC CNI with its network policy agent.
    AwsVpcCni,
    /// kindnet (kube-network-policies).
    Kindnet,
    /// kube-router.
    KubeRouter,
    /// A plugin that enforces no policy at all, such as flannel.
    None,
}

/// What a profile answers to each open question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answers {
    /// Whether NetworkPolicy is enforced.
    pub(crate) network_policy: bool,
    /// Whether policies apply to pods without an owner.
    pub(crate) bare_pods: bool,
    /// Whether AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy are enforced.
    pub(crate) cluster_policy: Match,
    /// Whether an ipBlock matches a pod whose address is in it.
    pub(crate) block_matches_pod: Match,
    /// Whether an ipBlock of a single address matches the pod that has it. Kubernetes' own tests
    /// ask for this ("CIDR block" in its e2e suite) and say little about larger blocks.
    pub(crate) single_block_matches_pod: bool,
    /// Whether an ipBlock matches a node whose address is in it.
    pub(crate) block_matches_node: Match,
    /// Whether pods on the host's network are like all others. If not they are seen as their
    /// node: no policy applies to them and no selector of a peer matches them. Kubernetes allows
    /// exactly these two ("NetworkPolicy and hostNetwork pods" in its documentation).
    pub(crate) host_network_is_ordinary: Match,
    /// Whether the one peer whose selectors both match everything matches them all the same.
    pub(crate) any_peer_matches_host_network: Match,
    /// Whether a node reaches its own pods whatever policies say.
    pub(crate) own_node_in: Match,
    /// Whether a pod reaches its own node whatever policies say.
    pub(crate) own_node_out: Match,
    /// Whether the policies of a client can see the address of a service in place of the pod's
    /// behind it. It is then only a block that matches it, so this opens and never closes.
    pub(crate) service_address_seen: Match,
}

/// One way to close every open question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) cluster_policy: bool,
    pub(crate) block_matches_pod: bool,
    pub(crate) block_matches_node: bool,
    pub(crate) host_network_is_ordinary: bool,
    pub(crate) any_peer_matches_host_network: bool,
    pub(crate) own_node: bool,
}

/// Which questions matter for a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relevant {
    /// One end is on a host's network, or is a node.
    pub(crate) host: bool,
    /// It is the source.
    pub(crate) from_host: bool,
    /// An ipBlock contains the address of an end that is a pod.
    pub(crate) block: bool,
    /// A cluster-wide policy applies to an end.
    pub(crate) cluster_policy: bool,
}

/// Whether a question matters, what the profile answers, and how a world answers yes.
type Question = (bool, Match, fn(&mut World));

impl Answers {
    /// All worlds that differ in what matters.
    pub(crate) fn worlds(&self, relevant: Relevant) -> Vec<World> {
        let own_node = if relevant.from_host { self.own_node_in } else { self.own_node_out };
        let nothing_matters = World {
            cluster_policy: self.cluster_policy == Match::Yes,
            block_matches_pod: self.block_matches_pod == Match::Yes,
            block_matches_node: self.block_matches_node == Match::Yes,
            host_network_is_ordinary: self.host_network_is_ordinary == Match::Yes,
            any_peer_matches_host_network: self.any_peer_matches_host_network == Match::Yes,
            own_node: own_node == Match::Yes,
        };
        let questions: [Question; 6] = [
            (relevant.cluster_policy, self.cluster_policy, |world| world.cluster_policy = true),
            (relevant.block, self.block_matches_pod, |world| world.block_matches_pod = true),
            (relevant.host, self.block_matches_node, |world| world.block_matches_node = true),
            (relevant.host, self.host_network_is_ordinary, |world| world.host_network_is_ordinary = true),
            (relevant.host, self.any_peer_matches_host_network, |world| world.any_peer_matches_host_network = true),
            (relevant.host, own_node, |world| world.own_node = true),
        ];
        let mut worlds = vec![nothing_matters];
        for (matters, answer, set) in questions {
            if matters && answer == Match::Maybe {
                for at in 0..worlds.len() {
                    let mut other = worlds[at];
                    set(&mut other);
                    worlds.push(other);
                }
            }
        }
        worlds
    }
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Standard,
        Self::Cilium,
        Self::Calico,
        Self::Antrea,
        Self::OvnKubernetes,
        Self::AwsVpcCni,
        Self::Kindnet,
        Self::KubeRouter,
        Self::None,
    ];

    /// What the command line calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Cilium => "cilium",
            Self::Calico => "calico",
            Self::Antrea => "antrea",
            Self::OvnKubernetes => "ovn-kubernetes",
            Self::AwsVpcCni => "aws-vpc-cni",
            Self::Kindnet => "kindnet",
            Self::KubeRouter => "kube-router",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A text that names no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no profile of that name")]
pub struct NoProfile;

impl FromStr for Profile {
    type Err = NoProfile;

    fn from_str(text: &str) -> Result<Self, NoProfile> {
        Self::ALL.into_iter().find(|profile| profile.name() == text).ok_or(NoProfile)
    }
}
