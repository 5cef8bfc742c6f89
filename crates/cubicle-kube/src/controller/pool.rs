//! Holding workspaces that are built, walled and proven before anybody asks for them.
//!
//! A member is a Workspace without a user, in a namespace that is nobody's: walls, pod, home and proof are those
//! of any launch, made by the same code. Somebody claims it by writing themselves into it, once; its namespace
//! and home are theirs from then on, and its pod is the one that was proven. A user who has a home already cannot
//! be given such a pod: volumes of a running pod are fixed, and nothing here has the privilege to mount one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cubicle_core::level::Namespace as Tenancy;
use cubicle_core::name::{TemplateName, UserId, WorkspaceId};
use cubicle_core::workspace::State;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};

use super::{Context, MANAGER};
use crate::names::{Location, MANAGED_BY, POOL, UNCLAIMED};
use crate::resources::{OwnerSpec, Workspace, WorkspaceSpec};

/// How often the pool is looked at when nothing happens.
const PERIOD: Duration = Duration::from_secs(5);
/// How long the cluster is left to those who have just claimed one.
const QUIET: Duration = Duration::from_secs(1);
/// How often namespaces are looked through for those that are nobody's, while there are members and long after.
const SWEEP: Duration = Duration::from_secs(10);
const IDLE_SWEEP: Duration = Duration::from_secs(300);
/// How long a template rests after the first failure; twice as long after each further one.
const REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(600);
/// The name of nobody, where people look for one.
const NOBODY: &str = "nobody";

/// What this task alone remembers.
#[derive(Default)]
struct Keeper {
    failures: HashMap<String, (u32, Instant)>,
    /// When namespaces were last looked through, and whether there were members then.
    swept: Option<(Instant, bool)>,
}

/// Keeps the pool for as long as this replica leads.
pub(super) async fn keep(context: Arc<Context>) {
    let mut keeper = Keeper::default();
    loop {
        if let Err(error) = keeper.look(&context).await {
            tracing::warn!(%error, "the pool of warm workspaces could not be looked at");
        }
        if tokio::time::timeout(PERIOD, context.pool.notified()).await.is_ok() {
            tokio::time::sleep(QUIET).await;
        }
    }
}

impl Keeper {
    async fn look(&mut self, context: &Context) -> Result<(), kube::Error> {
        let api = Api::<Workspace>::all(context.client.clone());
        let members = api.list(&ListParams::default().labels(POOL)).await?.items;
        let (mut kept, mut making) = (BTreeMap::<&str, u32>::new(), false);
        for member in members.iter().filter(|one| one.spec.member && one.metadata.deletion_timestamp.is_none()) {
            let wanted = context.settings.warm.members.iter().find(|(name, _)| name.as_str() == member.spec.template);
            let count = kept.entry(&member.spec.template).or_default();
            let ended = member.status.as_ref().and_then(|status| status.state).is_some_and(|state| !state.is_live());
            if ended {
                self.failed(member);
            }
            let unwanted = wanted.is_none_or(|(_, most)| *count >= *most);
            if ended || unwanted || self.is_stale(context, member).await? {
                retire(&api, member).await?;
                continue;
            }
            *count += 1;
            match member.status.as_ref().and_then(|status| status.ready_at.as_ref()) {
                Some(_) => drop(self.failures.remove(&member.spec.template)),
                None => making = true,
            }
        }
        let ready = members.iter().filter(|one| one.status.as_ref().is_some_and(|status| status.ready_at.is_some()));
        let wanted: u32 = context.settings.warm.members.values().sum();
        cubicle_metrics::pool::held(ready.count(), usize::try_from(wanted).unwrap_or(usize::MAX));
        let missing = context.settings.warm.members.iter().find(|(name, wanted)| {
            let rests = self.failures.get(name.as_str()).is_some_and(|(_, until)| Instant::now() < *until);
            kept.get(name.as_str()).copied().unwrap_or_default() < **wanted && !rests
        });
        // One after the other: a launch that somebody waits for has most of the cluster.
        if let Some((template, _)) = missing.filter(|_| !making) {
            make(&api, template).await?;
        }
        let any = !members.is_empty();
        let due = |(at, were): (Instant, bool)| at.elapsed() > if any || were { SWEEP } else { IDLE_SWEEP };
        if self.swept.is_none_or(due) {
            sweep(context, &api).await?;
            self.swept = Some((Instant::now(), any));
        }
        Ok(())
    }

