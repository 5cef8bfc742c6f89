//! `cubicle completions`

use clap_complete::Shell;
use cubicle_core::problem::Problem;

use crate::context::Context;
use crate::exit::Outcome;
use crate::{cli, output};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle completions bash > /etc/bash_completion.d/cubicle")]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

impl Arguments {
    pub(crate) fn run(self, _context: &Context) -> Result<Outcome, Problem> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cli::command(), "cubicle", &mut script);
        output::write(&String::from_utf8_lossy(&script))?;
        Ok(Outcome::Done)
    }
}
