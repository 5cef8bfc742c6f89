//! Prove, then open: the two steps that decide whether user code ever runs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cubicle_core::attempt::{Go, Phase};
use cubicle_core::door::{Demand, Reply};
use cubicle_core::judge;
use cubicle_core::level::EngineKind;
use cubicle_core::plan::{Limits, Situation};
use cubicle_core::problem::Problem;
use cubicle_core::report::{Report, Verdict};
use cubicle_core::template::Template as Document;
use cubicle_core::workspace::{State, Workspace as Record};
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

use super::reconcile::{Error, remove, sentence};
use super::status::{reason, set};
use super::{Context, MANAGER};
use crate::admitted;
use crate::names::MANAGED_BY;
use crate::objects::Request;
use crate::prove::{Gate, prove};
use crate::resources::{Route, Workspace};
use crate::surroundings::{Surroundings, address};

/// How long a notebook server may take until it answers.
const NOTEBOOK: Duration = Duration::from_secs(120);
/// How long the gate may take to answer the go.
const GO: Duration = Duration::from_secs(5);
/// How long a pod may exist without a proof.
const UNPROVEN: Duration = Duration::from_secs(120);
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
    // As it is, not as it was last watched: a nonce that an attempt wrote just before its connection to the API
    // server broke must not be missed, or the notebook that runs already would be taken for a gate.
    let latest = Api::<Workspace>::all(context.client.clone()).get(&workspace.name_any()).await?;
    if latest.spec != workspace.spec || latest.metadata.deletion_timestamp.is_some() {
        return Ok(Action::requeue(SOON));
    }
    let workspace = &latest;
    let mut status = workspace.status.clone().unwrap_or_default();
    let generation = workspace.metadata.generation;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();

    // Rule 10: whoever stood in between, what runs is what was asked for, or it never opens.
    let differences = admitted::differences(asked, pod, &context.settings.allowed_annotations);
    if !differences.is_empty() {
        let why = format!("the admitted pod is not the one that was asked for: {}", differences.join("; "));
        return refuse(workspace, context, pods, pod, &why).await;
    }
    let Some(ip) = address(pod) else { return Ok(Action::requeue(SOON)) };
    if status.nonce.is_some() {
        // A go was on its way when an earlier controller ended. Whether the notebook runs cannot
        // be told from outside for sure, so this pod is never opened.
        remove(pods, pod).await?;
        status.nonce = None;
        context.write(workspace, status).await?;
        return Ok(Action::requeue(SOON));
    }
    status.state = Some(State::Proving);
    status.node = Some(node.clone());
    status.pod_uid = pod.uid();
    set(&mut status, generation, "Built", true, reason::BUILT, "the walls stand, and the gate runs");
    context.write(workspace, status.clone()).await?;

    let began = Instant::now();
    let started_at = Timestamp::now();
    let surroundings = Surroundings::read(&context.client, &context.settings).await?;
    let launch = request.launch.to_string();
    let door = SocketAddr::new(ip, request.template.spec.port);
    let reference = surroundings.reference(&node).ok_or_else(|| {
        Error::Problem(Problem::engine(
            format!("node {node} has no reference pod"),
            "install the chart's reference on every node",
        ))
    })?;
    let boot_id = surroundings.boot_id(&node).unwrap_or_default();
    let cluster = surroundings.cluster(&node, request.window.to_vec());
    let situation = situation(request.template, context.settings.pids_limit, boot_id, cluster);
    let nonce = secret();
    let key = context.gate_key.signing();
    let gate = Gate { address: door, workspace: request.uid, launch: &launch };
    let proof = prove(gate, reference, key, &situation, Phase::Gate, &nonce).await;
    let (guarantees, mut gate) = match proof {
        Ok(proven) => proven,
        Err(problem) if ran_for(pod) > UNPROVEN => {
            // Nothing is known of it, and nothing will be: it ends, instead of being tried for ever.
            return refuse(workspace, context, pods, pod, &sentence(&problem)).await;
        }
        Err(problem) => return Err(Error::Problem(problem)),
    };
    let report = judge::report(&record(workspace, request), started_at, began.elapsed(), guarantees);
    keep(context, workspace, &report).await?;
    status.summary = Some(report.summary.into());
    status.proven_at = Some(Time(k8s_openapi::jiff::Timestamp::now()));
    let summary = report.summary;
    if !summary.opens() || summary.held == 0 {
        context.write(workspace, status).await?;
        return refuse(workspace, context, pods, pod, &refusal(&report)).await;
    }
    let message = format!("{} held, {} absent, {} not claimed", summary.held, summary.absent, summary.not_claimed);
    set(&mut status, generation, "Proven", true, reason::PROVEN, &message);
    // Written before the go: a controller that ends in between leaves a nonce without a route.
    status.nonce = Some(nonce.clone());
    context.write(workspace, status.clone()).await?;

    let token = context.route_key.token(request.uid, &nonce);
    let command = request.settings.image(request.template).map_err(Error::Problem)?.command;
    let go = Go {
        nonce,
        command,
        environment: environment(request, token.expose_secret()),
        directory: request.template.spec.home.mount_path.clone(),
    };
    match gate.ask(key, &Demand::Go(go), GO).await {
        Ok(Reply::Started) => {}
        Ok(other) => {
            return refuse(workspace, context, pods, pod, &format!("the gate did not start the notebook: {other:?}"))
                .await;
        }
        Err(error) => {
            return refuse(workspace, context, pods, pod, &format!("the gate did not take the go: {error}")).await;
        }
    }
    drop(gate);
    if let Err(why) = wait_until_it_answers(door, token.expose_secret(), pods, pod).await {
        context.end(workspace, State::Failed, &why).await?;
        return Ok(Action::requeue(SOON));
    }
    status.state = Some(State::Running);
    status.reason = String::new();
    status.opened_at = Some(Time(k8s_openapi::jiff::Timestamp::now()));
    status.route = Some(Route { address: ip.to_string(), port: request.template.spec.port });
    set(&mut status, generation, "Open", true, reason::OPEN, "the notebook answers");
    context.write(workspace, status).await?;
    context.tell(workspace, EventType::Normal, reason::OPEN, &message).await;
    Ok(Action::requeue(SOON))
}

