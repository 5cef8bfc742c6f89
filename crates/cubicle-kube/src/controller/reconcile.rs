//! One workspace: from what is wanted and what is to the next step. Everything that is known is
//! in the cluster, so that a controller that was killed anywhere goes on from there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cubicle_core::catalogue;
use cubicle_core::level::EngineKind;
use cubicle_core::problem::Problem;
use cubicle_core::template::Template as Document;
use cubicle_core::workspace::{Progress, State, Step};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, Event};
use kube::{Api, ResourceExt};

use super::apply::{self, Failure};
use super::decide::{self, Next};
use super::place::{Found, Place, find, template};
use super::status::{reason, say, set};
use super::{Context, MANAGER, claim};
use crate::names::{FINALIZER, SCHEDULED};
use crate::objects;
use crate::resources::{Workspace, WorkspaceStatus};
use crate::surroundings;

/// Between two looks at something that changes without an event.
const SOON: Duration = Duration::from_millis(500);
/// Between two looks at a pod that goes.
const MEANWHILE: Duration = Duration::from_secs(10);

/// Why a reconciliation ended early; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server did not do it.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// Adding or removing the finalizer failed.
    #[error("{0}")]
    Finalizer(String),
    /// Gate or reference did not answer.
    #[error("{0}")]
    Problem(Problem),
    /// Something of it is still going: no failure, but its finalizer has to stay.
    #[error("{0} is not gone yet")]
    Going(&'static str),
}

pub(crate) async fn reconcile(workspace: Arc<Workspace>, context: Arc<Context>) -> Result<Action, Error> {
    let name = workspace.name_any();
    let api = Api::<Workspace>::all(context.client.clone());
    // What is written first is refused when the workspace is another one by now: it need not be read anew.
    if is_new(&workspace)
        && let Some(action) = welcome(&api, &workspace, &context).await?
    {
        context.succeeded(&name);
        return Ok(action);
    }
    // As it is, not as it was last watched: while the watches are broken the cache stands still, and
    // from an old state of a launch that has ended a second one would be made. What was read beside it counts only
    // when it was read for this very version.
    let (now, found) = tokio::join!(api.get_opt(&name), Found::read(&workspace, &context));
    let Some(now) = now? else {
        context.succeeded(&name);
        return Ok(Action::await_change());
    };
    let found = (now.metadata.resource_version == workspace.metadata.resource_version).then_some(found);
    let workspace = now;
    if is_new(&workspace) {
        let action = welcome(&api, &workspace, &context).await?;
        context.succeeded(&name);
        return Ok(action.unwrap_or_else(|| Action::requeue(SOON)));
    }
    let inner = Arc::clone(&context);
    let action = finalizer::finalizer(&api, FINALIZER, Arc::new(workspace), |event| async move {
        match event {
            Event::Apply(workspace) => {
                let found = match found {
                    Some(found) => found?,
                    None => Found::read(&workspace, &inner).await?,
                };
                step(&workspace, &inner, found).await
            }
            Event::Cleanup(workspace) => clean_up(&workspace, &inner).await,
        }
    })
    .await
    .map_err(|error| match error {
        finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error) => error,
        other => Error::Finalizer(other.to_string()),
    })?;
    context.succeeded(&name);
    Ok(action)
}

/// Whether nothing was done about it yet.
fn is_new(workspace: &Workspace) -> bool {
    workspace.metadata.deletion_timestamp.is_none() && !workspace.finalizers().iter().any(|one| one == FINALIZER)
}

/// The first step of a new one; none when it is another one by now. Nothing is made before the finalizer is written,
/// and meanwhile is read what a launch begins with.
async fn welcome(api: &Api<Workspace>, workspace: &Workspace, context: &Context) -> Result<Option<Action>, Error> {
    let (held, found) = tokio::join!(hold(api, workspace), Found::read(workspace, context));
    match held {
        Err(kube::Error::Api(answer)) if answer.is_conflict() || answer.is_not_found() => Ok(None),
        held => Ok(Some(step(&held?, context, found?).await?)),
    }
}

