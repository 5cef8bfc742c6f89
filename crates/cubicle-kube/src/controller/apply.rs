//! Making the desired objects so, by server-side apply.

use cubicle_core::problem::Problem;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, PersistentVolumeClaim, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use super::{Context, MANAGER};
use crate::objects::{Built, Tenant};

/// How an API call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The API server refused the object: another attempt would be refused as well.
    #[error("{0}")]
    Refused(Problem),
    /// It may work later.
    #[error(transparent)]
    Later(#[from] kube::Error),
}

/// Sorts out what is final: quota, Pod Security, admission policies, invalid fields.
pub(crate) fn sort(what: &str, error: kube::Error) -> Failure {
    match error {
        kube::Error::Api(status)
            if matches!(status.code, 403 | 422) && !status.message.contains("being terminated") =>
        {
            let message: String = status.message.chars().take(500).collect();
            Failure::Refused(Problem::engine(
                format!("{what} was refused: {message}"),
                "see the template and the tenant's quota",
            ))
        }
        other => Failure::Later(other),
    }
}

/// Namespaces that this controller has made or found. One that is not among them is most likely not there.
#[derive(Default)]
pub(super) struct KnownNamespaces(Mutex<HashSet<String>>);

/// The most names that are kept; then it begins anew.
const MOST_KNOWN: usize = 100_000;

impl KnownNamespaces {
    fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn add(&self, name: String) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(name);
    }
}

/// What every workspace of the tenant stands on, and the workspace's own walls; the pod comes after them.
pub(crate) async fn walls(context: &Context, tenant: &Tenant, built: &Built) -> Result<(), Failure> {
    let client = &context.client;
    let api = Api::<Namespace>::all(client.clone());
    let namespace = async { patch(&api, &tenant.namespace).await.map_err(|error| sort("the namespace", error)) };
    let name = tenant.namespace.name_any();
    if !context.namespaces.has(&name) {
        // Each object that comes before its namespace waits 50 ms to be refused (NamespaceLifecycle).
        namespace.await?;
        inside(client, tenant, built).await?;
        context.namespaces.add(name);
        return Ok(());
    }
    // A tenant who comes again has a namespace: all of it at once then.
    let (namespace, inside) = tokio::join!(namespace, inside(client, tenant, built));
    namespace?;
    match inside {
        Err(Failure::Later(kube::Error::Api(status))) if status.is_not_found() => {
            self::inside(client, tenant, built).await
        }
        other => other,
    }
}

/// What lies in the tenant's namespace.
async fn inside(client: &Client, tenant: &Tenant, built: &Built) -> Result<(), Failure> {
    let namespace = tenant.namespace.name_any();
    let quota = Api::<ResourceQuota>::namespaced(client.clone(), &namespace);
    let limits = Api::<LimitRange>::namespaced(client.clone(), &namespace);
    let policies = Api::<NetworkPolicy>::namespaced(client.clone(), &namespace);
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
    let homes = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &namespace);
    let home = tenant.home.name_any();
    let (.., there) = tokio::try_join!(
        async { patch(&quota, &tenant.quota).await.map_err(|error| sort("the quota", error)) },
        async { patch(&limits, &tenant.limits).await.map_err(|error| sort("the limits", error)) },
        async { patch(&policies, &tenant.deny).await.map_err(|error| sort("the network policy", error)) },
        async { patch(&policies, &built.doors).await.map_err(|error| sort("the network policy", error)) },
        async { patch(&accounts, &built.account).await.map_err(|error| sort("the service account", error)) },
        async { homes.get_opt(&home).await.map_err(Failure::Later) },
    )?;
    // A home that is there stays as it is: it belongs to its user. A new one comes after the quota that
    // it counts against.
    if there.is_none() {
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match homes.create(&parameters, &tenant.home).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            other => drop(other.map_err(|error| sort("the home", error))?),
        }
    }
    Ok(())
}

async fn patch<K>(api: &Api<K>, object: &K) -> Result<K, kube::Error>
where
    K: Resource + Serialize + DeserializeOwned + Clone + Debug,
{
    api.patch(&object.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await
}
