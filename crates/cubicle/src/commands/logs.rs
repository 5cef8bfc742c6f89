//! `cubicle logs`

use cubicle_core::problem::Problem;
use serde_json::json;

use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output::safe;

/// Print the last lines of a notebook server
///
/// The text comes from code that may be hostile: control characters are shown as escapes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle logs w-0123456789ab")]
pub(crate) struct Arguments {
    /// The workspace's id, as `cubicle list` prints it
    id: String,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let id = self.id.parse()?;
        let engine = context.engine()?;
        let logs = block_on(engine.logs(&id))?;
        context.printer.print(&json!({ "id": id, "logs": logs }), |_| {
            let mut text = safe::lines(&logs);
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text
        })?;
        Ok(Outcome::Done)
    }
}
