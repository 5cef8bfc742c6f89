//! One workspace: its five steps as they happen, why it failed, and the door when it is open.

use askama::Template as _;
use cubicle_core::report::{Report, Verdict};
use cubicle_core::template::Template;
use cubicle_core::workspace::{Progress, State, Step, StepEvent};

use super::{Frame, RenderError, WorkspaceRow, assets, words};

/// How many broken promises are shown here; the isolation page has all. More than these mostly
/// have one cause.
const MOST_BROKEN: usize = 8;

/// What the page of one workspace shows.
#[derive(Debug, Clone, askama::Template)]
#[template(path = "launch.html")]
pub struct View {
    /// The frame.
    pub frame: Frame,
    /// The workspace with what it uses.
    pub row: WorkspaceRow,
    /// Its template; none when it is gone.
    pub template: Option<Template>,
    /// The events of the last launch so far, in order; empty when not known any more.
    pub events: Vec<StepEvent>,
    /// The last report, if there is one.
    pub report: Option<Report>,
    /// The end of the notebook server's output. Hostile text. Empty when there is none.
    pub log: String,
    /// Whether the viewer is its owner; an administrator may look, stop and delete, not open.
    pub own: bool,
}

/// One step as the page shows it.
struct StepRow<'a> {
    step: Step,
    event: Option<&'a StepEvent>,
    /// Whether events may still come.
    launching: bool,
}

impl StepRow<'_> {
    fn key(&self) -> &'static str {
        self.step.as_str()
    }

    fn state(&self) -> &'static str {
        match self.event.map(|event| event.state) {
            None if self.launching => "waiting",
            None => "not reached",
            Some(Progress::Running) => "running",
            Some(Progress::Done) => "done",
            Some(Progress::Failed) => "failed",
        }
    }

    fn message(&self) -> &str {
        match self.event {
            Some(event) if !event.message.is_empty() => &event.message,
            _ => words::step_meaning(&self.step),
        }
    }

    fn elapsed(&self) -> String {
        match self.event {
            Some(event) if event.state != Progress::Running => words::milliseconds(&event.elapsed_ms),
            _ => String::new(),
        }
    }
}

impl View {
    /// Whether more events will come.
    fn is_launching(&self) -> bool {
        matches!(self.row.workspace.state, State::Pending | State::Proving)
    }

    fn steps(&self) -> Vec<StepRow<'_>> {
        Step::ALL
            .into_iter()
            .map(|step| StepRow {
                step,
                event: self.events.iter().rev().find(|event| event.step == step),
                launching: self.is_launching(),
            })
            .collect()
    }

    /// Milliseconds from the request to the last event.
    fn elapsed(&self) -> Option<u64> {
        self.events.last().map(|event| event.elapsed_ms)
    }

    /// The guarantees for which the launch was refused: sentence, verdict, reason.
    fn broken(&self) -> Vec<&cubicle_core::report::GuaranteeReport> {
        let bad = |verdict| matches!(verdict, Verdict::Breached | Verdict::Unproven);
        self.report.iter().flat_map(|report| &report.guarantees).filter(|guarantee| bad(guarantee.verdict)).collect()
    }
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
