//! The egress proxy: what a workspace may reach outside, it reaches through this.
//!
//! On one machine a workspace has no network interface but loopback; the listener sits inside its
//! network namespace, the process dials out from the machine's, and runs as its own unprivileged
//! process per workspace, because everything that arrives is hostile ([`run`]). In a cluster one
//! proxy in a namespace of its own serves all workspaces with an allow-list, and is the only door
//! that they have ([`run_shared`]).
//!
//! One request takes this path, and each step may refuse it: [`callers`] tells whose it is;
//! [`target`] reads what was asked for; [`policy`] judges the name and the port; the machine's
//! resolver finds the addresses, never the workspace's; [`policy`] judges all of them against
//! [`addresses`]; and exactly a judged address is dialled, with no second look-up in between.
//! Each decision is one line of the log ([`journal`]).
#![forbid(unsafe_code)]

pub mod addresses;
pub mod callers;
pub mod config;
pub mod journal;
pub mod policy;
pub mod refusal;
pub mod target;

mod activity;
mod dial;
mod forward;
mod machine;
mod room;
mod serve;
mod table;

use std::convert::Infallible;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

pub use callers::Caller;
pub use config::{Config, LogDetail};

use callers::Callers;
use journal::Journal;
use serve::Limits;

/// Name look-ups in progress at a time; each holds a thread.
const LOOKUPS: usize = 16;

/// The same where many workspaces share the proxy.
const SHARED_LOOKUPS: usize = 128;

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
    let journal = Journal::new(log, config.log).map_err(start("log"))?;
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
        Ok(serve::serve(listener, Callers::One(Arc::new(policy)), journal, Limits::default()).await)
    })
}

/// Serves many workspaces until the process ends: those in the newest table that came through
/// `tables`, a Unix socket to which whole tables are written, one JSON list of [`Caller`]s per line.
/// `log` gets one JSON object per line; a pipe is not bounded by this process.
pub fn run_shared(listener: TcpListener, tables: UnixListener, log: File) -> Result<Infallible, EgressError> {
    let start = |what| move |source| EgressError::Start { what, source };
    let journal = Journal::new(log, LogDetail::All).map_err(start("log"))?;
    machine::interface_addresses().map_err(start("list of the machine's addresses"))?;
    listener.set_nonblocking(true).map_err(start("listener"))?;
    tables.set_nonblocking(true).map_err(start("socket for tables"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(SHARED_LOOKUPS)
        .build()
        .map_err(start("runtime"))?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(start("listener"))?;
        let tables = tokio::net::UnixListener::from_std(tables).map_err(start("socket for tables"))?;
        let (newest, known) = tokio::sync::watch::channel(None);
        tokio::spawn(table::follow(tables, newest));
        Ok(serve::serve(listener, Callers::Listed(known), journal, Limits::shared()).await)
    })
}
