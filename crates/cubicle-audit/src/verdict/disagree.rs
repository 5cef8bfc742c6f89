//! Where manifests and a live proof say different things about one workspace.

use cubicle_core::report::{self, Verdict};
use serde::{Deserialize, Serialize};

use super::Report;

/// A guarantee on which the two differ, as a finding of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    /// The guarantee's id.
    pub guarantee: String,
    /// Its research id.
    pub alias: String,
    /// What the manifests say.
    pub from_manifests: Verdict,
    /// What the proof from inside says.
    pub from_proof: Verdict,
    /// What that means, in one sentence.
    pub meaning: String,
}

/// Compares an audit with the report of a workspace that it judged. Only opposite answers count:
/// what one of the two cannot decide is no disagreement.
pub fn disagreements(audit: &Report, proof: &report::Report) -> Vec<Disagreement> {
    audit
        .guarantees
        .iter()
        .filter_map(|ruling| {
            let proven = proof.guarantees.iter().find(|one| one.id == ruling.id)?;
            let meaning = match (ruling.verdict, proven.verdict) {
                (Verdict::Held, Verdict::Breached) => format!(
                    "the manifests have the wall and nothing enforces it: {} (proof: {})",
                    proven.sentence, proven.reason
                ),
                (Verdict::Breached, Verdict::Held) => format!(
                    "the wall stands by something that the manifests do not have, and may go as it came: {} (manifests: {})",
                    proven.sentence, ruling.reason
                ),
                _ => return None,
            };
            Some(Disagreement {
                guarantee: ruling.id.clone(),
                alias: ruling.alias.clone(),
                from_manifests: ruling.verdict,
                from_proof: proven.verdict,
                meaning,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use cubicle_core::level::{EngineKind, Level};
    use cubicle_core::report::{GuaranteeReport, Summary};

    use super::*;
    use crate::snapshot::Snapshot;
    use crate::verdict::{Options, audit};

    fn proof(verdicts: &[(&str, Verdict)]) -> report::Report {
        let guarantees: Vec<GuaranteeReport> = verdicts
            .iter()
            .map(|(id, verdict)| {
                let guarantee = cubicle_core::catalogue::find(id).expect("it exists");
                GuaranteeReport { verdict: *verdict, ..GuaranteeReport::of(guarantee) }
            })
            .collect();
        report::Report {
            workspace: "w-0123456789ab".parse().expect("valid"),
            engine: EngineKind::Kubernetes,
            level: Level::Standard,
            template: "t".parse().expect("valid"),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            duration_ms: 0,
            summary: Summary::of(&guarantees),
            guarantees,
        }
    }

    #[test]
    fn opposite_answers_are_told_and_nothing_else() {
        let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
            "spec": {"hostPID": true, "automountServiceAccountToken": false, "containers": [{"name": "c"}]}});
        let manifests = audit(&mut Snapshot::from_json("x", [&pod]), &Options::default());
        let told = |verdicts: &[(&str, Verdict)]| -> Vec<(String, Verdict)> {
            disagreements(&manifests, &proof(verdicts)).into_iter().map(|one| (one.alias, one.from_proof)).collect()
        };
        // CT-22 is breached by hostPID, CP-01 is held.
        assert_eq!(told(&[("CT-22", Verdict::Breached), ("CP-01", Verdict::Held)]), []);
        assert_eq!(told(&[("CT-22", Verdict::Held)]), [("CT-22".to_owned(), Verdict::Held)]);
        assert_eq!(told(&[("CP-01", Verdict::Breached)]), [("CP-01".to_owned(), Verdict::Breached)]);
        assert_eq!(told(&[("CT-22", Verdict::Unproven), ("CP-01", Verdict::Absent), ("CT-08", Verdict::Breached)]), []);
    }
}
