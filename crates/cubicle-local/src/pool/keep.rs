//! Holding the right members: building those that are missing, retiring those that serve nobody any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cubicle_core::attempt::{Phase, ProbePlan};
use cubicle_core::level::EngineKind;
use cubicle_core::name::{TemplateName, WorkspaceId};
use cubicle_core::plan::Situation;
use cubicle_core::problem::Problem;
use cubicle_core::report::{GuaranteeReport, Verdict};
use cubicle_core::template::Template;
use cubicle_core::{catalogue, judge};
use cubicle_sandbox::client;
use cubicle_sandbox::protocol::{HomeBackend, Request, Response};
use jiff::Timestamp;

use super::policy::{self, Budget, Demand};
use super::{Member, PoolState, PoolTemplate};
use crate::images::{self, ImageSummary};
use crate::inside::Place;
use crate::settle::secret;
use crate::site::{self, Site};
use crate::store::Private;
use crate::supervisor::{Supervisor, locked};
use crate::volumes::blank;
use crate::{machine, sandbox};

/// How often the pool is looked at when nothing happens.
const PERIOD: Duration = Duration::from_secs(5);
/// How long an announcement is kept after its time.
const PAST: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);
/// How often what is too old is forgotten.
const TIDY: Duration = Duration::from_secs(3600);
/// How long the machine is left to those who have just launched.
const QUIET: Duration = Duration::from_secs(1);
/// How long a notebook server may take until it listens.
const READY_PATIENCE: Duration = Duration::from_secs(120);
/// What one member is taken to use before one was measured, in bytes.
const FIRST_GUESS: u64 = 200 << 20;
/// How long a template rests after the first failure; twice as long after each further one.
const REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// What this task alone remembers.
#[derive(Default)]
struct Keeper {
    failures: BTreeMap<TemplateName, (u32, Instant, String)>,
    /// When launches of long ago were last forgotten.
    tidied: Option<Instant>,
    /// Bytes that a ready member used.
    measured: BTreeMap<TemplateName, u64>,
}

/// Keeps the pool until the engine ends.
pub(crate) async fn keep(supervisor: Arc<Supervisor>) {
    let mut keeper = Keeper::default();
    loop {
        // Looked at again at once for as long as there is something to do.
        match keeper.look(&supervisor).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(problem) => tracing::warn!(%problem, "the pool of warm sandboxes could not be looked at"),
        }
        let _ = tokio::time::timeout(PERIOD, supervisor.pool.changed.notified()).await;
        // What was taken a moment ago is still being claimed.
        tokio::time::sleep(QUIET).await;
    }
}

