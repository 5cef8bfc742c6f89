//! Somebody claims a workspace that was built and proven before anybody asked: where its home is, whether it is
//! still what was proven, and the way to it.

use std::net::SocketAddr;
use std::time::Duration;

use cubicle_core::level::{EngineKind, Namespace as Tenancy};
use cubicle_core::report::{self, Report};
use cubicle_core::template::Template as Document;
use cubicle_core::workspace::{Progress, State, Step};
use cubicle_core::{catalogue, judge};
use cubicle_metrics::{launches, pool};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use super::open::{keep, record, wait_until_it_answers};
use super::place::Place;
use super::reconcile::Error;
use super::status::{reason, say, set};
use super::traces::{self, Proof};
use super::{Context, MANAGER, decide, walls};
use crate::engine::moment;
use crate::names::{self, DOORS, Location, OWNER};
use crate::objects::{self, Request};
use crate::resources::{Identity, Route, Template, Workspace, WorkspaceStatus};
use crate::surroundings::address;

/// How long a notebook that has answered before may take to answer.
const NOTEBOOK: Duration = Duration::from_secs(5);

/// One at a time decides where a user's home is: whoever looks for one, and whoever makes one theirs.
pub(super) struct Homes([Mutex<()>; 64]);

impl Default for Homes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Homes {
    async fn of(&self, owner: &str) -> MutexGuard<'_, ()> {
        let shelf = owner.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        self.0[shelf % self.0.len()].lock().await
    }
}

/// Where everything of a workspace is, or is to be.
///
/// A home says whose it is by its label. It is asked for at the beginning of a launch only: from then on the
/// status has it.
pub(super) async fn locate(
    workspace: &Workspace,
    identity: &Identity,
    context: &Context,
) -> Result<Location, kube::Error> {
    let derived = Location::of(context.settings.tenancy, identity);
    if context.settings.tenancy != Tenancy::PerUser || workspace.spec.member {
        return Ok(derived);
    }
    if !decide::is_fresh(workspace) {
        let written = workspace.status.as_ref().and_then(|status| status.namespace.as_deref());
        return Ok(written.and_then(Location::of_namespace).unwrap_or(derived));
    }
    let owner = identity.owner.id.as_str();
    let _one = context.homes.of(owner).await;
    Ok(homes(context, owner).await?.into_iter().next().unwrap_or(derived))
}

/// Where the homes of a user are: one, where nobody has made another by hand. The oldest first.
async fn homes(context: &Context, owner: &str) -> Result<Vec<Location>, kube::Error> {
    let api = Api::<PersistentVolumeClaim>::all(context.client.clone());
    let mut claims = api.list(&ListParams::default().labels(&format!("{OWNER}={owner}"))).await?.items;
    claims.retain(|claim| claim.metadata.deletion_timestamp.is_none());
    claims.sort_by_key(ResourceExt::creation_timestamp);
    Ok(claims
        .iter()
        .filter_map(|claim| Location::of_home(claim.metadata.namespace.as_deref()?, claim.metadata.name.as_deref()?))
        .collect())
}

