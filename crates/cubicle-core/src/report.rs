//! The report of one workspace: every verdict with its evidence.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::guarantee::{Guarantee, Layer, Place};
use crate::level::{EngineKind, Level};
use crate::name::{TemplateName, WorkspaceId};

/// What is known about one guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was tried, it failed, and the control shows that it could have succeeded.
    Held,
    /// It was tried and it succeeded.
    Breached,
    /// It could not be decided; the reason says why.
    Unproven,
    /// Nothing stands on the other side here: even the reference cannot reach it.
    Absent,
    /// The level does not promise it.
    NotClaimed,
}

impl Verdict {
    /// The word for it in documents, queries, metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Breached => "breached",
            Self::Unproven => "unproven",
            Self::Absent => "absent",
            Self::NotClaimed => "not_claimed",
        }
    }
}

/// One attempt and its control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was tried.
    pub attempt: String,
    /// From where.
    pub from: String,
    /// What the control was.
    pub control: String,
    /// What the control answered.
    pub control_outcome: String,
    /// What the attempt answered.
    pub outcome: String,
    /// When.
    pub at: Timestamp,
    /// How long the attempt took, in microseconds.
    pub duration_us: u64,
}

/// One guarantee in a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuaranteeReport {
    /// The readable id.
    pub id: String,
    /// The research id.
    pub alias: String,
    /// The layer.
    pub layer: Layer,
    /// The place.
    pub place: Place,
    /// "A workspace cannot ..."
    pub sentence: String,
    /// What makes it so.
    pub mechanism: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub reason: String,
    /// Every attempt.
    pub evidence: Vec<Evidence>,
    /// Sources.
    pub references: Vec<String>,
}

impl GuaranteeReport {
    /// A guarantee of which nothing is known yet.
    pub fn of(guarantee: &Guarantee) -> Self {
        Self {
            id: guarantee.id.to_owned(),
            alias: guarantee.alias.to_owned(),
            layer: guarantee.layer,
            place: guarantee.place,
            sentence: guarantee.sentence.to_owned(),
            mechanism: guarantee.mechanism.to_owned(),
            verdict: Verdict::Unproven,
            reason: "nothing was observed".to_owned(),
            evidence: Vec::new(),
            references: guarantee.references.iter().map(|reference| (*reference).to_owned()).collect(),
        }
    }
}

/// How many guarantees have which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Held.
    pub held: usize,
    /// Breached.
    pub breached: usize,
    /// Unproven.
    pub unproven: usize,
    /// Absent.
    pub absent: usize,
    /// Not claimed.
    pub not_claimed: usize,
}

/// All verdicts of one workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The engine.
    pub engine: EngineKind,
    /// The level that was promised.
    pub level: Level,
    /// The template.
    pub template: TemplateName,
    /// When proving began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The counts.
    pub summary: Summary,
    /// Every guarantee of the catalogue that exists on this engine.
    pub guarantees: Vec<GuaranteeReport>,
}

impl Summary {
    /// Counts verdicts.
    pub fn of(guarantees: &[GuaranteeReport]) -> Self {
        let count = |verdict| guarantees.iter().filter(|guarantee| guarantee.verdict == verdict).count();
        Self {
            held: count(Verdict::Held),
            breached: count(Verdict::Breached),
            unproven: count(Verdict::Unproven),
            absent: count(Verdict::Absent),
            not_claimed: count(Verdict::NotClaimed),
        }
    }

    /// Whether a workspace with these verdicts may be opened: nothing breached, nothing unproven.
    pub fn opens(&self) -> bool {
        self.breached == 0 && self.unproven == 0
    }
}

/// Guarantees whose evidence is older than the report that they are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// How many.
    pub count: usize,
    /// When the oldest of it was made.
    pub oldest: Timestamp,
}

/// What was observed so long before a proof began, in seconds, belongs to an earlier one. Within one, the first
/// process of a sandbox has begun a little before it was asked.
const EARLIER: i64 = 60;

/// How long ago something was observed, for people.
pub fn age(duration: std::time::Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} minutes", seconds / 60),
        seconds => format!("{} hours", seconds / 3600),
    }
}

impl Report {
    /// What this proof did not try again, and keeps from an earlier one; none when all is of this one.
    pub fn carried(&self) -> Option<Carried> {
        let limit = self.started_at.as_second() - EARLIER;
        let newest = |guarantee: &GuaranteeReport| guarantee.evidence.iter().map(|evidence| evidence.at).max();
        let earlier: Vec<Timestamp> =
            self.guarantees.iter().filter_map(newest).filter(|at| at.as_second() < limit).collect();
        let oldest = earlier.iter().min().copied();
        oldest.map(|oldest| Carried { count: earlier.len(), oldest })
    }

    /// Which guarantees stop a launch, in one sentence for people; the report has all of them.
    pub fn refusal(&self) -> String {
        const NAMED: usize = 4;
        let named = |word: &str, verdict| {
            let found: Vec<_> = self.guarantees.iter().filter(|guarantee| guarantee.verdict == verdict).collect();
            let names: Vec<String> =
                found.iter().take(NAMED).map(|guarantee| format!("{} ({})", guarantee.id, guarantee.reason)).collect();
            let more = found.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            (!found.is_empty()).then(|| format!("{word}: {}{more}", names.join(", ")))
        };
        let parts: Vec<String> = [named("breached", Verdict::Breached), named("unproven", Verdict::Unproven)]
            .into_iter()
            .flatten()
            .collect();
        if parts.is_empty() { "nothing could be proven".to_owned() } else { parts.join("; ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_tried_again_is_counted_with_its_age() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let guarantee = |moments: &[&str]| {
            let evidence = moments.iter().map(|moment| Evidence {
                attempt: String::new(),
                from: String::new(),
                control: String::new(),
                control_outcome: String::new(),
                outcome: String::new(),
                at: at(moment),
                duration_us: 1,
            });
            let found = crate::catalogue::all().first().expect("a guarantee");
            GuaranteeReport { evidence: evidence.collect(), ..GuaranteeReport::of(found) }
        };
        let report = |guarantees: Vec<GuaranteeReport>| Report {
            workspace: WorkspaceId::from_random([7; 12]),
            engine: EngineKind::Local,
            level: Level::Standard,
            template: "lab".parse().expect("a name"),
            started_at: at("2026-11-26T10:00:00Z"),
            duration_ms: 1,
            summary: Summary::default(),
            guarantees,
        };
        let of_this = guarantee(&["2026-11-26T09:59:59Z", "2026-11-26T10:00:01Z"]);
        assert_eq!(report(vec![of_this.clone(), guarantee(&[])]).carried(), None);
        let older = guarantee(&["2026-11-26T08:00:00Z", "2026-11-26T08:00:05Z"]);
        let oldest = guarantee(&["2026-11-26T07:00:00Z"]);
        let carried = report(vec![of_this, older, oldest]).carried().expect("two");
        assert_eq!(carried, Carried { count: 2, oldest: at("2026-11-26T07:00:00Z") });
    }
}
