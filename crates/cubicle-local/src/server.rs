//! The engine's doors: one Unix socket for the administrator, one for the hub.
//!
//! Who may ask is decided by the peer's credentials, which the kernel gives (`unix(7)`,
//! `SO_PEERCRED`). What the hub may ask is less: it can never run a command in a workspace or
//! read a home.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;

use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_core::workspace::StepEvent;
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};

use crate::layout::{HUB_UID, Layout};
use crate::supervisor::Supervisor;
use crate::wire::{Call, Reply, read_frame, receive_descriptors, send_descriptors, write_frame};
use crate::{doctor, images};

/// Who is on the other side of a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Administrator,
    Hub,
}

/// The listeners that the engine keeps while hubs come and go.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// Where browsers connect.
    pub(crate) public: OwnedFd,
    /// Where the administrator's command line connects.
    pub(crate) admin: OwnedFd,
}

/// Opens both doors.
pub(crate) fn open(layout: &Layout) -> io::Result<(UnixListener, UnixListener)> {
    let administrator = bind(&layout.engine_socket(), 0)?;
    let hub = bind(&layout.hub_socket(), HUB_UID)?;
    Ok((administrator, hub))
}

/// Binds a socket that only this user may connect to.
pub(crate) fn bind(path: &Path, uid: u32) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    chown(path, Some(uid), Some(uid))?;
    Ok(listener)
}

/// Serves both doors until the engine ends.
pub(crate) async fn serve(
    supervisor: Arc<Supervisor>,
    listeners: Arc<Listeners>,
    (administrator, hub): (UnixListener, UnixListener),
) -> io::Result<()> {
    tokio::try_join!(
        accept(administrator, Caller::Administrator, 0, supervisor.clone(), listeners.clone()),
        accept(hub, Caller::Hub, HUB_UID, supervisor, listeners),
    )?;
    Ok(())
}

async fn accept(
    listener: UnixListener,
    caller: Caller,
    uid: u32,
    supervisor: Arc<Supervisor>,
    listeners: Arc<Listeners>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors or memory: what is open goes on, new callers wait.
                tracing::warn!(%error, "a caller could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let peer = stream.peer_cred()?.uid();
        if peer != uid && peer != 0 {
            tracing::warn!(peer, ?caller, "a caller was refused");
            continue;
        }
        let (supervisor, listeners) = (supervisor.clone(), listeners.clone());
        tokio::spawn(async move {
            if let Err(error) = answer(stream, caller, &supervisor, &listeners).await {
                tracing::debug!(%error, ?caller, "a call ended early");
            }
        });
    }
}

