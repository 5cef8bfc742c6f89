//! `cubicle list`

use cubicle_core::problem::Problem;

use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output::workspace::{View, table};

/// List workspaces, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle list --format json | jq -r '.[] | select(.state == \"running\") | .id'")]
pub(crate) struct Arguments {}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let engine = context.engine()?;
        let workspaces = block_on(engine.workspaces())?;
        let url = context.url();
        let views: Vec<View> = workspaces.into_iter().map(|workspace| View::new(workspace, &url)).collect();
        context.printer.print(&views, |printer| table(printer, &views))?;
        Ok(Outcome::Done)
    }
}
