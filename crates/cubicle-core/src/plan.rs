//! Planning: from a template and a host to the walls that will be built and the promises
//! that will be proven.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

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
}
