//! The probe: tries every wall of a workspace from inside, as the tenant, and the same things
//! as root without walls, for control.
//!
//! Three roles, chosen by the only argument:
//! - `gate`: the workspace's first process. Proves, waits for the single-use go, starts the
//!   notebook, and stays as the workspace's init. Plan and go come on descriptor 3, the answer
//!   leaves on descriptor 4.
//! - `later`: beside running user code. Plan on stdin, answer on stdout; descriptor 5 is a proc
//!   file system of its own pid namespace.
//! - `control`: root on the machine, in a scratch network namespace that owns what the first plan
//!   dials. Plans on stdin, a line each, and after each the answer on stdout, until stdin ends.
//!
//! And three in pods, where the controller dials in and nothing ever calls out:
//! - `door`: the gate of a pod;
//! - `reference`: root without walls on the same node, the control;
//! - `canary`: listens where no workspace may get.
//!
//! It is one static binary that needs nothing of the image, and it never sends a packet that a
//! missing wall would not have let out anyway; the control's never leave its namespace.

// Raw system calls are what this crate is for; each unsafe block says why it is sound.
#![allow(unsafe_code)]

mod answer;
mod call;
mod canary;
mod child;
mod control;
mod dial;
mod door;
mod fact;
mod file;
mod filter;
mod gate;
mod init;
mod load;
mod proxy;
mod run;
mod socket;
mod window;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::ExitCode;

use cubicle_core::attempt::{Observations, ProbePlan, Role};
use cubicle_core::catalogue::START_UP_WINDOW;

/// The longest line that is read, in bytes.
const LINE: u64 = 4 << 20;

fn main() -> ExitCode {
    let role = std::env::args().nth(1);
    let rest = || std::env::args().skip(2);
    let result = match role.as_deref() {
        Some("gate") => gate::run(window::Window::open(START_UP_WINDOW.to_vec())),
        Some("door") => door::Arguments::parse(rest())
            .inspect(|_| door::forget_environment())
            .and_then(|arguments| door::gate(&arguments, window::Window::open(arguments.window.clone()))),
        Some("reference") => door::Arguments::parse(rest()).and_then(|arguments| door::reference(&arguments)),
        Some("canary") => canary::run(rest()),
        Some("later") => later(),
        Some("control") => control(),
        _ => Err(io::Error::other("usage: cubicle-probe gate|later|control|door|reference|canary")),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cubicle-probe: {error}");
            ExitCode::from(70)
        }
    }
}

/// Beside user code: the plan comes from the supervisor alone, and nobody inside can name or
/// open this process.
fn later() -> io::Result<ExitCode> {
    not_dumpable()?;
    let plan = read_plan()?;
    let context = answer::Context::new(Role::Tenant, &plan);
    write_observations(&plan, Role::Tenant, run::run(&context, &plan, None))
}

/// One scratch network for the whole proof: making and ending one costs the machine more than all that
/// is done in it.
fn control() -> io::Result<ExitCode> {
    let mut lines = BufReader::new(io::stdin());
    let Some(first) = read_line::<ProbePlan>(&mut lines)? else { return Ok(ExitCode::SUCCESS) };
    let _scratch = control::network::is_needed(&first).then(|| control::network::Scratch::build(&first)).transpose()?;
    let mut next = Some(first);
    while let Some(plan) = next {
        let context = answer::Context::new(Role::Control, &plan);
        write_observations(&plan, Role::Control, run::run(&context, &plan, None))?;
        next = read_line(&mut lines)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read_plan() -> io::Result<ProbePlan> {
    read_line(&mut BufReader::new(io::stdin()))?.ok_or_else(|| io::Error::other("no plan"))
}

/// One line of JSON; none when the supervisor has closed its end.
fn read_line<T: serde::de::DeserializeOwned>(lines: &mut impl BufRead) -> io::Result<Option<T>> {
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

fn write_observations(
    plan: &ProbePlan,
    role: Role,
    observations: Vec<cubicle_core::attempt::Observation>,
) -> io::Result<ExitCode> {
    let answer = Observations { nonce: plan.nonce.clone(), role, observations, disturbed: None };
    let mut text = serde_json::to_string(&answer).map_err(io::Error::other)?;
    text.push('\n');
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Nobody of the same uid may read this process's memory or trace it (prctl(2)).
fn not_dumpable() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?)
}
