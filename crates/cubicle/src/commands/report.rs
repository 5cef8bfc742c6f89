//! `cubicle report`

use std::path::PathBuf;

use clap::Subcommand;
use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::Problem;
use serde_json::json;

use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output;
use crate::signature::{self, Checked};

/// Print, sign or check the report of a workspace
///
/// A report is kept also when the workspace was refused or is stopped. Printing one is no check:
/// the exit code is 0 whatever it says; `cubicle verify` judges.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(
    after_help = "Example:\n  cubicle report w-0123456789ab --sign > report.json && cubicle report verify report.json"
)]
pub(crate) struct Arguments {
    /// The workspace's id, as `cubicle list` prints it
    #[arg(required = true)]
    id: Option<String>,

    /// Print the report as JSON, signed with this site's key
    #[arg(long)]
    sign: bool,

    /// Show mechanism and evidence of every guarantee
    #[arg(short, long)]
    verbose: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a signed report: one altered byte fails
    ///
    /// Exit codes: 0 the report is what this site signed; 1 it is not; 3 there is no key to check
    /// it with.
    #[command(after_help = "Example:\n  cubicle report verify report.json")]
    Verify {
        /// The file that `cubicle report --sign` printed
        file: PathBuf,
        /// The site's public key, as `key` in a report that is known to be good [default: this
        /// machine's]
        #[arg(long, value_name = "BASE64")]
        key: Option<String>,
    },
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        match (self.command, self.id) {
            (Some(Command::Verify { file, key }), _) => check(context, &file, key.as_deref()),
            (None, id) => {
                let id: WorkspaceId = id.unwrap_or_default().parse()?;
                if self.sign {
                    context.local("signing a report")?;
                }
                let report = block_on(async { context.engine()?.report(&id).await })?;
                if self.sign {
                    output::write(&signature::sign(context.home(), &report)?)?;
                } else {
                    context.printer.print(&report, |printer| output::report::text(printer, &report, self.verbose))?;
                }
                Ok(Outcome::Done)
            }
        }
    }
}

fn check(context: &Context, file: &std::path::Path, key: Option<&str>) -> Result<Outcome, Problem> {
    let envelope = super::read_bytes(file)?;
    let trusted = match key {
        Some(key) => Some(signature::parse_key(key)?),
        None => signature::site_key(context.home())?,
    };
    let (word, reason, outcome) = match signature::check(&envelope, trusted.as_ref()) {
        Checked::Good(report) => ("good", format!("signed by this site, about {}", report.workspace), Outcome::Done),
        Checked::Bad(reason) => ("bad", reason, Outcome::No),
        Checked::NoKey => {
            output::note("hint: give the site's public key with --key");
            ("undecided", "whole, but this machine has no key to trust it by".to_owned(), Outcome::Undecided)
        }
    };
    let answer = json!({ "signature": word, "reason": reason });
    context.printer.print(&answer, |_| format!("{word}: {}\n", output::safe::line(&reason)))?;
    Ok(outcome)
}
