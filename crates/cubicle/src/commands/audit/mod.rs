//! `cubicle audit` and what belongs to it.

mod check;
mod fixes;
mod pss;
mod rbac;
mod sources;

use cubicle_core::problem::Problem;

use crate::context::Context;
use crate::exit::Outcome;

/// What manifests guarantee, before anything runs
///
/// Says for each guarantee of the catalogue whether the manifests give it to every workspace,
/// and where they do not: what a tenant could do, the line, and the smallest change. Exit code
/// 0: nothing breached; 1: a finding; 2: a document is broken; 3: something is unproven.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Example:\n  helm template jhub jupyterhub/jupyterhub | cubicle audit -")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    check: check::Check,
}

// What each of them says about itself stands beside it.
#[derive(Debug, clap::Subcommand)]
enum Command {
    Pss(pss::Arguments),
    #[command(subcommand)]
    Rbac(rbac::Command),
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        match self.command {
            Some(Command::Pss(arguments)) => arguments.run(context),
            Some(Command::Rbac(command)) => command.run(context),
            None => self.check.run(context),
        }
    }
}
