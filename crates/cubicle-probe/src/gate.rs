//! The gate: the workspace's first process. It proves, waits for the go, and becomes the init
//! of whatever it starts.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;

use cubicle_core::attempt::{GateMessage, Observations, ProbePlan, Role};

use crate::answer::Context;
use crate::window::Window;
use crate::{init, not_dumpable, run};

/// Where plan and go come from, and where the answer goes.
const PLAN: i32 = 3;
const ANSWER: i32 = 4;
/// The longest line that is read, in bytes.
const LINE: u64 = 4 << 20;

pub(crate) fn run(mut window: Window) -> io::Result<ExitCode> {
    not_dumpable()?;
    let (plan, mut answer) = descriptors()?;
    let mut lines = BufReader::new(plan);
    let Some(plan) = read_line::<ProbePlan>(&mut lines)? else { return Ok(ExitCode::SUCCESS) };
    let context = Context::new(Role::Tenant, &plan);
    let observations = run::run(&context, &plan, Some(&mut window));
    let observations = Observations { nonce: plan.nonce.clone(), role: Role::Tenant, observations, disturbed: None };
    let mut text = serde_json::to_vec(&observations).map_err(io::Error::other)?;
    text.push(b'\n');
    answer.write_all(&text)?;

    // Nothing starts without the go for this very proof.
    let Some(message) = read_line::<GateMessage>(&mut lines)? else { return Ok(ExitCode::SUCCESS) };
    if message.go.nonce != plan.nonce || plan.nonce.is_empty() {
        return Err(io::Error::other("the go is for another proof"));
    }
    // From here on the supervisor may come and go.
    drop(lines);
    init::start(&message.go, answer)
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

/// One line of JSON; none when the supervisor has closed its end.
fn read_line<T: serde::de::DeserializeOwned>(lines: &mut BufReader<File>) -> io::Result<Option<T>> {
    let mut line = String::new();
    lines.by_ref().take(LINE).read_line(&mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if !line.ends_with('\n') {
        return Err(io::Error::other("a line from the supervisor is cut off or too long"));
    }
    serde_json::from_str(&line).map(Some).map_err(io::Error::other)
}
