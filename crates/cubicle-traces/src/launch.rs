//! The engine's part: a launch, its steps, and its proof, while they happen.

use std::time::{Duration, Instant, SystemTime};

use cubicle_core::attempt::Proof;
use cubicle_core::level::{EngineKind, Level};
use cubicle_core::name::{TemplateName, WorkspaceId};
use cubicle_core::problem::ProblemKind;
use cubicle_core::report::Report;
use cubicle_core::trace::TraceParent;
use cubicle_core::workspace::{Step, Workspace};
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanKind};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use crate::proof::{self, Observed};
use crate::span::{self, Parent};

/// How a launch ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A promise did not hold, or could not be proven.
    Refused,
    /// The engine failed, or what was asked for cannot be had.
    Failed(ProblemKind),
    /// Somebody stopped it before it was open.
    Stopped,
}

/// The trace of one launch in the engine that makes it. Dropped before an end, it was stopped.
#[derive(Debug)]
pub struct Launch {
    inner: Option<Box<Inner>>,
}

#[derive(Debug)]
struct Inner {
    tracer: SdkTracer,
    span: Span,
    step: Option<(Step, Span)>,
    /// The same moment on the clock that steps are measured with, and on the wall.
    began: (Instant, SystemTime),
    observed: Option<Observed>,
    refusal: Option<String>,
    ended: bool,
}

impl Launch {
    /// Begins it at this moment; nothing when traces are off. `place` is the request's.
    pub fn begin(place: Option<TraceParent>, at: Instant) -> Self {
        Self { inner: crate::tracer().map(|tracer| Box::new(Inner::begin(tracer, place, at))) }
    }

    /// Says what is launched, and whether a sandbox was ready for it.
    pub fn about(&mut self, workspace: &Workspace, warm: bool) {
        if let Some(inner) = &mut self.inner {
            inner.span.set_attributes(About::of(workspace).attributes());
            inner.span.set_attribute(KeyValue::new("cubicle.warm", warm));
        }
    }

    /// The sandbox that was ready could not be used: the launch goes on like any other.
    pub fn goes_the_long_way(&mut self) {
        if let Some(inner) = &mut self.inner {
            inner.end_step(Some(("warm", "the warm sandbox could not be used".to_owned())), Instant::now());
            inner.span.set_attribute(KeyValue::new("cubicle.warm", false));
            inner.span.add_event("the warm sandbox could not be used", Vec::new());
            inner.refusal = None;
        }
    }

    /// A step begins.
    pub fn begins(&mut self, step: Step, at: Instant) {
        if let Some(inner) = &mut self.inner {
            inner.end_step(None, at);
            let span = span::below(&inner.tracer, &inner.span, step.as_str(), inner.wall(at));
            inner.step = Some((step, span));
        }
    }

    /// The step that goes on is done, so long after it began at that moment.
    pub fn done(&mut self, since: Instant, took: Duration) {
        if let Some(inner) = &mut self.inner {
            inner.end_step(None, since + took);
        }
    }

    /// The launch waited in line from then until now.
    pub fn waited(&self, since: Instant) {
        if let Some(inner) = &self.inner {
            let parent = inner.step.as_ref().map_or(&inner.span, |(_, span)| span);
            span::below(&inner.tracer, parent, "queue", inner.wall(since))
                .end_with_timestamp(inner.wall(Instant::now()));
        }
    }

    /// What a proof observed; its verdicts follow with [`Launch::judged`].
    pub fn observed(&mut self, proof: &Proof) {
        if let Some(inner) = &mut self.inner {
            inner.observed = Some(Observed::of(proof));
        }
    }

    /// What was judged.
    pub fn judged(&mut self, report: &Report) {
        if let Some(inner) = &mut self.inner {
            if let Some(observed) = inner.observed.take() {
                let parent = inner.step.as_ref().map_or(&inner.span, |(_, span)| span);
                observed.tell(&inner.tracer, parent, &report.guarantees);
            }
            if report.guarantees.iter().any(|one| proof::stops(one.verdict)) || report.summary.held == 0 {
                inner.refusal = Some(proof::refusal(&report.guarantees));
            }
        }
    }

