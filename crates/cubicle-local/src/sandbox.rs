//! One sandbox from its description to a notebook that answers: what launches and members of the pool have
//! in common.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::process::Stdio;
use std::time::{Duration, Instant};

use cubicle_core::attempt::{ProbePlan, Proof};
use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::Problem;
use cubicle_core::quantity::Bytes;
use cubicle_core::template::EgressMode;
use cubicle_sandbox::client;
use cubicle_sandbox::protocol::{HomeBackend, HomeSpec, Request, Response, SandboxSpec, Status};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::images::{self, ImageSummary};
use crate::inside::Place;
use crate::layout::Layout;
use crate::settle::{environment, id_base, limits};
use crate::store::Private;
use crate::supervisor::{Supervisor, unexpected};

/// How long building a sandbox may take, in seconds.
const BUILD_SECONDS: u64 = 60;
/// How long what a helper has said may take to be read when it has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long to wait for a listener before looking whether the notebook has ended.
const LISTEN_PATIENCE: Duration = Duration::from_millis(100);

/// What a sandbox is made of.
pub(crate) struct Plan<'a> {
    pub(crate) id: &'a WorkspaceId,
    pub(crate) private: &'a Private,
    pub(crate) image: &'a ImageSummary,
    pub(crate) home: HomeBackend,
    /// Size of the home in bytes; none when the back end has no limit.
    pub(crate) home_limit: Option<u64>,
    /// What its gate will be asked.
    pub(crate) proof: &'a ProbePlan,
}

impl Supervisor {
    /// Builds a sandbox: when this returns, its gate waits.
    pub(crate) async fn build(&self, plan: Plan<'_>) -> Result<Status, Problem> {
        let template = &plan.private.template;
        let egress = template.egress();
        let with_proxy = egress.mode != EgressMode::None;
        let later = matches!(plan.home, HomeBackend::Later);
        let datasets = template
            .spec
            .datasets
            .iter()
            .map(|dataset| Ok((images::dataset(&self.layout, &dataset.name)?, dataset.mount_path.clone())))
            .collect::<Result<Vec<_>, Problem>>()?;
        let mut limits = limits(template);
        limits.home = plan.home_limit.map(Bytes);
        let spec = SandboxSpec {
            id: plan.id.clone(),
            rootfs: plan.image.rootfs.clone(),
            probe: self.layout.probe(),
            id_base: id_base(plan.private.slot),
            home: HomeSpec { backend: plan.home, mount_path: template.spec.home.mount_path.clone() },
            datasets,
            limits,
            egress,
            egress_refused: Vec::new(),
            command: if template.spec.command.is_empty() {
                plan.image.command.clone()
            } else {
                template.spec.command.clone()
            },
            environment: environment(plan.private, plan.image, with_proxy, later),
            runtime: self.settings.runtime.clone(),
            cgroup: format!("/cubicle/{}", plan.id),
            remove: walls_to_leave_out(&self.layout),
            prepare: Some(plan.proof.clone()),
        };
        self.start_helper(&spec).await?;
        self.status(plan.id).await
    }

