//! `cubicle serve`: the engine with its doors, and the hub as an unprivileged process beside it.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cubicle_acme::Keeper;
use cubicle_core::problem::Problem;
use cubicle_core::template::Template;
use cubicle_sandbox::protocol::RuntimeChoice;
use futures::future::BoxFuture;
use rustix::fs::FlockOperation;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::layout::Layout;
use crate::server::{self, Listeners};
use crate::store::{self, Store};
use crate::supervisor::{Settings, Supervisor};
use crate::{idle, pool, recover};

/// The default template, which a new installation begins with.
const DEFAULT_TEMPLATE: &str = include_str!("default_template.json");

/// What `cubicle serve` is told.
#[derive(Clone)]
pub struct Options {
    /// `CUBICLE_HOME`.
    pub home: PathBuf,
    /// Where browsers connect.
    pub listen: SocketAddr,
    /// The address that people type, when it is not `http://LISTEN`.
    pub url: Option<String>,
    /// An OCI runtime to use instead of libcontainer.
    pub runtime: Option<PathBuf>,
    /// Where metrics are told, if anywhere.
    pub metrics: Option<Metrics>,
    /// Who gets the hub its certificate, if an authority is asked for one.
    pub certificates: Option<Arc<Keeper>>,
}

/// How metrics are told.
#[derive(Clone)]
pub struct Metrics {
    /// The address of their own listener.
    pub listen: SocketAddr,
    /// Asks the hub for its part of the text.
    pub of_hub: Arc<dyn Fn() -> BoxFuture<'static, Result<String, Problem>> + Send + Sync>,
}

/// Runs the engine and the hub until SIGTERM or SIGINT. Workspaces live on.
///
/// `ready` is called once, when both are up; an error from it ends everything. What takes longer is said by `say`.
pub async fn run<F, Fut>(options: Options, say: impl Fn(&str), ready: F) -> Result<(), Problem>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<(), Problem>>,
{
    let layout = Layout::new(&options.home);
    layout.create().map_err(|error| {
        Problem::engine(
            format!("{} cannot be prepared: {error}", layout.home().display()),
            "run as root, and set CUBICLE_HOME to a folder on a local disk",
        )
    })?;
    let _lock = lock(&layout)?;
    let public = listen(options.listen)?;
    let watched = options.metrics.as_ref().map(|metrics| listen_for_metrics(metrics.listen)).transpose()?;
    let supervisor = Arc::new(supervisor(&layout, &options)?);
    let url = options.url.clone().unwrap_or_else(|| format!("http://localhost:{}", options.listen.port()));
    std::fs::write(layout.url_file(), &url).map_err(|error| failed("the address file", error))?;
    recover::recover(&supervisor).await?;

    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed("signals", error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed("signals", error))?;
    // Before the doors are there: whoever knocks meanwhile is told at once that nobody answers.
    if let Some(keeper) = &options.certificates {
        tokio::select! {
            first = keeper.first(say) => first?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }

    let doors = server::open(&layout).map_err(|error| failed("the engine's sockets", error))?;
    let admin = server::bind(&layout.admin_socket(), 0).map_err(|error| failed("the hub's admin socket", error))?;
    let admin = OwnedFd::from(admin.into_std().map_err(|error| failed("the hub's admin socket", error))?);
    let listeners = Arc::new(Listeners { public, admin });

    let services = async {
        tokio::join!(
            server::serve(supervisor.clone(), listeners, doors),
            idle::watch(supervisor.clone()),
            pool::keep(supervisor.clone()),
            store::keep_log_short(layout.engine_database()),
            keep_hub(&supervisor.settings.program, &options),
            keep_certificate(options.certificates.clone()),
            tell(&supervisor, watched, options.metrics.clone()),
        )
    };
    let opening = async {
        ready().await?;
        std::future::pending::<Result<(), Problem>>().await
    };
    tokio::select! {
        _ = services => Err(Problem::engine("the engine's services ended", "see the log")),
        ended = opening => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

fn listen_for_metrics(address: SocketAddr) -> Result<std::net::TcpListener, Problem> {
    let listener = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| {
        Problem::conflict(
            format!("metrics cannot be told at {address}: {error}"),
            "choose another address with --metrics, for example 127.0.0.1:9464",
        )
    })
}

/// Tells what engine and hub have counted, to whoever asks at that address.
async fn tell(supervisor: &Arc<Supervisor>, listener: Option<std::net::TcpListener>, metrics: Option<Metrics>) {
    let (Some(listener), Some(Metrics { of_hub, .. })) = (listener, metrics) else {
        return std::future::pending().await;
    };
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "metrics are not told");
            return std::future::pending().await;
        }
    };
    let supervisor = Arc::clone(supervisor);
    cubicle_metrics::serve(listener, move || {
        let (supervisor, of_hub) = (Arc::clone(&supervisor), Arc::clone(&of_hub));
        async move {
            // Without its part the rest counts all the same, and its absence is what tells.
            let hub = of_hub().await.unwrap_or_else(|problem| {
                tracing::warn!(%problem, "the hub's metrics are missing");
                String::new()
            });
            let engine = match tokio::task::spawn_blocking(move || supervisor.stock()).await {
                Ok(Ok(stock)) => cubicle_metrics::engine::text(stock),
                _ => String::new(),
            };
            use cubicle_metrics::{certificate, launches, pool, traces, whole};
            let engine = [engine, launches::text(), pool::text(), certificate::text(), traces::text("engine")];
            whole(&[hub, engine.concat()])
        }
    })
    .await;
}

