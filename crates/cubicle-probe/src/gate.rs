//! The gate: the workspace's first process. It proves, waits for the go, and becomes the init
//! of whatever it starts.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;

use cubicle_core::attempt::{GateMessage, Observations, ProbePlan, Role};

use crate::answer::Context;
use crate::window::Window;
use crate::{init, not_dumpable, read_line, run};

/// Where plan and go come from, and where the answer goes.
const PLAN: i32 = 3;
const ANSWER: i32 = 4;

pub(crate) fn run(mut window: Window) -> io::Result<ExitCode> {
    not_dumpable()?;
    let (plans, mut answer) = descriptors()?;
    let mut lines = BufReader::new(plans);
    let mut proven: Option<String> = None;
    let go = loop {
        match read_line::<GateMessage>(&mut lines)? {
            None => return Ok(ExitCode::SUCCESS),
            Some(GateMessage::Go(go)) => break go,
            Some(GateMessage::Plan(part)) => {
                if proven.as_ref().is_some_and(|nonce| *nonce != part.nonce) {
                    return Err(io::Error::other("a part of another proof"));
                }
                prove(&part, &mut window, &mut answer)?;
                proven = Some(part.nonce);
            }
        }
    };
    // Nothing starts without the go for this very proof.
    if go.nonce.is_empty() || proven.as_ref() != Some(&go.nonce) {
        return Err(io::Error::other("the go is for another proof"));
    }
    // From here on the supervisor may come and go.
    drop(lines);
    init::start(&go, answer)
}

/// Tries one part and tells what came of it.
fn prove(part: &ProbePlan, window: &mut Window, answer: &mut File) -> io::Result<()> {
    let context = Context::new(Role::Tenant, part);
    let observations = run::run(&context, part, Some(window));
    let observations = Observations { nonce: part.nonce.clone(), role: Role::Tenant, observations, disturbed: None };
    let mut text = serde_json::to_vec(&observations).map_err(io::Error::other)?;
    text.push(b'\n');
    answer.write_all(&text)
}

/// The two inherited pipes, taken over and closed on exec.
fn descriptors() -> io::Result<(File, File)> {
    let take = |descriptor: i32| -> io::Result<File> {
        // SAFETY: the supervisor passes the descriptor to this process alone, and it is taken once.
        let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
        rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)?;
        Ok(File::from(owned))
    };
    Ok((take(PLAN)?, take(ANSWER)?))
}
