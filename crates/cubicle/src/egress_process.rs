//! The egress proxy of one workspace as a process of its own: it takes what its helper gave it,
//! gives up every right, and only then reads what strangers send.

use std::convert::Infallible;
use std::io::Read;
use std::process::ExitCode;

use cubicle_core::problem::Problem;
use cubicle_egress::Config;
use cubicle_local::layout::EGRESS_UID;
use cubicle_sandbox::confine;

/// The configuration above this size is refused, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// Runs the proxy until its helper ends. Must be called before any thread is started.
pub(crate) fn run() -> ExitCode {
    let Err(problem) = serve();
    // The helper keeps this line in its log.
    eprintln!("error: {problem}");
    ExitCode::from(5)
}

fn serve() -> Result<Infallible, Problem> {
    let failed =
        |what: &str, error: &dyn std::fmt::Display| Problem::engine(format!("the egress proxy: {what}: {error}"), "");
    let (listener, log) = confine::egress_descriptors().map_err(|error| failed("its descriptors", &error))?;
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MAX_CONFIG).read_to_string(&mut text);
    read.map_err(|error| failed("its configuration", &error))?;
    let config: Config = serde_json::from_str(&text).map_err(|error| failed("its configuration", &error))?;
    confine::become_egress(EGRESS_UID, EGRESS_UID).map_err(|error| failed("its rights", &error))?;
    cubicle_egress::run(listener, config, log).map_err(|error| failed("its work", &error))
}
