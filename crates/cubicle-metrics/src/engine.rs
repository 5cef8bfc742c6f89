//! What the engine of one machine has left.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A moment of the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stock {
    /// Homes.
    pub homes: u64,
    /// What they take, in bytes.
    pub homes_used: u64,
    /// Free on the disk of the homes, in bytes.
    pub disk_free: u64,
    /// Ranges of ids that workspaces have.
    pub ranges_taken: u64,
    /// Ranges of ids that nobody has.
    pub ranges_free: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Use {
    state: &'static str,
}

struct Metrics {
    registry: Registry,
    homes: Gauge,
    homes_used: Gauge,
    disk_free: Gauge,
    ranges: Family<Use, Gauge>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let mut registry = Registry::default();
    let (homes, homes_used, disk_free) = (Gauge::default(), Gauge::default(), Gauge::default());
    let ranges = Family::default();
    registry.register("cubicle_engine_homes", "Homes", homes.clone());
    registry.register("cubicle_engine_homes_used_bytes", "What homes take on the disk", homes_used.clone());
    registry.register("cubicle_engine_disk_free_bytes", "Free on the disk of the homes", disk_free.clone());
    registry.register(
        "cubicle_engine_id_ranges",
        "The pool of id ranges, by whether a workspace has it",
        ranges.clone(),
    );
    Metrics { registry, homes, homes_used, disk_free, ranges }
});

/// The engine's part of the text.
pub fn text(stock: Stock) -> String {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    METRICS.homes.set(number(stock.homes));
    METRICS.homes_used.set(number(stock.homes_used));
    METRICS.disk_free.set(number(stock.disk_free));
    METRICS.ranges.get_or_create(&Use { state: "taken" }).set(number(stock.ranges_taken));
    METRICS.ranges.get_or_create(&Use { state: "free" }).set(number(stock.ranges_free));
    crate::part(&METRICS.registry)
}
