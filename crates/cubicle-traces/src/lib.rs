//! The trace of a launch, told to an OpenTelemetry collector: hub, engine or controller, and the proof.
//!
//! Off unless the environment names a collector ([`settings::ENDPOINT`]); then nothing here costs more than
//! a look at an empty cell, and there is no thread. When it is on, whatever the collector does neither delays nor
//! fails a launch: finished spans wait in a bounded queue for a thread of their own.
//!
//! Spans hold what a platform's people need to find a launch and to see what took how long: ids, names of
//! templates and guarantees, words for how it ended. No name of a user, no token, no text that somebody else
//! wrote, such as messages of notebooks, is ever in one.
#![forbid(unsafe_code)]

mod client;
mod export;
mod launch;
mod proof;
mod request;
mod settings;
mod span;
mod steps;

use std::sync::OnceLock;
use std::time::Duration;

use cubicle_core::problem::Problem;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

pub use launch::{About, End, Launch};
pub use proof::Observed;
pub use request::{Asked, Request};
pub use settings::{ENDPOINT, TRACES_ENDPOINT};
pub use steps::{Recorded, RecordedStep, tell};

use export::Bounded;
use settings::Settings;

/// How long the end of a process waits for the last spans to be taken.
const GOODBYE: Duration = Duration::from_secs(1);

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// What makes spans; none when traces are off.
fn tracer() -> Option<&'static SdkTracer> {
    TRACER.get()
}

/// Whether traces are told.
pub fn are_on() -> bool {
    tracer().is_some()
}

/// Tells traces from now on, if the environment asks for it. `process` is what this one is called when
/// `OTEL_SERVICE_NAME` does not say: `cubicle-hub` for example. Starts a thread if it does anything, so that a
/// process gives up its rights first. What is returned is kept until the process ends.
///
/// # Errors
/// A variable that cannot be meant: which, the rule, and what to do.
pub fn begin(process: &'static str) -> Result<Telling, Problem> {
    let Some(settings) = Settings::read(|name| std::env::var(name).ok())? else { return Ok(Telling(None)) };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client::Client::new(&settings)?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(settings.endpoint.to_string())
        .with_timeout(settings.timeout)
        .build()
        .map_err(|error| Problem::bad_input(format!("traces cannot be told: {error}"), "check the OTEL_ variables"))?;
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Bounded::new(exporter))
        .with_resource(resource(process))
        .build();
    // A second beginning in one process changes nothing, and its spans would be nobody's.
    TRACER.get_or_init(|| provider.tracer("cubicle"));
    tracing::info!(endpoint = %settings.endpoint, "traces are told");
    Ok(Telling(Some(provider)))
}

/// Who tells: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` go before what is said here.
fn resource(process: &'static str) -> Resource {
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let named = Resource::builder().build();
    let name = opentelemetry::Key::from_static_str("service.name");
    let given = named.get(&name).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let resource = Resource::builder().with_attribute(version);
    if given { resource.build() } else { resource.with_service_name(process).build() }
}

/// Traces are told while this lives; its end waits a moment for the last ones.
#[must_use]
pub struct Telling(Option<SdkTracerProvider>);

impl Drop for Telling {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(GOODBYE)
        {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}
