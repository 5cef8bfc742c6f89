//! `cubicle pool`

use clap::Subcommand;
use cubicle_core::problem::Problem;
use cubicle_local::PoolState;

use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output::table::Table;

/// Sandboxes that are built and proven before anybody asks
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  cubicle pool explain")]
pub(crate) enum Command {
    /// Say what is held ready, and why
    ///
    /// How many may be held is `warm.members` in site.yaml; 0, the default, holds none.
    #[command(after_help = "Example:\n  cubicle pool explain --format json | jq .templates")]
    Explain,
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let Self::Explain = self;
        let state = block_on(async { context.local("the pool of one machine")?.pool().await })?;
        context.printer.print(&state, |printer| {
            let mut table = Table::new(["TEMPLATE", "READY", "WANTED", "CLAIMED", "MISSED", "PROVEN", "WHY"]);
            for (name, template) in &state.templates {
                table.row([
                    name.as_str().into(),
                    template.ready.to_string().into(),
                    template.wanted.to_string().into(),
                    template.claimed.to_string().into(),
                    template.missed.to_string().into(),
                    proven(&template.ages_seconds).into(),
                    template.reason.as_str().into(),
                ]);
            }
            format!("{}\n\n{}", head(&state), table.render(printer, "No templates."))
        })?;
        Ok(Outcome::Done)
    }
}

fn head(state: &PoolState) -> String {
    match state.members {
        0 => "The site holds no warm sandboxes; `warm: {members: 4}` in site.yaml holds up to four.".to_owned(),
        members => format!(
            "Up to {members} warm sandboxes; evidence of more than {} minutes is not used.",
            state.max_age_seconds / 60
        ),
    }
}

/// The age of the oldest and the youngest proof.
fn proven(ages: &[u64]) -> String {
    match (ages.iter().max(), ages.iter().min()) {
        (Some(oldest), Some(youngest)) if oldest != youngest => format!("{youngest} to {oldest} s ago"),
        (Some(only), _) => format!("{only} s ago"),
        _ => "-".to_owned(),
    }
}
