//! The engine as its callers see it: one Unix socket, no power of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use cubicle_core::engine::{Activity, Connection, DoctorFinding, Engine, LaunchRequest, Volume};
use cubicle_core::level::EngineKind;
use cubicle_core::name::{TemplateName, UserId, WorkspaceId};
use cubicle_core::problem::Problem;
use cubicle_core::report::Report;
use cubicle_core::reservation::{NewReservation, Reservation};
use cubicle_core::template::Template;
use cubicle_core::trace::TraceParent;
use cubicle_core::workspace::{StepEvent, Usage, Workspace};
use futures::stream::{BoxStream, StreamExt, unfold};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::images::ImageSummary;
use crate::layout::Layout;
use crate::pool::PoolState;
use crate::wire::{Call, Reply, read_frame, receive_descriptors, send_descriptors, write_frame};

/// The engine behind a Unix socket. What the caller may ask is decided on the other side by
/// the socket and the peer's credentials.
#[derive(Debug, Clone)]
pub struct LocalEngine {
    socket: PathBuf,
}

impl LocalEngine {
    /// The administrator's engine: `run/engine.sock` below this home.
    pub fn connect(home: &Path) -> Self {
        Self { socket: Layout::new(home).engine_socket() }
    }

    /// The hub's engine: `run/hub.sock` below this home.
    pub fn connect_as_hub(home: &Path) -> Self {
        Self { socket: Layout::new(home).hub_socket() }
    }

    async fn open(&self, call: &Call) -> Result<UnixStream, Problem> {
        let unreachable = |error: io::Error| {
            Problem::engine(
                format!("the engine does not answer at {}: {error}", self.socket.display()),
                "start it with `./up`",
            )
        };
        let mut stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        write_frame(&mut stream, call).await.map_err(unreachable)?;
        Ok(stream)
    }

    async fn reply<T: DeserializeOwned>(&self, stream: &mut UnixStream) -> Result<T, Problem> {
        match read_frame::<Reply<T>>(stream).await {
            Ok(Some(reply)) => reply.into(),
            Ok(None) => Err(Problem::engine("the engine ended before it answered", "see its log, then try again")),
            Err(error) => Err(Problem::engine(format!("the engine's answer could not be read: {error}"), "try again")),
        }
    }

    async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, Problem> {
        let mut stream = self.open(&call).await?;
        self.reply(&mut stream).await
    }

