//! One span: a beginning, a parent, attributes and an end, with times that others have measured.

use std::borrow::Cow;
use std::time::SystemTime;

use cubicle_core::trace::TraceParent;
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};

/// What a span is a part of.
#[derive(Debug, Clone)]
pub(crate) enum Parent {
    /// Nothing: a trace begins here.
    None,
    /// A span of this process.
    Here(SpanContext),
    /// A span of another process that is believed.
    There(TraceParent),
    /// Nothing, but somebody who is not believed has named a span that it belongs with.
    Beside(TraceParent),
}

fn context(place: TraceParent) -> SpanContext {
    let flags = if place.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (TraceId::from(place.trace()), SpanId::from(place.span()));
    SpanContext::new(trace, span, flags, true, TraceState::default())
}

/// Where what follows from this span belongs.
pub(crate) fn place(span: &Span) -> Option<TraceParent> {
    let context = span.span_context();
    let (trace, span) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    TraceParent::new(u128::from_be_bytes(trace), u64::from_be_bytes(span), context.is_sampled())
}

/// Begins a span.
pub(crate) fn open(
    tracer: &SdkTracer,
    name: impl Into<Cow<'static, str>>,
    kind: SpanKind,
    parent: Parent,
    at: SystemTime,
    attributes: Vec<KeyValue>,
) -> Span {
    let builder = SpanBuilder::from_name(name).with_kind(kind).with_start_time(at).with_attributes(attributes);
    let (builder, parent) = match parent {
        Parent::None => (builder, Context::new()),
        Parent::Here(parent) => (builder, Context::new().with_remote_span_context(parent)),
        Parent::There(place) => (builder, Context::new().with_remote_span_context(context(place))),
        Parent::Beside(place) => (builder.with_links(vec![Link::with_context(context(place))]), Context::new()),
    };
    tracer.build_with_context(builder, &parent)
}

/// A span of this process below another of this process.
pub(crate) fn below(tracer: &SdkTracer, parent: &Span, name: impl Into<Cow<'static, str>>, at: SystemTime) -> Span {
    let parent = parent.span_context();
    // Not remote: it is this process's own.
    let parent = SpanContext::new(
        parent.trace_id(),
        parent.span_id(),
        parent.trace_flags(),
        false,
        parent.trace_state().clone(),
    );
    open(tracer, name, SpanKind::Internal, Parent::Here(parent), at, Vec::new())
}

/// Marks a span as failed. The reason is made of words of this program alone.
pub(crate) fn fail(span: &mut Span, kind: &'static str, reason: impl Into<Cow<'static, str>>) {
    span.set_attribute(KeyValue::new("error.type", kind));
    span.set_status(Status::error(reason));
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

    use super::*;

    /// Spans as a collector would get them.
    pub(crate) struct Kept {
        spans: Store,
        pub(crate) tracer: SdkTracer,
        _provider: SdkTracerProvider,
    }

    #[derive(Debug, Default, Clone)]
    struct Store(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Store {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(batch);
            Ok(())
        }
        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    impl Kept {
        pub(crate) fn new() -> Self {
            let spans = Store::default();
            let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
            Self { spans, tracer: provider.tracer("test"), _provider: provider }
        }

        pub(crate) fn spans(&self) -> Vec<SpanData> {
            self.spans.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }

        /// The names from the root to this span, as far as they were kept.
        pub(crate) fn path(&self, span: &SpanData) -> String {
            let spans = self.spans();
            let parent = spans.iter().find(|one| one.span_context.span_id() == span.parent_span_id);
            parent.map_or(String::new(), |parent| self.path(parent) + " > ") + &span.name
        }

        pub(crate) fn paths(&self) -> Vec<String> {
            self.spans().iter().map(|span| self.path(span)).collect()
        }
    }

    pub(crate) fn attribute(span: &SpanData, name: &str) -> Option<String> {
        span.attributes.iter().find(|one| one.key.as_str() == name).map(|one| one.value.to_string())
    }
}
