//! `cubicle launch`

use cubicle_core::name::{TemplateName, UserName};
use cubicle_core::problem::Problem;
use cubicle_core::workspace::Workspace;
use hyper::Method;
use serde_json::json;

use crate::commands::start::{Watched, watch};
use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output::workspace::View;
use crate::output::{self, Format};

/// The account that `./up` makes.
const ADMINISTRATOR: &str = "admin";

/// Launch a template for a user
///
/// Prints the new workspace's id and address. With --wait the command ends when the workspace
/// is open (0), was refused because a wall is breached (1) or unproven (3), or failed (5).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle launch jupyterlab --user alice --wait")]
pub(crate) struct Arguments {
    /// The template's name, as `cubicle template list` prints it
    template: String,

    /// What the workspace is called [default: the template's name]
    #[arg(long)]
    name: Option<String>,

    /// For whom; for administrators [default: admin on this machine, elsewhere yourself]
    #[arg(long)]
    user: Option<String>,

    /// Wait until it is open or refused, with progress on standard error
    #[arg(long)]
    wait: bool,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let template: TemplateName = self.template.parse()?;
        let user: Option<UserName> = self.user.map(|user| user.parse()).transpose()?;
        let user = user.map(String::from).or_else(|| context.is_here().then(|| ADMINISTRATOR.to_owned()));
        // Through the hub and not the engine: it knows the accounts, and its rules for names and
        // groups hold whoever asks.
        let request = json!({ "template": template, "name": self.name.unwrap_or_default(), "user": user });
        block_on(async {
            let workspace: Workspace = context.hub()?.call(Method::POST, "/api/v1/workspaces", Some(&request)).await?;
            let engine = context.engine()?;
            let id = workspace.id.clone();
            let view = View::new(workspace, &context.url());
            if context.printer.format == Format::Text {
                output::write(&format!("{}\n{}\n", view.id(), view.url()))?;
            }
            let (view, outcome) = if self.wait {
                let Watched { workspace, outcome } = watch(engine.as_ref(), &id).await?;
                (View::new(workspace, &context.url()), outcome)
            } else {
                (view, Ok(Outcome::Done))
            };
            if context.printer.format == Format::Json {
                context.printer.print(&view, |_| String::new())?;
            }
            outcome
        })
    }
}