    fn failed(&mut self, member: &Workspace) {
        let reason = member.status.as_ref().map(|status| status.reason.as_str()).unwrap_or_default();
        tracing::warn!(member = member.name_any(), reason, "a warm workspace could not be had");
        let (times, until) = self.failures.entry(member.spec.template.clone()).or_insert((0, Instant::now()));
        *times += 1;
        *until = Instant::now() + REST.saturating_mul(2_u32.saturating_pow(*times - 1)).min(LONGEST_REST);
    }

    /// Whether what is ready would not be given to anybody.
    async fn is_stale(&self, context: &Context, member: &Workspace) -> Result<bool, kube::Error> {
        let Some(status) = member.status.as_ref().filter(|status| status.ready_at.is_some()) else {
            return Ok(false);
        };
        let launched = status.launched.as_deref().and_then(|text| serde_json::from_str(text).ok());
        match launched {
            Some(document) => Ok(super::claim::unusable(member, context, &document).await?.is_some()),
            None => Ok(true),
        }
    }
}

/// Asks for one more. What becomes of it is any workspace's life.
async fn make(api: &Api<Workspace>, template: &TemplateName) -> Result<(), kube::Error> {
    let (id, nobody) = (WorkspaceId::from_random(rand::random()), UserId::from_random(rand::random()));
    let spec = WorkspaceSpec {
        template: template.to_string(),
        owner: OwnerSpec { id: nobody.to_string(), name: NOBODY.to_owned() },
        name: String::new(),
        team: None,
        run: true,
        launch: 0,
        verify: 0,
        member: true,
        delete_home: false,
    };
    let mut member = Workspace::new(id.as_str(), spec);
    member.metadata.labels = Some([(POOL.to_owned(), "member".to_owned())].into_iter().collect());
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    api.create(&parameters, &member).await?;
    tracing::info!(member = %id, %template, "a warm workspace is being made");
    Ok(())
}

/// Takes one out for good, unless somebody claims it at the same instant.
async fn retire(api: &Api<Workspace>, member: &Workspace) -> Result<(), kube::Error> {
    let preconditions = Preconditions { uid: member.uid(), resource_version: member.resource_version() };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(&member.name_any(), &parameters).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        other => {
            tracing::info!(member = member.name_any(), "a warm workspace is retired");
            other.map(|_| ())
        }
    }
}

/// Deletes namespaces that are nobody's and that nobody can get any more: of members that are gone, and of those
/// whose claim was given up.
async fn sweep(context: &Context, workspaces: &Api<Workspace>) -> Result<(), kube::Error> {
    let api = Api::<Namespace>::all(context.client.clone());
    let ours = ListParams::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    let mut nobodys = api.list_metadata(&ours).await?.items;
    nobodys.retain(|one| one.annotations().contains_key(UNCLAIMED) && one.metadata.deletion_timestamp.is_none());
    if nobodys.is_empty() {
        return Ok(());
    }
    // Listed after the namespaces: whoever made one of them is in it, or is gone.
    let all = workspaces.list(&ListParams::default()).await?.items;
    let in_use: HashSet<String> = all.iter().filter_map(namespace_in_use).collect();
    for namespace in nobodys.iter().filter(|one| !in_use.contains(&one.name_any())) {
        // The mark may have been taken away since it was read.
        let preconditions = Preconditions { uid: namespace.uid(), resource_version: namespace.resource_version() };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(&namespace.name_any(), &parameters).await {
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// The namespace of a member, or of whoever has claimed one and may still get it.
fn namespace_in_use(workspace: &Workspace) -> Option<String> {
    if workspace.spec.member {
        // Made before the status says so.
        let identity = workspace.identity().ok()?;
        return Some(Location::of(Tenancy::PerUser, &identity).namespace);
    }
    let status = workspace.status.as_ref().filter(|status| status.state.is_some_and(State::is_live))?;
    status.namespace.clone()
}
