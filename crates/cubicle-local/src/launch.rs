//! The path of a launch: request -> plan -> build -> prove -> open.
//!
//! What is not proven is not opened: any breached or unproven promise ends here, and what was
//! built is torn down.

mod steps;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cubicle_core::attempt::{Phase, ProbePlan};
use cubicle_core::name::WorkspaceId;
use cubicle_core::plan::Situation;
use cubicle_core::problem::Problem;
use cubicle_core::report::{self, GuaranteeReport, Summary};
use cubicle_core::template::EgressMode;
use cubicle_core::trace::TraceParent;
use cubicle_core::workspace::{Progress, State, Step};
use cubicle_core::{catalogue, judge};
use cubicle_metrics::launches::{self, Outcome, Proof};
use cubicle_metrics::pool::{self, Claim};
use cubicle_sandbox::protocol::{HomeBackend, HomeSpec};
use cubicle_traces::End;
use jiff::Timestamp;
use tokio::task::JoinHandle;

use crate::inside::Place;
use crate::pool::Member;
use crate::proving::carry_over;
use crate::settle::{id_base, limits, secret};
use crate::store::{Private, Row};
use crate::supervisor::{Supervisor, locked, remove_folder};
use crate::{images, sandbox, site, volumes};
use steps::{Launch, in_line};

/// How long a notebook server may take until it answers.
const OPEN_PATIENCE: Duration = Duration::from_secs(120);
/// How long one that was ready may take to turn to the home, also if it has to begin anew there.
const CLAIM_PATIENCE: Duration = Duration::from_secs(20);

/// A report that is being kept.
type Kept = JoinHandle<Result<(), Problem>>;

/// How a launch can end early.
enum Failure {
    /// A promise did not hold, or could not be proven.
    Refused(String),
    /// The engine failed.
    Problem(Problem),
}

impl Failure {
    /// In one sentence, for people.
    fn text(&self) -> String {
        match self {
            Self::Refused(reason) => reason.clone(),
            Self::Problem(problem) if problem.remedy.is_empty() => problem.what.clone(),
            Self::Problem(problem) => format!("{} ({})", problem.what, problem.remedy),
        }
    }

