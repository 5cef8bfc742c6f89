//! Isolation levels: a named choice per dimension, weak to strong.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// What builds workspaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// One Linux machine.
    Local,
    /// A Kubernetes cluster.
    Kubernetes,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Local => "local",
            Self::Kubernetes => "kubernetes",
        })
    }
}

impl FromStr for EngineKind {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "local" => Ok(Self::Local),
            "kubernetes" => Ok(Self::Kubernetes),
            other => Err(Problem::bad_input(format!("\"{other}\" is not an engine"), "use local or kubernetes")),
        }
    }
}

/// The presets of design section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Cooperating users.
    Basic,
    /// Strangers: the default.
    Standard,
    /// Controlled data: egress only to an allow-list that starts empty.
    Strict,
    /// Hostile code: a kernel of its own.
    Sandboxed,
    /// A machine of its own.
    Dedicated,
}

impl Level {
    /// Every preset, weak to strong.
    pub const ALL: [Self; 5] = [Self::Basic, Self::Standard, Self::Strict, Self::Sandboxed, Self::Dedicated];

    /// The preset's choice in each dimension.
    pub fn choices(self) -> Choices {
        let standard = Choices {
            namespace: Namespace::PerUser,
            network: Network::Walled,
            kernel: Kernel::UserNamespace,
            node: Node::Shared,
            image: Image::DigestPinned,
        };
        match self {
            Self::Basic => {
                Choices { namespace: Namespace::PerTeam, kernel: Kernel::Filtered, image: Image::Any, ..standard }
            }
            Self::Standard => standard,
            Self::Strict => Choices { network: Network::AllowList, ..standard },
            Self::Sandboxed => Choices { kernel: Kernel::Sandboxed, ..standard },
            Self::Dedicated => Choices { node: Node::Dedicated, ..standard },
        }
    }

    /// One sentence for the person who chooses.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Basic => "For people who trust each other: own files and limits, shared team.",
            Self::Standard => "For strangers: own kernel namespaces, any public host, nothing private.",
            Self::Strict => "For controlled data: no network at all except the hosts on the template's list.",
            Self::Sandboxed => "For hostile code: a kernel of its own between the notebook and the machine.",
            Self::Dedicated => "For the highest stakes: a machine of its own.",
        }
    }

    /// Says why an engine cannot provide this level, or nothing when it can. A level is
    /// refused with this reason, never silently weakened.
    pub fn missing_on(self, engine: EngineKind) -> Option<&'static str> {
        match (self, engine) {
            (Self::Sandboxed, EngineKind::Local) => {
                Some("needs a sandboxed kernel (gVisor or Kata), which the local engine does not run")
            }
            (Self::Dedicated, EngineKind::Local) => {
                Some("needs a machine per tenant, and the local engine has one machine for everybody")
            }
            (Self::Sandboxed, EngineKind::Kubernetes) => {
                Some("needs a runtime class with a kernel of its own (gVisor or Kata), which a site cannot name yet")
            }
            (Self::Dedicated, EngineKind::Kubernetes) => {
                Some("needs a pool of nodes per tenant, which a site cannot name yet")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Basic => "basic",
            Self::Standard => "standard",
            Self::Strict => "strict",
            Self::Sandboxed => "sandboxed",
            Self::Dedicated => "dedicated",
        })
    }
}

impl FromStr for Level {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        Self::ALL.into_iter().find(|level| level.to_string() == text).ok_or_else(|| {
            let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
            Problem::bad_input(
                format!("\"{shown}\" is not an isolation level"),
                "use basic, standard, strict, sandboxed or dedicated",
            )
        })
    }
}

/// A choice in every dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// With whom the tenant shares a namespace.
    pub namespace: Namespace,
    /// Where the workspace may connect to.
    pub network: Network,
    /// What stands between the workspace and the kernel.
    pub kernel: Kernel,
    /// With whom the workspace shares a machine.
    pub node: Node,
    /// Which images may run.
    pub image: Image,
}

/// With whom the tenant shares a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    /// With everybody.
    Shared,
    /// With the team.
    PerTeam,
    /// With nobody.
    PerUser,
}

/// Where the workspace may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Anywhere.
    Open,
    /// Any public host, nothing private.
    Walled,
    /// Only what the template lists.
    AllowList,
    /// Nowhere.
    None,
}

/// What stands between the workspace and the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// Nothing more than a container.
    Shared,
    /// A system-call filter and no capabilities.
    Filtered,
    /// And a user namespace.
    UserNamespace,
    /// A kernel in user space (gVisor).
    Sandboxed,
    /// A virtual machine (Kata).
    Vm,
}

/// With whom the workspace shares a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Node {
    /// With everybody.
    Shared,
    /// With nobody.
    Dedicated,
}

/// Which images may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Image {
    /// Any.
    Any,
    /// Only by digest.
    DigestPinned,
}
