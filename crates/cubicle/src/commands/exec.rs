//! `cubicle exec`

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::thread;

use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::Problem;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::context::{Context, block_on};
use crate::exit::Outcome;

/// What is still read after the command has ended: more than a pipe holds, so that its own
/// last words are never lost, and bounded, so that what it left behind cannot talk for ever.
const LAST_WORDS: usize = 2 << 20;

/// Run a command in a workspace, as its tenant, under the very walls of the notebook
///
/// Ends with the command's own exit code, or 128 plus the signal that killed it. The command
/// gets pipes, never this terminal or these files: who holds a descriptor from outside holds a
/// door. Programs that need a terminal run in the notebook's own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle exec w-0123456789ab -- python3 -c 'print(1 + 1)'")]
pub(crate) struct Arguments {
    /// The workspace's id, as `cubicle list` prints it
    id: String,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let id: WorkspaceId = self.id.parse()?;
        block_on(async {
            let engine = context.local("`cubicle exec`")?;
            let (input, to_input) = io::pipe().map_err(no_pipe)?;
            let (from_output, output) = io::pipe().map_err(no_pipe)?;
            let (from_errors, errors) = io::pipe().map_err(no_pipe)?;
            let relays = [(receiver(from_output)?, Stream::Output), (receiver(from_errors)?, Stream::Errors)];
            let (ended, end) = watch::channel(());
            let relays = relays.map(|(from, to)| tokio::spawn(relay(from, to, end.clone())));
            // A thread of its own, and never joined: a read from a terminal cannot be called off.
            thread::spawn(move || feed(to_input));
            let streams = [OwnedFd::from(input), OwnedFd::from(output), OwnedFd::from(errors)];
            let code = engine.exec(&id, self.command, streams).await;
            drop(ended);
            for relay in relays {
                let _ = relay.await;
            }
            code.map(|code| Outcome::PassedThrough(u8::try_from(code).unwrap_or(u8::MAX)))
        })
    }
}

/// Which of our own streams.
#[derive(Debug, Clone, Copy)]
enum Stream {
    Output,
    Errors,
}

impl Stream {
    fn write(self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Output => {
                let mut stream = io::stdout().lock();
                stream.write_all(bytes).and_then(|()| stream.flush())
            }
            Self::Errors => io::stderr().lock().write_all(bytes),
        }
    }
}

fn no_pipe(error: io::Error) -> Problem {
    Problem::engine(format!("no pipe: {error}"), "check the limits of this shell (`ulimit -n`)")
}

fn receiver(pipe: io::PipeReader) -> Result<pipe::Receiver, Problem> {
    pipe::Receiver::from_owned_fd(OwnedFd::from(pipe)).map_err(no_pipe)
}

/// Copies our standard input until it ends or nobody reads it any more.
fn feed(mut to: io::PipeWriter) {
    let _ = io::copy(&mut io::stdin().lock(), &mut to);
}

/// Copies until the stream ends, or until the command has ended and what it wrote is copied. A
/// process that it left behind may hold the stream open; we do not wait for that one.
async fn relay(mut from: pipe::Receiver, to: Stream, mut end: watch::Receiver<()>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            biased;
            read = from.read(&mut buffer) => read,
            _ = end.changed() => break,
        };
        match read {
            Ok(read @ 1..) if to.write(&buffer[..read]).is_ok() => {}
            _ => return,
        }
    }
    let mut left = LAST_WORDS;
    // Not through the runtime, which may not yet have seen that there is something to read.
    while let Ok(read @ 1..) = rustix::io::read(&from, &mut buffer) {
        left = left.saturating_sub(read);
        if to.write(&buffer[..read]).is_err() || left == 0 {
            return;
        }
    }
}