impl Keeper {
    /// One look; true when a member was built.
    async fn look(&mut self, supervisor: &Arc<Supervisor>) -> Result<bool, Problem> {
        let warm = Site::read(&supervisor.layout)?.warm;
        let templates = if warm.members == 0 { BTreeMap::new() } else { candidates(supervisor)? };
        // One that nobody can hold any more starts afresh when it comes back.
        self.failures.retain(|name, _| templates.contains_key(name));
        let now = Timestamp::now();
        if self.tidied.is_none_or(|at| at.elapsed() > TIDY) {
            supervisor.store.forget_arrivals(now.checked_sub(policy::REMEMBERED).unwrap_or(Timestamp::MIN))?;
            supervisor.store.forget_reservations(now.checked_sub(PAST).unwrap_or(Timestamp::MIN))?;
            self.tidied = Some(Instant::now());
        }
        let announced = if templates.is_empty() { Vec::new() } else { supervisor.store.reservations()? };
        let arrivals = if templates.is_empty() { Vec::new() } else { supervisor.store.arrivals()? };
        let demands = templates
            .keys()
            .map(|name| {
                let demand = Demand {
                    arrivals: arrivals.iter().filter(|(of, _)| of == name).map(|(_, at)| *at).collect(),
                    announced: announced
                        .iter()
                        .filter(|reservation| reservation.template == *name)
                        .map(|reservation| (reservation.at, usize::try_from(reservation.count).unwrap_or(usize::MAX)))
                        .collect(),
                    bytes_each: self.measured.get(name).copied().unwrap_or(FIRST_GUESS),
                };
                (name.clone(), demand)
            })
            .collect();
        let held: u64 = supervisor.pool.held_bytes(&self.measured);
        // Theirs is not free any more, but it is the pool's to use; an eighth of the machine is nobody's.
        let spare = (machine::available_memory() + held).saturating_sub(machine::memory() / 8);
        let bytes = warm.memory.map_or(spare, |memory| memory.0.min(spare));
        let mut wanted = policy::wanted(now, &demands, Budget { members: warm.members, bytes });
        for (name, (_, until, reason)) in &self.failures {
            if let Some(wanted) = wanted.get_mut(name).filter(|_| Instant::now() < *until) {
                wanted.reason = format!("{}; the last one could not be had: {reason}", wanted.reason);
            }
        }
        let count = wanted.values().map(|wanted| wanted.count).sum();
        cubicle_metrics::pool::held(supervisor.pool.count(), count);
        *locked(&supervisor.pool.wanted) = wanted.clone();
        self.retire(supervisor, &templates, &wanted, warm.max_age()).await;
        let mut homes = BTreeMap::new();
        for (name, (template, _)) in &templates {
            *homes.entry(template.spec.home.size.0).or_default() += supervisor.pool.ready(name);
        }
        // Those who have just launched are left the machine, as with sandboxes.
        if supervisor.queue.idle().is_some_and(|idle| idle >= QUIET) {
            blank::hold(&supervisor.layout, &homes).await?;
        }
        let missing = wanted.iter().find(|(name, wanted)| {
            supervisor.pool.ready(name) < wanted.count
                && self.failures.get(*name).is_none_or(|(_, until, _)| Instant::now() >= *until)
        });
        let Some((name, _)) = missing else { return Ok(false) };
        // Nobody who waits for a launch waits for this, and nobody who has just got one.
        if supervisor.queue.idle().is_none_or(|idle| idle < QUIET) {
            return Ok(false);
        }
        let Some((template, image)) = templates.get(name) else { return Ok(false) };
        match build(supervisor, template, image).await {
            Ok((member, bytes)) => {
                self.failures.remove(name);
                self.measured.insert(name.clone(), bytes);
                locked(&supervisor.pool.members).push(member);
                Ok(true)
            }
            Err(problem) => {
                tracing::warn!(template = %name, %problem, "a warm sandbox could not be had");
                let times = self.failures.get(name).map_or(0, |(times, ..)| *times) + 1;
                let rest = REST.saturating_mul(2_u32.saturating_pow(times - 1)).min(LONGEST_REST);
                self.failures.insert(name.clone(), (times, Instant::now() + rest, problem.what));
                Ok(false)
            }
        }
    }

    /// Ends members that no launch could use, and those that are too many, the oldest first.
    async fn retire(
        &self,
        supervisor: &Arc<Supervisor>,
        templates: &BTreeMap<TemplateName, (Template, ImageSummary)>,
        wanted: &BTreeMap<TemplateName, policy::Wanted>,
        max_age: Duration,
    ) {
        for id in supervisor.pool.ids() {
            // One whose process has ended is of no use to anybody.
            let lives = supervisor.status(&id).await.is_ok_and(|status| status.exit.is_none());
            let retired = supervisor.pool.remove(&id, |member, same| {
                let name = &member.private.template.metadata.name;
                let serves = templates.get(name).is_some_and(|(template, image)| {
                    member.serves(template, image, &supervisor.situation(&member.private), max_age)
                });
                !lives || !serves || same > wanted.get(name).map_or(0, |wanted| wanted.count)
            });
            if let Some(member) = retired {
                tracing::info!(member = %id, lives, "a warm sandbox is retired");
                end(supervisor, &id).await;
                drop(member);
            }
        }
    }
}

/// Templates of which a sandbox can be built before its user is known.
fn candidates(supervisor: &Supervisor) -> Result<BTreeMap<TemplateName, (Template, ImageSummary)>, Problem> {
    let mut found = BTreeMap::new();
    for template in supervisor.store.templates()? {
        let Ok(image) = images::find(&supervisor.layout, &template.spec.image) else { continue };
        // Only the image's own command waits for its home; a template's is started in one that is there.
        if image.home_later && template.spec.command.is_empty() {
            found.insert(template.metadata.name.clone(), (template, image));
        }
    }
    Ok(found)
}

/// Ends what a member was; nothing of it is left.
async fn end(supervisor: &Supervisor, id: &WorkspaceId) {
    if let Err(problem) = supervisor.end_sandbox(id).await {
        tracing::error!(member = %id, %problem, "a warm sandbox could not be ended");
    }
    let _ = std::fs::remove_dir_all(supervisor.layout.workspace(id));
}

