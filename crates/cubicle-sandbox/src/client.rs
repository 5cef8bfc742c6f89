//! The engine's side of a helper's socket.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cubicle_core::attempt::{ProbePlan, Proof};
use cubicle_core::problem::Problem;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::frame;
use crate::protocol::{HomeSpec, MAX_FRAME, Request, Response};

/// The socket's name in a workspace's directory.
pub const SOCKET: &str = "helper.sock";

/// How long a proof may take, and the mounting of a home before it: a journal may have to be replayed.
const PROOF: Duration = Duration::from_secs(120);

/// How long an answer may take before the helper counts as hung.
fn patience(request: &Request) -> Duration {
    match request {
        Request::Status | Request::Usage | Request::Freeze { .. } | Request::Go { .. } | Request::Claim { .. } => {
            Duration::from_secs(10)
        }
        Request::Prove { .. } | Request::Verify { .. } => PROOF,
        Request::Stop { grace_ms } => Duration::from_millis(*grace_ms) + Duration::from_secs(60),
        Request::Exec { .. } | Request::Hold => Duration::MAX,
    }
}

/// Sends one request to the helper whose directory is `dir` and waits for its answer.
///
/// # Errors
/// A [`Problem`] when no helper answers there, when it does not answer in time, and when it
/// answered that it could not do what was asked.
pub async fn request(dir: &Path, request: &Request) -> Result<Response, Problem> {
    let answer = async {
        let mut stream = connect(dir).await?;
        stream.write_all(&frame::encode(request)?).await?;
        read(&mut stream).await
    };
    match tokio::time::timeout(patience(request), answer).await {
        Ok(Ok(Response::Failed { problem })) => Err(problem),
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(silent(dir, &error)),
        Err(_) => Err(silent(dir, &io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))),
    }
}

/// What keeps a sandbox alive that nobody has claimed yet: it ends when this is dropped.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "it is the open connection that counts")] UnixStream);

/// Holds the sandbox whose directory is `dir` until it is claimed.
///
/// # Errors
/// A [`Problem`] when no helper answers there.
pub async fn hold(dir: &Path) -> Result<Held, Problem> {
    let begin = async {
        let mut stream = connect(dir).await?;
        stream.write_all(&frame::encode(&Request::Hold)?).await?;
        io::Result::Ok(stream)
    };
    begin.await.map(Held).map_err(|error| silent(dir, &error))
}

/// A claim that has begun.
#[derive(Debug)]
pub struct Claim {
    stream: UnixStream,
    dir: PathBuf,
}

/// Begins to claim the sandbox whose directory is `dir`; `plan` is what will be tried when the home is there.
///
/// # Errors
/// As [`request`]; and when it was claimed before.
pub async fn claim(dir: &Path, plan: ProbePlan) -> Result<Claim, Problem> {
    let request = Request::Claim { plan };
    let began = async {
        let mut stream = connect(dir).await?;
        stream.write_all(&frame::encode(&request)?).await?;
        let answer = read(&mut stream).await?;
        io::Result::Ok((stream, answer))
    };
    match tokio::time::timeout(patience(&request), began).await {
        Ok(Ok((stream, Response::Expecting))) => Ok(Claim { stream, dir: dir.to_owned() }),
        Ok(Ok((_, Response::Failed { problem }))) => Err(problem),
        Ok(Ok((_, other))) => Err(Problem::engine(format!("the helper answered {other:?} to a claim"), "")),
        Ok(Err(error)) => Err(silent(dir, &error)),
        Err(_) => Err(silent(dir, &io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))),
    }
}

impl Claim {
    /// Mounts the home and answers the proof.
    ///
    /// # Errors
    /// As [`request`].
    pub async fn mount(mut self, home: &HomeSpec) -> Result<Box<Proof>, Problem> {
        let answer = async {
            self.stream.write_all(&frame::encode(home)?).await?;
            read(&mut self.stream).await
        };
        match tokio::time::timeout(PROOF, answer).await {
            Ok(Ok(Response::Proof(proof))) => Ok(proof),
            Ok(Ok(Response::Failed { problem })) => Err(problem),
            Ok(Ok(other)) => Err(Problem::engine(format!("the helper answered {other:?} to a claim"), "")),
            Ok(Err(error)) => Err(silent(&self.dir, &error)),
            Err(_) => Err(silent(&self.dir, &io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))),
        }
    }
}

/// Runs a command inside as the tenant with these descriptors as stdin, stdout and stderr.
/// Returns its exit code, 128 + signal when it was killed. Dropping the future ends the command.
///
/// # Errors
/// As [`request`].
pub async fn exec(dir: &Path, command: Vec<String>, descriptors: [OwnedFd; 3]) -> Result<i32, Problem> {
    let answer = async {
        let mut stream = connect(dir).await?;
        stream.write_all(&frame::encode(&Request::Exec { command })?).await?;
        send(&stream, descriptors).await?;
        read(&mut stream).await
    };
    match answer.await.map_err(|error: io::Error| silent(dir, &error))? {
        Response::Exited { code } => Ok(code),
        Response::Failed { problem } => Err(problem),
        other => Err(Problem::engine(format!("the helper answered {other:?} to exec"), "")),
    }
}

async fn connect(dir: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(dir.join(SOCKET)).await
}

async fn read(stream: &mut UnixStream) -> io::Result<Response> {
    let length = stream.read_u32().await?;
    if length > MAX_FRAME {
        return Err(io::Error::other("the answer is too long"));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    serde_json::from_slice(&body).map_err(io::Error::other)
}

async fn send(stream: &UnixStream, descriptors: [OwnedFd; 3]) -> io::Result<()> {
    stream
        .async_io(Interest::WRITABLE, || {
            let borrowed = [descriptors[0].as_fd(), descriptors[1].as_fd(), descriptors[2].as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&borrowed));
            sendmsg(stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        })
        .await
}

fn silent(dir: &Path, error: &io::Error) -> Problem {
    Problem::engine(
        format!("the helper of {} does not answer: {error}", dir.display()),
        "the workspace has ended; start it again",
    )
}
