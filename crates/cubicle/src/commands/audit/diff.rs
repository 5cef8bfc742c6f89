//! `cubicle audit diff A B`

use std::collections::BTreeMap;
use std::path::PathBuf;

use cubicle_audit::verdict::{Finding, Report, audit};
use cubicle_core::problem::Problem;
use serde::Serialize;

use super::check::Judging;
use super::sources::{Sources, tell};
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::safe;

/// What became possible between two sets of manifests, and what no longer is
///
/// Exit code 0: nothing became possible; 1: something did; 2: a document is broken.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle audit diff manifests-of-main/ manifests/")]
pub(crate) struct Arguments {
    /// The manifests before
    #[arg(value_name = "A")]
    before: PathBuf,

    /// The manifests after
    #[arg(value_name = "B")]
    after: PathBuf,

    #[command(flatten)]
    judging: Judging,
}

#[derive(Debug, Serialize)]
struct Answer {
    /// Found after and not before.
    became_possible: Vec<Finding>,
    /// Found before and not after.
    no_longer: Vec<Finding>,
    /// Guarantees whose verdict changed, from and to.
    guarantees: Vec<Change>,
    complete: bool,
}

#[derive(Debug, Serialize)]
struct Change {
    id: String,
    alias: String,
    before: cubicle_core::report::Verdict,
    after: cubicle_core::report::Verdict,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let options = self.judging.options()?;
        let report = |path: PathBuf| -> Result<Report, Problem> {
            let mut snapshot = Sources { paths: vec![path] }.read_silently()?;
            let report = audit(&mut snapshot, &options);
            tell(&snapshot);
            Ok(report)
        };
        let (before, after) = (report(self.before)?, report(self.after)?);
        let of = |report: &Report| -> BTreeMap<String, Finding> {
            report.findings.iter().map(|finding| (finding.fingerprint.clone(), finding.clone())).collect()
        };
        let (old, new) = (of(&before), of(&after));
        let only = |one: &BTreeMap<String, Finding>, other: &BTreeMap<String, Finding>| -> Vec<Finding> {
            one.iter().filter(|(key, _)| !other.contains_key(*key)).map(|(_, finding)| finding.clone()).collect()
        };
        let changed =
            before.guarantees.iter().zip(&after.guarantees).filter(|(one, other)| one.verdict != other.verdict);
        let guarantees = changed
            .map(|(one, other)| Change {
                id: one.id.clone(),
                alias: one.alias.clone(),
                before: one.verdict,
                after: other.verdict,
            })
            .collect();
        let answer = Answer {
            became_possible: only(&new, &old),
            no_longer: only(&old, &new),
            guarantees,
            complete: before.complete && after.complete,
        };
        context.printer.print(&answer, |_| text(&answer))?;
        if !answer.became_possible.is_empty() {
            return Ok(Outcome::No);
        }
        if !answer.complete {
            return Err(Problem::bad_input("not everything could be read", "correct what is told above"));
        }
        Ok(Outcome::Done)
    }
}

fn text(answer: &Answer) -> String {
    let list = |title: &str, findings: &[Finding]| {
        let mut text = format!("{title}:{}\n", if findings.is_empty() { " nothing" } else { "" });
        for finding in findings {
            let place = finding.location.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
            let line = format!("  {} {}: {}{place}", finding.alias, finding.sentence, finding.at_fault());
            text.push_str(&safe::line(&line));
            text.push('\n');
        }
        text
    };
    let mut text = list("Became possible", &answer.became_possible);
    text.push_str(&list("No longer possible", &answer.no_longer));
    text
}
