//! The interface that both engines implement and every contract test runs against.

use std::os::fd::OwnedFd;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::level::EngineKind;
use crate::name::{TemplateName, UserId, WorkspaceId};
use crate::problem::Problem;
use crate::report::Report;
use crate::reservation::{NewReservation, Reservation};
use crate::template::Template;
use crate::trace::TraceParent;
use crate::workspace::{Owner, StepEvent, Usage, Workspace};

/// A request to launch a template for a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// What to launch.
    pub template: TemplateName,
    /// For whom.
    pub owner: Owner,
    /// What the user calls it; the template's name when empty.
    #[serde(default)]
    pub name: String,
    /// The user's groups, for templates that are restricted.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Where the launch belongs in the trace of whoever asks, if that is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
}

/// A connection to the notebook server of an open workspace.
#[derive(Debug)]
pub struct Connection {
    /// A connected stream socket.
    pub stream: OwnedFd,
    /// What the hub adds as `Authorization: token ...`; the tenant's browser never sees it.
    pub token: SecretString,
}

/// What the hub has seen a user do in a workspace since the last report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// When the user last did something: a request that is not one of Jupyter's own polls.
    pub at: Timestamp,
    /// When the server last said that a kernel was busy. Believed only while its CPU counter grows.
    pub busy_at: Option<Timestamp>,
}

/// A home volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Whose it is.
    pub owner: Owner,
    /// `image` or `dir`.
    pub backend: String,
    /// Hard limit in bytes; none with the `dir` back end.
    pub limit: Option<u64>,
    /// Bytes that it takes on the host.
    pub used: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Whether this host or cluster has one mechanism.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorFinding {
    /// The mechanism, for example `user-namespaces`.
    pub mechanism: String,
    /// `available`, `absent` or `untested`.
    pub status: DoctorStatus,
    /// How it was found out, or why it is absent.
    pub detail: String,
    /// Whether workspaces at `standard` need it.
    pub required: bool,
}

/// What `doctor` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoctorStatus {
    /// Tried, and it works.
    Available,
    /// Tried, and it does not.
    Absent,
    /// Could not be tried.
    Untested,
}

/// Nobody has announced anything under this identifier, or it is past.
pub fn no_reservation(id: &str) -> Problem {
    let id: String = id.chars().take(40).flat_map(char::escape_default).collect();
    Problem::not_found(format!("there is no reservation \"{id}\""), "list the known ones; those that are past are gone")
}

/// What builds, proves, opens and ends workspaces.
///
/// Every method answers with a [`Problem`] that names input, rule and remedy. Dropping a
/// returned future never leaves a half-made workspace: work goes on in the engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Which engine this is.
    fn kind(&self) -> EngineKind;

    /// All templates, by name.
    async fn templates(&self) -> Result<Vec<Template>, Problem>;
    /// Creates or replaces a template.
    async fn apply_template(&self, template: Template) -> Result<(), Problem>;
    /// Deletes a template; running workspaces live on.
    async fn delete_template(&self, name: &TemplateName) -> Result<(), Problem>;

    /// Accepts a launch and returns at once; the five steps follow as events.
    async fn launch(&self, request: LaunchRequest) -> Result<Workspace, Problem>;
    /// All workspaces, newest first.
    async fn workspaces(&self) -> Result<Vec<Workspace>, Problem>;
    /// One workspace.
    async fn workspace(&self, id: &WorkspaceId) -> Result<Workspace, Problem>;
    /// The events of the last launch so far, then live ones until it is over.
    async fn events(&self, id: &WorkspaceId) -> Result<BoxStream<'static, StepEvent>, Problem>;
    /// Launches a stopped, refused or failed workspace again, from the first step; `trace` is where that
    /// belongs in the trace of whoever asks.
    async fn start(&self, id: &WorkspaceId, trace: Option<TraceParent>) -> Result<Workspace, Problem>;
    /// Stops it; returns when nothing of it runs.
    async fn stop(&self, id: &WorkspaceId) -> Result<Workspace, Problem>;
    /// Stops and forgets it; with `volume` deletes the user's home too, unless another
    /// workspace of that user exists.
    async fn delete(&self, id: &WorkspaceId, volume: bool) -> Result<(), Problem>;

    /// Proves again now, from inside; all promised guarantees when `only` is empty.
    async fn verify(&self, id: &WorkspaceId, only: &[String]) -> Result<Report, Problem>;
    /// The last report.
    async fn report(&self, id: &WorkspaceId) -> Result<Report, Problem>;
    /// What it uses now.
    async fn usage(&self, id: &WorkspaceId) -> Result<Usage, Problem>;
    /// The last lines that the notebook server printed. Hostile text.
    async fn logs(&self, id: &WorkspaceId) -> Result<String, Problem>;

    /// Connects to the notebook of an open workspace; refused in any other state.
    async fn connect(&self, id: &WorkspaceId) -> Result<Connection, Problem>;
    /// Resolves when nobody may be connected to this workspace any more; what is open is closed then.
    /// By default never: the sockets of most engines end with the notebook.
    async fn closed(&self, _: &WorkspaceId) {
        std::future::pending().await
    }
    /// Records what the hub has seen the user do.
    async fn record_activity(&self, id: &WorkspaceId, activity: Activity) -> Result<(), Problem>;

    /// Launches that are announced, by time. None where no sandbox is held for anybody.
    async fn reservations(&self) -> Result<Vec<Reservation>, Problem> {
        Ok(Vec::new())
    }
    /// Announces launches, so that sandboxes are ready for them.
    async fn reserve(&self, _: NewReservation) -> Result<Reservation, Problem> {
        Err(Problem::bad_input(
            "this engine holds no sandboxes ready",
            "launches there begin when they are asked for; reservations are for the engine of one machine",
        ))
    }
    /// Takes an announcement back.
    async fn cancel_reservation(&self, id: &str) -> Result<(), Problem> {
        Err(no_reservation(id))
    }

    /// All homes.
    async fn volumes(&self) -> Result<Vec<Volume>, Problem>;
    /// Deletes a user's home; refused while a workspace of that user exists.
    async fn delete_volume(&self, user: &UserId) -> Result<(), Problem>;

    /// What this host or cluster can enforce, found by trying.
    async fn doctor(&self) -> Result<Vec<DoctorFinding>, Problem>;
}
