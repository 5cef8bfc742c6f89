//! `cubicle backup`, `cubicle restore`

use std::path::PathBuf;

use clap::Args;
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_local::backup::{self, Summary};
use cubicle_local::layout::Layout;

use crate::context::Context;
use crate::exit::Outcome;
use crate::output::safe;

/// Write everything that this machine must not lose into one file
///
/// Accounts, templates, workspaces, reports, keys and homes; not the images, which are built again. The engine must not
/// run. Whoever has the file has every home: keep it as safe as this machine.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ./down && cubicle backup /srv/backup/cubicle-monday")]
pub(crate) struct Backup {
    /// The file to write; it must not be there yet
    file: PathBuf,
}

/// Restore a backup into an empty CUBICLE_HOME
///
/// The whole file is read and checked before anything is put in its place. Workspaces are stopped then, their homes are
/// as they were.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cubicle restore /srv/backup/cubicle-monday && ./up")]
pub(crate) struct Restore {
    /// A file that `cubicle backup` wrote
    file: PathBuf,
}

impl Backup {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        said(context, "written", &backup::write(&layout(context)?, &self.file)?)
    }
}

impl Restore {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        said(context, "restored", &backup::restore(&layout(context)?, &self.file)?)
    }
}

/// Root's business: nobody else may read what is kept.
fn layout(context: &Context) -> Result<Layout, Problem> {
    if !rustix::process::geteuid().is_root() {
        return Err(Problem::new(
            ProblemKind::NotAllowed,
            "only root reads and writes the state of this machine's Cubicle",
            "run it as root",
        ));
    }
    Ok(Layout::new(context.home()))
}

fn said(context: &Context, done: &str, summary: &Summary) -> Result<Outcome, Problem> {
    context.printer.print(summary, |_| {
        format!(
            "{} of {}: {} files, {} homes {done}\n",
            safe::line(&summary.file.display().to_string()),
            summary.created_at.strftime("%Y-%m-%d %H:%M UTC"),
            summary.files,
            summary.homes
        )
    })?;
    Ok(Outcome::Done)
}
