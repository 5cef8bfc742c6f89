//! `cubicle audit reach`

use std::fmt::Write;

use cubicle_audit::network::place::{Place, with_port};
use cubicle_audit::network::port::Protocol;
use cubicle_audit::network::special;
use cubicle_core::problem::Problem;
use serde_json::json;

use super::{Manifests, unanswered};
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::safe;

/// Whether one end can reach another, and which rule decides
///
/// Exit code: 0 allowed, 1 denied, 3 undetermined.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle audit reach manifests/ --from hub/jupyter-alice --to hub/jupyter-bob:8888")]
pub(crate) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,

    /// The source: NAMESPACE/POD, NAMESPACE/WORKLOAD or an address
    #[arg(long, value_name = "NS/POD|IP")]
    from: String,

    /// The destination, with a port; without one, any port
    #[arg(long, value_name = "NS/POD|IP[:PORT]")]
    to: String,

    /// TCP, UDP or SCTP
    #[arg(long, default_value = "TCP")]
    protocol: String,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let from: Place = self.from.parse().map_err(|error| unanswered(&error))?;
        let (to, port) = with_port(&self.to).map_err(|error| unanswered(&error))?;
        let protocol: Protocol = self
            .protocol
            .parse()
            .map_err(|_| Problem::bad_input(format!("\"{}\" is no protocol", self.protocol), "use TCP, UDP or SCTP"))?;
        let mut loaded = self.manifests.load()?;
        let verdict = loaded.engine.answer(&from, &to, protocol, port.as_ref()).map_err(|error| unanswered(&error))?;
        let (word, outcome) = match (verdict.may, verdict.must) {
            (_, true) => ("allowed", Outcome::Done),
            (true, false) => ("undetermined", Outcome::Undecided),
            (false, false) => ("denied", Outcome::No),
        };
        let special = match &to {
            Place::Address(address) => special::of(*address),
            Place::Pod { .. } => None,
        };
        let answer = json!({
            "verdict": word,
            "may": verdict.may,
            "must": verdict.must,
            "rule": verdict.rule.map(|rule| loaded.rule(rule)),
            "rules": verdict.rules.iter().map(|rule| loaded.rule(*rule)).collect::<Vec<_>>(),
            "reason": verdict.reason,
            "profile": loaded.engine.profile().name(),
            "special": special.map(|special| json!({"name": special.name, "risk": special.risk, "source": special.source})),
            "complete": loaded.is_complete(),
        });
        context.printer.print(&answer, |_| {
            let mut text = format!("{word}: {from} -> {} {protocol}: {}\n", self.to, verdict.reason);
            for rule in &verdict.rules {
                let _ = writeln!(text, "  {}", loaded.rule_text(*rule));
            }
            if let Some(special) = special {
                let _ = writeln!(text, "  {} is {}: {}", special.block, special.name, special.risk);
            }
            safe::lines(&text)
        })?;
        loaded.outcome(outcome)
    }
}
