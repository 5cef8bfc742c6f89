//! A running workspace: whether its pod is the one that was proven, whether its user is there,
//! and whether its walls still stand.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use cubicle_core::judge;
use cubicle_core::problem::Problem;
use cubicle_core::report::Report;
use cubicle_core::template::{Idle, OnBreach, Template as Document};
use cubicle_metrics::launches;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};

use super::decide::phase_of;
use super::open::{keep, record, secret};
use super::place::Place;
use super::proving::{Proving, try_walls};
use super::reconcile::{Error, remove};
use super::status::{reason, set};
use super::{Context, MANAGER, apply, egress, manifests, walls};
use crate::names;
use crate::objects;
use crate::prove::Gate;
use crate::resources::{Route, Template, Workspace, WorkspaceStatus};
use crate::surroundings::address;

/// Between two looks at a workspace whose objects do not change.
const LOOK: Duration = Duration::from_secs(30);
/// How long a twin may take until its gate runs.
const TWIN: Duration = Duration::from_secs(90);
/// How long an earlier twin may take to go.
const GONE: Duration = Duration::from_secs(30);
/// A twin that could not prove is not made again before this.
const AGAIN: i64 = 60;

/// What was seen of a running workspace.
struct Seen {
    report: Option<Report>,
    /// Why there is no report, or what stands otherwise than it was proven.
    unproven: Option<String>,
    changed: Vec<String>,
}

pub(super) async fn look(workspace: &Workspace, context: &Context, place: &Place, pod: &Pod) -> Result<Action, Error> {
    let status = workspace.status.clone().unwrap_or_default();
    let Some(document) = status.launched.as_ref().and_then(|text| serde_json::from_str::<Document>(text).ok()) else {
        return Ok(Action::requeue(LOOK));
    };
    let Some(workspace) = &idle(workspace, context, &status, &document.spec.idle).await? else {
        return Ok(Action::requeue(Duration::from_millis(500)));
    };
    let now = walls::digests(context, pod).await?;
    let changed = walls::differences(&status.walls, &now);
    let known = status.conditions.iter().find(|one| one.type_ == "Proven");
    let said: String = changed.join("; ").chars().take(900).collect();
    // What was seen and told already is proven again in its turn only.
    let news = !changed.is_empty() && !known.is_some_and(|known| known.message.contains(&said));
    let mended = changed.is_empty() && known.is_some_and(|known| known.reason == reason::DRIFT);
    let asked = workspace.spec.verify > status.verified;
    let since = status.proven_at.as_ref().map_or(i64::MAX, |time| Timestamp::now().as_second() - time.0.as_second());
    if !(asked || news || mended || since >= i64::from(context.settings.verify_every)) {
        let left = u64::try_from(i64::from(context.settings.verify_every) - since).unwrap_or(1).max(1);
        return Ok(Action::requeue(LOOK.min(Duration::from_secs(left))));
    }
    let seen = see(workspace, context, place, pod, &document, changed).await?;
    conclude(workspace, context, pod, &document, seen).await?;
    Ok(Action::requeue(LOOK))
}

/// Stops a workspace that nobody uses; says so before. The workspace as it is then, unless it was stopped.
async fn idle(
    workspace: &Workspace,
    context: &Context,
    status: &WorkspaceStatus,
    idle: &Idle,
) -> Result<Option<Workspace>, kube::Error> {
    let now = Timestamp::now().as_second();
    let opened = status.opened_at.as_ref().map_or(now, |time| time.0.as_second());
    let activity = names::activity(workspace);
    let user = activity.map_or(opened, |activity| activity.at.as_second().max(opened)).min(now);
    let seconds = |number: u64| i64::try_from(number).unwrap_or(i64::MAX / 4);
    // Nobody reads the processor's counter here: a word that it is busy is believed up to maxBusy.
    let busy = activity.and_then(|activity| activity.busy_at).map_or(user, |at| at.as_second().min(now));
    let deadline = (user.max(busy).saturating_add(seconds(idle.after.0)))
        .min(user.saturating_add(seconds(idle.max_busy.0.max(idle.after.0))));
    if now >= deadline {
        context.halt(workspace, "idle: its user did nothing for longer than the template allows").await?;
        return Ok(None);
    }
    let near = deadline - now <= seconds((idle.after.0 / 4).clamp(1, 300));
    let stops_at = near.then(|| Timestamp::from_second(deadline).ok().map(Time)).flatten();
    if status.stops_at != stops_at {
        return context.write(workspace, WorkspaceStatus { stops_at, ..status.clone() }).await.map(Some);
    }
    Ok(Some(workspace.clone()))
}

