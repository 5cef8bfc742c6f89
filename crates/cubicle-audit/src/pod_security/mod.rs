//! The Pod Security Standards: which pods a level admits, by version of the standard.
//!
//! Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/> and the
//! history of the admission plugin, because a namespace may pin an old version.

mod baseline;
mod pod;
mod restricted;
mod version;

use std::fmt;
use std::str::FromStr;

use cubicle_core::problem::Problem;
use serde::Serialize;
use serde_json::Value;

pub use pod::{Container, Pod, Role};
pub use version::{NEWEST, Version};

/// A level of the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is refused.
    Privileged,
    /// Known ways onto the node are refused.
    Baseline,
    /// What current hardening practice asks for is required.
    Restricted,
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

impl FromStr for Level {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "privileged" => Ok(Self::Privileged),
            "baseline" => Ok(Self::Baseline),
            "restricted" => Ok(Self::Restricted),
            other => Err(Problem::bad_input(
                format!("\"{other}\" is not a level of Pod Security"),
                "use privileged, baseline or restricted",
            )),
        }
    }
}

/// Why a level does not admit a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Violation {
    /// The check's name in the standard, for example `hostNamespaces`.
    pub check: &'static str,
    /// The level that asks for it.
    pub level: Level,
    /// Where in the pod, as a JSON pointer; the nearest parent when a field is missing.
    pub pointer: String,
    /// What is wrong, naming the container and the field.
    pub what: String,
}

/// Everything for which the level, as it was in this version, refuses the pod; empty when it is
/// admitted.
///
/// # Errors
/// A field of the wrong type: the API server would not have taken the pod at all.
pub fn violations(pod: &Value, level: Level, version: Version) -> Result<Vec<Violation>, Problem> {
    let pod = Pod::new(pod)?;
    let mut found = Vec::new();
    if level >= Level::Baseline {
        baseline::check(&pod, level, version, &mut found);
    }
    if level >= Level::Restricted {
        restricted::check(&pod, version, &mut found);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
