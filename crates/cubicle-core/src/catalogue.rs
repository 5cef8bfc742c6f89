//! The catalogue of guarantees: what each one says, how it is tried, and which level of which
//! engine promises it.

mod container;
mod control_plane;
mod egress;
mod entry;
mod image;
mod kernel;
mod kubernetes;
mod neighbours;
mod network;
mod node;
mod promise;
mod services;
mod sockets;
mod storage;

use std::sync::LazyLock;

use crate::attempt::{Attempt, DIAL_DEADLINE_MS, Phase, ProbePlan};
use crate::guarantee::Guarantee;
use crate::level::EngineKind;
use crate::plan::Situation;
use entry::Entry;

pub use container::FILE_RULES;
pub use network::START_UP_WINDOW;
pub use promise::promised;

/// What is proven again when a user gets a sandbox that was built and proven before: everything that speaks
/// of the home, which only then is there, and of what a mount could change.
pub const AT_A_CLAIM: &[&str] = &[
    "storage.remnants",
    "storage.leave-home",
    "storage.other-homes",
    "storage.fill",
    "storage.files",
    "container.loose-mounts",
    "container.change-image",
    "container.shared-ids",
    "container.capabilities",
    "container.privilege-by-exec",
    "container.system-call-filter",
];

/// What the ids of guarantees about the home begin with.
pub const OF_THE_HOME: &str = "storage.";

static ENTRIES: LazyLock<Vec<&'static Entry>> = LazyLock::new(|| {
    [
        control_plane::ENTRIES,
        node::ENTRIES,
        network::ENTRIES,
        egress::ENTRIES,
        container::ENTRIES,
        kernel::ENTRIES,
        sockets::ENTRIES,
        image::ENTRIES,
        storage::ENTRIES,
        services::ENTRIES,
        neighbours::ENTRIES,
    ]
    .into_iter()
    .chain(kubernetes::GROUPS)
    .flatten()
    .collect()
});

static GUARANTEES: LazyLock<Vec<Guarantee>> =
    LazyLock::new(|| ENTRIES.iter().map(|entry| entry.guarantee.clone()).collect());

/// Every guarantee, in the order in which people read them: layer by layer.
pub fn all() -> &'static [Guarantee] {
    &GUARANTEES
}

/// The guarantee with this id or research id.
pub fn find(name: &str) -> Option<&'static Guarantee> {
    GUARANTEES.iter().find(|guarantee| guarantee.id == name || guarantee.alias.eq_ignore_ascii_case(name))
}

/// The guarantees that mean something on an engine, promised or not.
pub fn on(engine: EngineKind) -> impl Iterator<Item = &'static Guarantee> {
    GUARANTEES.iter().filter(move |guarantee| guarantee.engines.contains(&engine))
}

/// What to try in one proof: everything that can be tried in this phase, or only what belongs
/// to the named guarantees (by id or research id).
pub fn probe_plan(situation: &Situation, only: &[String], phase: Phase, nonce: &str) -> ProbePlan {
    let wanted = |guarantee: &Guarantee| {
        only.is_empty() || only.iter().any(|name| *name == guarantee.id || guarantee.alias.eq_ignore_ascii_case(name))
    };
    let attempts = ENTRIES
        .iter()
        .filter(|entry| wanted(&entry.guarantee))
        .flat_map(|entry| attempts(entry, situation, phase))
        .collect();
    ProbePlan { nonce: nonce.to_owned(), phase, dial_deadline_ms: DIAL_DEADLINE_MS, attempts }
}

/// Whether a plan tries anything for this guarantee.
pub fn is_tried(id: &str, plan: &ProbePlan) -> bool {
    plan.attempts.iter().any(|attempt| belongs_to(&attempt.id, id))
}

/// The attempts of one guarantee in this phase; none when it cannot be tried then.
pub(crate) fn attempts_of(id: &str, situation: &Situation, phase: Phase) -> Vec<Attempt> {
    ENTRIES
        .iter()
        .filter(|entry| entry.guarantee.id == id)
        .flat_map(|entry| attempts(entry, situation, phase))
        .collect()
}

fn attempts(entry: &Entry, situation: &Situation, phase: Phase) -> Vec<Attempt> {
    if !entry.guarantee.engines.contains(&situation.engine) {
        return Vec::new();
    }
    let attempts = match &situation.cluster {
        Some(cluster) => kubernetes::attempts(entry, situation, cluster, phase),
        None => entry.attempts.map(|attempts| attempts(situation, phase)).unwrap_or_default(),
    };
    attempts
        .into_iter()
        .map(|(label, action)| Attempt { id: format!("{}/{label}", entry.guarantee.id), action })
        .collect()
}

fn belongs_to(attempt: &str, id: &str) -> bool {
    attempt.strip_prefix(id).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod manual;
#[cfg(test)]
mod tests;
