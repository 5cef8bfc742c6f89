//! Prove, then open: the two steps that decide whether user code ever runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use cubicle_core::attempt::Go;
use cubicle_core::door::{Demand, Reply};
use cubicle_core::judge;
use cubicle_core::level::EngineKind;
use cubicle_core::notebook;
use cubicle_core::plan::EgressDoor;
use cubicle_core::problem::Problem;
use cubicle_core::report::{GuaranteeReport, Report};
use cubicle_core::workspace::{Progress, State, Step, Workspace as Record};
use cubicle_metrics::launches;
use cubicle_traces::Observed;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::decide::age;
use super::proving::{Proving, try_walls};
use super::reconcile::{Error, remove, sentence};
use super::status::{reason, say, set};
use super::traces::{self, Proof};
use super::{Context, MANAGER, egress, walls};
use crate::admitted;
use crate::door::Door;
use crate::names::{self, MANAGED_BY, SCHEDULED};
use crate::objects::Request;
use crate::prove::Gate;
use crate::resources::{Route, Workspace};
use crate::surroundings::address;

/// How long a notebook server may take until it answers.
const NOTEBOOK: Duration = Duration::from_secs(120);
/// How long the gate may take to answer the go.
const GO: Duration = Duration::from_secs(5);
/// How long a pod may exist without a proof, in seconds.
const UNPROVEN: u64 = 120;
/// Between two looks at something that changes without an event.
const SOON: Duration = Duration::from_millis(500);

