//! The hub's certificate, where an authority is asked for it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There is a new certificate.
    Issued,
    /// There is none.
    Failed,
}

const ISSUED: &str = "issued";
const FAILED: &str = "failed";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

struct Metrics {
    registry: Registry,
    end: Gauge,
    orders: Family<OfOutcome, Counter>,
}

/// Without an authority nothing is told: a certificate that ends in 1970 would raise an alarm.
static WANTED: AtomicBool = AtomicBool::new(false);

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let mut registry = Registry::default();
    let end = Gauge::default();
    let orders: Family<OfOutcome, Counter> = Family::default();
    // Told from the start, so that a rate of them is one.
    for outcome in [ISSUED, FAILED] {
        drop(orders.get_or_create(&OfOutcome { outcome }));
    }
    registry.register(
        "cubicle_certificate_end_timestamp_seconds",
        "When the hub's certificate ends, in seconds since 1970",
        end.clone(),
    );
    registry.register("cubicle_certificate_orders", "Orders of a certificate, by what became of them", orders.clone());
    Metrics { registry, end, orders }
});

/// The certificate that the hub shows ends at this second since 1970.
pub fn valid_until(second: i64) {
    METRICS.end.set(second);
    WANTED.store(true, Ordering::Relaxed);
}

/// An order came to this.
pub fn ordered(outcome: Outcome) {
    let outcome = match outcome {
        Outcome::Issued => ISSUED,
        Outcome::Failed => FAILED,
    };
    METRICS.orders.get_or_create(&OfOutcome { outcome }).inc();
}

/// This part of the text; empty where no authority is asked.
pub fn text() -> String {
    if WANTED.load(Ordering::Relaxed) { crate::part(&METRICS.registry) } else { String::new() }
}
