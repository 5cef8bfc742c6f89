//! `cubicle serve`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cubicle_acme::{Files, Keeper, Names, Settings, Surroundings};
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_hub::{HubConfig, TlsFiles};
use cubicle_local::layout::{HUB_UID, Layout};
use cubicle_local::serve::{self, Metrics, Options};
use hyper::Method;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Outcome;
use crate::hub::Hub;
use crate::{hub_process, output, trace};

/// How long the hub may take to come up.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Run the hub and the engine of this machine, in the foreground
///
/// Prints a link that signs the administrator in, once. Ctrl-C stops both; workspaces live on
/// and are found again at the next start. CUBICLE_URL is the address that people type, when it is
/// not http://LISTEN. CUBICLE_SIGN_IN is a file that names the site's providers of identities; the
/// hub's own user must be able to read it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  CUBICLE_HOME=/srv/cubicle cubicle serve --listen 127.0.0.1:8000")]
pub(crate) struct Arguments {
    /// The address and port on which users reach the hub
    #[arg(long, env = "CUBICLE_LISTEN", hide_env_values = true, default_value = "127.0.0.1:8000")]
    listen: SocketAddr,

    /// An OCI runtime to build sandboxes with, for example /usr/sbin/runc [default: libcontainer]
    #[arg(long, env = "CUBICLE_RUNTIME", hide_env_values = true, value_name = "PROGRAM")]
    runtime: Option<PathBuf>,

    /// Where metrics of hub and engine are told to Prometheus, at /metrics [default: nowhere]
    ///
    /// Whoever reaches this address may read them, so choose a loopback address, or one that only
    /// the collector reaches. They name no user and no workspace.
    #[arg(long, env = "CUBICLE_METRICS", hide_env_values = true, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        trace::start();
        // The hub reads the same again; what it would refuse must not start the engine.
        let hub = hub_process::configuration(context.home())?;
        let certificates = certificates(&Layout::new(context.home()), &hub, self.listen)?;
        if certificates.is_none() {
            hub.check(self.listen)?;
        }
        let _telling = cubicle_traces::begin("cubicle-engine")?;
        let options = Options {
            home: context.home().to_owned(),
            listen: self.listen,
            // Not an option of the command line: the hub reads the same variable.
            url: std::env::var("CUBICLE_URL").ok().filter(|url| !url.is_empty()),
            runtime: self.runtime,
            metrics: match self.metrics {
                Some(listen) => {
                    let hub = Arc::new(context.hub()?);
                    Some(Metrics {
                        listen,
                        of_hub: Arc::new(move || {
                            let hub = Arc::clone(&hub);
                            Box::pin(async move { metrics_of(&hub).await })
                        }),
                    })
                }
                None => None,
            },
            certificates,
        };
        let hub = context.hub()?;
        let runtime = tokio::runtime::Runtime::new().map_err(|error| {
            Problem::engine(format!("no runtime: {error}"), "check the limits of this shell (`ulimit -a`)")
        })?;
        runtime.block_on(serve::run(options, say, || announce(hub)))?;
        Ok(Outcome::Done)
    }
}

/// Who gets the hub its certificate, where the site wants that of an authority.
fn certificates(layout: &Layout, hub: &HubConfig, listen: SocketAddr) -> Result<Option<Arc<Keeper>>, Problem> {
    let files = Files::new(layout.tls(), HUB_UID);
    let served = HubConfig { tls: Some(TlsFiles { certificate: files.hub(), key: files.hub() }), ..hub.clone() };
    let set = "set CUBICLE_URL to the https address that people type, for example https://hub.example.org";
    let names = match served.names(listen) {
        Ok(Some(names)) => {
            Names::new(&names.host, &names.domain).ok_or_else(|| format!("{} is an address: {set}", names.host))
        }
        Ok(None) => Err(format!("this one answers to localhost alone: {set}")),
        Err(problem) => Err(format!("{problem}: {}", problem.remedy)),
    };
    let surroundings = Surroundings { names, files_given: hub.tls.is_some() };
    let Some(settings) = Settings::read(&layout.site(), &surroundings)? else { return Ok(None) };
    // Settings are not given out without names.
    let names = surroundings.names.map_err(|why| Problem::bad_input(why, set))?;
    Ok(Some(Arc::new(Keeper::new(settings, names, files)?)))
}

fn say(line: &str) {
    // Whoever does not read it waits all the same.
    let _ = output::write(&format!("{line}\n"));
}

/// The hub's part of the metrics, over the administrator's socket.
async fn metrics_of(hub: &Hub) -> Result<String, Problem> {
    let text = hub.text(Method::GET, "/metrics", None).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Waits for the hub, gives the machine its administrator, and prints the link to sign in with.
async fn announce(hub: Hub) -> Result<(), Problem> {
    let begun = Instant::now();
    loop {
        match hub.call::<Value>(Method::GET, "/api/v1/users/admin", None).await {
            Ok(_) => break,
            Err(problem) if problem.kind == ProblemKind::NotFound => {
                let administrator = json!({ "name": "admin", "admin": true });
                hub.call::<Value>(Method::POST, "/api/v1/users", Some(&administrator)).await?;
                break;
            }
            Err(problem) if begun.elapsed() > READY_WITHIN => return Err(problem),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    let link: Value = hub.call(Method::POST, "/api/v1/users/admin/sign-in-link", None).await?;
    let url = link.get("url").and_then(Value::as_str).unwrap_or_default();
    output::write(&format!("Cubicle is ready: {url}\n"))
}
