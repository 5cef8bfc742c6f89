//! The controller: holds the power, and answers to nobody but the API server.

mod apply;
mod claim;
mod decide;
mod egress;
mod later;
mod lease;
mod manifests;
mod open;
mod place;
mod pool;
mod proving;
mod reconcile;
mod status;
mod templates;
mod traces;
mod walls;

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cubicle_core::problem::Problem;
use cubicle_core::workspace::State;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::{self, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};

use crate::keys::{GateKey, RouteKey};
use crate::names::MANAGED_BY;
use crate::resources::{Template, Workspace, WorkspaceStatus};
use crate::settings::Settings;

/// Who writes fields, in the words of server-side apply.
pub(crate) const MANAGER: &str = "cubicle-controller";
/// Between two attempts after an error: doubled each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// After a watch broke, until it is tried again.
const WATCH_AGAIN: Duration = Duration::from_millis(250);

/// What the controller needs.
#[derive(Debug)]
pub struct Options {
    /// What the site has decided.
    pub settings: Settings,
    /// The key that opens gates.
    pub gate_key: GateKey,
    /// The key of notebooks' tokens.
    pub route_key: RouteKey,
    /// Who this replica is: its pod's name.
    pub identity: String,
    /// Where metrics are told, if anywhere; it does not block.
    pub metrics: Option<Arc<TcpListener>>,
}

/// What every reconciliation can use.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) gate_key: GateKey,
    pub(crate) route_key: RouteKey,
    pub(crate) recorder: Recorder,
    /// Failures in a row, by workspace.
    failures: Mutex<HashMap<String, u32>>,
    namespaces: apply::KnownNamespaces,
    homes: claim::Homes,
    pool: tokio::sync::Notify,
}

/// The pause after an error of a watch. All watches of a controller share it and stand still
/// during it: one that grows from error to error blinds the controller for minutes after an
/// outage in which each of them broke.
#[derive(Debug, Clone, Copy)]
struct Steadily;

impl Iterator for Steadily {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(WATCH_AGAIN)
    }
}

impl Backoff for Steadily {
    fn reset(&mut self) {}
}

impl Context {
    /// How long to wait after one more failure of this workspace.
    fn failed(&self, name: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(name.to_owned()).or_default();
        *count = count.saturating_add(1);
        FIRST_WAIT.saturating_mul(2_u32.saturating_pow((*count - 1).min(16))).min(LONGEST_WAIT)
    }

    fn succeeded(&self, name: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// The workspace that a pod belongs to, when there is something to do about it.
fn owner(pod: &Pod) -> Option<ObjectRef<Workspace>> {
    if !decide::is_news(pod, Timestamp::now()) {
        return None;
    }
    let owner = pod.owner_references().iter().find(|owner| owner.kind == Workspace::kind(&()))?;
    Some(ObjectRef::new(&owner.name))
}

/// Runs until the lease is lost or a signal comes. Returns the reason; a process that has lost
/// its lease must end, because another one acts now.
///
/// # Errors
/// When the cluster cannot be reached at the start, or the lease was lost.
pub async fn run(options: Options) -> Result<(), Problem> {
    let client = crate::client().await?;
    if let Some(listener) = options.metrics {
        tell_metrics(&listener)?;
    }
    let lease = lease::Lease::new(&client, &options.settings.system_namespace, &options.identity);
    lease.acquire().await?;
    cubicle_metrics::controller::leads(true);
    tracing::info!(identity = options.identity, "this replica leads");
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(options.identity.clone()) };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client: client.clone(),
        settings: options.settings,
        gate_key: options.gate_key,
        route_key: options.route_key,
        failures: Mutex::default(),
        namespaces: apply::KnownNamespaces::default(),
        homes: claim::Homes::default(),
        pool: tokio::sync::Notify::new(),
    });
    let ours = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    let workspaces = Controller::new(Api::<Workspace>::all(client.clone()), watcher::Config::default())
        // Not `owns`: it would name the cluster-scoped owner together with the pod's namespace, and
        // the same workspace under two names would be reconciled twice at once.
        .watches(Api::<Pod>::all(client.clone()), ours.clone(), |pod| owner(&pod));
    let known = workspaces.store();
    let within = move |namespace: Option<String>| {
        let namespace = namespace.unwrap_or_default();
        let all = known.state();
        // What is on its way is compared with nothing before its walls are read, in its own time.
        let runs = |status: &WorkspaceStatus| {
            status.state == Some(State::Running) && status.namespace.as_deref() == Some(&namespace)
        };
        let there = all.iter().filter(|one| one.status.as_ref().is_some_and(runs));
        there.map(|one| ObjectRef::new(&one.name_any())).collect::<Vec<_>>()
    };
    // Whatever stands around running workspaces, whoever made it: it has no label of ours.
    let (one, two, three, four) = (within.clone(), within.clone(), within.clone(), within);
    let workspaces = workspaces
        .watches(Api::<NetworkPolicy>::all(client.clone()), watcher::Config::default(), move |policy| {
            one(policy.namespace())
        })
        .watches(Api::<ResourceQuota>::all(client.clone()), ours.clone(), move |quota| two(quota.namespace()))
        .watches(Api::<ServiceAccount>::all(client.clone()), ours.clone(), move |account| three(account.namespace()))
        .watches(Api::<Namespace>::all(client.clone()), ours, move |namespace| four(Some(namespace.name_any())))
        .trigger_backoff(Steadily)
        .shutdown_on_signal()
        .run(reconcile::reconcile, reconcile::after_error, Arc::clone(&context))
        .for_each(|result| async move {
            // What is still going is no failure, in the figures too.
            let going = matches!(&result, Err(controller::Error::ReconcilerFailed(reconcile::Error::Going(_), _)));
            cubicle_metrics::controller::reconciled("workspace", result.is_ok() || going);
            if let Err(error) = result {
                tracing::debug!(%error, "a reconciliation ended early");
            }
        });
    let templates = Controller::new(Api::<Template>::all(client), watcher::Config::default())
        .trigger_backoff(Steadily)
        .shutdown_on_signal()
        .run(templates::reconcile, templates::after_error, Arc::clone(&context))
        .for_each(|result| async move { cubicle_metrics::controller::reconciled("template", result.is_ok()) });
    tokio::select! {
        ((), ()) = async { tokio::join!(workspaces, templates) } => {
            lease.release().await;
            Ok(())
        }
        () = pool::keep(context) => Ok(()),
        problem = lease.keep() => Err(problem),
    }
}

/// Tells metrics on a listener of their own, from now on.
fn tell_metrics(listener: &TcpListener) -> Result<(), Problem> {
    let listener = listener
        .try_clone()
        .and_then(tokio::net::TcpListener::from_std)
        .map_err(|error| Problem::engine(format!("metrics cannot be told: {error}"), "choose another --metrics"))?;
    tokio::spawn(cubicle_metrics::serve(listener, || async {
        use cubicle_metrics::{controller, launches, pool, traces, whole};
        whole(&[controller::text(), launches::text(), pool::text(), traces::text("controller")])
    }));
    Ok(())
}
