//! `cubicle notice`

use clap::Subcommand;
use cubicle_core::problem::Problem;
use hyper::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::context::Context;
use crate::exit::Outcome;

/// What the site tells everybody, and whether it is closed for maintenance
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  cubicle notice set --maintenance \"New disks, until noon.\"")]
pub(crate) enum Command {
    /// Show it
    #[command(after_help = "Example:\n  cubicle notice show")]
    Show,
    /// Replace it; it stands on top of every page
    #[command(after_help = "Example:\n  cubicle notice set \"Tonight at eight everything restarts.\"")]
    Set {
        /// One line of up to 500 characters
        #[arg(default_value = "", required_unless_present = "maintenance", hide_default_value = true)]
        text: String,
        /// Close the site: only administrators launch, what runs goes on
        #[arg(long)]
        maintenance: bool,
    },
    /// Take it away, and open the site again
    #[command(after_help = "Example:\n  cubicle notice clear")]
    Clear,
}

#[derive(Debug, Serialize, Deserialize)]
struct Notice {
    text: String,
    maintenance: bool,
    at: Option<Timestamp>,
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let (method, body) = match self {
            Self::Show => (Method::GET, None),
            Self::Set { text, maintenance } => (Method::PUT, Some(json!({ "text": text, "maintenance": maintenance }))),
            Self::Clear => (Method::PUT, Some(json!({}))),
        };
        let notice: Notice = context.ask_hub(method, "/api/v1/notice", body.as_ref())?;
        context.printer.print(&notice, |_| {
            let open = if notice.maintenance { "closed for maintenance" } else { "open" };
            match notice.text.as_str() {
                "" => format!("{open}; no announcement\n"),
                text => format!("{open}; {}\n", crate::output::safe::line(text)),
            }
        })?;
        Ok(Outcome::Done)
    }
}
