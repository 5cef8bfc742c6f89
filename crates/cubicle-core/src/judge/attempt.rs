//! One attempt against its control.

use super::{Finding, observed, printable};
use crate::attempt::{Action, Attempt, DIAL_MARGIN, Observation, Outcome, Phase, Proof};
use crate::guarantee::Guarantee;
use crate::plan::Situation;
use crate::report::{Evidence, Verdict};

pub(super) fn finding(guarantee: &Guarantee, attempt: &Attempt, situation: &Situation, proof: &Proof) -> Finding {
    let label = attempt.id.split_once('/').map_or(attempt.id.as_str(), |(_, label)| label);
    let (Some(before), Some(tenant), Some(after)) = (
        observed(&proof.control_before, attempt),
        observed(&proof.tenant, attempt),
        observed(&proof.control_after, attempt),
    ) else {
        let reason = format!("{label}: an observation is missing, or there is more than one");
        return Finding { verdict: Verdict::Unproven, reason, evidence: None };
    };
    let (mut verdict, mut reason) = decide(label, proof, before, tenant, after);
    if verdict == Verdict::Absent && must_answer(situation, &attempt.action) {
        verdict = Verdict::Unproven;
        reason = format!("{label}: the platform's own control does not answer: {}", printable(&before.detail));
    }
    Finding { verdict, reason, evidence: Some(evidence(guarantee, label, proof, before, tenant, after)) }
}

/// Whether the platform itself put somebody there who answers.
fn must_answer(situation: &Situation, action: &Action) -> bool {
    match action {
        Action::TcpConnect { address, .. } | Action::TcpWindow { address, .. } | Action::UdpExchange { address } => {
            situation.cluster.as_ref().is_some_and(|cluster| cluster.must_answer(*address))
        }
        _ => false,
    }
}

fn decide(
    label: &str,
    proof: &Proof,
    before: &Observation,
    tenant: &Observation,
    after: &Observation,
) -> (Verdict, String) {
    let said = printable(&tenant.detail);
    let controls = (before.outcome, after.outcome);
    match (tenant.outcome, controls) {
        (Outcome::Succeeded, _) => (Verdict::Breached, format!("{label} worked: {said}")),
        (Outcome::Failed, _) => (Verdict::Unproven, format!("{label} could not be tried: {said}")),
        (Outcome::Denied | Outcome::Missing, (Outcome::Missing, Outcome::Missing)) => {
            (Verdict::Absent, format!("{label}: nothing stands there on this machine: {}", printable(&before.detail)))
        }
        (Outcome::Missing, _) => {
            (Verdict::Unproven, format!("{label} is missing inside, but not for the control: {said}"))
        }
        (Outcome::Denied, (Outcome::Succeeded, Outcome::Succeeded)) => match too_slow(proof, before, tenant, after) {
            Some(reason) => (Verdict::Unproven, format!("{label}: {reason}")),
            None => (Verdict::Held, String::new()),
        },
        (Outcome::Denied, _) => {
            let (when, control) =
                if before.outcome == Outcome::Succeeded { ("after", after) } else { ("before", before) };
            let outcome = words(control.outcome);
            (Verdict::Unproven, format!("{label}: the control {when} {outcome}: {}", printable(&control.detail)))
        }
    }
}

/// Silence until the deadline says something only when the control was much faster. An answer, be it a
/// refusal, says what it says, however late a busy machine let it be read.
fn too_slow(proof: &Proof, before: &Observation, tenant: &Observation, after: &Observation) -> Option<String> {
    let deadline = proof.plan.dial_deadline_ms.saturating_mul(1000);
    let slowest = before.duration_us.max(after.duration_us);
    (tenant.silent && slowest.saturating_mul(DIAL_MARGIN) > deadline)
        .then(|| format!("no answer within {deadline} us, and the control took {slowest} us itself"))
}

fn words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Denied => "was stopped as well",
        Outcome::Missing => "found nothing there",
        Outcome::Failed => "could not try",
    }
}

fn evidence(
    guarantee: &Guarantee,
    label: &str,
    proof: &Proof,
    before: &Observation,
    tenant: &Observation,
    after: &Observation,
) -> Evidence {
    let said = |one: &Observation| format!("{}: {}", name(one.outcome), printable(&one.detail));
    Evidence {
        attempt: label.to_owned(),
        from: from(proof.plan.phase).to_owned(),
        control: guarantee.positive_control.to_owned(),
        control_outcome: if (before.outcome, &before.detail) == (after.outcome, &after.detail) {
            format!("before and after {}", said(before))
        } else {
            format!("before {}; after {}", said(before), said(after))
        },
        outcome: said(tenant),
        at: tenant.at,
        duration_us: tenant.duration_us,
    }
}

pub(super) fn from(phase: Phase) -> &'static str {
    match phase {
        Phase::Gate => "the workspace's first process, before user code",
        Phase::Later => "a process in the workspace's namespaces, beside user code",
    }
}

pub(super) fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Denied => "denied",
        Outcome::Missing => "missing",
        Outcome::Failed => "failed",
    }
}
