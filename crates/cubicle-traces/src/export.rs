//! Counting what becomes of spans, and bounding how many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cubicle_metrics::traces::{self, Fate};
use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter as Exporter, SpanProcessor};

/// How often it is said that spans do not arrive.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The batches of the SDK, with a bound that counts: it drops what does not fit, without a word that can be
/// counted.
#[derive(Debug)]
pub(crate) struct Bounded<P> {
    batches: P,
    waiting: Arc<AtomicUsize>,
    most: usize,
    complaint: Arc<Complaint>,
}

/// How many spans wait when nothing is said: the specification's 2048.
const QUEUE: usize = 2048;

impl Bounded<BatchSpanProcessor> {
    /// Batches for this exporter; `OTEL_BSP_*` say how large and how often.
    pub(crate) fn new(exporter: SpanExporter) -> Self {
        let most = std::env::var("OTEL_BSP_MAX_QUEUE_SIZE").ok().and_then(|value| value.parse().ok());
        let (waiting, complaint) = (Arc::default(), Arc::<Complaint>::default());
        let counted = Counted { exporter, waiting: Arc::clone(&waiting), complaint: Arc::clone(&complaint) };
        let batches = BatchSpanProcessor::builder(counted).build();
        Self { batches, waiting, most: most.unwrap_or(QUEUE), complaint }
    }
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            traces::count(Fate::Dropped, 1);
            self.complaint.say("more wait than OTEL_BSP_MAX_QUEUE_SIZE allows");
            return;
        }
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// An exporter that counts.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    complaint: Arc<Complaint>,
}

impl<E: Exporter> Exporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let exported = self.exporter.export(batch).await;
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        match &exported {
            Ok(()) => traces::count(Fate::Sent, count),
            Err(error) => {
                traces::count(Fate::Failed, count);
                self.complaint.say(&error.to_string());
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Says that spans do not arrive, once in a while.
#[derive(Debug, Default)]
struct Complaint(Mutex<Option<Instant>>);

impl Complaint {
    fn say(&self, reason: &str) {
        if self.is_due(Instant::now()) {
            tracing::warn!(reason, "spans of traces are lost; launches go on (metric cubicle_*_trace_spans_total)");
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.duration_since(last) >= SAID_EVERY);
        if due {
            *last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    /// Takes spans and never sends them, as behind a collector that does not answer.
    #[derive(Debug, Default, Clone)]
    struct Stuck(Arc<AtomicUsize>);

    impl SpanProcessor for Stuck {
        fn on_start(&self, _: &mut Span, _: &Context) {}
        fn on_end(&self, _: SpanData) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }
        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let stuck = Stuck::default();
        let bounded = Bounded { batches: stuck.clone(), waiting: Arc::default(), most: 3, complaint: Arc::default() };
        let waiting = Arc::clone(&bounded.waiting);
        let provider = SdkTracerProvider::builder().with_span_processor(bounded).build();
        let before = traces::counted(Fate::Dropped);
        for _ in 0..10 {
            drop(provider.tracer("test").start("span"));
        }
        assert_eq!(stuck.0.load(Ordering::Relaxed), 3);
        assert_eq!(waiting.load(Ordering::Relaxed), 3);
        assert_eq!(traces::counted(Fate::Dropped) - before, 7);
    }

    #[test]
    fn a_complaint_is_made_once_a_minute() {
        let (complaint, now) = (Complaint::default(), Instant::now());
        assert!(complaint.is_due(now));
        assert!(!complaint.is_due(now + Duration::from_secs(59)));
        assert!(complaint.is_due(now + Duration::from_secs(60)));
        assert!(!complaint.is_due(now + Duration::from_secs(61)));
    }
}
