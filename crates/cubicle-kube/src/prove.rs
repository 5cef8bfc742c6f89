//! Proving one workspace: reference, gate, reference, verdicts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cubicle_core::attempt::{CgroupReading, Observations, Phase, ProbePlan, Proof, dial_deadline_ms};
use cubicle_core::catalogue;
use cubicle_core::door::{Demand, Reply};
use cubicle_core::judge;
use cubicle_core::level::EngineKind;
use cubicle_core::plan::Situation;
use cubicle_core::problem::Problem;
use cubicle_core::report::GuaranteeReport;
use cubicle_traces::Observed;
use ed25519_dalek::SigningKey;

use crate::door::Door;

/// What reference pods call themselves.
pub const REFERENCE: &str = "reference";
/// How long one run of all attempts may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the control waits for an address that may have no owner, in milliseconds. What it has
/// to reach, it reaches in a small part of that.
const CONTROL_DEADLINE_MS: u64 = 150;
/// The same for the control after: what is there has answered before, and at once.
const AGAIN_DEADLINE_MS: u64 = 50;

/// How long the gate may take until it listens.
const GATE: Duration = Duration::from_secs(10);

/// Where the gate of a workspace is.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// The pod's address and the notebook's port.
    pub address: SocketAddr,
    /// The workspace's uid.
    pub workspace: &'a str,
    /// The launch.
    pub launch: &'a str,
}

/// A proof.
pub struct Proven {
    /// The verdicts of every guarantee that exists on Kubernetes.
    pub guarantees: Vec<GuaranteeReport>,
    /// When what was tried, for the trace of the launch.
    pub observed: Observed,
    /// Only the connection that the observations came through takes the go.
    pub door: Door,
    /// How long dials should have had, after what the controls needed, in milliseconds: when something is
    /// unproven because the machine was slow, the next proof had better give them that.
    pub deadline_ms: u64,
}

/// What the reference on a node came to before the tenant tries.
pub struct Controlled {
    plan: ProbePlan,
    observations: Observations,
}

/// Asks the reference for the control before: it may be asked while the gate is still on its way. Dials of
/// the proof get `least_deadline_ms` or more, as the control before asks for.
///
/// # Errors
/// When the reference does not answer: then nothing is known.
pub async fn control(
    reference: SocketAddr,
    key: &SigningKey,
    situation: &Situation,
    phase: Phase,
    nonce: &str,
    least_deadline_ms: u64,
) -> Result<Controlled, Problem> {
    let mut plan = catalogue::probe_plan(situation, &[], phase, nonce);
    plan.dial_deadline_ms = CONTROL_DEADLINE_MS.max(least_deadline_ms / 4);
    let observations = ask_reference(reference, key, &plan).await?;
    Ok(Controlled { plan, observations })
}

/// Proves through the gate what the reference was asked before.
///
/// # Errors
/// When gate or reference do not answer: then nothing is known.
pub async fn prove(
    gate: Gate<'_>,
    reference: SocketAddr,
    key: &SigningKey,
    situation: &Situation,
    before: Controlled,
    least_deadline_ms: u64,
) -> Result<Proven, Problem> {
    let promised = catalogue::promised(situation.level, EngineKind::Kubernetes);
    let Controlled { plan: mut of_control, observations: control_before } = before;
    let mut plan = of_control.clone();
    plan.dial_deadline_ms = dial_deadline_ms(&control_before).max(least_deadline_ms);
    // Dialled only now: a gate does not wait long for callers that say nothing.
    let began = Instant::now();
    let mut door = patiently(gate).await?;
    let listened = began.elapsed();
    let tenant = observe(&mut door, key, &plan, "the gate").await?;
    let tried = began.elapsed();
    of_control.dial_deadline_ms = AGAIN_DEADLINE_MS.max(least_deadline_ms / 4);
    let control_after = ask_reference(reference, key, &of_control).await?;
    tracing::debug!(?listened, ?tried, controlled = ?began.elapsed(), dial_deadline_ms = plan.dial_deadline_ms, "tried");
    let deadline_ms = plan.dial_deadline_ms.max(dial_deadline_ms(&control_after));
    // The kernel's counters are read by nobody here; no promise of this engine rests on them.
    let unread = CgroupReading::default();
    let proof = Proof {
        plan,
        control_before,
        tenant,
        control_after,
        cgroup_before: unread.clone(),
        cgroup_after: unread.clone(),
        cgroup_final: unread.clone(),
        cgroup_reference: unread,
    };
    let guarantees = judge::judge(situation, &promised, &proof);
    Ok(Proven { guarantees, observed: Observed::of(&proof), door, deadline_ms })
}

/// The gate listens a moment after its container has started.
async fn patiently(gate: Gate<'_>) -> Result<Door, Problem> {
    let deadline = Instant::now() + GATE;
    loop {
        match Door::open(gate.address, gate.workspace, gate.launch).await {
            Ok(door) => return Ok(door),
            Err(error) if Instant::now() > deadline => {
                return Err(Problem::engine(format!("the gate: {error}"), "see the pod's log"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn ask_reference(address: SocketAddr, key: &SigningKey, plan: &ProbePlan) -> Result<Observations, Problem> {
    let mut door = Door::open(address, REFERENCE, REFERENCE).await.map_err(|error| {
        Problem::engine(format!("the reference pod: {error}"), "is the reference running on every node?")
    })?;
    observe(&mut door, key, plan, "the reference pod").await
}

async fn observe(door: &mut Door, key: &SigningKey, plan: &ProbePlan, who: &str) -> Result<Observations, Problem> {
    match door.ask(key, &Demand::Probe(plan.clone()), PATIENCE).await {
        Ok(Reply::Observations(observations)) => Ok(observations),
        Ok(other) => Err(Problem::engine(format!("{who} answered with {other:?} instead of observations"), "")),
        Err(error) => Err(Problem::engine(format!("{who}: {error}"), "see the pod's log")),
    }
}
