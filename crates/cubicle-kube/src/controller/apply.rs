//! Making the desired objects so, by server-side apply.

use cubicle_core::problem::Problem;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, PersistentVolumeClaim, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use super::{Context, MANAGER};
use crate::names::TENANT_OBJECT;
use crate::objects::{Tenant, is_in};

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

    pub(super) fn add(&self, name: String) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(name);
    }
}

/// What stands of a tenant now, so that only what is missing or another is written.
#[derive(Default)]
pub(super) struct Standing {
    namespace: Option<Namespace>,
    quota: Option<ResourceQuota>,
    limits: Option<LimitRange>,
    account: Option<ServiceAccount>,
    policies: Vec<NetworkPolicy>,
}

impl Standing {
    /// Reads what stands in a namespace that is known; in any other most likely nothing does.
    pub(super) async fn read(context: &Context, namespace: &str) -> Result<Self, kube::Error> {
        if !context.namespaces.has(namespace) {
            return Ok(Self::default());
        }
        let client = &context.client;
        let namespaces = Api::<Namespace>::all(client.clone());
        let quotas = Api::<ResourceQuota>::namespaced(client.clone(), namespace);
        let limits = Api::<LimitRange>::namespaced(client.clone(), namespace);
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
        let policies = Api::<NetworkPolicy>::namespaced(client.clone(), namespace);
        let everything = ListParams::default();
        let (namespace, quota, limits, account, policies) = tokio::try_join!(
            namespaces.get_opt(namespace),
            quotas.get_opt(TENANT_OBJECT),
            limits.get_opt(TENANT_OBJECT),
            accounts.get_opt(TENANT_OBJECT),
            policies.list(&everything),
        )?;
        Ok(Self { namespace, quota, limits, account, policies: policies.items })
    }
}

/// What every workspace of the tenant stands on; the pod comes after it.
pub(super) async fn walls(context: &Context, tenant: &Tenant, standing: &Standing) -> Result<(), Failure> {
    let client = &context.client;
    let api = Api::<Namespace>::all(client.clone());
    let namespace = make(&api, &tenant.namespace, standing.namespace.as_ref(), "the namespace");
    let name = tenant.namespace.name_any();
    if !context.namespaces.has(&name) {
        // Each object that comes before its namespace waits 50 ms to be refused (NamespaceLifecycle).
        namespace.await?;
        inside(client, tenant, standing).await?;
        context.namespaces.add(name);
        return Ok(());
    }
    // A tenant who comes again has a namespace: all of it at once then.
    let (namespace, inside) = tokio::join!(namespace, inside(client, tenant, standing));
    namespace?;
    match inside {
        Err(Failure::Later(kube::Error::Api(status))) if status.is_not_found() => {
            self::inside(client, tenant, &Standing::default()).await
        }
        other => other,
    }
}

/// What lies in the tenant's namespace.
async fn inside(client: &Client, tenant: &Tenant, standing: &Standing) -> Result<(), Failure> {
    let namespace = tenant.namespace.name_any();
    let quota = Api::<ResourceQuota>::namespaced(client.clone(), &namespace);
    let limits = Api::<LimitRange>::namespaced(client.clone(), &namespace);
    let policies = Api::<NetworkPolicy>::namespaced(client.clone(), &namespace);
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
    let homes = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &namespace);
    let home = tenant.home.name_any();
    let (.., there) = tokio::try_join!(
        make(&quota, &tenant.quota, standing.quota.as_ref(), "the quota"),
        make(
            &limits,
            &tenant.limits,
            standing.limits.as_ref().filter(|one| one.spec == tenant.limits.spec),
            "the limits"
        ),
        make(&policies, &tenant.deny, alike(&tenant.deny, standing), "the network policy"),
        make(&policies, &tenant.doors, alike(&tenant.doors, standing), "the network policy"),
        make(&accounts, &tenant.account, standing.account.as_ref(), "the service account"),
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

/// The policy that stands, when it says the same to the word: what is added to a list or a selector, which applying
/// would take away, opens a wall. The list of limits is of that kind too.
fn alike<'a>(policy: &NetworkPolicy, standing: &'a Standing) -> Option<&'a NetworkPolicy> {
    standing.policies.iter().find(|one| one.name_any() == policy.name_any() && one.spec == policy.spec)
}

/// Applies an object, unless everything that it says stands there already: an API server takes several times as long to
/// find that it has nothing to change as to be read.
async fn make<K>(api: &Api<K>, object: &K, standing: Option<&K>, what: &str) -> Result<(), Failure>
where
    K: Resource + Serialize + DeserializeOwned + Clone + Debug,
{
    if standing.is_some_and(|there| there.meta().deletion_timestamp.is_none() && is_in(object, there)) {
        return Ok(());
    }
    let applied = api.patch(&object.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await;
    applied.map(drop).map_err(|error| sort(what, error))
}
