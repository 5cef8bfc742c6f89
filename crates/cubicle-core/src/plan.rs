//! Planning: from a template and a host to the walls that will be built and the promises
//! that will be proven.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::attempt::ProxyCredential;
use crate::level::{EngineKind, Level};
use crate::quantity::{Bytes, MilliCpu};
use crate::template::Egress;

/// The limits of one workspace, settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time.
    pub cpu: MilliCpu,
    /// Memory, without swap.
    pub memory: Bytes,
    /// Processes and threads.
    pub pids: u32,
    /// Size of `/tmp`.
    pub ephemeral_storage: Bytes,
    /// Size of the home; none when the back end has no limit.
    pub home: Option<Bytes>,
}

/// What the engine knows about the place where a workspace is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Situation {
    /// Which engine.
    pub engine: EngineKind,
    /// The promised level.
    pub level: Level,
    /// The settled limits.
    pub limits: Limits,
    /// Where the workspace may connect to.
    pub egress: Egress,
    /// Where the home is mounted.
    pub home_path: String,
    /// Every address of this machine, loopback excepted.
    pub machine_addresses: Vec<IpAddr>,
    /// TCP ports of the hub and the engine's other listeners.
    pub platform_ports: Vec<u16>,
    /// The port of a notebook, which every other workspace listens on.
    pub notebook_port: u16,
    /// First host uid of the workspace's range.
    pub id_base: u32,
    /// Whether `/proc/sys/kernel/random/boot_id` inside must equal this.
    pub boot_id: String,
    /// What stands around the workspace on Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// What stands around a workspace in a cluster: the addresses that it must not reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The API server by every address it has.
    pub api_server: Vec<SocketAddr>,
    /// Addresses of the node that runs the workspace.
    pub own_node: Vec<IpAddr>,
    /// Addresses of the other nodes.
    pub other_nodes: Vec<IpAddr>,
    /// Canaries on the same node, in another tenant's namespace. They answer on TCP and UDP.
    pub same_node: Vec<SocketAddr>,
    /// Canaries on other nodes, in another tenant's namespace.
    pub other_node: Vec<SocketAddr>,
    /// Services of canaries.
    pub services: Vec<SocketAddr>,
    /// Node ports of canaries' services.
    pub node_ports: Vec<SocketAddr>,
    /// Hub, controller and what else belongs to the platform.
    pub platform: Vec<SocketAddr>,
    /// Canaries on the port of name servers.
    pub name_servers: Vec<SocketAddr>,
    /// What the gate has dialled since its first instruction.
    pub window: Vec<SocketAddr>,
    /// A proxy that refuses nothing: a canary's, where no workspace may get.
    #[serde(default)]
    pub careless_proxy: Option<SocketAddr>,
    /// The egress proxy, for a workspace with an allow-list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressDoor>,
}

/// The egress proxy that workspaces of a cluster share, as one of them finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressDoor {
    /// Where it listens.
    pub proxy: SocketAddr,
    /// What this workspace shows to it.
    pub credential: ProxyCredential,
}

impl EgressDoor {
    /// The address that programs take from `http_proxy`.
    pub fn url(&self) -> String {
        format!("http://{}:{}@{}", self.credential.user, self.credential.password, self.proxy)
    }
}

impl Cluster {
    /// Whether somebody certainly answers there, because the platform itself put it there: then
    /// a control that cannot reach it proves nothing, and the address is not simply absent.
    pub fn must_answer(&self, address: SocketAddr) -> bool {
        [&self.api_server, &self.same_node, &self.other_node, &self.services, &self.node_ports, &self.name_servers]
            .into_iter()
            .flatten()
            .chain(&self.careless_proxy)
            .any(|known| *known == address)
    }
}
