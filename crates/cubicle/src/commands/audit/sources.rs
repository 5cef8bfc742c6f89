//! What the commands of `audit` read: manifests, and what is wrong with them.

use std::path::PathBuf;

use cubicle_audit::snapshot::{InputProblem, ObjectId, Severity, Snapshot, SourceRef, read};
use cubicle_core::problem::Problem;
use serde::Serialize;

use crate::output;

/// Where to look for manifests.
#[derive(Debug, clap::Args)]
pub(crate) struct Sources {
    /// Files or folders of YAML or JSON; - reads standard input
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

impl Sources {
    /// Reads everything and tells on standard error what is wrong with it.
    ///
    /// # Errors
    /// A path that is not there.
    pub(crate) fn read(&self) -> Result<Snapshot, Problem> {
        let snapshot = self.read_silently()?;
        tell(&snapshot);
        Ok(snapshot)
    }

    /// The same for who tells later, when more is known.
    ///
    /// # Errors
    /// A path that is not there.
    pub(super) fn read_silently(&self) -> Result<Snapshot, Problem> {
        for path in self.paths.iter().filter(|path| path.as_os_str() != "-") {
            if !path.exists() {
                return Err(Problem::bad_input(format!("there is nothing at {}", path.display()), "check the path"));
            }
        }
        Ok(read::read(&self.paths))
    }
}

/// Tells what is wrong with the input and may have been meant otherwise.
pub(super) fn tell(snapshot: &Snapshot) {
    let least = |problem: &&InputProblem| problem.severity >= Severity::Warning;
    tell_these(snapshot, snapshot.problems.iter().filter(least));
}

/// Problems that are shown one by one; the rest is counted.
const MOST_PROBLEMS: usize = 20;

/// Tells on standard error what is wrong with the input, the worst first.
pub(super) fn tell_these<'a>(snapshot: &Snapshot, problems: impl IntoIterator<Item = &'a InputProblem>) {
    let mut problems: Vec<&InputProblem> = problems.into_iter().collect();
    problems.sort_by_key(|problem| (std::cmp::Reverse(problem.severity), problem.source));
    for problem in problems.iter().take(MOST_PROBLEMS) {
        let word = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let remedy = if problem.remedy.is_empty() { String::new() } else { format!(" ({})", problem.remedy) };
        output::note(&format!("{word}: {}: {}{remedy}", snapshot.locate(problem.source), problem.what));
    }
    if problems.len() > MOST_PROBLEMS {
        output::note(&format!("note: {} more problems are not shown", problems.len() - MOST_PROBLEMS));
    }
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    pub(crate) fn of(snapshot: &Snapshot, source: SourceRef) -> Self {
        Self { file: snapshot.file(source.file).to_owned(), line: source.line, column: source.column }
    }

    /// Of a whole object.
    pub(crate) fn of_object(snapshot: &Snapshot, id: ObjectId) -> Option<Self> {
        snapshot.object(id).map(|object| Self::of(snapshot, object.source))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => formatter.write_str(&self.file),
            line => write!(formatter, "{}:{line}", self.file),
        }
    }
}
