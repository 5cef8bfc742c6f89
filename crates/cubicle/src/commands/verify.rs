//! `cubicle verify`

use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::Problem;

use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output::report;

/// Prove a workspace's walls again, now, from inside
///
/// Exit codes: 0 every promised wall stands; 1 at least one is breached; 3 none is breached but
/// at least one could not be proven.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle verify w-0123456789ab --guarantee NW-01 --verbose")]
pub(crate) struct Arguments {
    /// The workspace's id, as `cubicle list` prints it
    id: String,

    /// Prove only these guarantees, by id or alias [default: all that the level promises]
    #[arg(long, value_name = "ID", num_args = 1..)]
    guarantee: Vec<String>,

    /// Show mechanism and evidence of every guarantee
    #[arg(short, long)]
    verbose: bool,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let id: WorkspaceId = self.id.parse()?;
        let known = |asked: &String| super::guarantees::find(asked).map(|guarantee| guarantee.id.to_owned());
        let only = self.guarantee.iter().map(known).collect::<Result<Vec<_>, _>>()?;
        let engine = context.engine()?;
        let proven = block_on(engine.verify(&id, &only))?;
        context.printer.print(&proven, |printer| report::text(printer, &proven, self.verbose))?;
        Ok(Outcome::of_report(&proven.summary))
    }
}