/// Adds the finalizer to this version of it; refused when it has changed since.
async fn hold(api: &Api<Workspace>, workspace: &Workspace) -> Result<Workspace, kube::Error> {
    let mut finalizers = workspace.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    let metadata = serde_json::json!({
        "finalizers": finalizers,
        "resourceVersion": workspace.metadata.resource_version,
        "uid": workspace.metadata.uid,
    });
    let patch = Patch::Merge(serde_json::json!({ "metadata": metadata }));
    api.patch(&workspace.name_any(), &PatchParams::default(), &patch).await
}

pub(crate) fn after_error(workspace: Arc<Workspace>, error: &Error, context: Arc<Context>) -> Action {
    if matches!(error, Error::Going(_)) {
        return Action::requeue(SOON);
    }
    let wait = context.failed(&workspace.name_any());
    tracing::warn!(workspace = workspace.name_any(), %error, ?wait, "a step failed; it will be tried again");
    Action::requeue(wait)
}

async fn step(workspace: &Workspace, context: &Context, found: Found) -> Result<Action, Error> {
    let Found { place, document, window } = found;
    let place = match place {
        Ok(place) => place,
        Err(problem) => {
            let status = workspace.status.as_ref();
            let known = status.is_some_and(|status| status.launch >= workspace.spec.launch);
            let over = status.and_then(|status| status.state).is_some_and(|state| !state.is_live());
            if !(known && over) {
                context.end(workspace, State::Failed, &sentence(&problem)).await?;
            }
            return Ok(Action::await_change());
        }
    };
    let next = decide::next(workspace, place.pod.as_ref(), Timestamp::now(), context.settings.start_patience);
    match (next, &place.pod) {
        (Next::Rest, _) => Ok(Action::await_change()),
        (Next::Wait, pod) => {
            let coming = pod.as_ref().filter(|pod| pod.metadata.deletion_timestamp.is_none());
            let Some(pod) = coming else { return Ok(Action::requeue(MEANWHILE)) };
            tell_of_room(workspace, context, pod).await?;
            let seconds = decide::next_look(pod, Timestamp::now(), context.settings.start_patience);
            Ok(Action::requeue(Duration::from_secs(seconds)))
        }
        (Next::Remove, Some(pod)) => {
            remove(&place.pods, pod).await?;
            Ok(Action::requeue(SOON))
        }
        (Next::Stopping, _) => {
            let mut status = workspace.status.clone().unwrap_or_default();
            status.state = Some(State::Stopping);
            status.reason = String::new();
            status.conditions.retain(|one| one.type_ != SCHEDULED);
            // Before the pod: its address may be another pod's as soon as it is gone.
            status.route = None;
            context.write(workspace, status).await?;
            Ok(Action::requeue(SOON))
        }
        (Next::Stopped, _) => {
            let said = workspace.status.as_ref().filter(|status| status.state == Some(State::Stopping));
            let why = said.map(|status| status.reason.as_str()).filter(|why| !why.is_empty());
            context.end(workspace, State::Stopped, why.unwrap_or("stopped; the home is kept")).await?;
            Ok(Action::await_change())
        }
        (Next::Forget, _) => {
            let status = WorkspaceStatus { nonce: None, ..workspace.status.clone().unwrap_or_default() };
            context.write(workspace, status).await?;
            Ok(Action::requeue(SOON))
        }
        (Next::Fail(why), _) => {
            context.end(workspace, State::Failed, &why).await?;
            Ok(Action::requeue(SOON))
        }
        (Next::Claim, Some(pod)) => claim::claim(workspace, context, &place, pod).await,
        (Next::Anew, _) => {
            claim::give_up(workspace, context, &place, "what was ready is gone").await?;
            Ok(Action::requeue(Duration::ZERO))
        }
        // A running notebook goes on when its template is gone or changed.
        (Next::Look, Some(pod)) => super::later::look(workspace, context, &place, pod).await,
        (next @ (Next::Begin | Next::Make | Next::Prove), _) => {
            let document = match document {
                Some(document) => document,
                None => template(workspace, context).await?,
            };
            let document = match document {
                Ok(document) => document,
                Err(problem) => {
                    context.end(workspace, State::Failed, &sentence(&problem)).await?;
                    return Ok(Action::await_change());
                }
            };
            if next == Next::Begin {
                let window = match window {
                    Some(window) => window,
                    None => surroundings::window(&context.client, &context.settings).await?,
                };
                begin(workspace, context, &place, &document, &window).await
            } else {
                launch(workspace, context, &place, &document, None).await
            }
        }
        // What needs a pod is not decided without one.
        (Next::Remove | Next::Look | Next::Claim, None) => Ok(Action::requeue(SOON)),
    }
}

