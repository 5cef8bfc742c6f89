//! Where a command finds the engine and the hub.

use std::env;
use std::path::{Path, PathBuf};

use cubicle_core::engine::Engine;
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_local::client::LocalEngine;
use cubicle_local::layout::Layout;
use hyper::Method;
use rustix::fs::Access;
use rustix::io::Errno;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::hub::Hub;
use crate::output::{Format, Printer};
use crate::remote::RemoteEngine;
use crate::web::Site;

/// What every command needs.
pub(crate) struct Context {
    /// Prints the result.
    pub(crate) printer: Printer,
    home: PathBuf,
    /// Another machine's address and a token for it, when they were given.
    elsewhere: Option<(String, SecretString)>,
}

impl Context {
    /// Reads the environment.
    pub(crate) fn new(format: Format) -> Result<Self, Problem> {
        let text = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let home = text("CUBICLE_HOME").map_or_else(|| PathBuf::from("/var/lib/cubicle"), PathBuf::from);
        if !home.is_absolute() {
            return Err(Problem::bad_input(
                format!("CUBICLE_HOME is \"{}\", which is not an absolute path", home.display()),
                "set it to a path that begins with /",
            ));
        }
        // The token decides: the address alone is also what `cubicle serve` is told.
        let elsewhere = match (text("CUBICLE_TOKEN"), text("CUBICLE_URL")) {
            (None, _) => None,
            (Some(_), None) => {
                return Err(Problem::bad_input(
                    "CUBICLE_TOKEN is set, and CUBICLE_URL is not",
                    "set CUBICLE_URL to the hub's address, or unset CUBICLE_TOKEN to work on this machine",
                ));
            }
            (Some(token), Some(url)) => {
                let token = token.into_string().unwrap_or_default();
                Some((url.to_string_lossy().into_owned(), SecretString::from(token)))
            }
        };
        Ok(Self { printer: Printer::new(format), home, elsewhere })
    }

    /// The folder that holds all state of this machine.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Whether commands go to this machine's engine.
    pub(crate) fn is_here(&self) -> bool {
        self.elsewhere.is_none()
    }

    /// The engine: this machine's, or the one behind a hub elsewhere.
    pub(crate) fn engine(&self) -> Result<Box<dyn Engine>, Problem> {
        if self.is_here() {
            return Ok(Box::new(self.local("this command")?));
        }
        Ok(Box::new(RemoteEngine::new(self.hub()?)))
    }

    /// This machine's engine, for what only its administrator may do.
    pub(crate) fn local(&self, what: &str) -> Result<LocalEngine, Problem> {
        if !self.is_here() {
            return Err(Problem::new(
                ProblemKind::NotAllowed,
                format!("{what} is for the machine's administrator, on the machine itself"),
                "run it there as root, without CUBICLE_TOKEN",
            ));
        }
        self.permitted(&Layout::new(&self.home).engine_socket())?;
        Ok(LocalEngine::connect(&self.home))
    }

    /// The hub: through this machine's administrator's door, or elsewhere with a token.
    pub(crate) fn hub(&self) -> Result<Hub, Problem> {
        if let Some((url, token)) = &self.elsewhere {
            return Ok(Hub::Web(Site::new(url, token.clone())?));
        }
        let socket = Layout::new(&self.home).admin_socket();
        self.permitted(&socket)?;
        Ok(Hub::at(&socket))
    }

    /// One request to the hub, and what it answers.
    pub(crate) fn ask_hub<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Problem> {
        block_on(async { self.hub()?.call(method, path, body).await })
    }

    /// The hub's public address without a slash at the end.
    pub(crate) fn url(&self) -> String {
        let written = match &self.elsewhere {
            Some((url, _)) => url.clone(),
            None => std::fs::read_to_string(Layout::new(&self.home).url_file()).unwrap_or_default(),
        };
        match written.trim().trim_end_matches('/') {
            "" => "http://127.0.0.1:8000".to_owned(),
            url => url.to_owned(),
        }
    }

    /// Tells "not running" from "not allowed": both are a socket that does not answer.
    fn permitted(&self, socket: &Path) -> Result<(), Problem> {
        match rustix::fs::access(socket, Access::WRITE_OK) {
            Err(Errno::ACCESS | Errno::PERM) => Err(not_root(&self.home)),
            _ => Ok(()),
        }
    }
}

fn not_root(home: &Path) -> Problem {
    Problem::new(
        ProblemKind::NotAllowed,
        format!("the engine below {} answers only the administrator of this machine", home.display()),
        "run it as root, or set CUBICLE_URL and CUBICLE_TOKEN to go through the hub",
    )
}

/// Runs the asynchronous part of a command.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Problem::engine(format!("no runtime: {error}"), "check the limits of this shell (`ulimit -a`)")
        })?
        .block_on(work)
}
