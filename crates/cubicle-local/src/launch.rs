//! The path of a launch: request -> plan -> build -> prove -> open.
//!
//! What is not proven is not opened: any breached or unproven promise ends here, and what was
//! built is torn down.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cubicle_core::attempt::{Phase, ProbePlan};
use cubicle_core::name::WorkspaceId;
use cubicle_core::plan::Situation;
use cubicle_core::problem::Problem;
use cubicle_core::template::EgressMode;
use cubicle_core::workspace::{Progress, State, Step, StepEvent};
use cubicle_core::{catalogue, judge};
use cubicle_metrics::launches::{self, Outcome, Proof};
use cubicle_sandbox::client;
use cubicle_sandbox::protocol::{HomeBackend, HomeSpec, Request, Response, SandboxSpec};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::inside::dial_when_it_listens;
use crate::layout::Layout;
use crate::settle::{environment, id_base, limits, secret};
use crate::store::Row;
use crate::supervisor::{Supervisor, unexpected};
use crate::{images, site, volumes};

/// How long building a sandbox may take, in seconds.
const BUILD_SECONDS: u64 = 60;
/// How long to wait for a listener before looking whether the notebook has ended.
const LISTEN_PATIENCE: Duration = Duration::from_millis(100);
/// How long a notebook server may take until it answers, in seconds.
const OPEN_SECONDS: u64 = 120;

/// How a launch can end early.
enum Failure {
    /// A promise did not hold, or could not be proven.
    Refused(String),
    /// The engine failed.
    Problem(Problem),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// The progress of one launch.
struct Launch {
    supervisor: Arc<Supervisor>,
    id: WorkspaceId,
    began: Instant,
    step: Step,
    /// When the step began.
    since: Instant,
}

impl Launch {
    fn say(&self, state: Progress, message: impl Into<String>) {
        if state == Progress::Done {
            launches::step_done(self.step, self.since.elapsed());
        }
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.supervisor
            .record_event(&self.id, StepEvent { step: self.step, state, message: message.into(), elapsed_ms });
    }

    fn begin(&mut self, step: Step, message: impl Into<String>) {
        self.step = step;
        self.since = Instant::now();
        self.say(Progress::Running, message);
    }
}

/// What somebody who waits is told.
fn in_line(place: usize, wait: Duration) -> String {
    let seconds = wait.as_secs().max(1);
    let about = if seconds < 90 { format!("{seconds} s") } else { format!("{} minutes", seconds.div_ceil(60)) };
    format!("number {place} in line, about {about}")
}

/// Runs one launch to its end. Never panics on what it is given; every end is recorded.
pub(crate) async fn run(supervisor: Arc<Supervisor>, id: WorkspaceId) {
    let now = Instant::now();
    let mut launch = Launch { supervisor, id, began: now, step: Step::Request, since: now };
    let Err(failure) = launch.path().await else { return launches::ended(Outcome::Open) };
    launches::ended(match failure {
        Failure::Refused(_) => Outcome::Refused,
        Failure::Problem(_) => Outcome::Failed,
    });
    let (state, reason) = match failure {
        Failure::Refused(reason) => (State::Refused, reason),
        Failure::Problem(problem) if problem.remedy.is_empty() => (State::Failed, problem.what),
        Failure::Problem(problem) => (State::Failed, format!("{} ({})", problem.what, problem.remedy)),
    };
    tracing::warn!(workspace = %launch.id, %reason, "the launch ended early");
    if let Err(problem) = launch.supervisor.tear_down(&launch.id).await {
        tracing::error!(workspace = %launch.id, %problem, "what was built could not be torn down");
    }
    let updated = launch.supervisor.store.update(&launch.id, |row| {
        row.workspace.state = state;
        row.workspace.reason = reason.clone();
        row.workspace.pid = None;
    });
    if let Err(problem) = updated {
        tracing::error!(workspace = %launch.id, %problem, "the end of the launch was not recorded");
    }
    launch.say(Progress::Failed, reason);
}

impl Launch {
    async fn path(&mut self) -> Result<(), Failure> {
        let supervisor = self.supervisor.clone();
        let most = site::Site::read(&supervisor.layout)?.launches_at_once();
        let _turn = supervisor.queue.turn(most, |place, wait| self.say(Progress::Running, in_line(place, wait))).await;
        let row = supervisor.store.row(&self.id)?;
        self.say(
            Progress::Done,
            format!(
                "{} asked for {} at level {}",
                row.workspace.owner.name, row.workspace.template, row.workspace.level
            ),
        );
        let (row, image) = self.plan(row)?;
        let situation = self.supervisor.situation(&row);
        let proof = catalogue::probe_plan(&situation, &[], Phase::Gate, &secret());
        let row = self.build(row, &image, &proof).await?;
        let nonce = self.prove(&row, &situation, proof).await?;
        self.open(row, nonce).await?;
        Ok(())
    }

