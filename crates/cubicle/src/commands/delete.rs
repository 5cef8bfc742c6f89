//! `cubicle delete`

use cubicle_core::problem::Problem;
use serde_json::json;

use crate::context::{Context, block_on};
use crate::exit::Outcome;

/// Stop and forget a workspace
///
/// The home is kept unless --volume is given: then it is deleted too, with every file in it.
/// That is refused while another workspace of the same user exists.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle delete w-0123456789ab")]
pub(crate) struct Arguments {
    /// The workspace's id, as `cubicle list` prints it
    id: String,

    /// Delete the user's home too
    #[arg(long)]
    volume: bool,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let id = self.id.parse()?;
        let engine = context.engine()?;
        block_on(engine.delete(&id, self.volume))?;
        let answer = json!({ "id": id, "deleted": true, "volume_deleted": self.volume });
        let home = if self.volume { ", with its home" } else { "; the home is kept" };
        context.printer.print(&answer, |_| format!("{id} deleted{home}\n"))?;
        Ok(Outcome::Done)
    }
}
