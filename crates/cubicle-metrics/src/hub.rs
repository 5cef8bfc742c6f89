//! The hub: requests (rate, errors, duration), open WebSockets, what is ready, workspaces by state.

use std::sync::LazyLock;
use std::time::Duration;

use cubicle_core::workspace::{State, Workspace};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Part {
    part: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    websockets: Gauge,
    ready: Family<Part, Gauge>,
    workspaces: Family<InState, Gauge>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let mut registry = Registry::default();
    let requests = Family::default();
    let seconds: Family<Route, Histogram, fn() -> Histogram> =
        Family::new_with_constructor(|| Histogram::new(crate::short()));
    let (in_flight, websockets) = (Gauge::default(), Gauge::default());
    let (ready, workspaces) = (Family::default(), Family::default());
    let build: Family<Build, Gauge> = Family::default();
    build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
    registry.register("cubicle_http_requests", "Requests answered, by template of the route", requests.clone());
    registry.register(
        "cubicle_http_request_seconds",
        "Time from the head of a request to the head of its answer",
        seconds.clone(),
    );
    registry.register("cubicle_http_requests_in_flight", "Requests without an answer yet", in_flight.clone());
    registry.register("cubicle_websockets_open", "WebSockets to notebooks", websockets.clone());
    registry.register("cubicle_ready", "Whether a part of the hub works: 1 or 0", ready.clone());
    registry.register("cubicle_workspaces", "Workspaces by state", workspaces.clone());
    registry.register("cubicle_build_info", "1, with the version", build);
    Metrics { registry, requests, seconds, in_flight, websockets, ready, workspaces }
});

/// What is counted up while it lives.
#[derive(Debug)]
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn open(gauge: &Gauge) -> Open {
    gauge.inc();
    Open(gauge.clone())
}

/// A request that is being answered.
pub fn request_begins() -> Open {
    open(&METRICS.in_flight)
}

/// A WebSocket that is open.
pub fn websocket_opens() -> Open {
    open(&METRICS.websockets)
}

/// A request was answered. `route` is a template such as `/workspaces/{id}`, never a path.
pub fn answered(method: &str, route: &str, status: u16, took: Duration) {
    let method = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other");
    METRICS.requests.get_or_create(&Request { method, route: route.to_owned(), status }).inc();
    METRICS.seconds.get_or_create(&Route { route: route.to_owned() }).observe(took.as_secs_f64());
}

/// Whether a part of the hub works.
pub fn ready(part: &'static str, works: bool) {
    METRICS.ready.get_or_create(&Part { part }).set(i64::from(works));
}

/// All workspaces as they are now.
pub fn workspaces(all: &[Workspace]) {
    for (state, name) in [
        (State::Pending, "pending"),
        (State::Proving, "proving"),
        (State::Running, "running"),
        (State::Stopping, "stopping"),
        (State::Stopped, "stopped"),
        (State::Refused, "refused"),
        (State::Failed, "failed"),
    ] {
        let count = all.iter().filter(|workspace| workspace.state == state).count();
        METRICS.workspaces.get_or_create(&InState { state: name }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// The hub's part of the text.
pub fn text() -> String {
    crate::part(&METRICS.registry)
}
