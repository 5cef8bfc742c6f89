//! What became of the spans of traces that a process wanted to tell.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// What became of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The collector took it.
    Sent,
    /// The collector could not be reached, or did not take it.
    Failed,
    /// Too many waited already.
    Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFate {
    outcome: &'static str,
}

static SPANS: LazyLock<Family<OfFate, Counter>> = LazyLock::new(Family::default);

fn label(fate: Fate) -> OfFate {
    let outcome = match fate {
        Fate::Sent => "sent",
        Fate::Failed => "failed",
        Fate::Dropped => "dropped",
    };
    OfFate { outcome }
}

/// So many spans came to this.
pub fn count(fate: Fate, spans: usize) {
    SPANS.get_or_create(&label(fate)).inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
}

/// How many have come to this so far.
pub fn counted(fate: Fate) -> u64 {
    SPANS.get_or_create(&label(fate)).get()
}

/// This part of the text, of the process with this name: on one machine one address tells of two.
pub fn text(process: &str) -> String {
    let mut registry = Registry::default();
    let name = format!("cubicle_{process}_trace_spans");
    registry.register(name, "Spans of traces, by what became of them", SPANS.clone());
    crate::part(&registry)
}
