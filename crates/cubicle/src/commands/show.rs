//! `cubicle show`

use cubicle_core::problem::Problem;

use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output::workspace::{View, details};

/// Show one workspace: state, address, owner, level
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle show w-0123456789ab --format json | jq -r .state")]
pub(crate) struct Arguments {
    /// The workspace's id, as `cubicle list` prints it
    id: String,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let id = self.id.parse()?;
        let engine = context.engine()?;
        let workspace = block_on(engine.workspace(&id))?;
        let view = View::new(workspace, &context.url());
        context.printer.print(&view, |printer| details(printer, &view))?;
        Ok(Outcome::Done)
    }
}