    fn plan(&mut self, row: Row) -> Result<(Row, images::ImageSummary), Failure> {
        self.begin(Step::Plan, "choosing the walls");
        let template = &row.private.template;
        let image = images::find(&self.supervisor.layout, &template.spec.image)?;
        let promised = self.supervisor.promised(row.workspace.level).len();
        let row = self.supervisor.store.update(&self.id, |row| row.private.image = image.digest.clone())?;
        let judged = site::image(&self.supervisor.layout, &row)?;
        if !judged.opens {
            // Nothing is built for an image that the site refuses; the report says why.
            let report = judge::report(&row.workspace, Timestamp::now(), self.began.elapsed(), judged.alone());
            self.supervisor.store.put_report(&self.id, &report)?;
            launches::proven(&report, Proof::Gate);
            return Err(Failure::Refused(report.refusal()));
        }
        let limits = limits(&row.private.template);
        let egress = match row.private.template.egress().mode {
            EgressMode::Walled => "any public host, nothing private",
            EgressMode::AllowList => "only listed hosts",
            EgressMode::None => "no network",
        };
        self.say(
            Progress::Done,
            format!(
                "{promised} guarantees promised; {} CPU, {} memory, {} processes; {egress}",
                limits.cpu, limits.memory, limits.pids
            ),
        );
        Ok((row, image))
    }

    async fn build(&mut self, row: Row, image: &images::ImageSummary, proof: &ProbePlan) -> Result<Row, Failure> {
        self.begin(Step::Build, "preparing the home");
        let supervisor = self.supervisor.clone();
        let owner = row.workspace.owner.clone();
        let template = &row.private.template;
        // Held until the helper has mounted the home: two launches of one user never check and
        // mount it at the same time.
        let lock = supervisor.home_lock(&owner.id);
        let _one = lock.lock().await;
        let attached = supervisor.store.rows()?.iter().any(|other| {
            other.workspace.owner.id == owner.id && other.workspace.id != self.id && other.workspace.pid.is_some()
        });
        let known = supervisor.store.volume(&owner.id)?;
        let volume = volumes::ensure(&supervisor.layout, known, &owner, &template.spec.home, attached).await?;
        supervisor.store.put_volume(&volume)?;

        self.say(Progress::Running, "building the sandbox");
        let egress = template.egress();
        let environment = environment(&row, image, egress.mode != EgressMode::None);
        let datasets = template
            .spec
            .datasets
            .iter()
            .map(|dataset| Ok((images::dataset(&supervisor.layout, &dataset.name)?, dataset.mount_path.clone())))
            .collect::<Result<Vec<_>, Problem>>()?;
        let mut limits = limits(template);
        limits.home = volume.limit.map(cubicle_core::quantity::Bytes);
        let spec = SandboxSpec {
            id: self.id.clone(),
            rootfs: image.rootfs.clone(),
            probe: supervisor.layout.probe(),
            id_base: id_base(row.private.slot),
            home: HomeSpec {
                backend: HomeBackend::Image(volumes::image(&supervisor.layout, &owner.id)),
                mount_path: template.spec.home.mount_path.clone(),
            },
            datasets,
            limits,
            egress,
            egress_refused: Vec::new(),
            command: if template.spec.command.is_empty() {
                image.command.clone()
            } else {
                template.spec.command.clone()
            },
            environment,
            runtime: supervisor.settings.runtime.clone(),
            cgroup: format!("/cubicle/{}", self.id),
            remove: walls_to_leave_out(&supervisor.layout),
            prepare: Some(proof.clone()),
        };
        self.start_helper(&spec).await?;
        let status = supervisor.status(&self.id).await?;
        let row = supervisor.store.update(&self.id, |row| {
            row.workspace.pid = Some(status.pid);
            row.workspace.state = State::Proving;
            row.private.pid_start = status.pid_start;
        })?;
        self.say(Progress::Done, format!("sandbox built with ids {} and up, home of {}", spec.id_base, owner.name));
        Ok(row)
    }

