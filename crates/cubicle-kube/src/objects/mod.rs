//! From template, workspace and settings to the objects that are to be there. Pure: a cluster
//! is neither asked nor changed, so that what will be built can be read and tested as values.

mod network;
mod pod;
mod tenant;

pub(crate) use network::{EGRESS_PORT, doors_name};

use std::net::SocketAddr;

use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::Problem;
use cubicle_core::template::Template;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, PersistentVolumeClaim, Pod, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::names::Location;
use crate::resources::Identity;
use crate::settings::{Settings, SiteImage};

/// Where the probe is mounted in a workspace's container.
pub const PROBE_FOLDER: &str = "/.cubicle";
/// The uid and gid of every notebook.
pub const USER: i64 = 1000;

/// What is there for a tenant as long as its namespace is, whoever runs in it. Nothing of it
/// has an owner: it must not go before the last pod, and homes go on explicit deletion only.
#[derive(Debug, Clone, Serialize)]
pub struct Tenant {
    /// The namespace, with its Pod Security level.
    pub namespace: Namespace,
    /// What all workspaces in it may have together.
    pub quota: ResourceQuota,
    /// What one container may have.
    pub limits: LimitRange,
    /// An account without rights and without a token.
    pub account: ServiceAccount,
    /// Default deny in both directions.
    pub deny: NetworkPolicy,
    /// Exactly the doors of what is launched: all workspaces with the same doors have one policy, so that the network
    /// knows their pods by the same labels.
    pub doors: NetworkPolicy,
    /// The user's home.
    pub home: PersistentVolumeClaim,
}

/// What decides about one workspace's objects.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The site.
    pub settings: &'a Settings,
    /// Who and what.
    pub identity: &'a Identity,
    /// Where.
    pub location: &'a Location,
    /// Whether it waits for somebody whom nobody knows yet.
    pub member: bool,
    /// The workspace's uid: owner references and the gate's signatures are bound to it.
    pub uid: &'a str,
    /// Which launch of it this is.
    pub launch: i64,
    /// What is launched.
    pub template: &'a Template,
    /// The key whose signatures the gate accepts.
    pub gate_key: [u8; 32],
    /// What the gate dials from its first instruction on.
    pub window: &'a [SocketAddr],
}

impl Request<'_> {
    fn namespace(&self) -> &str {
        &self.location.namespace
    }

    fn image(&self) -> Result<SiteImage, Problem> {
        self.settings.image(self.template)
    }

    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: "cubicle.dev/v1alpha1".to_owned(),
            kind: "Workspace".to_owned(),
            name: self.identity.id.to_string(),
            uid: self.uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

/// Everything of the tenant.
///
/// # Errors
/// Only when a manifest of ours does not fit the API's types.
pub fn tenant(request: &Request<'_>) -> Result<Tenant, Problem> {
    Ok(Tenant {
        namespace: tenant::namespace(request)?,
        quota: tenant::quota(request)?,
        limits: tenant::limits(request)?,
        account: tenant::account(request)?,
        deny: network::deny(request)?,
        doors: network::doors(request)?,
        home: tenant::home(request)?,
    })
}

/// The workspace's pod, which goes with it; all else is the tenant's.
///
/// # Errors
/// When the site cannot provide the template.
pub fn pod(request: &Request<'_>) -> Result<Pod, Problem> {
    request.settings.can_provide(request.template)?;
    pod::pod(request)
}

/// The twin of this pod of a running workspace.
///
/// # Errors
/// When the site cannot provide the template.
pub fn twin(request: &Request<'_>, of: &Pod) -> Result<Pod, Problem> {
    request.settings.can_provide(request.template)?;
    pod::twin(request, of)
}

/// The name of a workspace's twin.
pub fn twin_name(id: &WorkspaceId) -> String {
    format!("{id}-twin")
}

/// A manifest as a typed object. The types silently drop what they do not know, and a wall that
/// is misspelt is no wall: so nothing may be lost.
fn typed<T: Serialize + DeserializeOwned>(manifest: Value) -> Result<T, Problem> {
    let failed = |error: serde_json::Error| Problem::engine(format!("a manifest does not fit the API: {error}"), "");
    let object: T = serde_json::from_value(manifest.clone()).map_err(failed)?;
    let kept = serde_json::to_value(&object).map_err(failed)?;
    match lost(&manifest, &kept, String::new()) {
        None => Ok(object),
        Some(path) => Err(Problem::engine(format!("a manifest has {path}, which the API does not know"), "")),
    }
}

/// Whether everything that a desired object says is so in one that is there.
pub(crate) fn is_in<T: Serialize>(desired: &T, there: &T) -> bool {
    let values = serde_json::to_value(desired).and_then(|desired| Ok((desired, serde_json::to_value(there)?)));
    values.is_ok_and(|(desired, there)| lost(&desired, &there, String::new()).is_none())
}

/// The first path of `manifest` that is missing or different in `kept`.
fn lost(manifest: &Value, kept: &Value, path: String) -> Option<String> {
    match (manifest, kept) {
        (Value::Object(manifest), Value::Object(kept)) => manifest
            .iter()
            .filter(|(_, value)| !value.is_null())
            .find_map(|(name, value)| lost(value, kept.get(name).unwrap_or(&Value::Null), format!("{path}.{name}"))),
        (Value::Array(manifest), Value::Array(kept)) if manifest.len() == kept.len() => manifest
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(index, (one, other))| lost(one, other, format!("{path}[{index}]"))),
        // Empty lists are left out by the types; they say nothing.
        (Value::Array(manifest), Value::Null) if manifest.is_empty() => None,
        (one, other) => (one != other).then_some(path),
    }
}

#[cfg(test)]
pub(crate) mod tests;
