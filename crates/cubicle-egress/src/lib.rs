//! The egress proxy of one workspace.
//!
//! A workspace has no network interface but loopback. What it may reach outside, it reaches
//! through this proxy: the listener sits inside the workspace's network namespace, the process
//! dials out from the machine's. It runs as its own unprivileged process per workspace, because
//! everything that arrives is hostile.
//!
//! One request takes this path, and each step may refuse it:
//! [`target`] reads what was asked for; [`policy`] judges the name and the port; the machine's
//! resolver finds the addresses, never the workspace's; [`policy`] judges all of them against
//! [`addresses`]; and exactly a judged address is dialled, with no second look-up in between.
//! Each decision is one line of the log ([`journal`]).
#![forbid(unsafe_code)]

pub mod addresses;
pub mod config;
pub mod journal;
pub mod policy;
pub mod refusal;
pub mod target;

mod activity;
mod dial;
mod forward;
mod machine;
mod serve;

use std::convert::Infallible;
use std::fs::File;
use std::net::TcpListener;

pub use config::{Config, LogDetail};

/// Name look-ups in progress at a time; each holds a thread.
const LOOKUPS: usize = 16;

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The listener, the log or the runtime cannot be used.
    #[error("the egress proxy cannot use its {what}: {source}")]
    Start {
        /// Which of them.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// Serves `listener` until the process ends. `log` gets one JSON object per line; it should be
/// a regular file, whose size is then bounded (see [`journal`]).
///
/// The calling process should have given up its privileges. It needs: `socket` for IPv4, IPv6
/// and netlink (the machine's own addresses), threads (name look-ups), the resolver's
/// configuration files, and three descriptors per connection.
pub fn run(listener: TcpListener, config: Config, log: File) -> Result<Infallible, EgressError> {
    let start = |what| move |source| EgressError::Start { what, source };
    let policy = config.policy()?;
    let journal = journal::Journal::new(log, config.log).map_err(start("log"))?;
    // Fail now, not at the first connection, when the confinement forbids the question.
    machine::interface_addresses().map_err(start("list of the machine's addresses"))?;
    listener.set_nonblocking(true).map_err(start("listener"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUPS)
        .build()
        .map_err(start("runtime"))?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(start("listener"))?;
        Ok(serve::serve(listener, policy, journal, serve::Limits::default()).await)
    })
}
