//! Logs of the long-running commands, on standard error; and the trace that a short one is part of.

use std::io::{self, IsTerminal};

use cubicle_core::trace::TraceParent;
use tracing_subscriber::EnvFilter;

use crate::output;

/// Starts logging: `CUBICLE_LOG` chooses what, in the syntax of tracing's `EnvFilter`, for
/// example `debug` or `cubicle_hub=debug`; without it, what an operator should know.
pub(crate) fn start() {
    start_at("info");
}

/// The same with another word for what an operator should know.
pub(crate) fn start_at(level: &str) {
    let filter = EnvFilter::try_from_env("CUBICLE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // A line that cannot be written, on a full disk for instance, would be told on the same stream, by a
        // macro that panics when that fails.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal() && output::colour_wanted())
        .try_init();
    if started.is_err() {
        output::note("logging was started twice");
    }
}

/// The trace that this command is part of: TRACEPARENT, as build servers and other tools set it
/// (<https://opentelemetry.io/docs/specs/otel/context/env-carriers/>). One that cannot be read is none.
pub(crate) fn place() -> Option<TraceParent> {
    std::env::var("TRACEPARENT").ok()?.parse().ok()
}