/// Gives it to whoever claimed it, or launches theirs like any other.
pub(super) async fn claim(workspace: &Workspace, context: &Context, place: &Place, pod: &Pod) -> Result<Action, Error> {
    let mut status = workspace.status.clone().unwrap_or_default();
    status.begun_at = Some(MicroTime(k8s_openapi::jiff::Timestamp::now()));
    context.pool.notify_one();
    let Some(document) = status.launched.as_deref().and_then(|text| serde_json::from_str::<Document>(text).ok()) else {
        return anew(workspace, context, place, "what was launched is not known").await;
    };
    let request = place.request(workspace, context, &document, &[]);
    let Some((ip, nonce)) = address(pod).zip(status.nonce.clone()) else {
        return anew(workspace, context, place, "its pod has no address").await;
    };
    let door = SocketAddr::new(ip, document.spec.port);
    let token = context.route_key.token(request.uid, &nonce);
    let before = tokio::try_join!(
        async { unusable(workspace, context, &document).await.map_err(Error::from) },
        async { Ok(walls::digests(context, pod).await?) },
        async { earlier(context, workspace).await.map_err(Error::from) },
        async { Ok(wait_until_it_answers(door, token.expose_secret(), &place.pods, pod, NOTEBOOK).await) },
    )?;
    let (unusable, now, report, answers) = before;
    let changed = walls::differences(&status.walls, &now);
    let why = unusable
        .or_else(|| (!changed.is_empty()).then(|| changed.join("; ")))
        .or_else(|| (pod.labels().get(DOORS) != Some(&objects::doors_name(&request))).then(|| OTHER_DOORS.to_owned()))
        .or_else(|| answers.err())
        .or_else(|| report.is_none().then(|| "its report is gone".to_owned()));
    let (Some(report), None) = (report, &why) else {
        return anew(workspace, context, place, why.as_deref().unwrap_or_default()).await;
    };
    {
        let owner = place.identity.owner.id.as_str();
        let _one = context.homes.of(owner).await;
        if has_another(context, workspace, &place.location).await? {
            return anew(workspace, context, place, "its user has a home already").await;
        }
        hand_over(context, &request).await?;
    }
    open(workspace, context, (&request, &document), status, report, door).await
}

/// Of one that was made under other settings.
const OTHER_DOORS: &str = "its doors are not those that the site's settings ask for now";

/// Why nobody should get it any more.
pub(super) async fn unusable(
    workspace: &Workspace,
    context: &Context,
    launched: &Document,
) -> Result<Option<String>, kube::Error> {
    let proven = workspace.status.as_ref().and_then(|status| status.proven_at.as_ref());
    let age = proven.map_or(i64::MAX, |time| Timestamp::now().as_second() - moment(time.0).as_second());
    // What comes from a clock that was set back says nothing.
    if !u64::try_from(age).is_ok_and(|age| age <= context.settings.warm.max_age.0) {
        return Ok(Some("what was proven about it is too old".to_owned()));
    }
    let template = Api::<Template>::all(context.client.clone()).get_opt(&workspace.spec.template).await?;
    let Some(mut now) = template.and_then(|template| template.document().ok()) else {
        return Ok(Some("its template is gone".to_owned()));
    };
    match context.settings.judge_image(&now) {
        Ok(judged) if judged.opens => {}
        Ok(judged) => return Ok(Some(format!("image.known-exploits: {}", judged.reason))),
        Err(problem) => return Ok(Some(problem.what)),
    }
    now.spec.scan = None;
    Ok((now != *launched).then(|| "its template was changed".to_owned()))
}

/// What was proven before anybody asked.
async fn earlier(context: &Context, workspace: &Workspace) -> Result<Option<Report>, kube::Error> {
    let Ok(id) = workspace.name_any().parse() else { return Ok(None) };
    let api = Api::<ConfigMap>::namespaced(context.client.clone(), &context.settings.system_namespace);
    let map = api.get_opt(&names::report(&id)).await?;
    Ok(map.and_then(|map| serde_json::from_str(map.data?.get("report.json")?).ok()))
}

/// Whether its user has a home elsewhere, or is about to get one.
async fn has_another(context: &Context, workspace: &Workspace, here: &Location) -> Result<bool, kube::Error> {
    let owner = &workspace.spec.owner.id;
    let all = Api::<Workspace>::all(context.client.clone());
    let selected = ListParams::default().fields(&format!("spec.owner.id={owner}"));
    let (homes, theirs) = tokio::try_join!(homes(context, owner), all.list(&selected))?;
    let elsewhere = |other: &Workspace| {
        let namespace = other.status.as_ref().and_then(|status| status.namespace.as_deref());
        other.uid() != workspace.uid() && namespace != Some(&here.namespace)
    };
    Ok(homes.iter().any(|home| home != here) || theirs.items.iter().any(elsewhere))
}