pub(super) async fn prove_and_open(
    workspace: &Workspace,
    context: &Context,
    pods: &Api<Pod>,
    pod: &Pod,
    asked: &Pod,
    request: &Request<'_>,
) -> Result<Action, Error> {
    let mut status = workspace.status.clone().unwrap_or_default();
    let generation = workspace.metadata.generation;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();

    // Rule 10: whoever stood in between, what runs is what was asked for, or it never opens.
    let differences = admitted::differences(asked, pod, &context.settings.allowed_annotations);
    if !differences.is_empty() {
        let why = format!("the admitted pod is not the one that was asked for: {}", differences.join("; "));
        return refuse(workspace, context, pods, pod, &why, Proof::default()).await;
    }
    let Some(ip) = address(pod) else { return Ok(Action::requeue(SOON)) };
    status.state = Some(State::Proving);
    status.node = Some(node.clone());
    status.pod_uid = pod.uid();
    status.conditions.retain(|one| one.type_ != SCHEDULED);
    set(&mut status, generation, "Built", true, reason::BUILT, "the walls stand, and the gate runs");
    say(&mut status, Step::Build, Progress::Done, &format!("the walls stand, and the gate runs on {node}"));
    say(&mut status, Step::Prove, Progress::Running, "trying every wall from inside");

    let began = Instant::now();
    let started_at = Timestamp::now();
    let nonce = secret();
    // Told while it goes on.
    let (written, proven) =
        tokio::join!(context.write(workspace, status.clone()), attempt(workspace, context, pod, request, ip, &nonce),);
    let written = written?;
    let Proven { walls, guarantees, observed, mut gate, egress } = match proven {
        Ok(proven) => proven,
        Err(Error::Problem(problem)) if age(pod, k8s_openapi::jiff::Timestamp::now()) > UNPROVEN => {
            // Nothing is known of it, and nothing will be: it ends, instead of being tried for ever.
            return refuse(&written, context, pods, pod, &sentence(&problem), Proof::default()).await;
        }
        Err(error) => return Err(error),
    };
    status.walls = walls;
    let report = judge::report(&record(workspace, request), started_at, began.elapsed(), guarantees);
    launches::proven(&report, launches::Proof::Gate);
    let proof = Proof { observed: Some(&observed), guarantees: &report.guarantees };
    status.summary = Some(report.summary.into());
    status.proven_at = Some(Time(k8s_openapi::jiff::Timestamp::now()));
    let summary = report.summary;
    if !summary.opens() || summary.held == 0 {
        keep(context, workspace, &report).await?;
        let written = context.write(&written, status).await?;
        return refuse(&written, context, pods, pod, &report.refusal(), proof).await;
    }
    let message = format!("{} held, {} absent, {} not claimed", summary.held, summary.absent, summary.not_claimed);
    set(&mut status, generation, "Proven", true, reason::PROVEN, &message);
    say(&mut status, Step::Prove, Progress::Done, &message);
    say(&mut status, Step::Open, Progress::Running, "starting the notebook");
    // Written before the go: a controller that ends in between leaves a nonce without a route.
    status.nonce = Some(nonce.clone());
    let kept = async { keep(context, workspace, &report).await };
    let (written, ()) = tokio::try_join!(async { Ok(context.write(&written, status.clone()).await?) }, kept)?;

    let token = context.route_key.token(request.uid, &nonce);
    let image = request.settings.image(request.template).map_err(Error::Problem)?;
    let digest = image.reference.split_once('@').map_or("", |(_, digest)| digest);
    let mut environment =
        notebook::environment(request.template, digest, token.expose_secret(), Some(ip), egress.as_deref());
    if workspace.spec.member {
        // The image's launcher then gets ready for a first visit and a first kernel (image/launcher/launch.py).
        environment.push(("CUBICLE_USER_LATER".to_owned(), "1".to_owned()));
    }
    let go =
        Go { nonce, command: image.command, environment, directory: request.template.spec.home.mount_path.clone() };
    let refused = match gate.ask(context.gate_key.signing(), &Demand::Go(go), GO).await {
        Ok(Reply::Started) => None,
        Ok(other) => Some(format!("the gate did not start the notebook: {other:?}")),
        Err(error) => Some(format!("the gate did not take the go: {error}")),
    };
    if let Some(why) = refused {
        return refuse(&written, context, pods, pod, &why, proof).await;
    }
    drop(gate);
    let door = SocketAddr::new(ip, request.template.spec.port);
    if let Err(why) = wait_until_it_answers(door, token.expose_secret(), pods, pod, NOTEBOOK).await {
        context.end_with(&written, State::Failed, &why, proof).await?;
        return Ok(Action::requeue(SOON));
    }
    if workspace.spec.member {
        // What its user reads begins when there is one.
        status.steps.clear();
        status.ready_at = Some(Time(k8s_openapi::jiff::Timestamp::now()));
        set(&mut status, generation, "Open", false, reason::READY, "it waits for somebody to claim it");
        context.write(&written, status).await?;
        context.pool.notify_one();
        return Ok(Action::await_change());
    }
    status.state = Some(State::Running);
    status.reason = String::new();
    status.opened_at = Some(Time(k8s_openapi::jiff::Timestamp::now()));
    status.route = Some(Route { address: ip.to_string(), port: request.template.spec.port });
    status.verified = workspace.spec.verify;
    set(&mut status, generation, "Open", true, reason::OPEN, "the notebook answers");
    say(&mut status, Step::Open, Progress::Done, "the notebook answers");
    context.write(&written, status.clone()).await?;
    launches::ended(launches::Outcome::Open);
    traces::tell(workspace, &status, State::Running, false, proof);
    context.tell(workspace, EventType::Normal, reason::OPEN, &message).await;
    Ok(Action::requeue(SOON))
}

/// Ends it. Written before the pod goes: a controller that ends in between has refused, and does not try again.
async fn refuse(
    workspace: &Workspace,
    context: &Context,
    pods: &Api<Pod>,
    pod: &Pod,
    why: &str,
    proof: Proof<'_>,
) -> Result<Action, Error> {
    context.end_with(workspace, State::Refused, why, proof).await?;
    remove(pods, pod).await?;
    Ok(Action::requeue(SOON))
}

/// What came of trying every wall.
struct Proven {
    /// The walls' digests.
    walls: BTreeMap<String, String>,
    guarantees: Vec<GuaranteeReport>,
    observed: Observed,
    /// The connection that takes the go.
    gate: Door,
    /// The egress proxy's address for this workspace, when it has one.
    egress: Option<String>,
}

