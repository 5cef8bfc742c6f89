//! `cubicle guarantees`

use anstyle::Style;
use cubicle_core::catalogue;
use cubicle_core::guarantee::{Guarantee, Layer};
use cubicle_core::level::{EngineKind, Level};
use cubicle_core::problem::Problem;

use crate::context::Context;
use crate::exit::Outcome;
use crate::output::report::layer_title;
use crate::output::table::wrap;
use crate::output::{Printer, safe};

/// The catalogue: what a workspace cannot do, and how one knows
///
/// Without a level this is the whole catalogue; with one, what that level promises.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle guarantees --level strict --engine local")]
pub(crate) struct Arguments {
    /// Only this one, by id or alias
    id: Option<String>,

    /// Only what this level promises: basic, standard, strict, sandboxed, dedicated
    #[arg(long, value_name = "LEVEL", conflicts_with = "id")]
    level: Option<String>,

    /// On this engine: local, kubernetes [default: local]
    #[arg(long, value_name = "ENGINE", requires = "level")]
    engine: Option<String>,
}

/// A guarantee by its id or its alias.
pub(crate) fn find(id: &str) -> Result<&'static Guarantee, Problem> {
    catalogue::find(id).ok_or_else(|| {
        let shown: String = id.chars().take(60).flat_map(char::escape_default).collect();
        Problem::not_found(format!("there is no guarantee \"{shown}\""), "list them with `cubicle guarantees`")
    })
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        if let Some(id) = &self.id {
            let guarantee = find(id)?;
            context.printer.print(guarantee, |printer| details(printer, guarantee))?;
            return Ok(Outcome::Done);
        }
        let listed: Vec<&Guarantee> = match &self.level {
            None => catalogue::all().iter().collect(),
            Some(level) => {
                let level: Level = level.parse()?;
                let engine: EngineKind = self.engine.as_deref().unwrap_or("local").parse()?;
                if let Some(missing) = level.missing_on(engine) {
                    return Err(Problem::bad_input(
                        format!("level {level} {missing}"),
                        "choose another level or engine; `cubicle advise` helps",
                    ));
                }
                catalogue::promised(level, engine).into_iter().filter_map(catalogue::find).collect()
            }
        };
        context.printer.print(&listed, |printer| list(printer, &listed))?;
        Ok(Outcome::Done)
    }
}

/// By layer: the alias and the sentence.
fn list(printer: &Printer, guarantees: &[&Guarantee]) -> String {
    let mut text = String::new();
    for layer in [Layer::ControlPlane, Layer::Workload, Layer::PlatformServices] {
        let members: Vec<_> = guarantees.iter().filter(|guarantee| guarantee.layer == layer).collect();
        if members.is_empty() {
            continue;
        }
        text.push_str(if text.is_empty() { "" } else { "\n" });
        text.push_str(&format!("{}\n", printer.paint(layer_title(layer), Style::new().bold())));
        for guarantee in members {
            let room = printer.width.map_or(usize::MAX, |width| width.saturating_sub(9).max(20));
            let sentence = wrap(&safe::line(guarantee.sentence), room, 9);
            let id = printer.paint(guarantee.id, Style::new().dimmed());
            text.push_str(&format!("  {:<7}{sentence}\n         {id}\n", guarantee.alias));
        }
    }
    text.push_str(&format!("\n{} guarantees\n", guarantees.len()));
    text
}

/// One guarantee, one field per line.
fn details(printer: &Printer, guarantee: &Guarantee) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            let room = printer.width.map_or(usize::MAX, |width| width.saturating_sub(18).max(20));
            text.push_str(&format!("{name:<18}{}\n", wrap(&safe::line(value), room, 18)));
        }
    };
    field("id", guarantee.id);
    field("alias", guarantee.alias);
    field("sentence", guarantee.sentence);
    field("layer", layer_title(guarantee.layer));
    field("place", &super::template::word(&guarantee.place));
    field("mechanism", guarantee.mechanism);
    field("static rule", guarantee.static_rule);
    field("live probe", guarantee.live_probe);
    field("positive control", guarantee.positive_control);
    for reference in guarantee.references {
        field("reference", reference);
    }
    for engine in [EngineKind::Local, EngineKind::Kubernetes] {
        let levels: Vec<String> = Level::ALL
            .into_iter()
            .filter(|level| catalogue::promised(*level, engine).contains(&guarantee.id))
            .map(|level| level.to_string())
            .collect();
        let levels = if levels.is_empty() { "no level".to_owned() } else { levels.join(", ") };
        field("promised by", &format!("{levels} (engine {engine})"));
    }
    text
}