/// For how long the pod has been there.
fn ran_for(pod: &Pod) -> Duration {
    let made = pod.creation_timestamp().map_or(0, |time| time.0.as_second());
    Duration::from_secs(u64::try_from(Timestamp::now().as_second() - made).unwrap_or_default())
}

async fn refuse(
    workspace: &Workspace,
    context: &Context,
    pods: &Api<Pod>,
    pod: &Pod,
    why: &str,
) -> Result<Action, Error> {
    remove(pods, pod).await?;
    // What was written meanwhile, the verdict counts above all, stays.
    let latest = Api::<Workspace>::all(context.client.clone()).get(&workspace.name_any()).await?;
    context.end(&latest, State::Refused, why).await?;
    Ok(Action::requeue(SOON))
}

fn situation(
    template: &Document,
    pids: Option<u32>,
    boot_id: String,
    cluster: cubicle_core::plan::Cluster,
) -> Situation {
    let resources = &template.spec.resources;
    Situation {
        engine: EngineKind::Kubernetes,
        level: template.spec.level,
        limits: Limits {
            cpu: resources.cpu,
            memory: resources.memory,
            // The kubelet limits every pod alike; a template cannot.
            pids: pids.unwrap_or(resources.pids),
            ephemeral_storage: resources.ephemeral_storage,
            home: None,
        },
        egress: template.egress(),
        home_path: template.spec.home.mount_path.clone(),
        machine_addresses: Vec::new(),
        platform_ports: Vec::new(),
        notebook_port: template.spec.port,
        id_base: 0,
        boot_id,
        cluster: Some(cluster),
    }
}

/// What the report says about the workspace.
fn record(workspace: &Workspace, request: &Request<'_>) -> Record {
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
async fn keep(context: &Context, workspace: &Workspace, report: &Report) -> Result<(), Error> {
    let text = serde_json::to_string(report)
        .map_err(|error| Error::Problem(Problem::engine(format!("the report cannot be written: {error}"), "")))?;
    let name = format!("report-{}", workspace.name_any());
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

/// The whole environment of the notebook: nothing of what the kubelet injects is in it.
fn environment(request: &Request<'_>, token: &str) -> Vec<(String, String)> {
    let home = &request.template.spec.home.mount_path;
    let base = format!("{home}/.local/cubicle/kubernetes");
    [
        ("HOME", home.clone()),
        ("USER", "user".to_owned()),
        ("LOGNAME", "user".to_owned()),
        ("SHELL", "/bin/bash".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("PATH", format!("{base}/bin:/usr/local/bin:/usr/bin:/bin")),
        ("PYTHONUSERBASE", base),
        ("CUBICLE_PORT", request.template.spec.port.to_string()),
        ("CUBICLE_TOKEN", token.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// Waits for the first HTTP answer of any status: the server is up then.
async fn wait_until_it_answers(door: SocketAddr, token: &str, pods: &Api<Pod>, pod: &Pod) -> Result<(), String> {
    let deadline = Instant::now() + NOTEBOOK;
    let mut rounds: u32 = 0;
    loop {
        if matches!(tokio::time::timeout(Duration::from_secs(10), answers(door, token)).await, Ok(Ok(true))) {
            return Ok(());
        }
        rounds += 1;
        if rounds.is_multiple_of(20)
            && let Ok(now) = pods.get_opt(&pod.name_any()).await
        {
            let phase = now.and_then(|pod| pod.status).and_then(|status| status.phase);
            if phase.as_deref() != Some("Running") {
                return Err("the notebook ended before it answered; see the pod's log".to_owned());
            }
        }
        if Instant::now() > deadline {
            return Err(format!("the notebook did not answer at {door} within {} s", NOTEBOOK.as_secs()));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
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

/// Which guarantees stopped the launch, in one sentence; the report has all of them.
fn refusal(report: &Report) -> String {
    const NAMED: usize = 4;
    let named = |word: &str, verdict| {
        let found: Vec<_> = report.guarantees.iter().filter(|guarantee| guarantee.verdict == verdict).collect();
        let names: Vec<String> =
            found.iter().take(NAMED).map(|guarantee| format!("{} ({})", guarantee.id, guarantee.reason)).collect();
        let more = found.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        (!found.is_empty()).then(|| format!("{word}: {}{more}", names.join(", ")))
    };
    let parts: Vec<String> =
        [named("breached", Verdict::Breached), named("unproven", Verdict::Unproven)].into_iter().flatten().collect();
    if parts.is_empty() { "nothing could be proven".to_owned() } else { parts.join("; ") }
}

/// 256 random bits as text.
fn secret() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}