    /// Starts the helper and waits until it says that the sandbox stands.
    async fn start_helper(&self, spec: &SandboxSpec) -> Result<(), Problem> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Ready {
            Ready(bool),
            Problem(Problem),
        }
        let folder = self.layout.workspace(&spec.id);
        let failed = |error: std::io::Error| {
            Problem::engine(format!("the sandbox cannot be started: {error}"), "see helper.log")
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&folder).map_err(failed)?;
        let body = serde_json::to_vec(spec).map_err(|error| failed(error.into()))?;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(folder.join("sandbox.json")).map_err(failed)?;
        std::io::Write::write_all(&mut file, &body).map_err(failed)?;
        let log = options.open(folder.join("helper.log")).map_err(failed)?;
        let mut helper = Command::new(&self.settings.program);
        // It tells no traces, and the collector's keys are no business of what stands next to a tenant.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"OTEL_")) {
            helper.env_remove(name);
        }
        let mut child = helper
            .arg("internal-sandbox")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let output = child.stdout.take().ok_or_else(|| Problem::engine("the helper has no output", ""))?;
        // Reaps the helper whenever it ends; it is not tied to this launch.
        let end = tokio::spawn(async move { child.wait().await });
        let mut line = String::new();
        let mut reader = BufReader::new(output.take(1 << 20));
        let read = {
            let mut reading = std::pin::pin!(reader.read_line(&mut line));
            let ended = async {
                let _ = end.await;
                // What it has said is in the pipe; its end may not be, as what it forked holds the pipe too.
                tokio::time::sleep(LAST_WORDS).await;
            };
            tokio::select! {
                biased;
                read = tokio::time::timeout(Duration::from_secs(BUILD_SECONDS), &mut reading) => read,
                () = ended => Ok(Ok(0)),
            }
        };
        match read {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(failed(error)),
            Err(_) => {
                return Err(Problem::engine(format!("building took more than {BUILD_SECONDS} s"), "see helper.log"));
            }
        }
        match serde_json::from_str(&line) {
            Ok(Ready::Ready(true)) => Ok(()),
            Ok(Ready::Problem(problem)) => Err(problem),
            Ok(Ready::Ready(false)) | Err(_) => {
                let said = std::fs::read_to_string(folder.join("helper.log")).unwrap_or_default();
                let last = said.lines().rev().find(|line| !line.is_empty()).unwrap_or("it said nothing").to_owned();
                Err(Problem::engine(format!("the helper ended before the sandbox stood: {last}"), "see helper.log"))
            }
        }
    }

    /// Has the gate of a built sandbox prove.
    pub(crate) async fn prove(&self, id: &WorkspaceId, plan: ProbePlan) -> Result<Box<Proof>, Problem> {
        match client::request(&self.folder(id), &Request::Prove { plan }).await? {
            Response::Proof(proof) => Ok(proof),
            other => Err(unexpected("Prove", &other)),
        }
    }

    /// Has a probe prove beside the notebook.
    pub(crate) async fn prove_later(&self, id: &WorkspaceId, plan: ProbePlan) -> Result<Box<Proof>, Problem> {
        match client::request(&self.folder(id), &Request::Verify { plan }).await? {
            Response::Proof(proof) => Ok(proof),
            other => Err(unexpected("Verify", &other)),
        }
    }

    /// Starts the notebook of a sandbox that was proven with this nonce.
    pub(crate) async fn go(&self, id: &WorkspaceId, nonce: String) -> Result<(), Problem> {
        match client::request(&self.folder(id), &Request::Go { nonce }).await? {
            Response::Started => Ok(()),
            other => Err(unexpected("Go", &other)),
        }
    }

    /// Waits until something listens on the notebook's port.
    pub(crate) async fn wait_until_it_listens(
        &self,
        id: &WorkspaceId,
        place: Place,
        patience: Duration,
    ) -> Result<(), Problem> {
        self.wait_until(id, place, patience, || async move {
            place.dial_when_it_listens(LISTEN_PATIENCE).await.map(|_| true)
        })
        .await
    }

    /// Waits for the first HTTP answer of any status: the server is up then.
    pub(crate) async fn wait_until_it_answers(
        &self,
        id: &WorkspaceId,
        place: Place,
        token: &str,
        patience: Duration,
    ) -> Result<(), Problem> {
        self.wait_until(id, place, patience, || answers(place, token)).await
    }

    /// Waits until a notebook does something, or has ended.
    async fn wait_until<F: Future<Output = std::io::Result<bool>>>(
        &self,
        id: &WorkspaceId,
        place: Place,
        patience: Duration,
        does: impl Fn() -> F,
    ) -> Result<(), Problem> {
        let deadline = Instant::now() + patience;
        loop {
            let attempt = tokio::time::timeout(patience.min(Duration::from_secs(10)), does()).await;
            if matches!(attempt, Ok(Ok(true))) {
                return Ok(());
            }
            let ended = match self.status(id).await {
                Ok(status) => status.exit,
                Err(_) => Some(crate::recover::exit_reason(&self.folder(id))),
            };
            if let Some(reason) = ended {
                let log = self.tail_of_log(id);
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                return Err(Problem::engine(
                    format!("the notebook ended before it answered: {reason}; it said: {}", last.join(" | ")),
                    "see `cubicle logs`",
                ));
            }
            if Instant::now() > deadline {
                return Err(Problem::engine(
                    format!("the notebook did not answer on port {} within {} s", place.port, patience.as_secs()),
                    "see `cubicle logs`",
                ));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Whether the notebook's port answers HTTP.
async fn answers(place: Place, token: &str) -> std::io::Result<bool> {
    let socket = std::net::TcpStream::from(place.dial_when_it_listens(LISTEN_PATIENCE).await?);
    socket.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(socket)?;
    let request =
        format!("GET /api HTTP/1.1\r\nHost: localhost\r\nAuthorization: token {}\r\nConnection: close\r\n\r\n", token);
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1."))
}

/// The walls that a test leaves out, one name per line in a file. A release build has no way to
/// leave one out.
#[cfg(feature = "wall-removal")]
fn walls_to_leave_out(layout: &Layout) -> Vec<String> {
    let list = std::fs::read_to_string(layout.run().join("walls-to-leave-out")).unwrap_or_default();
    list.lines().filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(not(feature = "wall-removal"))]
fn walls_to_leave_out(_: &Layout) -> Vec<String> {
    Vec::new()
}
