//! The engine on Kubernetes: the same nouns, the same proof, the same report.
//!
//! The API server is the database. The controller turns a `Workspace` into a tenant's namespace
//! with its walls and one pod whose first process is the gate; it proves the walls from inside,
//! and only then lets the notebook start and the route open.
#![forbid(unsafe_code)]

pub mod admitted;
pub mod controller;
pub mod doctor;
pub mod door;
pub mod egress_table;
pub mod engine;
mod followed;
pub mod keys;
pub mod live;
pub mod names;
pub mod objects;
pub mod prove;
pub mod registry;
pub mod resources;
pub mod settings;
pub mod surroundings;

/// A client of the cluster: the pod's own account, or KUBECONFIG.
///
/// # Errors
/// When neither is there.
pub async fn client() -> Result<kube::Client, cubicle_core::problem::Problem> {
    kube::Client::try_default().await.map_err(|error| {
        cubicle_core::problem::Problem::engine(
            format!("the cluster cannot be reached: {error}"),
            "run it in a pod, or set KUBECONFIG",
        )
    })
}
