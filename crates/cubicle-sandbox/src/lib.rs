//! One sandbox: the helper process that builds it, supervises it, and lets proofs in.
//!
//! The only crate, with the probe, that may contain `unsafe`; libcontainer lives here and
//! nowhere else. The engine talks to a helper through [`client`]; everything else is what the
//! helper itself, or a process that gives up its rights, is made of.
#![allow(unsafe_code)]

#[cfg(all(feature = "wall-removal", not(debug_assertions)))]
compile_error!("the feature wall-removal weakens every sandbox and exists for tests only: build it without --release");

pub mod cgroup;
pub mod client;
pub mod confine;
pub mod helper;
pub mod join;
pub mod namespaces;
pub mod protocol;
pub mod removal;
pub mod seccomp;

mod bundle;
mod files;
mod frame;
mod home;
mod mounts;
mod pipes;
mod runtime;
mod stage;

pub use files::version as landlock_version;
