//! `cubicle stop`

use cubicle_core::problem::Problem;

use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output::workspace::View;

/// Stop a workspace; its home is kept
///
/// Returns when nothing of it runs any more.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle stop w-0123456789ab")]
pub(crate) struct Arguments {
    /// The workspace's id, as `cubicle list` prints it
    id: String,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let id = self.id.parse()?;
        let engine = context.engine()?;
        let workspace = block_on(engine.stop(&id))?;
        let view = View::new(workspace, &context.url());
        context.printer.print(&view, |_| format!("{} {}\n", view.id(), view.state()))?;
        Ok(Outcome::Done)
    }
}
