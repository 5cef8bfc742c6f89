//! `cubicle audit` and what belongs to it.

mod pss;
mod rbac;
mod sources;

use cubicle_core::problem::Problem;

use crate::context::Context;
use crate::exit::Outcome;

/// What manifests guarantee, before anything runs
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle audit rbac escalate manifests/")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
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
            Command::Pss(arguments) => arguments.run(context),
            Command::Rbac(command) => command.run(context),
        }
    }
}
