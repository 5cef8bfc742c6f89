//! The hub's part: the request that asks for a launch.

use std::time::SystemTime;

use cubicle_core::name::WorkspaceId;
use cubicle_core::trace::TraceParent;
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanKind};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use crate::span::{self, Parent};

/// A request that may turn out to ask for a launch.
#[derive(Debug, Clone)]
pub struct Asked {
    /// When its head was read.
    pub began: SystemTime,
    /// `GET`, `POST`, ...
    pub method: String,
    /// The template of its route, with nothing that the caller chose.
    pub route: String,
    /// The place in a trace that it came with.
    pub given: Option<TraceParent>,
}

/// The span of a request that asks for a launch (semantic conventions for HTTP servers).
#[derive(Debug)]
pub struct Request {
    span: Span,
}

impl Request {
    /// Begins it; none when traces are off. The launch goes on in the trace that the request came with only when
    /// its caller is `believed`. Anybody else's is a link: whoever may launch could otherwise choose what is
    /// recorded, and put launches into other people's traces.
    pub fn begin(asked: &Asked, believed: bool) -> Option<Self> {
        Some(Self::begin_with(crate::tracer()?, asked, believed))
    }

    fn begin_with(tracer: &SdkTracer, asked: &Asked, believed: bool) -> Self {
        let parent = match asked.given {
            Some(place) if believed => Parent::There(place),
            Some(place) => Parent::Beside(place),
            None => Parent::None,
        };
        let attributes = vec![
            KeyValue::new("http.request.method", asked.method.clone()),
            KeyValue::new("http.route", asked.route.clone()),
        ];
        let name = format!("{} {}", asked.method, asked.route);
        Self { span: span::open(tracer, name, SpanKind::Server, parent, asked.began, attributes) }
    }

    /// Where the launch belongs.
    pub fn place(&self) -> Option<TraceParent> {
        span::place(&self.span)
    }

    /// What came of it: a workspace, or nothing.
    pub fn launched(&mut self, workspace: Option<&WorkspaceId>) {
        let outcome = if workspace.is_some() { "accepted" } else { "refused" };
        self.span.set_attribute(KeyValue::new("cubicle.outcome", outcome));
        if let Some(id) = workspace {
            self.span.set_attribute(KeyValue::new("cubicle.workspace.id", id.to_string()));
        }
    }

    /// Ends it with the status of the answer. A refusal is the caller's, an error is the hub's.
    pub fn answered(mut self, status: u16) {
        self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            span::fail(&mut self.span, "server", format!("answered {status}"));
        }
        self.span.end();
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::Status;

    use super::*;
    use crate::span::tests::{Kept, attribute};

    const THEIRS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn asked(given: Option<&str>) -> Asked {
        Asked {
            began: SystemTime::now(),
            method: "POST".to_owned(),
            route: "/api/v1/workspaces".to_owned(),
            given: given.and_then(|given| given.parse().ok()),
        }
    }

    #[test]
    fn who_is_believed_decides_what_a_trace_is_part_of() {
        let kept = Kept::new();
        Request::begin_with(&kept.tracer, &asked(Some(THEIRS)), true).answered(202);
        Request::begin_with(&kept.tracer, &asked(Some(THEIRS)), false).answered(202);
        Request::begin_with(&kept.tracer, &asked(None), true).answered(202);
        let [believed, linked, own] = kept.spans().try_into().expect("three");
        let theirs: TraceParent = THEIRS.parse().expect("a place");
        let trace =
            |span: &opentelemetry_sdk::trace::SpanData| u128::from_be_bytes(span.span_context.trace_id().to_bytes());
        assert_eq!(trace(&believed), theirs.trace());
        assert_eq!(u64::from_be_bytes(believed.parent_span_id.to_bytes()), theirs.span());
        assert_ne!(trace(&linked), theirs.trace());
        assert_eq!(linked.links.iter().count(), 1);
        assert_eq!(
            linked.links.iter().next().map(|link| link.span_context.trace_id()),
            Some(believed.span_context.trace_id())
        );
        assert_ne!(trace(&own), theirs.trace());
        assert_eq!(own.links.iter().count(), 0);
    }

    #[test]
    fn a_stranger_does_not_decide_what_is_recorded() {
        let kept = Kept::new();
        let unsampled = THEIRS.replace("-01", "-00");
        Request::begin_with(&kept.tracer, &asked(Some(&unsampled)), false).answered(202);
        assert_eq!(kept.spans().len(), 1, "the site's own sampler decided");
        Request::begin_with(&kept.tracer, &asked(Some(&unsampled)), true).answered(202);
        assert_eq!(kept.spans().len(), 1, "a believed caller decides");
    }

    #[test]
    fn an_answer_is_told_as_the_conventions_ask() {
        let kept = Kept::new();
        let mut request = Request::begin_with(&kept.tracer, &asked(None), false);
        let place = request.place().expect("a place");
        assert!(place.is_sampled());
        request.launched(Some(&WorkspaceId::from_random([7; 12])));
        request.answered(202);
        let mut refused = Request::begin_with(&kept.tracer, &asked(None), false);
        refused.launched(None);
        refused.answered(429);
        Request::begin_with(&kept.tracer, &asked(None), false).answered(500);
        let [well, refused, broken] = kept.spans().try_into().expect("three");
        assert_eq!((well.name.as_ref(), well.span_kind.clone()), ("POST /api/v1/workspaces", SpanKind::Server));
        assert_eq!(attribute(&well, "http.response.status_code").as_deref(), Some("202"));
        assert_eq!(attribute(&well, "cubicle.outcome").as_deref(), Some("accepted"));
        assert!(attribute(&well, "cubicle.workspace.id").is_some());
        assert_eq!(attribute(&refused, "cubicle.outcome").as_deref(), Some("refused"));
        assert_eq!((&well.status, &refused.status), (&Status::Unset, &Status::Unset));
        assert_eq!(broken.status, Status::error("answered 500"));
    }
}
