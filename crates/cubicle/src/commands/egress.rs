//! `cubicle egress`

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use cubicle_core::problem::Problem;

use crate::exit::Outcome;
use crate::trace;

/// Run the egress proxy on Kubernetes: the only door of workspaces with an allow-list
///
/// It knows a workspace by its pod's address and a credential, and serves nobody before the first
/// table of workspaces has come. Each decision is a line of JSON on standard output. It has no
/// account in the cluster: `cubicle egress follow`, beside it, reads the controller's list and
/// hands it over through the socket.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(
    after_help = "Example:\n  cubicle egress --tables /run/cubicle/tables &\n  cubicle egress follow --tables /run/cubicle/tables --namespace cubicle-egress"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Where workspaces connect to
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:3128")]
    listen: SocketAddr,

    /// The Unix socket that tables come through
    #[arg(long, value_name = "PATH", required = true)]
    tables: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the controller's list of workspaces, and hand it to the proxy
    #[command(after_help = "Example:\n  cubicle egress follow --tables /run/cubicle/tables --namespace cubicle-egress")]
    Follow {
        /// The proxy's socket
        #[arg(long, value_name = "PATH")]
        tables: PathBuf,
        /// Where the list is
        #[arg(long, env = "POD_NAMESPACE", hide_env_values = true)]
        namespace: String,
    },
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Outcome, Problem> {
        trace::start();
        let never = match self.command {
            Some(Command::Follow { tables, namespace }) => follow(&namespace, &tables)?,
            None => serve(self.listen, &self.tables.unwrap_or_default())?,
        };
        match never {}
    }
}

fn serve(address: SocketAddr, tables: &Path) -> Result<std::convert::Infallible, Problem> {
    let cannot = |what: String| {
        move |error: io::Error| Problem::engine(format!("{what}: {error}"), "choose another one, or end what has it")
    };
    // One of an earlier process of this container. Nobody else writes there.
    match std::fs::remove_file(tables) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(cannot(format!("{} cannot be replaced", tables.display()))(error));
        }
        _ => {}
    }
    let socket = UnixListener::bind(tables).map_err(cannot(format!("{} cannot be a socket", tables.display())))?;
    let listener = TcpListener::bind(address).map_err(cannot(format!("{address} cannot be listened on")))?;
    let log = io::stdout().as_fd().try_clone_to_owned().map_err(cannot("standard output".to_owned()))?;
    tracing::info!(%address, "the egress proxy listens");
    cubicle_egress::run_shared(listener, socket, File::from(log))
        .map_err(|error| Problem::engine(error.to_string(), "see what it says it cannot use"))
}

fn follow(namespace: &str, tables: &Path) -> Result<std::convert::Infallible, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Problem::engine(format!("no runtime: {error}"), "check the limits of this shell (`ulimit -a`)")
    })?;
    runtime.block_on(cubicle_kube::egress_table::follow(namespace, tables))
}
