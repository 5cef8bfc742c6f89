//! What a guarantee is: one thing the tenant cannot do, and how one knows.

use serde::{Deserialize, Serialize};

use crate::level::EngineKind;

/// The three big layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// The cluster's or engine's own interfaces.
    ControlPlane,
    /// The running workspace.
    Workload,
    /// What all workspaces share: hub, storage, names.
    PlatformServices,
}

/// Where a guarantee lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The whole cluster.
    Cluster,
    /// A Kubernetes namespace.
    Namespace,
    /// The machine.
    Node,
    /// A pod, or the sandbox on one machine.
    Pod,
    /// The container and the kernel's surface towards it.
    Container,
    /// The image.
    Image,
    /// The network.
    Network,
    /// Volumes.
    Storage,
}

/// One entry of the catalogue. Text is for people; ids are for machines and never change.
#[derive(Debug, Clone, Serialize)]
pub struct Guarantee {
    /// The readable id, for example `network.other-workspace`.
    pub id: &'static str,
    /// The research id, for example `NW-01`.
    pub alias: &'static str,
    /// The layer.
    pub layer: Layer,
    /// The place.
    pub place: Place,
    /// The engines on which it means something, whether any level promises it or not.
    pub engines: &'static [EngineKind],
    /// "A workspace cannot ..."
    pub sentence: &'static str,
    /// What makes it so.
    pub mechanism: &'static str,
    /// The rule a static analysis checks; empty when there is none.
    pub static_rule: &'static str,
    /// What the probe tries; empty when nothing can be tried.
    pub live_probe: &'static str,
    /// What shows that the probe could have succeeded.
    pub positive_control: &'static str,
    /// Kernel documentation, RFC, KEP, CIS or NSA controls.
    pub references: &'static [&'static str],
}
