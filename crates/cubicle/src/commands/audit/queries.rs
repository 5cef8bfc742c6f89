//! `cubicle audit queries`

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use cubicle_audit::network::place::{Place, PortName};
use cubicle_audit::network::port::Protocol;
use cubicle_core::problem::Problem;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Loaded, Manifests};
use crate::context::Context;
use crate::exit::Outcome;

/// Answers many questions about the same manifests, one JSON object per line
///
/// Each line asks {"id","from","to","protocol","port"}: from and to are NAMESPACE/POD or an
/// address, port a number or a name. Each answer is {"id","may","must","rule"} on one line, or
/// {"id","error"}. Exit code 0 when every question was answered.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle audit queries manifests/ --queries questions.jsonl")]
pub(crate) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,

    /// The questions; - reads standard input
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Query {
    #[serde(default)]
    id: Value,
    from: String,
    to: String,
    #[serde(default)]
    protocol: Option<String>,
    #[serde(default)]
    port: Value,
}

impl Arguments {
    pub(crate) fn run(self, _context: &Context) -> Result<Outcome, Problem> {
        let mut loaded = self.manifests.load()?;
        let shown = self.queries.display().to_string();
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Problem::not_found(format!("there is no file {shown}"), "check the path"),
            _ => Problem::bad_input(format!("{shown} cannot be read: {error}"), "check that it is a text file"),
        };
        let input: Box<dyn BufRead> = if self.queries == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            Box::new(BufReader::new(File::open(&self.queries).map_err(&unreadable)?))
        };
        let mut output = BufWriter::new(io::stdout().lock());
        let mut unanswered = 0;
        for (number, line) in input.lines().enumerate() {
            let line = line.map_err(&unreadable)?;
            if line.trim().is_empty() {
                continue;
            }
            let answer = answer(&mut loaded, &line, number + 1);
            unanswered += usize::from(answer.get("error").is_some());
            match writeln!(output, "{answer}") {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Outcome::Done),
                Err(error) => {
                    return Err(Problem::engine(
                        format!("standard output could not be written: {error}"),
                        "check where it goes",
                    ));
                }
                Ok(()) => {}
            }
        }
        output.flush().map_err(|error| {
            Problem::engine(format!("standard output could not be written: {error}"), "check where it goes")
        })?;
        if unanswered > 0 {
            return Err(Problem::bad_input(
                format!("{unanswered} questions of {shown} could not be answered"),
                "their lines say why",
            ));
        }
        loaded.outcome(Outcome::Done)
    }
}

fn answer(loaded: &mut Loaded, line: &str, number: usize) -> Value {
    let query: Query = match serde_json::from_str(line) {
        Ok(query) => query,
        Err(error) => return json!({"id": null, "error": format!("line {number} is no question: {error}")}),
    };
    match verdict(loaded, &query) {
        Ok(value) => value,
        Err(error) => json!({"id": query.id, "error": error}),
    }
}

fn verdict(loaded: &mut Loaded, query: &Query) -> Result<Value, String> {
    let from: Place = query.from.parse().map_err(|error| format!("{error}"))?;
    let to: Place = query.to.parse().map_err(|error| format!("{error}"))?;
    let protocol = query.protocol.as_deref().unwrap_or("TCP");
    let protocol: Protocol = protocol.to_ascii_uppercase().parse().map_err(|error| format!("{error}"))?;
    let port: Option<PortName> = match &query.port {
        Value::Null => None,
        Value::String(text) => Some(text.parse().map_err(|error| format!("{error}"))?),
        Value::Number(_) => Some(query.port.to_string().parse().map_err(|error| format!("{error}"))?),
        other => return Err(format!("{other} is no port")),
    };
    let verdict = loaded.engine.answer(&from, &to, protocol, port.as_ref()).map_err(|error| error.to_string())?;
    Ok(json!({
        "id": query.id,
        "may": verdict.may,
        "must": verdict.must,
        "rule": verdict.rule.map(|rule| loaded.rule(rule)),
        "reason": verdict.reason,
    }))
}
