//! What hub, engines and controller count, in one room, so that names and labels are one language.
//!
//! Labels have few values, known when the program is built: routes as their templates, guarantees by
//! id, states, verdicts. No name or id of a user or a workspace is ever one, so that whoever may read
//! metrics learns nothing about anybody, and their number is bounded. Times are in seconds, sizes in
//! bytes (https://prometheus.io/docs/practices/naming/).
#![forbid(unsafe_code)]

pub mod certificate;
pub mod controller;
pub mod engine;
pub mod hub;
pub mod launches;
mod listener;
pub mod pool;
pub mod traces;

pub use listener::{CONTENT_TYPE, serve};
use prometheus_client::registry::Registry;

/// Some metrics as OpenMetrics text without the end mark, so that the texts of several processes can
/// be put one after the other.
fn part(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a String fails only when formatting does; half a text is then told as none.
    match prometheus_client::encoding::text::encode_registry(&mut text, registry) {
        Ok(()) => text,
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            String::new()
        }
    }
}

/// Puts parts together and marks the end (OpenMetrics 1.0, `# EOF`).
pub fn whole(parts: &[String]) -> String {
    let mut text = parts.concat();
    text.push_str("# EOF\n");
    text
}

/// Seconds from a hundredth of a millisecond up to ten seconds and a half.
fn short() -> impl Iterator<Item = f64> {
    prometheus_client::metrics::histogram::exponential_buckets(0.000_01, 4.0, 11)
}

/// Seconds from five milliseconds up to three minutes.
fn long() -> impl Iterator<Item = f64> {
    prometheus_client::metrics::histogram::exponential_buckets(0.005, 2.0, 16)
}