/// Builds, walls and proves one, and waits until its notebook server is ready.
async fn build(
    supervisor: &Arc<Supervisor>,
    template: &Template,
    image: &ImageSummary,
) -> Result<(Member, u64), Problem> {
    let id = WorkspaceId::from_random(rand::random());
    let slot = supervisor.free_slot()?;
    let private = Private::new(template.clone(), slot.number, image.digest.clone());
    let made = prepare(supervisor, &id, private, image).await;
    match made {
        Ok((prepared, bytes)) => {
            let Prepared { private, pid, situation, guarantees, proven, held } = prepared;
            Ok((Member { id, private, pid, slot, situation, guarantees, proven, held }, bytes))
        }
        Err(problem) => {
            end(supervisor, &id).await;
            Err(problem)
        }
    }
}

struct Prepared {
    private: Private,
    pid: u32,
    situation: Situation,
    guarantees: Vec<GuaranteeReport>,
    proven: (Instant, Timestamp),
    held: client::Held,
}

async fn prepare(
    supervisor: &Arc<Supervisor>,
    id: &WorkspaceId,
    mut private: Private,
    image: &ImageSummary,
) -> Result<(Prepared, u64), Problem> {
    if !site::image(&supervisor.layout, &private)?.opens {
        return Err(Problem::bad_input("the site's rule refuses its image", "see `cubicle image scan`"));
    }
    let situation = supervisor.situation(&private);
    let proof = gate_plan(&situation);
    let plan =
        sandbox::Plan { id, private: &private, image, home: HomeBackend::Later, home_limit: None, proof: &proof };
    let status = supervisor.build(plan).await?;
    private.pid_start = status.pid_start;
    let folder = supervisor.layout.workspace(id);
    let held = client::hold(&folder).await?;
    let proven = (Instant::now(), Timestamp::now());
    let nonce = proof.nonce.clone();
    let proof = supervisor.prove(id, proof).await?;
    let guarantees = judge::judge(&situation, &supervisor.promised(situation.level), &proof);
    let bad: Vec<&str> =
        guarantees.iter().filter(|guarantee| stops(guarantee)).map(|guarantee| guarantee.id.as_str()).collect();
    if !bad.is_empty() {
        let what = format!("its gate did not find these held: {}", bad.join(", "));
        return Err(Problem::engine(what, "launch without the pool, and see `cubicle report`"));
    }
    supervisor.go(id, nonce).await?;
    let place = Place { pid: status.pid, pid_start: status.pid_start, port: private.template.spec.port };
    supervisor.wait_until_it_listens(id, place, READY_PATIENCE).await?;
    let bytes = match client::request(&folder, &Request::Usage).await? {
        Response::Usage { cgroup, .. } => cgroup.memory_usage,
        other => return Err(crate::supervisor::unexpected("Usage", &other)),
    };
    Ok((Prepared { private, pid: status.pid, situation, guarantees, proven, held }, bytes))
}

/// Everything but what is about the home, which is not there yet.
fn gate_plan(situation: &Situation) -> ProbePlan {
    let tried: Vec<String> = catalogue::on(EngineKind::Local)
        .map(|guarantee| guarantee.id.to_owned())
        .filter(|id| !id.starts_with(catalogue::OF_THE_HOME))
        .collect();
    catalogue::probe_plan(situation, &tried, Phase::Gate, &secret())
}

/// Whether a verdict keeps a member from being one. What a claim tries anyway may be open until then.
fn stops(guarantee: &GuaranteeReport) -> bool {
    match guarantee.verdict {
        Verdict::Breached => true,
        Verdict::Unproven => !catalogue::AT_A_CLAIM.contains(&guarantee.id.as_str()),
        Verdict::Held | Verdict::Absent | Verdict::NotClaimed => false,
    }
}

impl Supervisor {
    /// What the pool holds and why.
    pub(crate) fn pool_state(&self) -> Result<PoolState, Problem> {
        let warm = Site::read(&self.layout)?.warm;
        let wanted = locked(&self.pool.wanted).clone();
        let mut templates = BTreeMap::new();
        for template in self.store.templates()? {
            let name = template.metadata.name;
            let (count, reason) = match wanted.get(&name) {
                _ if warm.members == 0 => (0, "the site holds none (warm.members in site.yaml)".to_owned()),
                Some(wanted) => (wanted.count, wanted.reason.clone()),
                None => (0, "its notebook cannot start before its home is there".to_owned()),
            };
            let (claimed, missed) = locked(&self.pool.counts).get(&name).copied().unwrap_or_default();
            let ages_seconds = self.pool.ages(&name);
            templates.insert(
                name,
                PoolTemplate { wanted: count, ready: ages_seconds.len(), reason, ages_seconds, claimed, missed },
            );
        }
        Ok(PoolState { members: warm.members, max_age_seconds: warm.max_age.0, templates })
    }
}
