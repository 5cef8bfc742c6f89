//! What waits for its users, on every engine.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What a launch found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// One that was ready, and got it.
    Got,
    /// None that fits.
    Missed,
    /// One that was ready, which could not be used: the launch went on like any other.
    GivenUp,
}

const GOT: &str = "got";
const MISSED: &str = "missed";
const GIVEN_UP: &str = "given_up";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

struct Metrics {
    registry: Registry,
    members: Family<OfState, Gauge>,
    claims: Family<OfOutcome, Counter>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let mut registry = Registry::default();
    let members = Family::default();
    let claims: Family<OfOutcome, Counter> = Family::default();
    // Told from the start, so that a rate of them is one.
    for outcome in [GOT, MISSED, GIVEN_UP] {
        drop(claims.get_or_create(&OfOutcome { outcome }));
    }
    registry.register("cubicle_pool_members", "Warm workspaces, ready and wanted", members.clone());
    registry.register(
        "cubicle_pool_claims",
        "Launches that looked for a warm workspace, by what they found",
        claims.clone(),
    );
    Metrics { registry, members, claims }
});

/// How many are ready, and how many there are to be.
pub fn held(ready: usize, wanted: usize) {
    for (state, count) in [("ready", ready), ("wanted", wanted)] {
        METRICS.members.get_or_create(&OfState { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// A launch looked for one.
pub fn asked(claim: Claim) {
    let outcome = match claim {
        Claim::Got => GOT,
        Claim::Missed => MISSED,
        Claim::GivenUp => GIVEN_UP,
    };
    METRICS.claims.get_or_create(&OfOutcome { outcome }).inc();
}

/// This part of the text.
pub fn text() -> String {
    crate::part(&METRICS.registry)
}
