//! The engine on one Linux machine: supervises sandboxes, homes and images, keeps its state
//! in SQLite, and answers the hub and the command line over Unix sockets.
#![forbid(unsafe_code)]

pub mod backup;
pub mod client;
pub mod doctor;
mod idle;
pub mod images;
mod inside;
mod launch;
pub mod layout;
mod machine;
mod pool;
mod proving;
mod queue;
mod recover;
mod sandbox;
pub mod serve;
mod server;
mod settle;
pub mod site;
mod store;
mod supervisor;
mod templates;
mod volumes;
mod wire;

pub use pool::{PoolState, PoolTemplate};
