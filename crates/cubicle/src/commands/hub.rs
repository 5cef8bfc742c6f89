//! `cubicle hub`

use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cubicle_core::problem::Problem;
use cubicle_hub::{HubConfig, Records};
use cubicle_kube::engine::KubernetesEngine;
use cubicle_kube::keys::RouteKey;
use cubicle_kube::registry::Objects;
use cubicle_local::layout::Layout;

use crate::commands::read_setting;
use crate::context::Context;
use crate::exit::Outcome;
use crate::{hub_process, trace};

/// Run the hub on Kubernetes: sign-in, pages, and the way to notebooks
///
/// It keeps nothing: accounts and sessions are objects in its namespace, so that any number of
/// replicas are one hub. CUBICLE_URL is the address that people type, CUBICLE_DOMAIN the domain
/// of workspaces, CUBICLE_TLS_CERTIFICATE and CUBICLE_TLS_KEY the files for https, CUBICLE_SIGN_IN
/// a file that names the site's providers of identities. In its pod, `cubicle user` works as on one
/// machine.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cubicle hub --listen 0.0.0.0:8000 --namespace cubicle-system --route-key route.key"
)]
pub(crate) struct Arguments {
    /// The address and port on which users reach the hub
    #[arg(long, env = "CUBICLE_LISTEN", hide_env_values = true, default_value = "127.0.0.1:8000")]
    listen: SocketAddr,

    /// The namespace of accounts and sessions: the hub's own
    #[arg(long, env = "POD_NAMESPACE", hide_env_values = true, default_value = "cubicle-system")]
    namespace: String,

    /// The key of notebooks' tokens: 64 hexadecimal digits
    #[arg(long, value_name = "FILE")]
    route_key: PathBuf,

    /// Where metrics are told to Prometheus, at /metrics [default: nowhere]
    ///
    /// Whoever reaches this address may read them. They name no user and no workspace.
    #[arg(long, env = "CUBICLE_METRICS", hide_env_values = true, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        trace::start();
        hub_process::allow_many_files();
        let _telling = cubicle_traces::begin("cubicle-hub")?;
        let mut configuration: HubConfig = hub_process::configuration(context.home())?;
        let route_key = RouteKey::parse(&read_setting("--route-key", Some(&self.route_key))?)?;
        let runtime = tokio::runtime::Runtime::new().map_err(|error| {
            Problem::engine(format!("no runtime: {error}"), "check the limits of this shell (`ulimit -a`)")
        })?;
        let listener = TcpListener::bind(self.listen).map_err(|error| {
            Problem::bad_input(format!("{} cannot be listened on: {error}", self.listen), "choose another --listen")
        })?;
        configuration.metrics = self.metrics.map(metrics_listener).transpose()?;
        let layout = Layout::new(context.home());
        let administrators = administrators(&layout)?;
        runtime.block_on(async {
            let client = cubicle_kube::client().await?;
            let engine = KubernetesEngine::new(&client, &self.namespace, route_key);
            let registry = Objects::new(&client, &self.namespace);
            configuration.records = Records::Shared(Arc::new(registry));
            // Whoever is this user in the pod could read the route key as well.
            configuration.administrators = vec![0, rustix::process::getuid().as_raw()];
            cubicle_hub::serve(configuration, Arc::new(engine), listener, administrators).await
        })?;
        Ok(Outcome::Done)
    }
}

/// A listener for metrics alone.
pub(crate) fn metrics_listener(address: SocketAddr) -> Result<Arc<TcpListener>, Problem> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(Arc::new(listener))
    });
    listener.map_err(|error| {
        Problem::bad_input(format!("metrics cannot be told at {address}: {error}"), "choose another --metrics")
    })
}

/// The socket of `cubicle user` in the same pod.
fn administrators(layout: &Layout) -> Result<UnixListener, Problem> {
    let path = layout.admin_socket();
    let failed = |error: std::io::Error| {
        Problem::engine(
            format!("{} cannot be made: {error}", path.display()),
            "set CUBICLE_HOME to a folder that the hub may write, for example an emptyDir",
        )
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(failed)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
    if let Ok(url) = std::env::var("CUBICLE_URL") {
        std::fs::write(layout.url_file(), url).map_err(failed)?;
    }
    Ok(listener)
}
