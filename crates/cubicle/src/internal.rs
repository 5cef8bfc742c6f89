//! The commands that the product runs by itself: one helper per sandbox, short-lived joiners,
//! egress proxies, the hub, and one process per order of a certificate. They are not listed in `--help`, and their command lines may change with every
//! version: only the version that started them talks to them.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use cubicle_core::problem::Problem;
use cubicle_sandbox::{helper, join};

use crate::{acme_process, egress_process, exit, hub_process, output};

/// Runs an internal command when the command line names one.
pub(crate) fn dispatch(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    let command = arguments.next()?;
    let rest: Vec<OsString> = arguments.collect();
    match (command.to_str()?, rest.as_slice()) {
        ("internal-sandbox", [folder]) => Some(helper::run(Path::new(folder))),
        ("internal-join", rest) => Some(join::run(rest)),
        ("internal-egress", []) => Some(egress_process::run()),
        ("internal-acme", []) => Some(acme_process::run()),
        ("internal-hub", []) => Some(hub_process::run()),
        (name, _) if name.starts_with("internal-") => Some(refuse(name)),
        _ => None,
    }
}

fn refuse(name: &str) -> ExitCode {
    let problem = Problem::bad_input(
        format!("\"{}\" with these arguments is no command of this version", name.escape_default()),
        "the product runs such commands by itself; see `cubicle --help` for yours",
    );
    output::problem(&problem);
    exit::of_problem(problem.kind)
}
