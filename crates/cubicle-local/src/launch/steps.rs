//! Telling how far a launch is: to whoever watches, to the metrics, and to its trace, by one clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cubicle_core::name::WorkspaceId;
use cubicle_core::trace::TraceParent;
use cubicle_core::workspace::{Progress, Step, StepEvent};
use cubicle_metrics::launches;

use crate::supervisor::Supervisor;

/// The progress of one launch.
pub(super) struct Launch {
    pub(super) supervisor: Arc<Supervisor>,
    pub(super) id: WorkspaceId,
    pub(super) began: Instant,
    pub(super) trace: cubicle_traces::Launch,
    step: Step,
    /// When the step began.
    since: Instant,
}

impl Launch {
    /// It begins now; `trace` is where it belongs in the trace of whoever asked.
    pub(super) fn new(supervisor: Arc<Supervisor>, id: WorkspaceId, trace: Option<TraceParent>) -> Self {
        let now = Instant::now();
        let trace = cubicle_traces::Launch::begin(trace, now);
        Self { supervisor, id, began: now, trace, step: Step::Request, since: now }
    }

    pub(super) fn say(&self, state: Progress, message: impl Into<String>) {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.supervisor
            .record_event(&self.id, StepEvent { step: self.step, state, message: message.into(), elapsed_ms });
    }

    /// The next step begins.
    pub(super) fn begin(&mut self, step: Step, message: impl Into<String>) {
        self.step = step;
        self.since = Instant::now();
        self.trace.begins(step, self.since);
        self.say(Progress::Running, message);
    }

    /// The step is done.
    pub(super) fn done(&mut self, message: impl Into<String>) {
        let took = self.since.elapsed();
        launches::step_done(self.step, took);
        self.trace.done(self.since, took);
        self.say(Progress::Done, message);
    }
}

/// What somebody who waits is told.
pub(super) fn in_line(place: usize, wait: Duration) -> String {
    let seconds = wait.as_secs().max(1);
    let about = if seconds < 90 { format!("{seconds} s") } else { format!("{} minutes", seconds.div_ceil(60)) };
    format!("number {place} in line, about {about}")
}
