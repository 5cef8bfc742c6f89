//! `cubicle audit connections`

use cubicle_core::problem::Problem;
use serde_json::json;

use super::Manifests;
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::safe;

/// All allowed connections between workloads, grouped by what no policy tells apart
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle audit connections manifests/ --profile cilium")]
pub(crate) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let mut loaded = self.manifests.load()?;
        let map = loaded.engine.map().map_err(|error| {
            Problem::bad_input(error.to_string(), "audit parts of it, or ask with `cubicle audit queries`")
        })?;
        let answer = json!({
            "profile": loaded.engine.profile().name(),
            "groups": map.groups,
            "services": map.services,
            "connections": map.connections,
            "complete": loaded.is_complete(),
        });
        context.printer.print(&answer, |_| safe::lines(&map.to_string()))?;
        loaded.outcome(Outcome::Done)
    }
}
