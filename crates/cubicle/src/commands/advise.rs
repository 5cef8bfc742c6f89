//! `cubicle advise`

use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use cubicle_core::advise::{self, Advice, Situation};
use cubicle_core::catalogue;
use cubicle_core::guarantee::Guarantee;
use cubicle_core::problem::Problem;
use serde::{Deserialize, Serialize};

use crate::commands::template::word;
use crate::commands::{read_input, shortened};
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::Printer;
use crate::output::table::{Table, wrap};

/// Where `bench/run walls` leaves what it measured, seen from the root of the source.
const MEASUREMENTS: &str = "bench/results/walls.json";

/// Which isolation level fits a situation, why, what it costs, and what stays open
///
/// A situation is a YAML or JSON document; what it leaves out is assumed with care:
///   who: cooperating | strangers | hostile          (strangers)
///   data: public | internal | controlled            (internal)
///   code: own | untrusted                           (untrusted)
///   internet: needed | list | none                  (needed)
///   engine: local | kubernetes                      (local)
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
#[command(after_help = "Example:\n  echo 'data: controlled' | cubicle advise --situation -")]
pub(crate) struct Arguments {
    /// The document; - reads standard input [default: all as assumed above]
    #[arg(long, value_name = "FILE")]
    situation: Option<PathBuf>,

    /// What the walls cost here, as `bench/run walls` measured it
    #[arg(long, value_name = "FILE", default_value = MEASUREMENTS)]
    measurements: PathBuf,
}

/// The advice with what only this installation knows.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    advice: Advice,
    cost: Cost,
    stays_open: Vec<Open>,
}

/// What the walls cost.
#[derive(Debug, Serialize)]
struct Cost {
    measured: bool,
    /// Where the numbers come from, or how to get them.
    source: String,
    cases: Vec<Case>,
}

/// One measurement: the same work with a wall and without it, in one run.
#[derive(Debug, Serialize)]
struct Case {
    /// The dimension that the wall belongs to; none for limits, which every level has.
    dimension: Option<&'static str>,
    wall: String,
    work: String,
    /// How many times as long or as much as without the wall, at the median.
    ratio_p50: f64,
}

#[derive(Debug, Deserialize)]
struct Measurements {
    machine: serde_json::Value,
    commit: String,
    cases: Vec<Measured>,
}

/// `case` is the wall, a colon, and the work with its unit in parentheses.
#[derive(Debug, Deserialize)]
struct Measured {
    case: String,
    ratio_p50: f64,
}

impl From<Measured> for Case {
    fn from(measured: Measured) -> Self {
        let (wall, work) = measured.case.split_once(": ").unwrap_or((&measured.case, "all"));
        let dimension = match wall {
            "network-namespace" => Some("network"),
            "readonly-root" => Some("image"),
            "memory-limit" | "cpu-limit" | "pids-limit" => None,
            _ => Some("kernel"),
        };
        let (wall, work) = (wall.to_owned(), work.split(" (").next().unwrap_or(work).to_owned());
        Self { dimension, wall, work, ratio_p50: measured.ratio_p50 }
    }
}

/// A guarantee that the advised level does not promise.
#[derive(Debug, Serialize)]
struct Open {
    id: &'static str,
    alias: &'static str,
    sentence: &'static str,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let situation = match &self.situation {
            None => Situation::default(),
            Some(path) => serde_norway::from_str(&read_input(path)?).map_err(|error| {
                Problem::bad_input(
                    format!("{} is not a situation: {}", path.display(), shortened(error)),
                    "see `cubicle advise --help` for its fields and words",
                )
            })?,
        };
        let advice = advise::advise(situation);
        let chosen = advice.instead.unwrap_or(advice.level);
        let promised = catalogue::promised(chosen, situation.engine);
        let open = catalogue::all()
            .iter()
            .filter(|one| one.engines.contains(&situation.engine) && !promised.contains(&one.id));
        let stays_open =
            open.map(|one: &Guarantee| Open { id: one.id, alias: one.alias, sentence: one.sentence }).collect();
        let answer = Answer { cost: cost(&self.measurements)?, stays_open, advice };
        context.printer.print(&answer, |printer| text(printer, &answer))?;
        Ok(Outcome::Done)
    }
}

fn cost(path: &Path) -> Result<Cost, Problem> {
    if path == Path::new(MEASUREMENTS) && !path.exists() {
        let source = "not measured here: run bench/run walls".to_owned();
        return Ok(Cost { measured: false, source, cases: Vec::new() });
    }
    let measured: Measurements = serde_json::from_str(&read_input(path)?).map_err(|error| {
        Problem::bad_input(
            format!("{} is not a measurement: {}", path.display(), shortened(error)),
            "make one with `bench/run walls`",
        )
    })?;
    let machine = measured.machine.as_str().map_or_else(|| measured.machine.to_string(), str::to_owned);
    let source = format!("{} on {machine}, commit {}", path.display(), measured.commit);
    Ok(Cost { measured: true, source, cases: measured.cases.into_iter().map(Case::from).collect() })
}

fn text(printer: &Printer, answer: &Answer) -> String {
    let advice = &answer.advice;
    let bold = Style::new().bold();
    let mut text = format!("level      {}\n", printer.paint(&advice.level.to_string(), bold));
    if let Some(missing) = advice.missing {
        let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
        let engine = advice.situation.engine;
        text.push_str(&format!("refused    {}\n", printer.paint(&format!("by engine {engine}: it {missing}"), red)));
    }
    if let Some(instead) = advice.instead {
        text.push_str(&format!("instead    {instead}: the strongest that engine has, and not enough\n"));
    }
    if let Some(egress) = advice.egress {
        text.push_str(&format!("template   egress: {{mode: {}}}\n", word(&egress)));
    }
    text.push('\n');
    let mut table = Table::new(["DIMENSION", "CHOICE", "WHY"]);
    for one in &advice.dimensions {
        table.row([one.dimension.into(), one.choice.as_str().into(), one.why.into()]);
    }
    text.push_str(&table.render(printer, ""));
    for note in &advice.notes {
        let room = printer.width.map_or(usize::MAX, |width| width.saturating_sub(2).max(20));
        text.push_str(&format!("\n! {}\n", wrap(note, room, 2)));
    }
    text.push_str(&format!("\n{}\n", printer.paint("What it costs", bold)));
    text.push_str(&format!("  {}\n", answer.cost.source));
    text.push_str(&costs(printer, &answer.cost.cases));
    text.push_str(&format!("\n{}\n", printer.paint("What stays open", bold)));
    if answer.stays_open.is_empty() {
        text.push_str("  Nothing of the catalogue.\n");
    }
    for one in &answer.stays_open {
        let room = printer.width.map_or(usize::MAX, |width| width.saturating_sub(9).max(20));
        text.push_str(&format!("  {:<7}{}\n", one.alias, wrap(one.sentence, room, 9)));
    }
    text
}

/// One line per wall: how many times as much each work takes as without it.
fn costs(printer: &Printer, cases: &[Case]) -> String {
    if cases.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["DIMENSION", "WALL", "TIMES AS MUCH AS WITHOUT IT"]);
    for wall in cases.chunk_by(|one, other| one.wall == other.wall) {
        let Some(first) = wall.first() else { continue };
        let works: Vec<String> = wall.iter().map(|case| format!("{} {:.2}x", case.work, case.ratio_p50)).collect();
        table.row([first.dimension.unwrap_or("limits").into(), first.wall.as_str().into(), works.join(", ").into()]);
    }
    table.render(printer, "")
}
