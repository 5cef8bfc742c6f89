//! `cubicle usage`

use clap::Args;
use cubicle_core::problem::Problem;
use hyper::Method;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::exit::Outcome;
use crate::hub::segment;
use crate::output::table::Table;

/// Show who used how much, and what it costs
///
/// Hours count by the limits of what ran. Prices are the site's (docs/institutions.md).
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cubicle usage --from 2026-01-01 --to 2026-03-31")]
pub(crate) struct Arguments {
    /// The first day, in UTC [default: the first of this month]
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "", hide_default_value = true)]
    from: String,
    /// The last day, in UTC [default: today]
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "", hide_default_value = true)]
    to: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Usage {
    from: String,
    to: String,
    currency: Option<String>,
    users: Vec<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    id: String,
    name: String,
    workspace_hours: f64,
    cpu_hours: f64,
    used_cpu_hours: f64,
    memory_gib_hours: f64,
    storage_gib_hours: f64,
    cost: Option<f64>,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let path = format!("/api/v1/usage?from={}&to={}", segment(&self.from), segment(&self.to));
        let usage: Usage = context.ask_hub(Method::GET, &path, None)?;
        context.printer.print(&usage, |printer| {
            let currency = usage.currency.clone().unwrap_or_default();
            let mut table =
                Table::new(["USER", "HOURS", "CPU-H", "CPU-H USED", "GIB-H MEMORY", "GIB-H STORAGE", "COST"]);
            for row in &usage.users {
                let short = |amount: f64| format!("{amount:.2}").into();
                table.row([
                    if row.name.is_empty() { row.id.as_str() } else { row.name.as_str() }.into(),
                    short(row.workspace_hours),
                    short(row.cpu_hours),
                    short(row.used_cpu_hours),
                    short(row.memory_gib_hours),
                    short(row.storage_gib_hours),
                    row.cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2} {currency}")).into(),
                ]);
            }
            table.render(printer, &format!("Nobody used anything from {} to {}.", usage.from, usage.to))
        })?;
        Ok(Outcome::Done)
    }
}
