//! The engine on Kubernetes: the same nouns, the same proof, the same report.
//!
//! The API server is the database. The controller turns a `Workspace` into a tenant's namespace
//! with its walls and one pod whose first process is the gate; it proves the walls from inside,
//! and only then lets the notebook start and the route open.
#![forbid(unsafe_code)]

pub mod admitted;
pub mod controller;
pub mod door;
pub mod keys;
pub mod live;
pub mod names;
pub mod objects;
pub mod prove;
pub mod resources;
pub mod settings;
pub mod surroundings;