    /// In a word, for the trace.
    fn end(&self) -> End {
        match self {
            Self::Refused(_) => End::Refused,
            Self::Problem(problem) => End::Failed(problem.kind),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Runs one launch to its end. Never panics on what it is given; every end is recorded.
pub(crate) async fn run(
    supervisor: Arc<Supervisor>,
    id: WorkspaceId,
    member: Option<Member>,
    trace: Option<TraceParent>,
) {
    let mut launch = Launch::new(supervisor, id, trace);
    let Err(failure) = launch.path(member).await else {
        launch.trace.ended(None);
        return launches::ended(Outcome::Open);
    };
    launch.trace.ended(Some(failure.end()));
    launches::ended(match failure {
        Failure::Refused(_) => Outcome::Refused,
        Failure::Problem(_) => Outcome::Failed,
    });
    let state = if matches!(failure, Failure::Refused(_)) { State::Refused } else { State::Failed };
    let reason = failure.text();
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
    async fn path(&mut self, member: Option<Member>) -> Result<(), Failure> {
        let supervisor = self.supervisor.clone();
        if let Some(member) = member {
            let _turn = supervisor.queue.pass();
            match self.with(member).await {
                // Whatever the reason is, the long way either shows it as well or opens behind walls of its own.
                Err(failure) => self.give_up_member(&failure.text()).await?,
                Ok(()) => return Ok(()),
            }
        }
        let most = site::Site::read(&supervisor.layout)?.launches_at_once();
        let asked = Instant::now();
        let _turn = supervisor.queue.turn(most, |place, wait| self.say(Progress::Running, in_line(place, wait))).await;
        self.trace.waited(asked);
        let row = self.request(false)?;
        let (row, image) = self.plan(row)?;
        let situation = self.supervisor.situation(&row.private);
        let proof = catalogue::probe_plan(&situation, &[], Phase::Gate, &secret());
        let row = self.build(row, &image, &proof).await?;
        let (nonce, kept) = self.prove(&row, &situation, proof).await?;
        self.begin(Step::Open, "starting the notebook");
        supervisor.go(&self.id, nonce).await?;
        self.open(&row, kept, OPEN_PATIENCE).await
    }

    /// What was asked for.
    fn request(&mut self, warm: bool) -> Result<Row, Failure> {
        let row = self.supervisor.store.row(&self.id)?;
        self.trace.about(&row.workspace, warm);
        self.done(format!(
            "{} asked for {} at level {}",
            row.workspace.owner.name, row.workspace.template, row.workspace.level
        ));
        Ok(row)
    }

    /// The short way: a sandbox that was built and proven before anybody asked.
    async fn with(&mut self, member: Member) -> Result<(), Failure> {
        let row = self.request(true)?;
        let (row, _) = self.plan(row)?;
        self.begin(Step::Build, "preparing the home");
        let situation = self.supervisor.situation(&row.private);
        let again: Vec<String> = catalogue::AT_A_CLAIM.iter().map(|id| (*id).to_owned()).collect();
        let plan = catalogue::probe_plan(&situation, &again, Phase::Later, &secret());
        let owner = row.workspace.owner.clone();
        let lock = self.supervisor.home_lock(&owner.id);
        let one = lock.lock().await;
        let (age, pid) = (member.age(), member.pid);
        // The claim is asked for first, and the helper begins with it while the home is looked at.
        let (claimed, home) = tokio::join!(member.claim(&self.supervisor, plan), self.home(&row));
        let claimed = claimed?;
        let home = HomeSpec { backend: home?, mount_path: row.private.template.spec.home.mount_path.clone() };
        self.done(format!(
            "sandbox built {} ago with ids {} and up, home of {}",
            report::age(age),
            id_base(row.private.slot),
            owner.name
        ));
        self.begin(Step::Prove, "mounting the home, and trying again what depends on it");
        let (started_at, began) = (Timestamp::now(), Instant::now());
        let (proof, known) = claimed.mount(&home).await?;
        // Only now: whoever finds a process in a record takes its user's home for mounted, and does not check it.
        let row = self.supervisor.store.note(&self.id, |row| {
            row.workspace.pid = Some(pid);
            row.workspace.state = State::Proving;
        })?;
        drop(one);
        let promised = self.supervisor.promised(row.workspace.level);
        self.trace.observed(&proof);
        let mut guarantees = judge::judge(&situation, &promised, &proof);
        carry_over(&mut guarantees, known, &proof.plan);
        let (summary, kept) = self.decide(&row, guarantees, started_at, began, Proof::Claim)?;
        let again = catalogue::AT_A_CLAIM.iter().filter(|id| promised.contains(id)).count();
        self.done(format!("{}; {again} tried now, the others {} ago", counted(&summary), report::age(age)));
        self.begin(Step::Open, "the notebook turns to the home");
        self.open(&row, kept, CLAIM_PATIENCE).await
    }

    /// Puts away what could not be used, so that the launch can begin anew.
    async fn give_up_member(&mut self, reason: &str) -> Result<(), Failure> {
        tracing::warn!(workspace = %self.id, reason, "a warm sandbox could not be used");
        pool::asked(Claim::GivenUp);
        self.trace.goes_the_long_way();
        let given_up = self.supervisor.sandbox(&self.id);
        self.supervisor.tear_down(&self.id).await?;
        self.supervisor.store.note(&self.id, |row| {
            row.workspace.state = State::Pending;
            row.workspace.pid = None;
            // What a sandbox knew that is gone is worth nothing from now on.
            row.private = Private::new(row.private.template.clone(), row.private.slot, row.private.image.clone());
        })?;
        if given_up != self.id {
            remove_folder(&self.supervisor.layout.workspace(&given_up));
        }
        self.begin(Step::Request, "the sandbox that was ready could not be used; building one");
        Ok(())
    }

    fn plan(&mut self, row: Row) -> Result<(Row, images::ImageSummary), Failure> {
        self.begin(Step::Plan, "choosing the walls");
        let template = &row.private.template;
        let image = images::find(&self.supervisor.layout, &template.spec.image)?;
        let promised = self.supervisor.promised(row.workspace.level).len();
        let row = if row.private.image == image.digest {
            row
        } else {
            self.supervisor.store.note(&self.id, |row| row.private.image = image.digest.clone())?
        };
        let judged = site::image(&self.supervisor.layout, &row.private)?;
        if !judged.opens {
            // Nothing is built for an image that the site refuses; the report says why.
            let report = judge::report(&row.workspace, Timestamp::now(), self.began.elapsed(), judged.alone());
            self.trace.judged(&report);
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
        self.done(format!(
            "{promised} guarantees promised; {} CPU, {} memory, {} processes; {egress}",
            limits.cpu, limits.memory, limits.pids
        ));
        Ok((row, image))
    }

    async fn build(&mut self, row: Row, image: &images::ImageSummary, proof: &ProbePlan) -> Result<Row, Failure> {
        self.begin(Step::Build, "preparing the home");
        let supervisor = self.supervisor.clone();
        let owner = row.workspace.owner.clone();
        // Held until the helper has mounted the home: two launches of one user never check and
        // mount it at the same time.
        let lock = supervisor.home_lock(&owner.id);
        let _one = lock.lock().await;
        let home = self.home(&row).await?;
        self.say(Progress::Running, "building the sandbox");
        let home_limit = supervisor.store.volume(&owner.id)?.and_then(|volume| volume.limit);
        let status = supervisor
            .build(sandbox::Plan { id: &self.id, private: &row.private, image, home, home_limit, proof })
            .await?;
        let row = supervisor.store.note(&self.id, |row| {
            row.workspace.pid = Some(status.pid);
            row.workspace.state = State::Proving;
            row.private.pid_start = status.pid_start;
        })?;
        let ids = id_base(row.private.slot);
        self.done(format!("sandbox built with ids {ids} and up, home of {}", owner.name));
        Ok(row)
    }

    /// Makes and checks the home. The caller holds the user's lock.
    async fn home(&self, row: &Row) -> Result<HomeBackend, Problem> {
        let supervisor = &self.supervisor;
        let owner = &row.workspace.owner;
        let attached = supervisor.store.rows()?.iter().any(|other| {
            other.workspace.owner.id == owner.id && other.workspace.id != self.id && other.workspace.pid.is_some()
        });
        let known = supervisor.store.volume(&owner.id)?;
        let volume =
            volumes::ensure(&supervisor.layout, known.clone(), owner, &row.private.template.spec.home, attached)
                .await?;
        if known.as_ref() != Some(&volume) {
            supervisor.store.put_volume(&volume)?;
        }
        Ok(HomeBackend::Image(volumes::image(&supervisor.layout, &owner.id)))
    }

    async fn prove(&mut self, row: &Row, situation: &Situation, plan: ProbePlan) -> Result<(String, Kept), Failure> {
        self.begin(Step::Prove, "trying every wall from inside");
        let promised = self.supervisor.promised(row.workspace.level);
        let nonce = plan.nonce.clone();
        let started_at = Timestamp::now();
        let began = Instant::now();
        let proof = self.supervisor.prove(&self.id, plan).await?;
        self.trace.observed(&proof);
        let guarantees = judge::judge(situation, &promised, &proof);
        let (summary, kept) = self.decide(row, guarantees, started_at, began, Proof::Gate)?;
        self.done(counted(&summary));
        Ok((nonce, kept))
    }

    /// Makes the report of a proof, has it kept, and refuses what it does not show to be safe.
    fn decide(
        &mut self,
        row: &Row,
        mut guarantees: Vec<GuaranteeReport>,
        started_at: Timestamp,
        began: Instant,
        kind: Proof,
    ) -> Result<(Summary, Kept), Failure> {
        site::image(&self.supervisor.layout, &row.private)?.enter(&mut guarantees);
        let report = judge::report(&row.workspace, started_at, began.elapsed(), guarantees);
        self.trace.judged(&report);
        launches::proven(&report, kind);
        if !report.summary.opens() || report.summary.held == 0 {
            self.supervisor.store.note_report(&self.id, &report)?;
            return Err(Failure::Refused(report.refusal()));
        }
        let (supervisor, id, summary) = (self.supervisor.clone(), self.id.clone(), report.summary);
        Ok((summary, tokio::task::spawn_blocking(move || supervisor.store.note_report(&id, &report))))
    }

    /// Waits until the notebook answers and the report is kept, and opens the way to it.
    async fn open(&mut self, row: &Row, kept: Kept, patience: Duration) -> Result<(), Failure> {
        let pid = row.workspace.pid.ok_or_else(|| Problem::engine("the sandbox has no process", ""))?;
        let place = Place { pid, pid_start: row.private.pid_start, port: row.private.template.spec.port };
        let answers = self.supervisor.wait_until_it_answers(&self.id, place, &row.private.token, patience).await;
        kept.await.map_err(|error| Problem::engine(format!("the report was not kept: {error}"), ""))??;
        answers?;
        let now = Timestamp::now();
        let live = self.supervisor.live(&self.id);
        *locked(&live.activity) = None;
        self.supervisor.store.note(&self.id, |row| {
            row.workspace.state = State::Running;
            row.workspace.opened_at = Some(now);
            row.workspace.last_activity = Some(now);
        })?;
        self.done("the notebook answers");
        Ok(())
    }
}

fn counted(summary: &Summary) -> String {
    format!("{} held, {} absent, {} not claimed", summary.held, summary.absent, summary.not_claimed)
}
