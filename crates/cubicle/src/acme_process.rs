//! The process that speaks with an authority of certificates: started by the engine for each order, it gives up every
//! right before it reads anything.

use std::process::ExitCode;

use cubicle_local::layout::ACME_UID;
use cubicle_sandbox::confine;

/// Does what the engine asks for, until that is done or the engine ends. Must be called before any thread is started.
pub(crate) fn run() -> ExitCode {
    if let Err(error) = confine::become_customer(ACME_UID, ACME_UID) {
        eprintln!("error: the process that orders certificates could not give up its rights: {error}");
        return ExitCode::from(5);
    }
    cubicle_acme::run()
}
