//! `cubicle controller`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use cubicle_core::problem::Problem;
use cubicle_kube::controller::{self, Options};
use cubicle_kube::keys::{GateKey, RouteKey};
use cubicle_kube::resources;
use cubicle_kube::settings::Settings;

use crate::commands::hub::metrics_listener;
use crate::commands::read_setting;
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::{self, Format};
use crate::trace;

/// Run the controller on Kubernetes: it builds, proves and opens workspaces
///
/// It holds the power over tenants' namespaces, and users never reach it. Several replicas may
/// run; one of them leads.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(
    after_help = "Example:\n  cubicle controller --settings settings.yaml --gate-key gate.key --route-key route.key\n  cubicle controller crds | kubectl apply --server-side -f -"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// What the site has decided, in YAML
    #[arg(long, value_name = "FILE", required = true)]
    settings: Option<PathBuf>,

    /// The key that opens gates: 64 hexadecimal digits
    #[arg(long, value_name = "FILE", required = true)]
    gate_key: Option<PathBuf>,

    /// The key of notebooks' tokens: 64 hexadecimal digits
    #[arg(long, value_name = "FILE", required = true)]
    route_key: Option<PathBuf>,

    /// Who this replica is [default: the host's name]
    #[arg(long, env = "POD_NAME", hide_env_values = true)]
    identity: Option<String>,

    /// Where metrics are told to Prometheus, at /metrics [default: nowhere]
    #[arg(long, env = "CUBICLE_METRICS", hide_env_values = true, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the custom resource definitions
    #[command(after_help = "Example:\n  cubicle controller crds | kubectl apply --server-side -f -")]
    Crds,
    /// Print the public half of the key that opens gates: what gates and references know of it
    #[command(after_help = "Example:\n  cubicle controller public-key gate.key")]
    PublicKey {
        /// The key: 64 hexadecimal digits
        gate_key: PathBuf,
    },
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        match self.command {
            Some(Command::Crds) => return crds(context.printer.format),
            Some(Command::PublicKey { gate_key }) => return public_key(context, &gate_key),
            None => {}
        }
        trace::start();
        let _telling = cubicle_traces::begin("cubicle-controller")?;
        let options = Options {
            settings: Settings::parse(&read_setting("--settings", self.settings.as_deref())?)?,
            gate_key: GateKey::parse(&read_setting("--gate-key", self.gate_key.as_deref())?)?,
            route_key: RouteKey::parse(&read_setting("--route-key", self.route_key.as_deref())?)?,
            identity: self.identity.unwrap_or_else(host_name),
            metrics: self.metrics.map(metrics_listener).transpose()?,
        };
        let runtime = tokio::runtime::Runtime::new().map_err(|error| {
            Problem::engine(format!("no runtime: {error}"), "check the limits of this shell (`ulimit -a`)")
        })?;
        runtime.block_on(controller::run(options))?;
        Ok(Outcome::Done)
    }
}

fn public_key(context: &Context, path: &Path) -> Result<Outcome, Problem> {
    let key = GateKey::parse(&read_setting("the key", Some(path))?)?.public();
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    context.printer.print(&serde_json::json!({ "public_key": key }), |_| format!("{key}\n"))?;
    Ok(Outcome::Done)
}

fn crds(format: Format) -> Result<Outcome, Problem> {
    let failed =
        |error: &dyn std::fmt::Display| Problem::engine(format!("the definitions cannot be written: {error}"), "");
    let mut text = String::new();
    for definition in resources::definitions() {
        if format == Format::Json {
            text.push_str(&serde_json::to_string(&definition).map_err(|error| failed(&error))?);
            text.push('\n');
        } else {
            text.push_str("---\n");
            text.push_str(&serde_norway::to_string(&definition).map_err(|error| failed(&error))?);
        }
    }
    output::write(&text)?;
    Ok(Outcome::Done)
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
