//! The custom resources of group `cubicle.dev`.

pub mod hub;
mod template;
mod workspace;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResourceExt;

pub use template::{Dataset, Egress, Home, Idle, Quantity, Resources, Template, TemplateSpec, TemplateStatus};
pub use workspace::{Identity, OwnerSpec, Route, StepEntry, Verdicts, Workspace, WorkspaceSpec, WorkspaceStatus};

/// The definitions of all custom resources, in the order in which they are applied.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let hubs = [
        hub::Account::crd(),
        hub::Session::crd(),
        hub::Grant::crd(),
        hub::Ticket::crd(),
        hub::SignInLink::crd(),
        hub::ApiToken::crd(),
        hub::Notice::crd(),
        hub::Usage::crd(),
    ];
    [Template::crd(), Workspace::crd()].into_iter().chain(hubs).map(without_unsigned_formats).collect()
}

/// OpenAPI has no unsigned formats, and the API server warns about each; the bounds say it.
fn without_unsigned_formats(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    fn strip(schema: &mut JSONSchemaProps) {
        if schema.format.as_ref().is_some_and(|format| format.starts_with("uint")) {
            schema.format = None;
        }
        schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(strip);
        if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
            strip(values);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
            strip(items);
        }
    }
    for version in &mut definition.spec.versions {
        version.schema.iter_mut().flat_map(|validation| &mut validation.open_api_v3_schema).for_each(strip);
    }
    definition
}

#[cfg(test)]
mod manual;
#[cfg(test)]
mod tests;
