//! What a cluster's manifests guarantee, before anyone launches anything.
//!
//! [`snapshot`] turns manifests into objects that remember their file, line and column;
//! [`network`] says who can open a connection to whom. Nothing here reads a file, asks a
//! cluster or looks at the clock, except [`snapshot::read`].
#![forbid(unsafe_code)]

mod admission;
pub mod network;
pub mod pod_security;
pub mod rbac;
pub mod snapshot;
pub mod verdict;
pub mod workload;