fn supervisor(layout: &Layout, options: &Options) -> Result<Supervisor, Problem> {
    let database = layout.engine_database();
    let first = !database.exists();
    let store = Store::open(&database)?;
    if first {
        let template: Template = serde_json::from_str(DEFAULT_TEMPLATE)
            .map_err(|error| Problem::engine(format!("the default template is damaged: {error}"), ""))?;
        store.put_template(&template)?;
    }
    let program = std::env::current_exe().map_err(|error| failed("this program's path", error))?;
    let runtime = options.runtime.clone().map_or(RuntimeChoice::Libcontainer, RuntimeChoice::Command);
    let mut platform_ports = vec![options.listen.port()];
    platform_ports.extend(options.metrics.as_ref().map(|metrics| metrics.listen.port()));
    let settings = Settings { program, platform_ports, runtime };
    Ok(Supervisor::new(layout.clone(), store, settings))
}

/// One engine per home: a second one is refused while the first lives.
pub(crate) fn lock(layout: &Layout) -> Result<File, Problem> {
    let path = layout.run().join("serve.lock");
    let file = File::create(&path).map_err(|error| failed("the lock", error))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Problem::conflict(
            format!("another Cubicle runs with CUBICLE_HOME={}", layout.home().display()),
            "stop it with `./down`, or set CUBICLE_HOME to another folder",
        )
    })?;
    Ok(file)
}

fn listen(address: SocketAddr) -> Result<OwnedFd, Problem> {
    let listener = std::net::TcpListener::bind(address).map_err(|error| {
        Problem::conflict(
            format!("CUBICLE_LISTEN={address} cannot be listened on: {error}"),
            "stop what uses that port, or set CUBICLE_LISTEN to another address, for example 127.0.0.1:8001",
        )
    })?;
    Ok(OwnedFd::from(listener))
}

/// Starts the hub, and again whenever it ends. Its standard input is a lifeline: it ends when
/// the engine does, however that ends, so that no old hub keeps the port.
async fn keep_hub(program: &Path, options: &Options) {
    let mut pause = Duration::from_millis(100);
    loop {
        let began = Instant::now();
        let mut command = Command::new(program);
        if let Some(keeper) = &options.certificates {
            let file = keeper.files().hub();
            command.env("CUBICLE_TLS_CERTIFICATE", &file).env("CUBICLE_TLS_KEY", &file);
        }
        let child = command
            .arg("internal-hub")
            .env("CUBICLE_HOME", &options.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        match child {
            Ok(mut child) => {
                let lifeline = child.stdin.take();
                let status = child.wait().await;
                drop(lifeline);
                tracing::warn!(?status, "the hub ended and is started again");
            }
            Err(error) => tracing::error!(%error, "the hub cannot be started"),
        }
        // A hub that ran for a while is started at once; one that ends at once is paced.
        pause = if began.elapsed() > Duration::from_secs(10) { Duration::from_millis(100) } else { pause * 2 };
        tokio::time::sleep(pause.min(Duration::from_secs(10))).await;
    }
}

/// Has the certificate renewed, if an authority gives it.
async fn keep_certificate(keeper: Option<Arc<Keeper>>) {
    match keeper {
        Some(keeper) => keeper.keep().await,
        None => std::future::pending().await,
    }
}

fn failed(what: &str, error: std::io::Error) -> Problem {
    Problem::engine(format!("{what} cannot be set up: {error}"), "run as root and check CUBICLE_HOME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_template_is_valid() {
        let template: Template = serde_json::from_str(DEFAULT_TEMPLATE).expect("reads");
        template.validate().expect("valid");
        assert_eq!(template.metadata.name.as_str(), "jupyterlab");
    }
}
