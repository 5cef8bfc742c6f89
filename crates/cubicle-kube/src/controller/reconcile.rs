//! One workspace: from what is wanted and what is to the next step. Everything that is known is
//! in the cluster, so that a controller that was killed anywhere goes on from there.

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
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, Event};
use kube::{Api, ResourceExt};

use super::apply::{self, Failure};
use super::status::{reason, say, set};
use super::{Context, MANAGER};
use crate::names::{self, FINALIZER};
use crate::objects::{self, Request};
use crate::resources::{Identity, Template, Workspace};
use crate::surroundings::Surroundings;

/// How long a pod may take until its gate runs, in seconds.
const START_SECONDS: i64 = 120;
/// Between two looks at something that changes without an event.
const SOON: Duration = Duration::from_millis(500);

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
}

pub(crate) async fn reconcile(workspace: Arc<Workspace>, context: Arc<Context>) -> Result<Action, Error> {
    let name = workspace.name_any();
    let api = Api::<Workspace>::all(context.client.clone());
    let inner = Arc::clone(&context);
    let action = finalizer::finalizer(&api, FINALIZER, workspace, |event| async move {
        match event {
            Event::Apply(workspace) => step(&workspace, &inner).await,
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

pub(crate) fn after_error(workspace: Arc<Workspace>, error: &Error, context: Arc<Context>) -> Action {
    let wait = context.failed(&workspace.name_any());
    tracing::warn!(workspace = workspace.name_any(), %error, ?wait, "a step failed; it will be tried again");
    Action::requeue(wait)
}

/// The pod of this workspace, wherever it is now.
pub(super) struct Place {
    pub(super) identity: Identity,
    pub(super) pods: Api<Pod>,
    pub(super) pod: Option<Pod>,
}

async fn find(workspace: &Workspace, context: &Context) -> Result<Result<Place, Problem>, kube::Error> {
    let identity = match workspace.identity() {
        Ok(identity) => identity,
        Err(problem) => return Ok(Err(problem)),
    };
    let namespace = names::namespace(context.settings.tenancy, &identity);
    let pods = Api::<Pod>::namespaced(context.client.clone(), &namespace);
    let pod = pods.get_opt(identity.id.as_str()).await?;
    Ok(Ok(Place { identity, pods, pod }))
}

async fn step(workspace: &Workspace, context: &Context) -> Result<Action, Error> {
    let status = workspace.status.clone().unwrap_or_default();
    let fresh = status.state.is_none() || status.launch < workspace.spec.launch;
    let over = matches!(status.state, Some(State::Refused | State::Failed | State::Stopped)) && !fresh;
    let place = match find(workspace, context).await? {
        Ok(place) => place,
        Err(problem) => {
            if !over {
                context.end(workspace, State::Failed, &sentence(&problem)).await?;
            }
            return Ok(Action::await_change());
        }
    };
    if !workspace.spec.run || over {
        return stop(workspace, context, &place, over).await;
    }
    if !fresh && status.state == Some(State::Running) {
        // A running notebook goes on when its template is gone or changed.
        return watch(workspace, context, &place).await;
    }
    let document = match template(workspace, context).await? {
        Ok(document) => document,
        Err(problem) => {
            context.end(workspace, State::Failed, &sentence(&problem)).await?;
            return Ok(Action::await_change());
        }
    };
    if fresh {
        return begin(workspace, context, &place, &document).await;
    }
    launch(workspace, context, place, &document).await
}

async fn template(workspace: &Workspace, context: &Context) -> Result<Result<Document, Problem>, kube::Error> {
    let name = &workspace.spec.template;
    let api = Api::<Template>::all(context.client.clone());
    let Some(template) = api.get_opt(name).await? else {
        let shown = name.escape_default();
        return Ok(Err(Problem::not_found(
            format!("there is no template \"{shown}\""),
            "list them with `kubectl get templates`",
        )));
    };
    Ok(template.document().and_then(|document| context.settings.can_provide(&document).map(|()| document)))
}

/// A new launch: nothing of an earlier one is left, and what the gate will dial is settled.
async fn begin(workspace: &Workspace, context: &Context, place: &Place, document: &Document) -> Result<Action, Error> {
    if let Some(pod) = &place.pod {
        remove(&place.pods, pod).await?;
        return Ok(Action::requeue(SOON));
    }
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
    let surroundings = Surroundings::read(&context.client, &context.settings).await?;
    let mut status = workspace.status.clone().unwrap_or_default();
    status.state = Some(State::Pending);
    status.reason = String::new();
    status.launch = workspace.spec.launch;
    status.level = Some(document.spec.level);
    status.namespace = Some(names::namespace(context.settings.tenancy, &place.identity));
    status.window = surroundings.window().iter().map(ToString::to_string).collect();
    status.pod_uid = None;
    status.node = None;
    status.nonce = None;
    status.route = None;
    status.summary = None;
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
    context.write(workspace, status).await?;
    // The change of the status brings the next step.
    Ok(Action::requeue(SOON))
}

async fn launch(workspace: &Workspace, context: &Context, place: Place, document: &Document) -> Result<Action, Error> {
    let status = workspace.status.clone().unwrap_or_default();
    let window: Vec<std::net::SocketAddr> = status.window.iter().filter_map(|text| text.parse().ok()).collect();
    let uid = workspace.uid().unwrap_or_default();
    let request = Request {
        settings: &context.settings,
        identity: &place.identity,
        uid: &uid,
        launch: workspace.spec.launch,
        template: document,
        gate_key: context.gate_key.public(),
        window: &window,
    };
    let desired = objects::tenant(&request).and_then(|tenant| Ok((tenant, objects::workspace(&request)?)));
    let (tenant, built) = match desired {
        Ok(desired) => desired,
        Err(problem) => {
            context.end(workspace, State::Failed, &sentence(&problem)).await?;
            return Ok(Action::await_change());
        }
    };
    let Some(pod) = place.pod else {
        let made = async {
            apply::tenant(&context.client, &tenant).await?;
            apply::walls(&context.client, &built).await?;
            let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            place.pods.create(&parameters, &built.pod).await.map_err(|error| apply::sort("the pod", error))
        };
        return match made.await {
            Ok(_) => Ok(Action::requeue(SOON)),
            Err(Failure::Refused(problem)) => {
                context.end(workspace, State::Failed, &sentence(&problem)).await?;
                Ok(Action::await_change())
            }
            // Another reconciliation was quicker, or the old pod is not gone yet.
            Err(Failure::Later(kube::Error::Api(api))) if api.is_already_exists() => Ok(Action::requeue(SOON)),
            Err(Failure::Later(error)) => Err(error.into()),
        };
    };
    if pod.annotations().get("cubicle.dev/launch") != Some(&workspace.spec.launch.to_string()) {
        remove(&place.pods, &pod).await?;
        return Ok(Action::requeue(SOON));
    }
    match phase(&pod) {
        Phase::Starting(why) => {
            let made = pod.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            if Timestamp::now().as_second() - made.as_second() > START_SECONDS {
                let why = format!("the pod did not start within {START_SECONDS} s: {why}");
                context.end(workspace, State::Failed, &why).await?;
            }
            Ok(Action::requeue(SOON))
        }
        Phase::Ended(why) => {
            context.end(workspace, State::Failed, &format!("the pod ended before it was open: {why}")).await?;
            Ok(Action::requeue(SOON))
        }
        Phase::Runs => super::open::prove_and_open(workspace, context, &place.pods, &pod, &built.pod, &request).await,
    }
}

/// A running workspace: its pod is the one that was judged, and it runs.
async fn watch(workspace: &Workspace, context: &Context, place: &Place) -> Result<Action, Error> {
    let judged = workspace.status.as_ref().and_then(|status| status.pod_uid.clone());
    let why = match &place.pod {
        None => "its pod is gone".to_owned(),
        Some(pod) if pod.uid() != judged => "its pod is not the one that was proven".to_owned(),
        Some(pod) if pod.metadata.deletion_timestamp.is_some() => "its pod is being deleted".to_owned(),
        Some(pod) => match phase(pod) {
            Phase::Runs => return super::later::look(workspace, context, place, pod).await,
            Phase::Starting(why) | Phase::Ended(why) => format!("its pod ended: {why}"),
        },
    };
    context.end(workspace, State::Failed, &why).await?;
    Ok(Action::requeue(SOON))
}

/// Nothing of it is to run.
async fn stop(workspace: &Workspace, context: &Context, place: &Place, over: bool) -> Result<Action, Error> {
    if let Some(pod) = &place.pod {
        if !over && workspace.status.as_ref().and_then(|status| status.state) != Some(State::Stopping) {
            let mut status = workspace.status.clone().unwrap_or_default();
            status.state = Some(State::Stopping);
            status.reason = String::new();
            // Before the pod: its address may be another pod's as soon as it is gone.
            status.route = None;
            context.write(workspace, status).await?;
        }
        remove(&place.pods, pod).await?;
        return Ok(Action::requeue(SOON));
    }
    if !over {
        let said = workspace.status.as_ref().filter(|status| status.state == Some(State::Stopping));
        let why = said.map(|status| status.reason.as_str()).filter(|why| !why.is_empty());
        context.end(workspace, State::Stopped, why.unwrap_or("stopped; the home is kept")).await?;
    }
    Ok(Action::await_change())
}

/// The workspace goes when nothing of it runs any more; namespace and home stay.
async fn clean_up(workspace: &Workspace, context: &Context) -> Result<Action, Error> {
    let Ok(place) = find(workspace, context).await? else { return Ok(Action::await_change()) };
    if let Some(pod) = &place.pod {
        remove(&place.pods, pod).await?;
        // The finalizer goes with a clean-up that succeeds, and the pod is still there.
        return Err(Error::Problem(Problem::engine("its pod is not gone yet", "")));
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
    let namespace = names::namespace(context.settings.tenancy, &place.identity);
    let homes = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &namespace);
    match homes.delete(&names::home(&place.identity.owner.id), &DeleteParams::default()).await {
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

/// How far a pod is.
enum Phase {
    Starting(String),
    Runs,
    Ended(String),
}

fn phase(pod: &Pod) -> Phase {
    let Some(status) = &pod.status else { return Phase::Starting("it was not looked at".to_owned()) };
    let container = status.container_statuses.iter().flatten().next().and_then(|one| one.state.as_ref());
    if let Some(ended) = container.and_then(|state| state.terminated.as_ref()) {
        let why = ended.reason.clone().unwrap_or_default();
        return Phase::Ended(format!("exit code {} {why}", ended.exit_code));
    }
    match status.phase.as_deref() {
        Some("Failed" | "Succeeded") => {
            let why = status.message.clone().or_else(|| status.reason.clone());
            Phase::Ended(why.unwrap_or_else(|| "without a reason".to_owned()))
        }
        Some("Running") if container.is_some_and(|state| state.running.is_some()) => Phase::Runs,
        _ => {
            let waiting = container.and_then(|state| state.waiting.as_ref());
            let scheduled =
                status.conditions.iter().flatten().find(|one| one.type_ == "PodScheduled" && one.status == "False");
            let text = |reason: &Option<String>, message: &Option<String>| {
                format!("{} {}", reason.clone().unwrap_or_default(), message.clone().unwrap_or_default())
            };
            let why = waiting
                .map(|one| text(&one.reason, &one.message))
                .or_else(|| scheduled.map(|one| text(&one.reason, &one.message)));
            Phase::Starting(why.unwrap_or_else(|| "no reason is known".to_owned()).chars().take(300).collect())
        }
    }
}

/// Whether a pod's gate runs; an error when it ended.
pub(super) fn phase_of(pod: &Pod) -> Result<bool, String> {
    match phase(pod) {
        Phase::Runs => Ok(true),
        Phase::Starting(_) => Ok(false),
        Phase::Ended(why) => Err(why),
    }
}

pub(super) fn sentence(problem: &Problem) -> String {
    if problem.remedy.is_empty() { problem.what.clone() } else { format!("{} ({})", problem.what, problem.remedy) }
}
