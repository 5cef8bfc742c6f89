//! Proving one workspace: reference, gate, reference, verdicts.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cubicle_core::attempt::{Action, CgroupReading, Observations, Phase, ProbePlan, Proof, dial_deadline_ms};
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
/// How long the control before waits for an address that may have no owner, in milliseconds. What the platform itself put
/// there it reaches in a small part of that; on a machine that is too busy for it, the next try waits longer.
const CONTROL_DEADLINE_MS: u64 = 50;
/// The same for the second look at an address where nobody has answered it: long enough for one far away. One that
/// answers only then is unproven, and the next try waits as long before, too.
const SILENT_DEADLINE_MS: u64 = 150;

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
    /// All of the proof.
    plan: ProbePlan,
    /// Of what runs into limits.
    loads: Observations,
}

/// Asks the reference for the first part of the control before, what runs into limits: it does not wait for the gate.
///
/// # Errors
/// When the reference does not answer: then nothing is known.
pub async fn control(
    reference: SocketAddr,
    key: &SigningKey,
    situation: &Situation,
    phase: Phase,
    nonce: &str,
) -> Result<Controlled, Problem> {
    let plan = catalogue::probe_plan(situation, &[], phase, nonce);
    let loads = ask_reference(reference, key, &plan.only(Action::is_load)).await?;
    Ok(Controlled { plan, loads })
}

/// Proves through the gate, in two parts: what runs into limits, and everything else. Around each part the reference
/// is asked for the same, and what one of both waits for does not keep the other part from going on. Dials of
/// the proof get `least_deadline_ms` or more, as the control before asks for.
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
    let Controlled { mut plan, loads: mut control_before } = before;
    let loads = plan.only(Action::is_load);
    let mut rest = plan.only(|action| !action.is_load());
    let began = Instant::now();
    let of_loads = async {
        // Dialled only now: a gate does not wait long for callers that say nothing.
        let mut door = patiently(gate).await?;
        let seen = observe(&mut door, key, &loads, "the gate").await?;
        Ok((door, seen))
    };
    rest.dial_deadline_ms = CONTROL_DEADLINE_MS.max(least_deadline_ms);
    let ((mut door, mut tenant), before) = tokio::try_join!(of_loads, ask_reference(reference, key, &rest))?;
    control_before = control_before.together(before);
    let loaded = began.elapsed();
    plan.dial_deadline_ms = dial_deadline_ms(&control_before).max(least_deadline_ms);
    rest.dial_deadline_ms = plan.dial_deadline_ms;
    let of_tenant = rest.clone();
    // Where nobody has answered the control it looks again while the tenant tries: nobody is promised anything about
    // an address without an owner, but one that has an owner now is none of these.
    let silent = take_silent(&mut rest, &control_before);
    let (seen, control_after, of_silent) = tokio::try_join!(
        observe(&mut door, key, &of_tenant, "the gate"),
        ask_reference(reference, key, &loads),
        async {
            match &silent {
                Some(silent) => ask_reference(reference, key, silent).await.map(Some),
                None => Ok(None),
            }
        }
    )?;
    tenant = tenant.together(seen);
    let tried = began.elapsed();
    let after = ask_reference(reference, key, &rest).await?;
    let control_after = of_silent.into_iter().chain([after]).fold(control_after, Observations::together);
    tracing::debug!(?loaded, ?tried, controlled = ?began.elapsed(), dial_deadline_ms = plan.dial_deadline_ms, "tried");
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

/// Takes out of a plan what nobody answered, as a plan of its own; none when everybody did.
fn take_silent(plan: &mut ProbePlan, before: &Observations) -> Option<ProbePlan> {
    let silent: HashSet<&str> =
        before.observations.iter().filter(|one| one.silent).map(|one| one.attempt.as_str()).collect();
    let (asked_alone, rest) = plan.attempts.drain(..).partition(|attempt| silent.contains(attempt.id.as_str()));
    plan.attempts = rest;
    let dial_deadline_ms = SILENT_DEADLINE_MS.max(plan.dial_deadline_ms);
    let alone = ProbePlan { attempts: asked_alone, dial_deadline_ms, ..plan.clone() };
    (!alone.attempts.is_empty()).then_some(alone)
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

#[cfg(test)]
mod tests;