/// Makes namespace and home the user's. From then on they are found by them, and nobody else can claim them.
async fn hand_over(context: &Context, request: &Request<'_>) -> Result<(), Error> {
    let tenant = objects::tenant(request).map_err(Error::Problem)?;
    let namespaces = Api::<Namespace>::all(context.client.clone());
    let homes = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &request.location.namespace);
    let theirs = json!({"metadata": {"labels": {OWNER: request.identity.owner.id.as_str()}}});
    let (home, parameters) = (request.location.home(), PatchParams::apply(MANAGER).force());
    // The namespace first: one without its mark is never deleted.
    namespaces.patch(&request.location.namespace, &parameters, &Patch::Apply(&tenant.namespace)).await?;
    homes.patch(&home, &PatchParams::default(), &Patch::Merge(&theirs)).await?;
    Ok(())
}

/// Writes what was proven when, and opens the route.
async fn open(
    workspace: &Workspace,
    context: &Context,
    (request, document): (&Request<'_>, &Document),
    mut status: WorkspaceStatus,
    earlier: Report,
    door: SocketAddr,
) -> Result<Action, Error> {
    let generation = workspace.metadata.generation;
    let proven = status.proven_at.as_ref().map_or(0, |time| Timestamp::now().as_second() - moment(time.0).as_second());
    let age = report::age(Duration::from_secs(u64::try_from(proven).unwrap_or(0)));
    // What each guarantee rests on keeps its time.
    let report = judge::report(&record(workspace, request), Timestamp::now(), Duration::ZERO, earlier.guarantees);
    let summary = report.summary;
    let node = status.node.clone().unwrap_or_default();
    let promised = catalogue::promised(document.spec.level, EngineKind::Kubernetes).len();
    let owner = &request.identity.owner.name;
    let counted = format!("{} held, {} absent, {} not claimed", summary.held, summary.absent, summary.not_claimed);
    status.steps.clear();
    for (step, message) in [
        (Step::Request, format!("{owner} asked for {} at level {}", document.metadata.name, document.spec.level)),
        (Step::Plan, format!("{promised} guarantees promised")),
        (Step::Build, format!("built {age} ago on {node}, with a home that was never anybody's")),
        (Step::Prove, format!("{counted}; tried {age} ago, and what stands around it was not changed since")),
        (Step::Open, "the notebook answers".to_owned()),
    ] {
        say(&mut status, step, Progress::Done, &message);
    }
    status.state = Some(State::Running);
    status.reason = String::new();
    status.ready_at = None;
    status.opened_at = Some(Time(k8s_openapi::jiff::Timestamp::now()));
    status.route = Some(Route { address: door.ip().to_string(), port: door.port() });
    status.verified = workspace.spec.verify;
    set(&mut status, generation, "Open", true, reason::OPEN, "the notebook answers");
    keep(context, workspace, &report).await?;
    context.write(workspace, status.clone()).await?;
    launches::proven(&report, launches::Proof::Claim);
    traces::tell(workspace, &status, State::Running, true, Proof { observed: None, guarantees: &report.guarantees });
    launches::ended(launches::Outcome::Open);
    pool::asked(pool::Claim::Got);
    context.tell(workspace, EventType::Normal, reason::OPEN, &counted).await;
    Ok(Action::requeue(Duration::from_secs(1)))
}

async fn anew(workspace: &Workspace, context: &Context, place: &Place, why: &str) -> Result<Action, Error> {
    give_up(workspace, context, place, why).await?;
    Ok(Action::requeue(Duration::ZERO))
}

/// Puts away what could not be used, so that the launch begins like any other. A namespace that was not handed
/// over is nobody's, and goes with the next look at the pool.
pub(super) async fn give_up(
    workspace: &Workspace,
    context: &Context,
    place: &Place,
    why: &str,
) -> Result<(), kube::Error> {
    tracing::warn!(workspace = workspace.name_any(), why, "a warm workspace could not be used");
    pool::asked(pool::Claim::GivenUp);
    if let Some(pod) = &place.pod {
        let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
        let at_once = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default().grace_period(0) };
        match place.pods.delete(&pod.name_any(), &at_once).await {
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            other => drop(other?),
        }
    }
    context.write(workspace, WorkspaceStatus::default()).await.map(|_| context.pool.notify_one())
}
