//! `cubicle doctor`

use anstyle::{AnsiColor, Style};
use cubicle_core::engine::{DoctorFinding, DoctorStatus};
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_local::layout::Layout;

use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output::note;
use crate::output::table::{Cell, Table};

/// Find out what this machine, or a cluster, can enforce, by trying it
///
/// Exit codes: 0 everything that workspaces at level standard need is there; 1 something they
/// need is absent; 3 something they need could not be tried.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle doctor --format json | jq '.[] | select(.status != \"available\")'")]
pub(crate) struct Arguments {
    /// Examine the cluster of KUBECONFIG instead, as its administrator
    #[arg(long)]
    cluster: bool,

    /// With --cluster: the namespace of the chart's release
    #[arg(long, value_name = "NAME", default_value = "cubicle-system", requires = "cluster")]
    namespace: String,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        if self.cluster {
            let findings = block_on(async {
                let client = cubicle_kube::client().await?;
                cubicle_kube::doctor::examine(&client, &self.namespace, "cubicle-canary", "cubicle-reference").await
            })?;
            return show(context, &findings);
        }
        let findings = match block_on(async { context.engine()?.doctor().await }) {
            // Whether the machine can do it does not depend on whether the engine runs.
            Err(problem) if problem.kind == ProblemKind::Engine && context.is_here() => {
                note(&format!("{}; examined without it", problem.what));
                cubicle_local::doctor::examine(&Layout::new(context.home()))
            }
            answered => answered?,
        };
        show(context, &findings)
    }
}

fn show(context: &Context, findings: &[DoctorFinding]) -> Result<Outcome, Problem> {
    context.printer.print(&findings, |printer| {
        let mut table = Table::new(["MECHANISM", "STATUS", "NEEDED", "DETAIL"]);
        for finding in findings {
            let (word, colour) = match finding.status {
                DoctorStatus::Available => ("available", AnsiColor::Green),
                DoctorStatus::Absent => ("absent", if finding.required { AnsiColor::Red } else { AnsiColor::Yellow }),
                DoctorStatus::Untested => ("untested", AnsiColor::Yellow),
            };
            table.row([
                finding.mechanism.as_str().into(),
                Cell::styled(word, Style::new().fg_color(Some(colour.into()))),
                if finding.required { "yes" } else { "no" }.into(),
                finding.detail.as_str().into(),
            ]);
        }
        table.render(printer, "Nothing was examined.")
    })?;
    Ok(judge(findings))
}

fn judge(findings: &[DoctorFinding]) -> Outcome {
    let needed = |status| findings.iter().any(|finding| finding.required && finding.status == status);
    if needed(DoctorStatus::Absent) {
        Outcome::No
    } else if needed(DoctorStatus::Untested) || findings.is_empty() {
        Outcome::Undecided
    } else {
        Outcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_decides() {
        let finding =
            |status, required| DoctorFinding { mechanism: "m".to_owned(), status, detail: String::new(), required };
        assert_eq!(judge(&[]), Outcome::Undecided);
        assert_eq!(
            judge(&[finding(DoctorStatus::Available, true), finding(DoctorStatus::Absent, false)]),
            Outcome::Done
        );
        assert_eq!(
            judge(&[finding(DoctorStatus::Available, true), finding(DoctorStatus::Untested, true)]),
            Outcome::Undecided
        );
        assert_eq!(judge(&[finding(DoctorStatus::Absent, true), finding(DoctorStatus::Untested, true)]), Outcome::No);
    }
}
