//! The controller of a cluster.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
    outcome: &'static str,
}

struct Metrics {
    registry: Registry,
    reconciles: Family<OfKind, Counter>,
    leads: Gauge,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let mut registry = Registry::default();
    let (reconciles, leads) = (Family::default(), Gauge::default());
    registry.register("cubicle_controller_reconciles", "Reconciliations, by what and outcome", reconciles.clone());
    registry.register("cubicle_controller_leads", "Whether this replica holds the lease: 1 or 0", leads.clone());
    Metrics { registry, reconciles, leads }
});

/// Something was reconciled: `kind` is `workspace` or `template`.
pub fn reconciled(kind: &'static str, well: bool) {
    METRICS.reconciles.get_or_create(&OfKind { kind, outcome: if well { "ok" } else { "error" } }).inc();
}

/// This replica leads, or does not any more.
pub fn leads(leads: bool) {
    METRICS.leads.set(i64::from(leads));
}

/// The controller's part of the text.
pub fn text() -> String {
    crate::part(&METRICS.registry)
}
