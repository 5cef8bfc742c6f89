//! The hub as a process of its own: it gives up every right before it does anything else, then
//! asks the engine for its listeners.

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use cubicle_core::problem::Problem;
use cubicle_hub::{HubConfig, SignIn, TlsFiles};
use cubicle_local::client::LocalEngine;
use cubicle_local::layout::{HUB_UID, Layout};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Runs the hub until the engine ends. Must be called before any thread is started.
pub(crate) fn run() -> ExitCode {
    let home = std::env::var_os("CUBICLE_HOME").map_or_else(|| PathBuf::from("/var/lib/cubicle"), PathBuf::from);
    if let Err(error) = cubicle_sandbox::confine::become_hub(HUB_UID, HUB_UID) {
        eprintln!("error: the hub could not give up its rights: {error}");
        return ExitCode::from(5);
    }
    crate::trace::start();
    allow_many_files();
    let _telling = match cubicle_traces::begin("cubicle-hub") {
        Ok(telling) => telling,
        Err(problem) => {
            eprintln!("error: {problem}\nhint: {}", problem.remedy);
            return ExitCode::from(2);
        }
    };
    // The engine holds the other end of standard input: when it is gone, so is its hub.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    match serve(&home) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}\nhint: {}", problem.remedy);
            ExitCode::from(5)
        }
    }
}

/// For how many descriptors the kernel has a table from the start on.
const DESCRIPTORS: i32 = 4096;

/// Raises the soft limit of open files to the hard one: every request of a browser is two sockets
/// here, and the usual soft limit of 1024 is for programs that use `select`. And has the table of descriptors grow
/// while there is one thread: later a process of several waits with each larger one until every processor has seen it
/// (Linux, `expand_fdtable` in fs/file.c), in the middle of somebody's request.
pub(crate) fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let highest =
        limit.maximum.map_or(DESCRIPTORS, |most| i32::try_from(most).unwrap_or(DESCRIPTORS).min(DESCRIPTORS)) - 1;
    if let Err(error) = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), highest) {
        tracing::debug!(%error, "the table of descriptors grows as it is needed");
    }
}

fn serve(home: &Path) -> Result<(), Problem> {
    let failed =
        |error: std::io::Error| Problem::engine(format!("the hub cannot start: {error}"), "see the engine's log");
    let runtime = tokio::runtime::Runtime::new().map_err(failed)?;
    runtime.block_on(async {
        let engine = LocalEngine::connect_as_hub(home);
        let (public, admin) = engine.listeners().await?;
        let (public, admin) = (std::net::TcpListener::from(public), UnixListener::from(admin));
        cubicle_hub::serve(configuration(home)?, Arc::new(engine), public, admin).await
    })
}

/// What the administrator set in the environment of `cubicle serve`.
pub(crate) fn configuration(home: &Path) -> Result<HubConfig, Problem> {
    let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut configuration = HubConfig::new(Layout::new(home).hub());
    configuration.public_url = text("CUBICLE_URL");
    configuration.workspace_domain = text("CUBICLE_DOMAIN");
    configuration.tls = match (text("CUBICLE_TLS_CERTIFICATE"), text("CUBICLE_TLS_KEY")) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate: certificate.into(), key: key.into() }),
        (None, None) => None,
        _ => {
            return Err(Problem::bad_input(
                "CUBICLE_TLS_CERTIFICATE and CUBICLE_TLS_KEY go together, and one is missing",
                "set both, or none",
            ));
        }
    };
    if let Some(file) = text("CUBICLE_SIGN_IN") {
        configuration.sign_in = SignIn::read(Path::new(&file))?;
    }
    Ok(configuration)
}
