//! A proof as spans: its two controls, the tenant, and what the tenant tried for each guarantee.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use cubicle_core::attempt::{Action, Observation, Observations, Phase, Proof};
use cubicle_core::report::{GuaranteeReport, Verdict};
use opentelemetry::KeyValue;
use opentelemetry::trace::Span as _;
use opentelemetry_sdk::trace::{SdkTracer, Span};

use crate::span;

/// From when to when, and how many attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interval {
    from: SystemTime,
    to: SystemTime,
    attempts: u32,
}

impl Interval {
    fn with(self, other: Self) -> Self {
        Self {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            attempts: self.attempts.saturating_add(other.attempts),
        }
    }

    fn over(all: impl Iterator<Item = Self>) -> Option<Self> {
        all.reduce(Self::with)
    }
}

/// When a proof tried what, as the probe has measured it.
#[derive(Debug)]
pub struct Observed {
    sides: [(&'static str, Option<Interval>); 3],
    guarantees: BTreeMap<String, Interval>,
}

impl Observed {
    /// What the two controls and the tenant of a proof have observed.
    pub fn of(proof: &Proof) -> Self {
        // The window of a gate's first instruction is told by its beginning, everything else by its end.
        let windows: Vec<&str> = match proof.plan.phase {
            Phase::Gate => {
                let windows = proof.plan.attempts.iter();
                let windows = windows.filter(|attempt| matches!(attempt.action, Action::TcpWindow { .. }));
                windows.map(|attempt| attempt.id.as_str()).collect()
            }
            Phase::Later => Vec::new(),
        };
        let of_tenant = |one: &Observation| interval(one, windows.contains(&one.attempt.as_str()));
        let of_control = |side: &Observations| Interval::over(side.observations.iter().map(|one| interval(one, false)));
        let mut guarantees: BTreeMap<String, Interval> = BTreeMap::new();
        for one in &proof.tenant.observations {
            let guarantee = one.attempt.split_once('/').map_or(one.attempt.as_str(), |(guarantee, _)| guarantee);
            let interval = of_tenant(one);
            guarantees.entry(guarantee.to_owned()).and_modify(|all| *all = all.with(interval)).or_insert(interval);
        }
        let tenant = Interval::over(proof.tenant.observations.iter().map(of_tenant));
        Self {
            sides: [
                ("control before", of_control(&proof.control_before)),
                ("tenant", tenant),
                ("control after", of_control(&proof.control_after)),
            ],
            guarantees,
        }
    }

    /// Tells it below a span. Guarantees have the verdicts of the report.
    pub(crate) fn tell(&self, tracer: &SdkTracer, parent: &Span, report: &[GuaranteeReport]) {
        let Some(whole) = Interval::over(self.sides.iter().filter_map(|(_, side)| *side)) else { return };
        let mut proof = span::below(tracer, parent, "proof", whole.from);
        for (name, side) in &self.sides {
            let Some(side) = side else { continue };
            let mut span = span::below(tracer, &proof, *name, side.from);
            span.set_attribute(attempts(side));
            if *name == "tenant" {
                self.tell_guarantees(tracer, &span, report);
            }
            span.end_with_timestamp(side.to);
        }
        proof.set_attribute(attempts(&whole));
        proof.end_with_timestamp(whole.to);
    }

    fn tell_guarantees(&self, tracer: &SdkTracer, tenant: &Span, report: &[GuaranteeReport]) {
        for known in report {
            // Only ids of the catalogue: what else the tenant's side has said is nobody's name for anything.
            let Some(interval) = self.guarantees.get(&known.id) else { continue };
            let mut span = span::below(tracer, tenant, known.id.clone(), interval.from);
            let verdict = known.verdict.as_str();
            span.set_attribute(KeyValue::new("cubicle.guarantee", known.id.clone()));
            span.set_attribute(KeyValue::new("cubicle.verdict", verdict));
            span.set_attribute(attempts(interval));
            if stops(known.verdict) {
                span::fail(&mut span, verdict, verdict);
            }
            span.end_with_timestamp(interval.to);
        }
    }
}

fn attempts(interval: &Interval) -> KeyValue {
    KeyValue::new("cubicle.attempts", i64::from(interval.attempts))
}

fn interval(one: &Observation, by_its_beginning: bool) -> Interval {
    // What a probe says is bounded, so that no time is out of reach.
    let took = Duration::from_micros(one.duration_us).min(Duration::from_secs(3600));
    let nanoseconds = u64::try_from(one.at.as_nanosecond()).unwrap_or(0);
    let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
    let (from, to) = if by_its_beginning {
        (at, at.checked_add(took).unwrap_or(at))
    } else {
        (at.checked_sub(took).unwrap_or(at), at)
    };
    Interval { from, to, attempts: 1 }
}

/// Whether a verdict keeps a workspace shut.
pub(crate) fn stops(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Breached | Verdict::Unproven)
}

/// Which guarantees stop a launch, in words of the catalogue.
pub(crate) fn refusal(report: &[GuaranteeReport]) -> String {
    let named = |verdict| {
        let ids: Vec<&str> = report.iter().filter(|one| one.verdict == verdict).map(|one| one.id.as_str()).collect();
        (!ids.is_empty()).then(|| format!("{}: {}", verdict.as_str(), ids.join(", ")))
    };
    let parts: Vec<String> = [Verdict::Breached, Verdict::Unproven].into_iter().filter_map(named).collect();
    if parts.is_empty() { "nothing was proven".to_owned() } else { parts.join("; ") }
}
