//! `cubicle start`, and following a launch to its end.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use cubicle_core::engine::Engine;
use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::Problem;
use cubicle_core::workspace::{Progress, State, Step, StepEvent, Workspace};
use futures::StreamExt;

use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output::workspace::View;
use crate::output::{note, safe};
use crate::trace;

/// How long a launch may go on without an event or a final state before we stop watching. The
/// engine has its own, shorter limits for every step.
const PATIENCE: Duration = Duration::from_secs(600);

/// Start a stopped, refused or failed workspace again
///
/// Everything is built and proven anew. Exit codes with --wait are those of `cubicle launch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle start w-0123456789ab --wait")]
pub(crate) struct Arguments {
    /// The workspace's id, as `cubicle list` prints it
    id: String,

    /// Wait until it is open or refused, with progress on standard error
    #[arg(long)]
    wait: bool,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let id: WorkspaceId = self.id.parse()?;
        block_on(async {
            let engine = context.engine()?;
            let workspace = engine.start(&id, trace::place()).await?;
            let (workspace, outcome) = if self.wait {
                let Watched { workspace, outcome } = watch(engine.as_ref(), &id).await?;
                (workspace, outcome)
            } else {
                (workspace, Ok(Outcome::Done))
            };
            let view = View::new(workspace, &context.url());
            context.printer.print(&view, |_| format!("{}\n{}\n", view.id(), view.url()))?;
            outcome
        })
    }
}

/// A launch that has ended, well or not.
pub(crate) struct Watched {
    /// The workspace in its last state.
    pub(crate) workspace: Workspace,
    /// What `--wait` answers.
    pub(crate) outcome: Result<Outcome, Problem>,
}

/// Follows a launch, with progress on standard error, until it is open, refused or failed.
pub(crate) async fn watch(engine: &dyn Engine, id: &WorkspaceId) -> Result<Watched, Problem> {
    let mut progress = ProgressLines::new();
    let mut events = engine.events(id).await?;
    while let Some(event) = tokio::time::timeout(PATIENCE, events.next()).await.map_err(|_| lost(id))? {
        progress.show(&event);
    }
    progress.clear();
    // The last event and the state that follows from it are two writes of the engine.
    let begun = Instant::now();
    let workspace = loop {
        let workspace = engine.workspace(id).await?;
        if !matches!(workspace.state, State::Pending | State::Proving) {
            break workspace;
        }
        if begun.elapsed() > PATIENCE {
            return Err(lost(id));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let outcome = match workspace.state {
        State::Running => Ok(Outcome::Done),
        State::Refused => {
            // Why, the last step has said.
            note(&format!("refused; the evidence is in `cubicle report {id} --verbose`"));
            engine.report(id).await.map(|report| match Outcome::of_report(&report.summary) {
                // Refused, and yet the report has nothing against it: believe neither.
                Outcome::Done => Outcome::Undecided,
                outcome => outcome,
            })
        }
        state => Err(Problem::engine(
            format!("{id} did not open; it is {}: {}", crate::output::workspace::state_word(state), workspace.reason),
            format!("see `cubicle logs {id}` and `cubicle show {id}`, then `cubicle start {id}`"),
        )),
    };
    Ok(Watched { workspace, outcome })
}

fn lost(id: &WorkspaceId) -> Problem {
    Problem::engine(
        format!("{id} has made no progress for {} minutes", PATIENCE.as_secs() / 60),
        format!("see `cubicle show {id}` and the engine's log"),
    )
}

/// One line per finished step; on a terminal also the step that is running.
struct ProgressLines {
    terminal: bool,
    pending: bool,
}

impl ProgressLines {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), pending: false }
    }

    fn show(&mut self, event: &StepEvent) {
        let number = Step::ALL.iter().position(|step| *step == event.step).unwrap_or_default() + 1;
        let word = match event.state {
            Progress::Running if !self.terminal => return,
            Progress::Running => "...",
            Progress::Done => "done",
            Progress::Failed => "failed",
        };
        self.clear();
        let line = format!(
            "[{number}/5] {:<8} {word:<6} {:>7}  {}",
            event.step.as_str(),
            format!("{} ms", event.elapsed_ms),
            safe::line(&event.message)
        );
        let mut output = std::io::stderr().lock();
        if event.state == Progress::Running {
            // Short enough for one line, or the return to its beginning would miss.
            let short: String = line.chars().take(79).collect();
            let _ = write!(output, "{short}");
            self.pending = true;
        } else {
            let _ = writeln!(output, "{}", line.trim_end());
        }
        let _ = output.flush();
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.pending) {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}
