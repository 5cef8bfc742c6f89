//! The custom resources of group `cubicle.dev`.

mod template;
mod workspace;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResourceExt;

pub use template::{Dataset, Egress, Home, Idle, Quantity, Resources, Template, TemplateSpec, TemplateStatus};
pub use workspace::{Identity, OwnerSpec, Route, Verdicts, Workspace, WorkspaceSpec, WorkspaceStatus};

/// The definitions of all custom resources, in the order in which they are applied.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![Template::crd(), Workspace::crd()]
}

#[cfg(test)]
mod tests;