/// A new launch: nothing of an earlier one is left, and what the gate will dial is settled.
async fn begin(
    workspace: &Workspace,
    context: &Context,
    place: &Place,
    document: &Document,
    window: &[SocketAddr],
) -> Result<Action, Error> {
    // Nothing is built for an image that the site refuses.
    match context.settings.judge_image(document) {
        Ok(judged) if judged.opens => {}
        Ok(judged) => {
            let why = format!("image.known-exploits: {}", judged.reason);
            context.end(workspace, State::Refused, &why).await?;
            return Ok(Action::await_change());
        }
        Err(problem) => {
            context.end(workspace, State::Failed, &sentence(&problem)).await?;
            return Ok(Action::await_change());
        }
    }
    let mut status = workspace.status.clone().unwrap_or_default();
    if !workspace.spec.member && context.settings.warm.members.contains_key(&document.metadata.name) {
        cubicle_metrics::pool::asked(cubicle_metrics::pool::Claim::Missed);
    }
    status.state = Some(State::Pending);
    status.reason = String::new();
    status.launch = workspace.spec.launch;
    status.level = Some(document.spec.level);
    status.namespace = Some(place.location.namespace.clone());
    status.window = window.iter().map(ToString::to_string).collect();
    status.pod_uid = None;
    status.node = None;
    status.nonce = None;
    status.route = None;
    status.summary = None;
    status.ready_at = None;
    status.opened_at = None;
    status.walls.clear();
    status.warnings.clear();
    status.stops_at = None;
    let mut launched = document.clone();
    launched.spec.scan = None;
    status.launched = serde_json::to_string(&launched).ok();
    status.begun_at = Some(MicroTime(Timestamp::now()));
    status.steps.clear();
    let owner = &place.identity.owner.name;
    let asked = format!("{owner} asked for {} at level {}", document.metadata.name, document.spec.level);
    say(&mut status, Step::Request, Progress::Done, &asked);
    let promised = catalogue::promised(document.spec.level, EngineKind::Kubernetes).len();
    say(&mut status, Step::Plan, Progress::Done, &format!("{promised} guarantees promised"));
    say(&mut status, Step::Build, Progress::Running, "preparing the namespace, its walls and the home");
    status.conditions.clear();
    set(&mut status, workspace.metadata.generation, "Accepted", true, reason::ACCEPTED, "the template can be launched");
    let mut begun = workspace.clone();
    begun.status = Some(status.clone());
    launch(&begun, context, place, document, Some((workspace, status))).await
}

/// Tells that no node takes the pod, and that one does now.
async fn tell_of_room(workspace: &Workspace, context: &Context, pod: &Pod) -> Result<(), Error> {
    let mut status = workspace.status.clone().unwrap_or_default();
    let told = status.conditions.iter().any(|one| one.type_ == SCHEDULED);
    let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    match decide::no_room(pod) {
        // The scheduler's words change with every node; who waits is told once.
        Some(why) if !told => {
            set(&mut status, workspace.metadata.generation, SCHEDULED, false, reason::UNSCHEDULABLE, why);
        }
        None if told && placed => status.conditions.retain(|one| one.type_ != SCHEDULED),
        _ => return Ok(()),
    }
    context.write(workspace, status).await?;
    Ok(())
}