/// Proves in a twin.
async fn see(
    workspace: &Workspace,
    context: &Context,
    place: &Place,
    pod: &Pod,
    document: &Document,
    changed: Vec<String>,
) -> Result<Seen, Error> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let surroundings = crate::surroundings::Surroundings::read(&context.client, &context.settings).await?;
    let window = surroundings.window();
    let request = place.request(workspace, context, document, &window);
    let unproven = |why: String, changed| Ok(Seen { report: None, unproven: Some(why), changed });
    let asked = match objects::twin(&request, pod) {
        Ok(asked) => asked,
        Err(problem) => return unproven(problem.what, changed),
    };
    let name = objects::twin_name(&place.identity.id);
    let outcome = async {
        gone(&place.pods, &name).await?;
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let made = place.pods.create(&parameters, &asked).await.map_err(|error| apply::sort("the twin", error));
        if let Err(error) = made {
            return Ok(Err(error.to_string()));
        }
        let twin = match runs(&place.pods, &name).await? {
            Ok(twin) => twin,
            Err(why) => return Ok(Err(why)),
        };
        let differences = crate::admitted::differences(&asked, &twin, &context.settings.allowed_annotations);
        if !differences.is_empty() {
            return Ok(Err(format!("the twin was changed on its way in: {}", differences.join("; "))));
        }
        let Some(ip) = address(&twin) else { return Ok(Err("the twin has no address".to_owned())) };
        let began = Instant::now();
        let started_at = jiff::Timestamp::now();
        // The twin shows the workspace's own credential, from its own address.
        let credential = workspace.status.as_ref().and_then(|status| status.nonce.as_deref()).unwrap_or_default();
        let both: Vec<IpAddr> = address(pod).into_iter().chain([ip]).collect();
        let door = egress::door(context, &request, credential).await?;
        egress::admit(context, workspace, &request, &both, door.as_ref()).await?;
        let launch = request.launch.to_string();
        let gate = Gate { address: SocketAddr::new(ip, document.spec.port), workspace: request.uid, launch: &launch };
        let proof = async {
            let found = Proving::read(context, &request, &node, door.clone()).await?;
            try_walls(context, &request, gate, (found, None), &secret()).await
        }
        .await;
        let own: Vec<IpAddr> = address(pod).into_iter().collect();
        egress::admit(context, workspace, &request, &own, door.as_ref()).await?;
        Ok::<_, Error>(match proof {
            Ok((mut guarantees, ..)) => {
                // A finding that became known since then counts.
                let scanned = with_scan(workspace, context, document).await?;
                context.settings.judge_image(&scanned).map_err(Error::Problem)?.enter(&mut guarantees);
                Ok(judge::report(&record(workspace, &request), started_at, began.elapsed(), guarantees))
            }
            Err(Error::Problem(problem)) => Err(problem.what),
            Err(error) => return Err(error),
        })
    }
    .await;
    if let Ok(Some(twin)) = place.pods.get_opt(&name).await {
        remove(&place.pods, &twin).await?;
    }
    match outcome? {
        Ok(report) => Ok(Seen { report: Some(report), unproven: None, changed }),
        Err(why) => unproven(why, changed),
    }
}

/// The launched template with what the template says of its image's scan now: the status is no
/// place for a scan.
async fn with_scan(workspace: &Workspace, context: &Context, launched: &Document) -> Result<Document, kube::Error> {
    let mut document = launched.clone();
    let template = Api::<Template>::all(context.client.clone()).get_opt(&workspace.spec.template).await?;
    let now = template.and_then(|template| template.document().ok());
    document.spec.scan = now.filter(|now| now.spec.image == launched.spec.image).and_then(|now| now.spec.scan);
    Ok(document)
}