    /// The notebook is open, or the launch ended early.
    pub fn ended(&mut self, end: Option<End>) {
        if let Some(inner) = &mut self.inner {
            inner.end(end);
        }
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        if let Some(inner) = &mut self.inner
            && !inner.ended
        {
            inner.end(Some(End::Stopped));
        }
    }
}

impl Inner {
    fn begin(tracer: &SdkTracer, place: Option<TraceParent>, at: Instant) -> Self {
        let now = (Instant::now(), SystemTime::now());
        let began = now.1.checked_sub(now.0.saturating_duration_since(at)).unwrap_or(now.1);
        let parent = place.map_or(Parent::None, Parent::There);
        // The hub has answered by then: it does not wait for the end.
        let span = span::open(tracer, "launch", SpanKind::Consumer, parent, began, Vec::new());
        let step = span::below(tracer, &span, Step::Request.as_str(), began);
        Self {
            tracer: tracer.clone(),
            span,
            step: Some((Step::Request, step)),
            began: (at, began),
            observed: None,
            refusal: None,
            ended: false,
        }
    }

    fn wall(&self, at: Instant) -> SystemTime {
        let (instant, wall) = self.began;
        wall.checked_add(at.saturating_duration_since(instant)).unwrap_or(wall)
    }

    fn end_step(&mut self, failure: Option<(&'static str, String)>, at: Instant) {
        let at = self.wall(at);
        if let Some((_, mut span)) = self.step.take() {
            if let Some((kind, reason)) = failure {
                span::fail(&mut span, kind, reason);
            }
            span.end_with_timestamp(at);
        }
    }

    fn end(&mut self, end: Option<End>) {
        let now = Instant::now();
        self.ended = true;
        let step = self.step.as_ref().map(|(step, _)| *step);
        let refusal = self.refusal.take();
        let failure = end.and_then(|end| failure(end, step, || refusal.unwrap_or_else(|| proof::refusal(&[]))));
        self.end_step(failure.clone(), now);
        self.span.set_attribute(KeyValue::new("cubicle.outcome", outcome(end)));
        if let Some((kind, reason)) = failure {
            span::fail(&mut self.span, kind, reason);
        }
        let at = self.wall(now);
        self.span.end_with_timestamp(at);
    }
}

/// How a launch ended, in a word.
pub(crate) fn outcome(end: Option<End>) -> &'static str {
    match end {
        None => "open",
        Some(End::Refused) => "refused",
        Some(End::Failed(_)) => "failed",
        Some(End::Stopped) => "stopped",
    }
}

/// The error of a launch that ended so in this step, in words of this program alone: a problem's own text may
/// name people, and holds what notebooks print.
pub(crate) fn failure(
    end: End,
    step: Option<Step>,
    refusal: impl FnOnce() -> String,
) -> Option<(&'static str, String)> {
    match end {
        End::Refused => Some(("refused", refusal())),
        End::Failed(kind) => {
            let kind = kind.as_str();
            Some((kind, format!("{} failed: {kind}", step.map_or("launch", Step::as_str))))
        }
        End::Stopped => None,
    }
}

/// What is told of a workspace: what an administrator has named, and nothing of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The workspace.
    pub id: WorkspaceId,
    /// The template.
    pub template: TemplateName,
    /// The level that is promised.
    pub level: Level,
    /// Who builds it.
    pub engine: EngineKind,
}

impl About {
    /// What is told of this one.
    pub fn of(workspace: &Workspace) -> Self {
        let Workspace { id, template, level, engine, .. } = workspace;
        Self { id: id.clone(), template: template.clone(), level: *level, engine: *engine }
    }

    pub(crate) fn attributes(&self) -> [KeyValue; 4] {
        [
            KeyValue::new("cubicle.workspace.id", self.id.to_string()),
            KeyValue::new("cubicle.template", self.template.to_string()),
            KeyValue::new("cubicle.level", self.level.to_string()),
            KeyValue::new("cubicle.engine", self.engine.to_string()),
        ]
    }
}

#[cfg(test)]
pub(crate) mod tests;
