//! `cubicle volume`

use std::path::PathBuf;

use clap::Subcommand;
use cubicle_core::engine::Volume;
use cubicle_core::name::UserName;
use cubicle_core::problem::Problem;
use serde::Serialize;
use serde_json::json;

use crate::commands::{archive_output, discard_on_error};
use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output::size;
use crate::output::table::Table;

/// The homes of users
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  cubicle volume export alice --output alice.tar")]
pub(crate) enum Command {
    /// List homes
    #[command(after_help = "Example:\n  cubicle volume list")]
    List,
    /// Write a user's home as a tar archive
    ///
    /// The workspaces of that user must be stopped, or the archive would be of no single moment.
    #[command(after_help = "Example:\n  cubicle volume export alice --output alice.tar")]
    Export {
        /// Whose home
        user: String,
        /// The new file [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Delete a user's home, with every file in it
    ///
    /// Refused while a workspace of that user exists.
    #[command(after_help = "Example:\n  cubicle volume delete alice")]
    Delete {
        /// Whose home
        user: String,
    },
}

/// A home as the command line prints it.
#[derive(Debug, Serialize)]
struct View {
    user: String,
    user_id: String,
    backend: String,
    limit: Option<u64>,
    used: u64,
    created_at: jiff::Timestamp,
}

impl From<Volume> for View {
    fn from(volume: Volume) -> Self {
        Self {
            user: volume.owner.name.into(),
            user_id: volume.owner.id.into(),
            backend: volume.backend,
            limit: volume.limit,
            used: volume.used,
            created_at: volume.created_at,
        }
    }
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        match self {
            Self::List => {
                let volumes: Vec<View> = block_on(context.engine()?.volumes())?.into_iter().map(View::from).collect();
                context.printer.print(&volumes, |printer| {
                    let mut table = Table::new(["USER", "USED", "LIMIT", "BACKEND", "CREATED"]);
                    for volume in &volumes {
                        table.row([
                            volume.user.as_str().into(),
                            size(volume.used).into(),
                            volume.limit.map_or_else(|| "none".to_owned(), size).into(),
                            volume.backend.as_str().into(),
                            volume.created_at.strftime("%Y-%m-%d").to_string().into(),
                        ]);
                    }
                    table.render(printer, "No homes. One is made at a user's first launch.")
                })?;
            }
            Self::Export { user, output } => {
                let user: UserName = user.parse()?;
                let exported = block_on(async {
                    let owner = home_of(context, &user).await?.owner;
                    let engine = context.local("exporting a home")?;
                    let to = archive_output(output.as_ref())?;
                    discard_on_error(engine.export_volume(&owner.id, to).await, output.as_ref())
                });
                exported?;
            }
            Self::Delete { user } => {
                let user: UserName = user.parse()?;
                block_on(async {
                    let owner = home_of(context, &user).await?.owner;
                    context.engine()?.delete_volume(&owner.id).await
                })?;
                let answer = json!({ "user": user, "deleted": true });
                context.printer.print(&answer, |_| format!("the home of {user} is deleted\n"))?;
            }
        }
        Ok(Outcome::Done)
    }
}

/// Finds a home by its user's name: also that of a user whose account is gone or disabled.
async fn home_of(context: &Context, user: &UserName) -> Result<Volume, Problem> {
    let volumes = context.engine()?.volumes().await?;
    volumes.into_iter().find(|volume| volume.owner.name.key() == user.key()).ok_or_else(|| {
        Problem::not_found(format!("there is no home of a user \"{user}\""), "list them with `cubicle volume list`")
    })
}