/// Tries every wall.
async fn attempt(
    workspace: &Workspace,
    context: &Context,
    pod: &Pod,
    request: &Request<'_>,
    ip: IpAddr,
    nonce: &str,
) -> Result<Proven, Error> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let egress = egress::door(context, request, nonce).await?;
    // Read before the tenant tries anything: what changes from then on is drift. The first part of the control before
    // is made meanwhile, while the gate still dials what it dials from its first instruction on.
    let addresses = [ip];
    let (walls, _, begun) = tokio::try_join!(
        async { Ok(walls::digests(context, pod).await?) },
        egress::admit(context, workspace, request, &addresses, egress.as_ref()),
        Proving::begin(context, request, &node, egress.clone(), nonce),
    )?;
    let url = egress.as_ref().map(EgressDoor::url);
    let door = SocketAddr::new(ip, request.template.spec.port);
    let launch = request.launch.to_string();
    let gate = Gate { address: door, workspace: request.uid, launch: &launch };
    let (mut guarantees, observed, gate) = try_walls(context, request, gate, begun, nonce).await?;
    context.settings.judge_image(request.template).map_err(Error::Problem)?.enter(&mut guarantees);
    Ok(Proven { walls, guarantees, observed, gate, egress: url })
}

/// What the report says about the workspace.
pub(super) fn record(workspace: &Workspace, request: &Request<'_>) -> Record {
    let identity = request.identity;
    Record {
        id: identity.id.clone(),
        name: workspace.spec.name.clone(),
        owner: identity.owner.clone(),
        template: identity.template.clone(),
        level: request.template.spec.level,
        engine: EngineKind::Kubernetes,
        state: State::Proving,
        reason: String::new(),
        pid: None,
        created_at: workspace
            .creation_timestamp()
            .and_then(|time| Timestamp::from_second(time.0.as_second()).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH),
        opened_at: None,
        last_activity: None,
        stops_at: None,
        warnings: Vec::new(),
    }
}

/// Keeps the report beside the controller; it goes with the workspace.
pub(super) async fn keep(context: &Context, workspace: &Workspace, report: &Report) -> Result<(), Error> {
    let text = serde_json::to_string(report)
        .map_err(|error| Error::Problem(Problem::engine(format!("the report cannot be written: {error}"), "")))?;
    let name = names::report(&report.workspace);
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "labels": {MANAGED_BY.0: MANAGED_BY.1},
            "ownerReferences": [{
                "apiVersion": "cubicle.dev/v1alpha1",
                "kind": "Workspace",
                "name": workspace.name_any(),
                "uid": workspace.uid().unwrap_or_default(),
            }],
        },
        "data": {"report.json": text},
    });
    let api = Api::<ConfigMap>::namespaced(context.client.clone(), &context.settings.system_namespace);
    api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&manifest)).await?;
    Ok(())
}

/// Waits for the first HTTP answer of any status: the server is up then.
pub(super) async fn wait_until_it_answers(
    door: SocketAddr,
    token: &str,
    pods: &Api<Pod>,
    pod: &Pod,
    patience: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + patience;
    let mut rounds: u32 = 0;
    loop {
        if matches!(tokio::time::timeout(Duration::from_secs(10), answers(door, token)).await, Ok(Ok(true))) {
            return Ok(());
        }
        rounds += 1;
        if rounds.is_multiple_of(50)
            && let Ok(now) = pods.get_opt(&pod.name_any()).await
        {
            let phase = now.and_then(|pod| pod.status).and_then(|status| status.phase);
            if phase.as_deref() != Some("Running") {
                return Err("the notebook ended before it answered; see the pod's log".to_owned());
            }
        }
        if Instant::now() > deadline {
            return Err(format!("the notebook did not answer at {door} within {} s", patience.as_secs()));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn answers(door: SocketAddr, token: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(door).await?;
    let request =
        format!("GET /api HTTP/1.1\r\nHost: localhost\r\nAuthorization: token {token}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1."))
}

/// 256 random bits as text.
pub(super) fn secret() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}
