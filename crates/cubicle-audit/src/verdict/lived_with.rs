//! Findings that somebody lives with: those of an earlier report, and those that were excused
//! with a reason until a day.

use std::collections::BTreeSet;

use cubicle_core::problem::Problem;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::Report;

/// An excuse for a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suppression {
    /// A fingerprint, or the id or research id of a guarantee.
    pub finding: String,
    /// Only at this object, `Kind namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Why.
    pub reason: String,
    /// The last day on which it counts (UTC).
    pub until: Date,
}

/// Marks findings that are lived with; what a reader must know about excuses that are not used
/// or are over.
///
/// # Errors
/// An excuse without a reason.
pub fn live_with(
    report: &mut Report,
    baseline: &BTreeSet<String>,
    suppressions: &[Suppression],
    today: Date,
) -> Result<Vec<String>, Problem> {
    let mut notes = Vec::new();
    for finding in report.findings.iter_mut().filter(|finding| baseline.contains(&finding.fingerprint)) {
        finding.suppressed = Some("in the baseline".to_owned());
    }
    for one in suppressions {
        if one.reason.trim().is_empty() {
            return Err(Problem::bad_input(
                format!("the suppression of {} gives no reason", one.finding),
                "say in `reason` why it can be lived with",
            ));
        }
        if one.until < today {
            notes.push(format!("the suppression of {} ended on {}: {}", one.finding, one.until, one.reason));
            continue;
        }
        let mut used = false;
        for finding in &mut report.findings {
            let named = finding.fingerprint == one.finding
                || finding.guarantee == one.finding
                || finding.alias.eq_ignore_ascii_case(&one.finding);
            if named && one.object.as_ref().is_none_or(|object| *object == finding.object) {
                finding.suppressed = Some(format!("{} (until {})", one.reason, one.until));
                used = true;
            }
        }
        if !used {
            notes.push(format!("the suppression of {} fits no finding any more", one.finding));
        }
    }
    report.result = report.standing();
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use serde_json::json;

    use super::*;
    use crate::snapshot::Snapshot;
    use crate::verdict::{Options, audit};

    fn report() -> Report {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"},
                         "spec": {"hostPID": true, "containers": [{"name": "c", "image": "d"}]}});
        audit(&mut Snapshot::from_json("x", [&pod]), &Options::default())
    }

    fn suppression(finding: &str, reason: &str, until: Date) -> Suppression {
        Suppression { finding: finding.to_owned(), object: None, reason: reason.to_owned(), until }
    }

    #[test]
    fn an_excuse_ends_on_its_day() {
        let today = date(2026, 6, 1);
        let mut one = report();
        let notes = live_with(&mut one, &BTreeSet::new(), &[suppression("CT-22", "debugging", today)], today);
        assert_eq!(notes, Ok(Vec::new()));
        assert!(one.findings.iter().any(|finding| finding.alias == "CT-22" && !finding.counts()));
        assert!(one.findings.iter().any(|finding| finding.alias != "CT-22" && finding.counts()));
        let mut late = report();
        let yesterday = date(2026, 5, 31);
        let notes = live_with(&mut late, &BTreeSet::new(), &[suppression("CT-22", "debugging", yesterday)], today);
        assert_eq!(notes.map(|notes| notes.len()), Ok(1));
        assert!(late.findings.iter().all(super::super::Finding::counts));
    }

    #[test]
    fn an_excuse_needs_a_reason() {
        let today = date(2026, 6, 1);
        assert!(live_with(&mut report(), &BTreeSet::new(), &[suppression("CT-22", " ", today)], today).is_err());
    }

    #[test]
    fn a_baseline_excuses_what_it_holds_and_nothing_new() {
        let known: BTreeSet<String> = report().findings.iter().skip(1).map(|one| one.fingerprint.clone()).collect();
        let mut again = report();
        let notes = live_with(&mut again, &known, &[], date(2026, 6, 1));
        assert_eq!(notes, Ok(Vec::new()));
        assert_eq!(again.findings.iter().filter(|finding| finding.counts()).count(), 1);
    }
}