async fn answer(
    mut stream: UnixStream,
    caller: Caller,
    supervisor: &Arc<Supervisor>,
    listeners: &Listeners,
) -> io::Result<()> {
    let call = match read_frame::<Call>(&mut stream).await {
        Ok(Some(call)) => call,
        Ok(None) => return Ok(()),
        Err(error) => {
            let problem =
                Problem::bad_input(format!("the call cannot be read: {error}"), "use the same version on both sides");
            return write_frame(&mut stream, &Reply::<()>::Problem(problem)).await;
        }
    };
    if caller != Caller::Administrator && call.is_administrative() {
        let problem = Problem::new(
            ProblemKind::NotAllowed,
            "only the machine's administrator may ask this",
            "use the command line as root",
        );
        return write_frame(&mut stream, &Reply::<()>::Problem(problem)).await;
    }
    match call {
        Call::Templates => done(&mut stream, supervisor.store.templates()).await,
        Call::ApplyTemplate { template } => done(&mut stream, supervisor.apply_template(&template)).await,
        Call::DeleteTemplate { name } => done(&mut stream, supervisor.delete_template(&name)).await,
        Call::Launch { launch } => done(&mut stream, supervisor.launch(launch).await).await,
        Call::Workspaces => {
            let rows = supervisor.store.rows();
            done(&mut stream, rows.map(|rows| rows.into_iter().map(|row| row.workspace).collect::<Vec<_>>())).await
        }
        Call::Workspace { id } => done(&mut stream, supervisor.store.row(&id).map(|row| row.workspace)).await,
        Call::Events { id } => events(&mut stream, supervisor, &id).await,
        Call::Start { id, trace } => done(&mut stream, supervisor.start(&id, trace).await).await,
        Call::Stop { id } => done(&mut stream, supervisor.stop(&id, "stopped").await).await,
        Call::Delete { id, volume } => done(&mut stream, supervisor.delete(&id, volume).await).await,
        Call::Verify { id, only } => done(&mut stream, supervisor.verify(&id, &only).await).await,
        Call::Report { id } => done(&mut stream, supervisor.report(&id)).await,
        Call::Usage { id } => done(&mut stream, supervisor.usage(&id).await).await,
        Call::Logs { id } => done(&mut stream, supervisor.logs(&id)).await,
        Call::Connect { id } => match supervisor.connect(&id).await {
            Ok((socket, token)) => {
                write_frame(&mut stream, &Reply::Done(token)).await?;
                send_descriptors(&stream, &[socket.as_fd()]).await
            }
            Err(problem) => write_frame(&mut stream, &Reply::<String>::Problem(problem)).await,
        },
        Call::RecordActivity { id, activity } => done(&mut stream, supervisor.record_activity(&id, activity)).await,
        Call::Reservations => done(&mut stream, supervisor.store.reservations()).await,
        Call::Reserve { reservation } => done(&mut stream, supervisor.reserve(reservation)).await,
        Call::CancelReservation { id } => done(&mut stream, supervisor.cancel_reservation(&id)).await,
        Call::Volumes => done(&mut stream, supervisor.volumes()).await,
        Call::DeleteVolume { user } => done(&mut stream, supervisor.delete_volume(&user).await).await,
        Call::Doctor => done(&mut stream, Ok(doctor::examine(&supervisor.layout))).await,
        Call::Images => done(&mut stream, images::list(&supervisor.layout)).await,
        Call::Pool => {
            // Whoever asks wants to see what follows from what was just changed.
            supervisor.pool.look_again();
            done(&mut stream, supervisor.pool_state()).await
        }
        Call::Listeners => {
            write_frame(&mut stream, &Reply::Done(())).await?;
            let both: [BorrowedFd<'_>; 2] = [listeners.public.as_fd(), listeners.admin.as_fd()];
            send_descriptors(&stream, &both).await
        }
        Call::Exec { id, command } => {
            let streams = receive_descriptors(&stream, 3).await?;
            let streams: [OwnedFd; 3] =
                streams.try_into().map_err(|_| io::Error::other("three descriptors expected"))?;
            done(&mut stream, supervisor.exec(&id, command, streams).await).await
        }
        Call::ExportVolume { user } => {
            let to = receive_one(&stream).await?;
            done(&mut stream, crate::volumes::export(supervisor, &user, to).await).await
        }
        Call::ImportImage { path, name } => {
            let layout = supervisor.layout.clone();
            let imported = tokio::task::spawn_blocking(move || images::import(&layout, &path, &name)).await;
            done(&mut stream, imported.unwrap_or_else(|error| Err(Problem::engine(error.to_string(), "")))).await
        }
        Call::ExportImage { name } => {
            let to = receive_one(&stream).await?;
            let layout = supervisor.layout.clone();
            let exported = tokio::task::spawn_blocking(move || images::export(&layout, &name, to)).await;
            done(&mut stream, exported.unwrap_or_else(|error| Err(Problem::engine(error.to_string(), "")))).await
        }
    }
}

async fn done<T: Serialize>(stream: &mut UnixStream, result: Result<T, Problem>) -> io::Result<()> {
    write_frame(stream, &Reply::from(result)).await
}

async fn receive_one(stream: &UnixStream) -> io::Result<OwnedFd> {
    receive_descriptors(stream, 1).await?.pop().ok_or_else(|| io::Error::other("a descriptor expected"))
}

/// Sends the events so far and then each new one, until the launch is over.
async fn events(
    stream: &mut UnixStream,
    supervisor: &Supervisor,
    id: &cubicle_core::name::WorkspaceId,
) -> io::Result<()> {
    let mut sent = 0;
    loop {
        let (events, mut changed) = match supervisor.events(id) {
            Ok(found) => found,
            Err(problem) if sent == 0 => return write_frame(stream, &Reply::<()>::Problem(problem)).await,
            Err(_) => return Ok(()),
        };
        if sent == 0 {
            write_frame(stream, &Reply::Done(())).await?;
            sent = 1;
        }
        // `sent` counts one more than the events, so that the first answer is sent once.
        for event in events.iter().skip(sent - 1) {
            write_frame(stream, event).await?;
        }
        sent = sent.max(events.len() + 1);
        let live = supervisor.store.row(id).is_ok_and(|row| row.workspace.state.is_live());
        if events.last().is_some_and(StepEvent::is_last) || !live {
            return Ok(());
        }
        if changed.changed().await.is_err() {
            return Ok(());
        }
    }
}