    /// Starts the helper and waits until it says that the sandbox stands.
    async fn start_helper(&self, spec: &SandboxSpec) -> Result<(), Problem> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Ready {
            Ready(bool),
            Problem(Problem),
        }
        let folder = self.supervisor.layout.workspace(&self.id);
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
        let mut child = Command::new(&self.supervisor.settings.program)
            .arg("internal-sandbox")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let output = child.stdout.take().ok_or_else(|| Problem::engine("the helper has no output", ""))?;
        // Reaps the helper whenever it ends; it is not tied to this launch.
        tokio::spawn(async move { child.wait().await });
        let mut line = String::new();
        let mut reader = BufReader::new(output.take(1 << 20));
        let read = tokio::time::timeout(Duration::from_secs(BUILD_SECONDS), reader.read_line(&mut line)).await;
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

    async fn prove(&mut self, row: &Row, situation: &Situation, plan: ProbePlan) -> Result<String, Failure> {
        self.begin(Step::Prove, "trying every wall from inside");
        let promised = self.supervisor.promised(row.workspace.level);
        let nonce = plan.nonce.clone();
        let started_at = Timestamp::now();
        let began = Instant::now();
        let folder = self.supervisor.layout.workspace(&self.id);
        let proof = match client::request(&folder, &Request::Prove { plan }).await? {
            Response::Proof(proof) => proof,
            other => return Err(unexpected("Prove", &other).into()),
        };
        let mut guarantees = judge::judge(situation, &promised, &proof);
        site::image(&self.supervisor.layout, row)?.enter(&mut guarantees);
        let report = judge::report(&row.workspace, started_at, began.elapsed(), guarantees);
        self.supervisor.store.put_report(&self.id, &report)?;
        launches::proven(&report, Proof::Gate);
        let summary = report.summary;
        if !summary.opens() || summary.held == 0 {
            return Err(Failure::Refused(report.refusal()));
        }
        self.say(
            Progress::Done,
            format!("{} held, {} absent, {} not claimed", summary.held, summary.absent, summary.not_claimed),
        );
        Ok(nonce)
    }

    async fn open(&mut self, row: Row, nonce: String) -> Result<(), Failure> {
        self.begin(Step::Open, "starting the notebook");
        let folder = self.supervisor.layout.workspace(&self.id);
        match client::request(&folder, &Request::Go { nonce }).await? {
            Response::Started => {}
            other => return Err(unexpected("Go", &other).into()),
        }
        self.wait_until_it_answers(&row).await?;
        let now = Timestamp::now();
        let live = self.supervisor.live(&self.id);
        *live.activity.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        self.supervisor.store.update(&self.id, |row| {
            row.workspace.state = State::Running;
            row.workspace.opened_at = Some(now);
            row.workspace.last_activity = Some(now);
        })?;
        self.say(Progress::Done, "the notebook answers");
        Ok(())
    }

    /// Waits for the first HTTP answer of any status: the server is up then.
    async fn wait_until_it_answers(&self, row: &Row) -> Result<(), Problem> {
        let deadline = Instant::now() + Duration::from_secs(OPEN_SECONDS);
        loop {
            let attempt = tokio::time::timeout(Duration::from_secs(10), answers(row)).await;
            if matches!(attempt, Ok(Ok(true))) {
                return Ok(());
            }
            let ended = match self.supervisor.status(&self.id).await {
                Ok(status) => status.exit,
                Err(_) => Some(crate::recover::exit_reason(&self.supervisor.layout, &self.id)),
            };
            if let Some(reason) = ended {
                let log = self.supervisor.logs(&self.id).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                return Err(Problem::engine(
                    format!("the notebook ended before it answered: {reason}; it said: {}", last.join(" | ")),
                    "see `cubicle logs`",
                ));
            }
            if Instant::now() > deadline {
                return Err(Problem::engine(
                    format!(
                        "the notebook did not answer on port {} within {OPEN_SECONDS} s",
                        row.private.template.spec.port
                    ),
                    "see `cubicle logs`",
                ));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Whether the notebook's port answers HTTP.
async fn answers(row: &Row) -> std::io::Result<bool> {
    let socket = std::net::TcpStream::from(dial_when_it_listens(row, LISTEN_PATIENCE).await?);
    socket.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(socket)?;
    let request = format!(
        "GET /api HTTP/1.1\r\nHost: localhost\r\nAuthorization: token {}\r\nConnection: close\r\n\r\n",
        row.private.token
    );
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
