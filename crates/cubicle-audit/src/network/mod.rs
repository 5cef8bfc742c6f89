//! Who can open a connection to whom.
//!
//! Every question is answered twice: `may` holds if any implementation of the standards lets the
//! connection through, `must` if every one does. `!may` is a wall on every network plugin, `must`
//! a path that works on every one; between them the plugin decides (see [`Profile`]).

pub mod address;
mod change;
pub mod cluster;
mod cluster_policy;
mod decide;
mod engine;
mod explain;
mod index;
mod intern;
pub mod map;
mod network_policy;
pub mod place;
mod pods;
pub mod policy;
pub mod port;
mod profile;
mod reader;
pub mod selector;
pub mod special;

pub use engine::{Engine, Reach};
pub use explain::{End, RuleRef, Verdict};
pub use profile::{NoProfile, Profile};

/// Whether something matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Match {
    /// It does not.
    No,
    /// The standards leave it open, or a fact is missing.
    Maybe,
    /// It does.
    Yes,
}

impl From<bool> for Match {
    fn from(matches: bool) -> Self {
        if matches { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests;
