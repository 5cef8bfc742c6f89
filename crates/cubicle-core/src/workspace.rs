//! Workspaces: one launched template for one user.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::level::{EngineKind, Level};
use crate::name::{TemplateName, UserId, UserName, WorkspaceId};

/// Where a workspace is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Asked for; nothing built yet, or being built.
    Pending,
    /// Built; the probe is running; no user code has started.
    Proving,
    /// Proven and open.
    Running,
    /// Being stopped.
    Stopping,
    /// Stopped; the volume is kept.
    Stopped,
    /// A promised guarantee did not hold; it was never opened.
    Refused,
    /// The engine failed, or the workspace's processes ended by themselves.
    Failed,
}

impl State {
    /// Whether processes of the workspace may exist in this state.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Proving | Self::Running | Self::Stopping)
    }
}

/// The user that a workspace belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The opaque identifier.
    pub id: UserId,
    /// The name, for people.
    pub name: UserName,
}

/// One workspace as the engine knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workspace {
    /// The identifier and first label of its origin.
    pub id: WorkspaceId,
    /// What the user calls it.
    pub name: String,
    /// Whose it is.
    pub owner: Owner,
    /// What was launched.
    pub template: TemplateName,
    /// The promised level.
    pub level: Level,
    /// Who built it.
    pub engine: EngineKind,
    /// The state.
    pub state: State,
    /// Why it is in that state: the failed step, the broken guarantee, the exit reason.
    pub reason: String,
    /// The host's pid of the workspace's first process, on the local engine while it lives.
    pub pid: Option<u32>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last opened.
    pub opened_at: Option<Timestamp>,
    /// The last thing its user did.
    pub last_activity: Option<Timestamp>,
    /// When it will be stopped unless its user does something; set when that is near.
    pub stops_at: Option<Timestamp>,
    /// Anything its user should know now, for example that the home is full.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What a workspace uses now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time since start, in microseconds.
    pub cpu_us: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Memory limit in bytes.
    pub memory_limit: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Limit of processes and threads.
    pub pids_limit: u64,
    /// Bytes used in the home volume.
    pub home: u64,
    /// Size of the home volume; none when the back end has no limit.
    pub home_limit: Option<u64>,
    /// Whether its processes stand still, until somebody does something in it.
    #[serde(default)]
    pub frozen: bool,
}

/// The five steps of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The request was accepted.
    Request,
    /// Which walls it needs.
    Plan,
    /// The walls are built.
    Build,
    /// The walls are proven from inside.
    Prove,
    /// User code starts and the route opens.
    Open,
}

impl Step {
    /// All five in order.
    pub const ALL: [Self; 5] = [Self::Request, Self::Plan, Self::Build, Self::Prove, Self::Open];

    /// The word for it in events, metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Plan => "plan",
            Self::Build => "build",
            Self::Prove => "prove",
            Self::Open => "open",
        }
    }
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Begun.
    Running,
    /// Done.
    Done,
    /// Failed: the launch ends here.
    Failed,
}

/// One progress event of a launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEvent {
    /// Which step.
    pub step: Step,
    /// How far.
    pub state: Progress,
    /// What happened, in one sentence.
    pub message: String,
    /// Milliseconds since the request.
    pub elapsed_ms: u64,
}

impl StepEvent {
    /// Whether the launch is over with this.
    pub fn is_last(&self) -> bool {
        self.state == Progress::Failed || (self.step == Step::Open && self.state == Progress::Done)
    }
}
