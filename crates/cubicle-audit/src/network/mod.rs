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
mod dial;
mod engine;
mod explain;
pub mod front;
mod index;
mod intern;
pub mod map;
mod named_ports;
mod network_policy;
pub mod place;
mod plugin;
mod pods;
pub mod policy;
pub mod port;
mod profile;
mod reader;
pub mod selector;
pub mod service;
pub mod special;

pub use cluster::changes_the_network;
pub use engine::{Behind, Door, Engine, FrontRoute, HostPort, Reach, Served, ServedBackend};
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