/// What the gate of this launch dials from its first instruction on.
fn window(workspace: &Workspace) -> Vec<SocketAddr> {
    workspace.status.iter().flat_map(|status| &status.window).filter_map(|text| text.parse().ok()).collect()
}

/// Makes walls and pod, or proves the pod that is there. A launch that begins is written beside the walls,
/// and before the pod.
async fn launch(
    workspace: &Workspace,
    context: &Context,
    place: &Place,
    document: &Document,
    begun: Option<(&Workspace, WorkspaceStatus)>,
) -> Result<Action, Error> {
    let window = window(workspace);
    let request = place.request(workspace, context, document, &window);
    let desired = objects::tenant(&request).and_then(|tenant| Ok((tenant, objects::pod(&request)?)));
    let (tenant, desired) = match desired {
        Ok(desired) => desired,
        Err(problem) => {
            let written = write(begun, context).await?;
            context.end(written.as_ref().unwrap_or(workspace), State::Failed, &sentence(&problem)).await?;
            return Ok(Action::await_change());
        }
    };
    if let Some(pod) = &place.pod {
        return super::open::prove_and_open(workspace, context, &place.pods, pod, &desired, &request).await;
    }
    let (written, walls) =
        tokio::join!(write(begun, context), Box::pin(apply::walls(context, &tenant, &place.standing)));
    let written = written?;
    let workspace = written.as_ref().unwrap_or(workspace);
    let made = async {
        walls?;
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        // Never a second one: the name is the workspace's.
        place.pods.create(&parameters, &desired).await.map_err(|error| apply::sort("the pod", error))
    };
    match made.await {
        Ok(pod) => {
            let seconds = decide::next_look(&pod, Timestamp::now(), context.settings.start_patience);
            Ok(Action::requeue(Duration::from_secs(seconds)))
        }
        Err(Failure::Refused(problem)) => {
            context.end(workspace, State::Failed, &sentence(&problem)).await?;
            Ok(Action::await_change())
        }
        Err(Failure::Later(kube::Error::Api(api))) if api.is_already_exists() => Ok(Action::requeue(SOON)),
        Err(Failure::Later(error)) => Err(error.into()),
    }
}

/// Writes that a launch begins.
async fn write(
    begun: Option<(&Workspace, WorkspaceStatus)>,
    context: &Context,
) -> Result<Option<Workspace>, kube::Error> {
    match begun {
        Some((workspace, status)) => context.write(workspace, status).await.map(Some),
        None => Ok(None),
    }
}

/// The workspace goes when nothing of it runs any more; namespace and home stay.
async fn clean_up(workspace: &Workspace, context: &Context) -> Result<Action, Error> {
    let Ok(place) = find(workspace, context).await? else { return Ok(Action::await_change()) };
    if let Some(pod) = &place.pod {
        remove(&place.pods, pod).await?;
        // The finalizer goes with a clean-up that succeeds, and the pod is still there.
        return Err(Error::Going("its pod"));
    }
    if place.twin {
        return Err(Error::Going("its twin"));
    }
    if workspace.spec.delete_home {
        delete_home(workspace, context, &place).await?;
    }
    Ok(Action::await_change())
}

/// The home goes when its user asked for it and no other workspace of theirs is there.
async fn delete_home(workspace: &Workspace, context: &Context, place: &Place) -> Result<(), Error> {
    let owner = &workspace.spec.owner.id;
    let all = Api::<Workspace>::all(context.client.clone());
    let theirs = all.list(&ListParams::default().fields(&format!("spec.owner.id={owner}"))).await?;
    if theirs.items.iter().any(|other| other.uid() != workspace.uid()) {
        return Ok(());
    }
    let homes = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &place.location.namespace);
    match homes.delete(&place.location.home(), &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Deletes exactly this pod.
pub(super) async fn remove(pods: &Api<Pod>, pod: &Pod) -> Result<(), kube::Error> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match pods.delete(&pod.name_any(), &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn sentence(problem: &Problem) -> String {
    if problem.remedy.is_empty() { problem.what.clone() } else { format!("{} ({})", problem.what, problem.remedy) }
}

#[cfg(test)]
mod tests;
