//! Launches and proofs, on every engine.

use std::sync::LazyLock;
use std::time::Duration;

use cubicle_core::report::{Report, Verdict};
use cubicle_core::workspace::Step;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// How a launch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The notebook is open.
    Open,
    /// A promise did not hold, or could not be proven.
    Refused,
    /// The engine failed.
    Failed,
}

/// When a proof was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Before any code of the user.
    Gate,
    /// When a user got a sandbox that was proven before.
    Claim,
    /// While the notebook ran.
    Later,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStep {
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVerdict {
    guarantee: String,
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProof {
    phase: &'static str,
}

struct Metrics {
    registry: Registry,
    steps: Family<OfStep, Histogram, fn() -> Histogram>,
    launches: Family<OfOutcome, Counter>,
    verdicts: Family<OfVerdict, Counter>,
    proofs: Family<OfProof, Histogram, fn() -> Histogram>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let mut registry = Registry::default();
    let steps: Family<OfStep, Histogram, fn() -> Histogram> =
        Family::new_with_constructor(|| Histogram::new(crate::long()));
    let proofs: Family<OfProof, Histogram, fn() -> Histogram> =
        Family::new_with_constructor(|| Histogram::new(crate::long()));
    let (launches, verdicts) = (Family::default(), Family::default());
    registry.register("cubicle_launch_step_seconds", "Time that a finished step of a launch took", steps.clone());
    registry.register("cubicle_launches", "Launches that ended, by how", launches.clone());
    registry.register("cubicle_verdicts", "Verdicts of proofs, by guarantee", verdicts.clone());
    registry.register("cubicle_proof_seconds", "Time that a proof took", proofs.clone());
    Metrics { registry, steps, launches, verdicts, proofs }
});

/// A step of a launch was done.
pub fn step_done(step: Step, took: Duration) {
    METRICS.steps.get_or_create(&OfStep { step: step.as_str() }).observe(took.as_secs_f64());
}

/// A launch ended.
pub fn ended(outcome: Outcome) {
    let outcome = match outcome {
        Outcome::Open => "open",
        Outcome::Refused => "refused",
        Outcome::Failed => "failed",
    };
    METRICS.launches.get_or_create(&OfOutcome { outcome }).inc();
}

/// Something was proven, or not.
pub fn proven(report: &Report, proof: Proof) {
    for guarantee in &report.guarantees {
        if guarantee.verdict == Verdict::NotClaimed {
            continue;
        }
        let verdict = guarantee.verdict.as_str();
        // Ids are the catalogue's, so there are few.
        METRICS.verdicts.get_or_create(&OfVerdict { guarantee: guarantee.id.clone(), verdict }).inc();
    }
    let phase = match proof {
        Proof::Gate => "gate",
        Proof::Claim => "claim",
        Proof::Later => "later",
    };
    let took = Duration::from_millis(report.duration_ms);
    METRICS.proofs.get_or_create(&OfProof { phase }).observe(took.as_secs_f64());
}

/// This part of the text.
pub fn text() -> String {
    crate::part(&METRICS.registry)
}
