//! Judging: from what was observed to verdicts, without looking at anything else.
//!
//! One rule stands above all: a guarantee is held only when everything that was tried for it
//! was stopped, and a control shows, before and after, that each of these attempts could have
//! worked. Whatever is missing, late, disturbed or from another proof makes it unproven.

mod attempt;
mod limits;

use std::time::Duration;

use jiff::Timestamp;

use crate::attempt::{Attempt, Observations, Phase, Proof, Role};
use crate::catalogue;
use crate::guarantee::Guarantee;
use crate::plan::Situation;
use crate::report::{Evidence, GuaranteeReport, Report, Summary, Verdict};
use crate::workspace::Workspace;

/// What came of one attempt, or of one look at a counter.
struct Finding {
    verdict: Verdict,
    reason: String,
    evidence: Option<Evidence>,
}

/// Judges every guarantee that means something on the situation's engine.
///
/// What the level does not promise is `not_claimed`, with whatever was observed. What this
/// proof did not try is `unproven`; the caller may carry an earlier verdict over.
pub fn judge(situation: &Situation, promised: &[&str], proof: &Proof) -> Vec<GuaranteeReport> {
    let distrust = distrust(proof);
    catalogue::on(situation.engine)
        .map(|guarantee| {
            let findings = findings(guarantee, situation, proof, distrust.as_deref());
            let (mut verdict, mut reason) = combine(&findings);
            if !promised.contains(&guarantee.id) {
                verdict = Verdict::NotClaimed;
                reason = format!("level {} does not promise it on this engine", situation.level);
            }
            GuaranteeReport {
                verdict,
                reason,
                evidence: findings.into_iter().filter_map(|finding| finding.evidence).collect(),
                ..GuaranteeReport::of(guarantee)
            }
        })
        .collect()
}

/// Puts a report together.
pub fn report(
    workspace: &Workspace,
    started_at: Timestamp,
    duration: Duration,
    guarantees: Vec<GuaranteeReport>,
) -> Report {
    Report {
        workspace: workspace.id.clone(),
        engine: workspace.engine,
        level: workspace.level,
        template: workspace.template.clone(),
        started_at,
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        summary: Summary::of(&guarantees),
        guarantees,
    }
}

/// Why nothing in this proof is to be believed.
fn distrust(proof: &Proof) -> Option<String> {
    let runs = [
        ("the control before", &proof.control_before, Role::Control),
        ("the probe", &proof.tenant, Role::Tenant),
        ("the control after", &proof.control_after, Role::Control),
    ];
    if proof.plan.nonce.is_empty() {
        return Some("the proof has no nonce".to_owned());
    }
    runs.into_iter().find_map(|(name, run, role)| {
        if run.nonce != proof.plan.nonce {
            return Some(format!("{name} answered for another proof"));
        }
        if run.role != role {
            return Some(format!("{name} ran in the wrong role"));
        }
        run.disturbed.as_ref().map(|why| format!("{name} was disturbed: {}", printable(why)))
    })
}

fn findings(guarantee: &Guarantee, situation: &Situation, proof: &Proof, distrust: Option<&str>) -> Vec<Finding> {
    let expected = catalogue::attempts_of(guarantee.id, situation, proof.plan.phase);
    let untried = |reason: String| vec![Finding { verdict: Verdict::Unproven, reason, evidence: None }];
    if expected.is_empty() {
        return untried(match proof.plan.phase {
            Phase::Gate => "nothing can be tried for it here".to_owned(),
            Phase::Later => "it can be tried before user code only".to_owned(),
        });
    }
    if !expected.iter().all(|attempt| proof.plan.attempts.contains(attempt)) {
        return untried("it was not tried in this proof, or not all of it".to_owned());
    }
    let mut findings: Vec<Finding> = match limits::findings(guarantee.id, situation, proof, &expected) {
        Some(findings) => findings,
        None => expected.iter().map(|one| attempt::finding(guarantee, one, situation, proof)).collect(),
    };
    if let Some(reason) = distrust {
        for finding in &mut findings {
            finding.verdict = Verdict::Unproven;
            finding.reason = reason.to_owned();
        }
    }
    findings
}

/// The verdict over several findings: the worst counts; what is absent counts only when all is.
fn combine(findings: &[Finding]) -> (Verdict, String) {
    let first = |verdict| findings.iter().find(|finding| finding.verdict == verdict);
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    for verdict in [Verdict::Breached, Verdict::Unproven] {
        if let Some(finding) = first(verdict) {
            let more = match count(verdict) - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            return (verdict, format!("{}{more}", finding.reason));
        }
    }
    let absent = match count(Verdict::Absent) {
        0 => String::new(),
        absent => format!("; {absent} more have nothing behind them on this machine"),
    };
    match count(Verdict::Held) {
        0 => match first(Verdict::Absent) {
            Some(finding) => (Verdict::Absent, finding.reason.clone()),
            None => (Verdict::Unproven, "nothing was observed".to_owned()),
        },
        1 => (Verdict::Held, format!("it was tried and stopped, and the control could do it before and after{absent}")),
        held => (
            Verdict::Held,
            format!("all {held} attempts were stopped, and the control could do each before and after{absent}"),
        ),
    }
}

/// The one observation of an attempt; none when there is not exactly one.
fn observed<'a>(run: &'a Observations, attempt: &Attempt) -> Option<&'a crate::attempt::Observation> {
    let mut found = run.observations.iter().filter(|one| one.attempt == attempt.id);
    match (found.next(), found.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}

/// A probe's words, made safe to show and bounded.
fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
