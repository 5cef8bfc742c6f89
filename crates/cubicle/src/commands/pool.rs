//! `cubicle pool`

use clap::Subcommand;
use cubicle_core::problem::Problem;
use cubicle_core::reservation::{NewReservation, Reservation};
use cubicle_local::PoolState;
use jiff::Timestamp;
use serde_json::json;

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
    /// Announce launches, so that sandboxes are ready for them
    ///
    /// They are held from ten minutes before that time until ten minutes after it, or until they have come.
    #[command(after_help = "Example:\n  cubicle pool reserve jupyterlab --at 2026-11-30T09:00:00Z --count 30")]
    Reserve {
        /// What will be launched
        template: String,
        /// When, as RFC 3339 says
        #[arg(long, value_name = "TIME")]
        at: Timestamp,
        /// How many launches
        #[arg(long, value_name = "NUMBER")]
        count: u32,
    },
    /// List what is announced
    #[command(after_help = "Example:\n  cubicle pool reservations")]
    Reservations,
    /// Take an announcement back
    #[command(after_help = "Example:\n  cubicle pool cancel r-abcdefghjkmn")]
    Cancel {
        /// The reservation's identifier
        reservation: String,
    },
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        match self {
            Self::Explain => explain(context)?,
            Self::Reserve { template, at, count } => {
                let asked = NewReservation { template: template.parse()?, at, count };
                let made = block_on(context.engine()?.reserve(asked))?;
                context.printer.print(&made, |_| {
                    let Reservation { id, template, at, count } = &made;
                    format!("{id}: {count} launches of {template} at {at}\n")
                })?;
            }
            Self::Reservations => {
                let all = block_on(context.engine()?.reservations())?;
                context.printer.print(&all, |printer| {
                    let mut table = Table::new(["ID", "TEMPLATE", "AT", "LAUNCHES"]);
                    for Reservation { id, template, at, count } in &all {
                        table.row([
                            id.as_str().into(),
                            template.as_str().into(),
                            at.to_string().into(),
                            count.to_string().into(),
                        ]);
                    }
                    table.render(printer, "Nothing is announced.")
                })?;
            }
            Self::Cancel { reservation } => {
                block_on(context.engine()?.cancel_reservation(&reservation))?;
                let answer = json!({ "id": reservation, "cancelled": true });
                context.printer.print(&answer, |_| format!("{reservation} is cancelled\n"))?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn explain(context: &Context) -> Result<(), Problem> {
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
    })
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
