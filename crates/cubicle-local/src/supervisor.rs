//! The engine itself: what it holds in memory about live workspaces, and every operation on
//! them but the path of a launch, which is in `launch`.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cubicle_core::engine::{Activity, LaunchRequest, Volume};
use cubicle_core::level::EngineKind;
use cubicle_core::name::{UserId, WorkspaceId};
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_core::template::Template;
use cubicle_core::trace::TraceParent;
use cubicle_core::workspace::{State, StepEvent, Workspace};
use cubicle_metrics::engine::Stock;
use cubicle_sandbox::client;
use cubicle_sandbox::protocol::{Request, Response, RuntimeChoice, Status};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::images::ImageSummary;
use crate::layout::Layout;
use crate::machine;
use crate::pool::{Member, Pool};
use crate::queue::Queue;
use crate::site::Site;
use crate::store::{Private, Row, Store};
use crate::templates::no_template;
use crate::volumes;

/// How many ranges of ids a machine has for workspaces.
const RANGES: u32 = 0xE000;

/// What is set once, when the engine starts.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// This program, re-executed as helper of every sandbox.
    pub(crate) program: PathBuf,
    /// TCP ports of the hub and the engine.
    pub(crate) platform_ports: Vec<u16>,
    /// What runs the OCI bundle.
    pub(crate) runtime: RuntimeChoice,
}

/// What is known in memory about one live workspace.
#[derive(Debug)]
pub(crate) struct Live {
    /// One operation on a workspace at a time.
    pub(crate) lifecycle: tokio::sync::Mutex<()>,
    events: Mutex<Vec<StepEvent>>,
    changed: watch::Sender<usize>,
    launch: Mutex<Option<JoinHandle<()>>>,
    pub(crate) activity: Mutex<Option<Activity>>,
    /// The CPU counter at the last look of the idle watch, in microseconds, and when.
    pub(crate) counter: Mutex<Option<(u64, std::time::Instant)>>,
    /// Since when the idle watch has found it going on.
    awake: Mutex<Option<std::time::Instant>>,
}

impl Live {
    /// Notes whether it goes on; for how long it has, if so.
    pub(crate) fn awake(&self, goes_on: bool) -> Option<std::time::Duration> {
        let mut awake = locked(&self.awake);
        if !goes_on {
            *awake = None;
            return None;
        }
        Some(awake.get_or_insert_with(std::time::Instant::now).elapsed())
    }
}

impl Default for Live {
    fn default() -> Self {
        Self {
            lifecycle: tokio::sync::Mutex::default(),
            events: Mutex::default(),
            changed: watch::channel(0).0,
            launch: Mutex::default(),
            activity: Mutex::default(),
            counter: Mutex::default(),
            awake: Mutex::default(),
        }
    }
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) layout: Layout,
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    live: Mutex<HashMap<WorkspaceId, Arc<Live>>>,
    /// One preparation of a user's home at a time.
    homes: Mutex<HashMap<UserId, Arc<tokio::sync::Mutex<()>>>>,
    /// Launches in order.
    pub(crate) queue: Queue,
    /// Sandboxes that wait for a user.
    pub(crate) pool: Pool,
    /// Ranges of ids that are given out and not in a record yet.
    reserved: Arc<Mutex<BTreeSet<u32>>>,
}

