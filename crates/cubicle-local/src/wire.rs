//! The language between the engine and its callers: the hub and the administrator.
//!
//! One connection carries one call: a frame each way, each a 32-bit big-endian length and
//! that many bytes of JSON. Descriptors travel beside a single zero byte.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cubicle_core::engine::{Activity, LaunchRequest};
use cubicle_core::name::{TemplateName, UserId, WorkspaceId};
use cubicle_core::problem::Problem;
use cubicle_core::reservation::NewReservation;
use cubicle_core::template::Template;
use cubicle_core::trace::TraceParent;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// Frames above this size are refused, in bytes.
const MAX_FRAME: u32 = 16 << 20;
/// More descriptors than any call carries.
const MAX_DESCRIPTORS: usize = 4;

/// What a caller asks of the engine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "call")]
pub(crate) enum Call {
    Templates,
    ApplyTemplate {
        template: Box<Template>,
    },
    DeleteTemplate {
        name: TemplateName,
    },
    Launch {
        launch: LaunchRequest,
    },
    Workspaces,
    Workspace {
        id: WorkspaceId,
    },
    Events {
        id: WorkspaceId,
    },
    Start {
        id: WorkspaceId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<TraceParent>,
    },
    Stop {
        id: WorkspaceId,
    },
    Delete {
        id: WorkspaceId,
        volume: bool,
    },
    Verify {
        id: WorkspaceId,
        only: Vec<String>,
    },
    Report {
        id: WorkspaceId,
    },
    Usage {
        id: WorkspaceId,
    },
    Logs {
        id: WorkspaceId,
    },
    Connect {
        id: WorkspaceId,
    },
    RecordActivity {
        id: WorkspaceId,
        activity: Activity,
    },
    Reservations,
    Reserve {
        reservation: NewReservation,
    },
    CancelReservation {
        id: String,
    },
    Volumes,
    DeleteVolume {
        user: UserId,
    },
    Doctor,
    Images,
    /// Administrator only.
    Pool,
    /// The hub's listeners: the public one, then the administrator's.
    Listeners,
    /// Administrator only: followed by stdin, stdout, stderr.
    Exec {
        id: WorkspaceId,
        command: Vec<String>,
    },
    /// Administrator only: followed by the descriptor to write a tar archive to.
    ExportVolume {
        user: UserId,
    },
    /// Administrator only.
    ImportImage {
        path: std::path::PathBuf,
        name: String,
    },
    /// Administrator only: followed by the descriptor to write an OCI archive to.
    ExportImage {
        name: String,
    },
}

impl Call {
    /// Whether only the machine's administrator may ask this.
    pub(crate) fn is_administrative(&self) -> bool {
        matches!(
            self,
            Self::Exec { .. }
                | Self::ExportVolume { .. }
                | Self::ImportImage { .. }
                | Self::ExportImage { .. }
                | Self::Pool
        )
    }
}

/// What the engine answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply<T> {
    Done(T),
    Problem(Problem),
}

impl<T> From<Result<T, Problem>> for Reply<T> {
    fn from(result: Result<T, Problem>) -> Self {
        match result {
            Ok(value) => Self::Done(value),
            Err(problem) => Self::Problem(problem),
        }
    }
}

impl<T> From<Reply<T>> for Result<T, Problem> {
    fn from(reply: Reply<T>) -> Self {
        match reply {
            Reply::Done(value) => Ok(value),
            Reply::Problem(problem) => Err(problem),
        }
    }
}

/// Writes one frame.
pub(crate) async fn write_frame<T: Serialize>(stream: &mut UnixStream, value: &T) -> io::Result<()> {
    let body = serde_json::to_vec(value)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "frame too large"))?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&body).await?;
    stream.flush().await
}

/// Reads one frame; none at the end of the stream.
pub(crate) async fn read_frame<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_be_bytes(length);
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame of {length} bytes refused")));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    serde_json::from_slice(&body).map(Some).map_err(io::Error::from)
}

/// Sends descriptors to the peer.
pub(crate) async fn send_descriptors(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
            }
            rustix::net::sendmsg(stream.as_fd(), &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
            Ok(())
        })
        .await
}

/// Receives exactly `count` descriptors; anything else is an error and closes what came.
pub(crate) async fn receive_descriptors(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    stream
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [1];
            let message = rustix::net::recvmsg(
                stream.as_fd(),
                &mut [IoSliceMut::new(&mut byte)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            let received: Vec<OwnedFd> = ancillary
                .drain()
                .filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                    _ => None,
                })
                .flatten()
                .collect();
            let whole = message.bytes == 1 && byte == [0] && !message.flags.contains(ReturnFlags::CTRUNC);
            if whole && received.len() == count {
                return Ok(received);
            }
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("expected {count} descriptors, got {}", received.len()),
            ))
        })
        .await
}