/// Waits until an earlier twin is gone.
async fn gone(pods: &Api<Pod>, name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + GONE;
    while let Some(twin) = pods.get_opt(name).await? {
        remove(pods, &twin).await?;
        if Instant::now() > deadline {
            return Err(Error::Problem(Problem::engine("an earlier twin does not go", "")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Waits until the twin's gate runs.
async fn runs(pods: &Api<Pod>, name: &str) -> Result<Result<Pod, String>, kube::Error> {
    let deadline = Instant::now() + TWIN;
    loop {
        let Some(twin) = pods.get_opt(name).await? else { return Ok(Err("the twin was deleted".to_owned())) };
        match phase_of(&twin) {
            Ok(true) if address(&twin).is_some() => return Ok(Ok(twin)),
            Err(why) => return Ok(Err(format!("the twin ended: {why}"))),
            Ok(_) if Instant::now() > deadline => return Ok(Err("the twin did not start in time".to_owned())),
            Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Writes what was seen, and does what the template wants.
async fn conclude(
    workspace: &Workspace,
    context: &Context,
    pod: &Pod,
    document: &Document,
    seen: Seen,
) -> Result<(), Error> {
    let mut status = workspace.status.clone().unwrap_or_default();
    let generation = workspace.metadata.generation;
    let before = status.conditions.iter().find(|one| one.type_ == "Proven").cloned();
    let mut breached = false;
    let mut told = Vec::new();
    if !seen.changed.is_empty() {
        told.push(seen.changed.join("; ").chars().take(900).collect::<String>());
    }
    if let Some(report) = &seen.report {
        launches::proven(report, launches::Proof::Later);
        keep(context, workspace, report).await?;
        status.summary = Some(report.summary.into());
        breached = report.summary.breached > 0;
        if !report.summary.opens() {
            told.push(report.refusal());
        }
    }
    told.extend(seen.unproven.clone().map(|why| format!("not proven: {why}")));
    let again = i64::from(context.settings.verify_every) - AGAIN;
    let waits = if seen.unproven.is_some() { again.max(0) } else { 0 };
    status.proven_at = Timestamp::from_second(Timestamp::now().as_second() - waits).ok().map(Time);
    status.verified = workspace.spec.verify;
    status.warnings = told.iter().map(|one| one.chars().take(500).collect()).collect();
    let (holds, code) = match (told.is_empty(), seen.changed.is_empty()) {
        (true, _) => (true, reason::PROVEN),
        (false, false) => (false, reason::DRIFT),
        (false, true) => (false, reason::REFUSED),
    };
    let message = if holds {
        let summary = status.summary.unwrap_or_default();
        format!("{} held, {} absent, {} not claimed", summary.held, summary.absent, summary.not_claimed)
    } else {
        told.join("; ")
    };
    set(&mut status, generation, "Proven", holds, code, &message);
    if let Some(report) = &seen.report {
        manifests::compare(context, workspace, pod, (document.spec.level, report), &mut status).await;
    }
    let closed = status.route.is_none();
    match document.spec.on_breach {
        OnBreach::Close if breached && !closed => {
            status.route = None;
            set(&mut status, generation, "Open", false, reason::CLOSED, &message);
        }
        // Nothing is breached any more: whoever was kept out may come back.
        _ if !breached && closed && status.nonce.is_some() && seen.report.is_some() => {
            status.route = address(pod).map(|ip| Route { address: ip.to_string(), port: document.spec.port });
            set(&mut status, generation, "Open", true, reason::OPEN, "the walls hold again");
        }
        _ => {}
    }
    let news = before.is_none_or(|before| before.reason != code || before.message != message);
    if news {
        let kind = if holds { EventType::Normal } else { EventType::Warning };
        context.tell(workspace, kind, code, &message).await;
        tracing::info!(workspace = workspace.name_any(), holds, message, "the walls were looked at again");
    }
    let written = context.write(workspace, status).await?;
    if breached && document.spec.on_breach == OnBreach::Stop {
        context.halt(&written, &format!("stopped, because a wall is down: {message}")).await?;
    }
    Ok(())
}