/// A range of host ids that is taken for as long as this lives, or a record has it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) number: u32,
    reserved: Arc<Mutex<BTreeSet<u32>>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        locked(&self.reserved).remove(&self.number);
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Supervisor {
    pub(crate) fn new(layout: Layout, store: Store, settings: Settings) -> Self {
        Self {
            layout,
            store,
            settings,
            live: Mutex::default(),
            homes: Mutex::default(),
            queue: Queue::default(),
            pool: Pool::default(),
            reserved: Arc::default(),
        }
    }

    pub(crate) fn live(&self, id: &WorkspaceId) -> Arc<Live> {
        locked(&self.live).entry(id.clone()).or_default().clone()
    }

    pub(crate) fn home_lock(&self, user: &UserId) -> Arc<tokio::sync::Mutex<()>> {
        locked(&self.homes).entry(user.clone()).or_default().clone()
    }

    pub(crate) async fn launch(self: &Arc<Self>, request: LaunchRequest) -> Result<Workspace, Problem> {
        let template = self.store.template(&request.template)?.ok_or_else(|| no_template(&request.template))?;
        let groups = &template.spec.groups;
        if !groups.is_empty() && !groups.iter().any(|group| request.groups.contains(group)) {
            return Err(Problem::new(
                ProblemKind::NotAllowed,
                format!("template \"{}\" is only for the groups {}", request.template, groups.join(", ")),
                "ask the administrator to add you to one of them",
            ));
        }
        let image = self.can_provide(&template)?;
        let name = display_name(&request)?;
        // The slot stays reserved until the record that has it is there.
        let (id, private, member, _slot) = match self.warm(&template, &image) {
            Some(member) => (member.id.clone(), member.private.clone(), Some(member), None),
            None => {
                let slot = self.free_slot()?;
                let private = Private::new(template, slot.number, String::new());
                (WorkspaceId::from_random(rand::random()), private, None, Some(slot))
            }
        };
        let workspace = Workspace {
            id: id.clone(),
            name,
            owner: request.owner,
            template: request.template,
            level: private.template.spec.level,
            engine: EngineKind::Local,
            state: State::Pending,
            reason: String::new(),
            pid: None,
            created_at: Timestamp::now(),
            opened_at: None,
            last_activity: None,
            stops_at: None,
            warnings: Vec::new(),
        };
        self.store.insert(&Row { workspace: workspace.clone(), private })?;
        self.spawn_launch(&id, member, request.trace);
        // The launch goes on meanwhile; nobody is told of one that a power cut could take.
        if let Err(problem) = self.store.settle().await {
            if let Err(problem) = self.delete(&id, false).await {
                tracing::error!(workspace = %id, %problem, "a launch that was not recorded could not be taken back");
                // Its record cannot be written, its sandbox ends all the same.
                let _ = self.tear_down(&id).await;
            }
            return Err(problem);
        }
        Ok(workspace)
    }

    /// A member of the pool that this launch can use, if the site wants any.
    fn warm(&self, template: &Template, image: &ImageSummary) -> Option<Member> {
        let warm = Site::read(&self.layout).ok()?.warm;
        (warm.members > 0).then(|| self.pool.take(self, template, image, warm.max_age())).flatten()
    }

    /// What is left, for whoever watches.
    pub(crate) fn stock(&self) -> Result<Stock, Problem> {
        let volumes = self.volumes()?;
        let taken = self.store.rows()?.len() + self.pool.count();
        let taken = u64::try_from(taken).unwrap_or(u64::MAX);
        Ok(Stock {
            homes: u64::try_from(volumes.len()).unwrap_or(u64::MAX),
            homes_used: volumes.iter().map(|volume| volume.used).sum(),
            disk_free: machine::space(self.layout.home())?.0,
            ranges_taken: taken,
            ranges_free: u64::from(RANGES).saturating_sub(taken),
        })
    }

    /// The lowest id range that nobody has, reserved.
    pub(crate) fn free_slot(&self) -> Result<Slot, Problem> {
        let mut reserved = locked(&self.reserved);
        let mut taken: BTreeSet<u32> = self.store.rows()?.iter().map(|row| row.private.slot).collect();
        taken.extend(&*reserved);
        let Some(number) = (0..RANGES).find(|slot| !taken.contains(slot)) else {
            return Err(Problem::new(
                ProblemKind::Exhausted,
                "every id range of this machine is taken",
                "delete old workspaces",
            ));
        };
        reserved.insert(number);
        Ok(Slot { number, reserved: Arc::clone(&self.reserved) })
    }

    fn spawn_launch(self: &Arc<Self>, id: &WorkspaceId, member: Option<Member>, trace: Option<TraceParent>) {
        let live = self.live(id);
        locked(&live.events).clear();
        live.changed.send_modify(|count| *count += 1);
        let launch = tokio::spawn(crate::launch::run(self.clone(), id.clone(), member, trace));
        *locked(&live.launch) = Some(launch);
    }

    /// Tells everybody who watches; what happened is kept once the launch is over.
    pub(crate) fn record_event(self: &Arc<Self>, id: &WorkspaceId, event: StepEvent) {
        let live = self.live(id);
        let over = event.is_last();
        let events = {
            let mut events = locked(&live.events);
            events.push(event);
            over.then(|| events.clone())
        };
        live.changed.send_modify(|count| *count += 1);
        if let Some(events) = events {
            // Whoever watches is told first: their task may be this very thread's next one.
            let (supervisor, id) = (Arc::clone(self), id.clone());
            tokio::task::spawn_blocking(move || {
                if let Err(problem) = supervisor.store.put_events(&id, &events) {
                    tracing::warn!(workspace = %id, %problem, "events were not kept");
                }
            });
        }
    }

    /// The events so far, and a receiver that changes when there are more.
    pub(crate) fn events(&self, id: &WorkspaceId) -> Result<(Vec<StepEvent>, watch::Receiver<usize>), Problem> {
        self.store.row(id)?;
        let live = self.live(id);
        let receiver = live.changed.subscribe();
        let events = locked(&live.events).clone();
        let events = if events.is_empty() { self.store.events(id)? } else { events };
        Ok((events, receiver))
    }

    pub(crate) async fn start(
        self: &Arc<Self>,
        id: &WorkspaceId,
        trace: Option<TraceParent>,
    ) -> Result<Workspace, Problem> {
        let live = self.live(id);
        let one = live.lifecycle.lock().await;
        let row = self.store.row(id)?;
        if row.workspace.state.is_live() {
            return Err(Problem::conflict(
                format!("workspace \"{id}\" is {}", state_word(row.workspace.state)),
                "stop it first",
            ));
        }
        let earlier = row.sandbox().clone();
        self.see_its_end(id).await?;
        // The template may have changed since: what is launched is what it says now.
        let template = self.store.template(&row.workspace.template)?.unwrap_or(row.private.template);
        let image = self.can_provide(&template)?;
        let member = self.warm(&template, &image);
        let row = self.store.restart(id, |row| {
            row.workspace.state = State::Pending;
            row.workspace.reason.clear();
            row.workspace.level = template.spec.level;
            row.workspace.stops_at = None;
            row.workspace.warnings.clear();
            row.private = match &member {
                // Its range of ids, its token and all else that a sandbox has of its own.
                Some(member) => Private { sandbox: Some(member.id.clone()), ..member.private.clone() },
                None => Private::new(template, row.private.slot, String::new()),
            };
        })?;
        if *row.sandbox() != earlier {
            // Only its log is still there.
            remove_folder(&self.layout.workspace(&earlier));
        }
        self.spawn_launch(id, member, trace);
        if let Err(problem) = self.store.settle().await {
            drop(one);
            if let Err(problem) = self.stop(id, "its start was not recorded").await {
                tracing::error!(workspace = %id, %problem, "a start that was not recorded could not be taken back");
                let _ = self.tear_down(id).await;
            }
            return Err(problem);
        }
        Ok(row.workspace)
    }

    pub(crate) async fn stop(self: &Arc<Self>, id: &WorkspaceId, reason: &str) -> Result<Workspace, Problem> {
        let live = self.live(id);
        let _one = live.lifecycle.lock().await;
        let row = self.store.row(id)?;
        if !row.workspace.state.is_live() {
            return Ok(row.workspace);
        }
        let launch = locked(&live.launch).take();
        if let Some(launch) = launch {
            launch.abort();
            let _ = launch.await;
        }
        self.store.update(id, |row| row.workspace.state = State::Stopping)?;
        self.tear_down(id).await?;
        let row = self.store.update(id, |row| {
            row.workspace.state = State::Stopped;
            row.workspace.reason = reason.to_owned();
            row.workspace.pid = None;
            row.workspace.stops_at = None;
        })?;
        *locked(&live.counter) = None;
        live.changed.send_modify(|count| *count += 1);
        Ok(row.workspace)
    }

    pub(crate) async fn delete(self: &Arc<Self>, id: &WorkspaceId, volume: bool) -> Result<(), Problem> {
        let row = self.store.row(id)?;
        let owner = row.workspace.owner;
        let others = || -> Result<bool, Problem> {
            Ok(self.store.rows()?.iter().any(|row| row.workspace.owner.id == owner.id && row.workspace.id != *id))
        };
        if volume && others()? {
            return Err(Problem::conflict(
                format!("the home of {} is also used by another workspace", owner.name),
                "delete that workspace first, or delete this one without --volume",
            ));
        }
        self.stop(id, "deleted").await?;
        self.see_its_end(id).await?;
        let folder = self.folder(id);
        self.store.delete(id)?;
        remove_folder(&folder);
        locked(&self.live).remove(id);
        if volume { self.delete_volume(&owner.id).await } else { Ok(()) }
    }

    pub(crate) async fn delete_volume(&self, user: &UserId) -> Result<(), Problem> {
        let lock = self.home_lock(user);
        let _one = lock.lock().await;
        if self.store.rows()?.iter().any(|row| row.workspace.owner.id == *user) {
            return Err(Problem::conflict(
                format!("the home of {user} belongs to a workspace that still exists"),
                "delete every workspace of that user first",
            ));
        }
        if self.store.volume(user)?.is_none() {
            return Err(Problem::not_found(
                format!("{user} has no home"),
                "list the known ones with `cubicle volume list`",
            ));
        }
        volumes::delete(&self.layout, user)?;
        self.store.delete_volume(user)
    }

    pub(crate) fn volumes(&self) -> Result<Vec<Volume>, Problem> {
        let volumes = self.store.volumes()?;
        Ok(volumes
            .into_iter()
            .map(|volume| Volume { used: volumes::used(&self.layout, &volume.owner.id), ..volume })
            .collect())
    }

    /// The sandbox of a workspace; a member of the pool is its own.
    pub(crate) fn sandbox(&self, id: &WorkspaceId) -> WorkspaceId {
        self.store.row(id).map_or_else(|_| id.clone(), |row| row.sandbox().clone())
    }

    /// The folder of the sandbox of a workspace, or of a member of the pool.
    pub(crate) fn folder(&self, id: &WorkspaceId) -> PathBuf {
        self.layout.workspace(&self.sandbox(id))
    }

    /// Ends everything of a workspace that may run, whatever state its helper is in.
    pub(crate) async fn tear_down(&self, id: &WorkspaceId) -> Result<(), Problem> {
        self.end_sandbox(self.store.row(id)?.sandbox()).await
    }

    /// Ends everything of a sandbox, whosever it is.
    pub(crate) async fn end_sandbox(&self, sandbox: &WorkspaceId) -> Result<(), Problem> {
        let folder = self.layout.workspace(sandbox);
        let asked =
            tokio::time::timeout(Duration::from_secs(30), client::request(&folder, &Request::Stop { grace_ms: 5000 }));
        if !matches!(asked.await, Ok(Ok(Response::Stopped))) {
            crate::recover::remove_remains(&self.layout, sandbox).await?;
        }
        Ok(())
    }

    /// Ends what a launch or an end that failed may have left running: its home is mounted there.
    async fn see_its_end(&self, id: &WorkspaceId) -> Result<(), Problem> {
        if self.folder(id).join("helper.pid").exists() { self.tear_down(id).await } else { Ok(()) }
    }

    pub(crate) async fn status(&self, id: &WorkspaceId) -> Result<Status, Problem> {
        match client::request(&self.folder(id), &Request::Status).await? {
            Response::Status(status) => Ok(status),
            other => Err(unexpected("Status", &other)),
        }
    }
}

pub(crate) fn unexpected(request: &str, response: &Response) -> Problem {
    match response {
        Response::Failed { problem } => problem.clone(),
        other => Problem::engine(format!("the helper answered {request} with {other:?}"), "see the engine's log"),
    }
}

pub(crate) fn state_word(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Proving => "proving",
        State::Running => "running",
        State::Stopping => "stopping",
        State::Stopped => "stopped",
        State::Refused => "refused",
        State::Failed => "failed",
    }
}

/// Removes what a sandbox that has ended has left: its logs.
pub(crate) fn remove_folder(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, folder = %folder.display(), "the folder of a sandbox was not removed");
    }
}

fn display_name(request: &LaunchRequest) -> Result<String, Problem> {
    let name = request.name.trim();
    if name.is_empty() {
        return Ok(request.template.to_string());
    }
    let count = name.chars().count();
    if count > 64 || name.chars().any(char::is_control) {
        return Err(Problem::bad_input(
            format!("the name of a workspace is 1 to 64 characters without control characters; this one has {count}"),
            "choose a shorter, printable name",
        ));
    }
    Ok(name.to_owned())
}