    async fn call_with<T: DeserializeOwned>(&self, call: Call, descriptors: &[BorrowedFd<'_>]) -> Result<T, Problem> {
        let mut stream = self.open(&call).await?;
        send_descriptors(&stream, descriptors)
            .await
            .map_err(|error| Problem::engine(format!("descriptors could not be sent: {error}"), "try again"))?;
        self.reply(&mut stream).await
    }

    /// The listeners that the engine keeps for the hub: the public one and the administrator's.
    pub async fn listeners(&self) -> Result<(OwnedFd, OwnedFd), Problem> {
        let mut stream = self.open(&Call::Listeners).await?;
        let () = self.reply(&mut stream).await?;
        let received = receive_descriptors(&stream, 2).await;
        let mut received = received
            .map_err(|error| Problem::engine(format!("the listeners did not arrive: {error}"), "see the engine's log"))?
            .into_iter();
        match (received.next(), received.next()) {
            (Some(public), Some(admin)) => Ok((public, admin)),
            _ => Err(Problem::engine("the listeners did not arrive", "see the engine's log")),
        }
    }

    /// Runs a command in a workspace as its tenant, under the very walls of the notebook, with
    /// these as stdin, stdout and stderr. Answers its exit code, 128 + signal when killed.
    pub async fn exec(&self, id: &WorkspaceId, command: Vec<String>, streams: [OwnedFd; 3]) -> Result<i32, Problem> {
        let descriptors: Vec<BorrowedFd<'_>> = streams.iter().map(AsFd::as_fd).collect();
        self.call_with(Call::Exec { id: id.clone(), command }, &descriptors).await
    }

    /// Writes a user's home to a descriptor as a tar archive.
    pub async fn export_volume(&self, user: &UserId, to: OwnedFd) -> Result<(), Problem> {
        self.call_with(Call::ExportVolume { user: user.clone() }, &[to.as_fd()]).await
    }

    /// Imports a folder or an OCI archive as an image.
    pub async fn import_image(&self, path: &Path, name: &str) -> Result<ImageSummary, Problem> {
        self.call(Call::ImportImage { path: path.to_owned(), name: name.to_owned() }).await
    }

    /// All images, newest first.
    pub async fn images(&self) -> Result<Vec<ImageSummary>, Problem> {
        self.call(Call::Images).await
    }

    /// What is held ready, and why.
    pub async fn pool(&self) -> Result<PoolState, Problem> {
        self.call(Call::Pool).await
    }

    /// Writes an image to a descriptor as an OCI archive.
    pub async fn export_image(&self, name: &str, to: OwnedFd) -> Result<(), Problem> {
        self.call_with(Call::ExportImage { name: name.to_owned() }, &[to.as_fd()]).await
    }
}

#[async_trait]
impl Engine for LocalEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Local
    }

    async fn templates(&self) -> Result<Vec<Template>, Problem> {
        self.call(Call::Templates).await
    }

    async fn apply_template(&self, template: Template) -> Result<(), Problem> {
        self.call(Call::ApplyTemplate { template: Box::new(template) }).await
    }

    async fn delete_template(&self, name: &TemplateName) -> Result<(), Problem> {
        self.call(Call::DeleteTemplate { name: name.clone() }).await
    }

    async fn launch(&self, launch: LaunchRequest) -> Result<Workspace, Problem> {
        self.call(Call::Launch { launch }).await
    }

    async fn workspaces(&self) -> Result<Vec<Workspace>, Problem> {
        self.call(Call::Workspaces).await
    }

    async fn workspace(&self, id: &WorkspaceId) -> Result<Workspace, Problem> {
        self.call(Call::Workspace { id: id.clone() }).await
    }

    async fn events(&self, id: &WorkspaceId) -> Result<BoxStream<'static, StepEvent>, Problem> {
        let mut stream = self.open(&Call::Events { id: id.clone() }).await?;
        let () = self.reply(&mut stream).await?;
        let events = unfold(stream, |mut stream| async {
            let event = read_frame::<StepEvent>(&mut stream).await.ok().flatten()?;
            Some((event, stream))
        });
        Ok(events.boxed())
    }

    async fn start(&self, id: &WorkspaceId, trace: Option<TraceParent>) -> Result<Workspace, Problem> {
        self.call(Call::Start { id: id.clone(), trace }).await
    }

    async fn stop(&self, id: &WorkspaceId) -> Result<Workspace, Problem> {
        self.call(Call::Stop { id: id.clone() }).await
    }

    async fn delete(&self, id: &WorkspaceId, volume: bool) -> Result<(), Problem> {
        self.call(Call::Delete { id: id.clone(), volume }).await
    }

    async fn verify(&self, id: &WorkspaceId, only: &[String]) -> Result<Report, Problem> {
        self.call(Call::Verify { id: id.clone(), only: only.to_vec() }).await
    }

    async fn report(&self, id: &WorkspaceId) -> Result<Report, Problem> {
        self.call(Call::Report { id: id.clone() }).await
    }

    async fn usage(&self, id: &WorkspaceId) -> Result<Usage, Problem> {
        self.call(Call::Usage { id: id.clone() }).await
    }

    async fn logs(&self, id: &WorkspaceId) -> Result<String, Problem> {
        self.call(Call::Logs { id: id.clone() }).await
    }

    async fn connect(&self, id: &WorkspaceId) -> Result<Connection, Problem> {
        let mut stream = self.open(&Call::Connect { id: id.clone() }).await?;
        let token: String = self.reply(&mut stream).await?;
        let received = receive_descriptors(&stream, 1).await;
        let stream = received
            .map_err(|error| Problem::engine(format!("the connection did not arrive: {error}"), "try again"))?
            .pop()
            .ok_or_else(|| Problem::engine("the connection did not arrive", "try again"))?;
        Ok(Connection { stream, token: SecretString::from(token) })
    }

    async fn record_activity(&self, id: &WorkspaceId, activity: Activity) -> Result<(), Problem> {
        self.call(Call::RecordActivity { id: id.clone(), activity }).await
    }

    async fn reservations(&self) -> Result<Vec<Reservation>, Problem> {
        self.call(Call::Reservations).await
    }

    async fn reserve(&self, reservation: NewReservation) -> Result<Reservation, Problem> {
        self.call(Call::Reserve { reservation }).await
    }

    async fn cancel_reservation(&self, id: &str) -> Result<(), Problem> {
        self.call(Call::CancelReservation { id: id.to_owned() }).await
    }

    async fn volumes(&self) -> Result<Vec<Volume>, Problem> {
        self.call(Call::Volumes).await
    }

    async fn delete_volume(&self, user: &UserId) -> Result<(), Problem> {
        self.call(Call::DeleteVolume { user: user.clone() }).await
    }

    async fn doctor(&self) -> Result<Vec<DoctorFinding>, Problem> {
        self.call(Call::Doctor).await
    }
}
