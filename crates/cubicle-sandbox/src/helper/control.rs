//! The control of a proof: the same probe as root without walls, one process from the first part of a
//! proof to its last.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cubicle_core::attempt::{Observations, ProbePlan, Role};

use rustix::process::Pid;

use super::proof::{ANSWER, PATIENCE, disturbed, fitting};
use super::{Sandbox, egress};
use crate::pipes;
use crate::protocol::SandboxSpec;

/// How old a control's first answer may be when the tenant's attempts begin.
const FRESH: Duration = Duration::from_secs(2);

/// Its priority (nice value, setpriority(2)) while the sandbox is built, which is waited for.
const BESIDE_BUILDING: i32 = 10;

/// A running control, in a scratch network that owns everything its plan dials.
pub(super) struct Control {
    plan: ProbePlan,
    began: Instant,
    /// Whether it runs at a lower priority, in a process group of its own.
    slow: bool,
    process: Process,
}

/// A control that may not know its plan yet.
pub(super) struct Process {
    child: Child,
    plans: ChildStdin,
    answers: ChildStdout,
}

impl Control {
    /// Starts it while the sandbox is being built, when the engine wants that. The caller is still where the
    /// control has to run: outside, and with one thread.
    pub(super) fn prepare(spec: &SandboxSpec) -> io::Result<Option<Self>> {
        let Some(plan) = spec.prepare.clone() else { return Ok(None) };
        let mut command = command(spec);
        egress::die_with_parent(&mut command);
        // Of its own, so that one call reaches all that it starts.
        command.process_group(0);
        let mut control = Process::start(command)?.told(&plan)?;
        control.slow = true;
        rustix::process::setpriority_process(Some(control.pid()), BESIDE_BUILDING)?;
        Ok(Some(control))
    }

    /// Starts it beside a sandbox that stands, for a plan that comes later.
    pub(super) fn waiting(sandbox: &Sandbox) -> io::Result<Process> {
        let mut command = command(&sandbox.spec);
        egress::inherit(&mut command, sandbox, &[]);
        Process::start(command)
    }

    /// Starts it beside a sandbox that stands.
    pub(super) fn beside(sandbox: &Sandbox, plan: &ProbePlan) -> io::Result<Self> {
        Self::waiting(sandbox)?.told(plan)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process.child)
    }

    /// From now on it is waited for.
    fn hurry(&self) -> io::Result<()> {
        Ok(rustix::process::setpriority_pgrp(Some(self.pid()), 0)?)
    }

    fn say(&mut self, plan: &ProbePlan) -> io::Result<()> {
        let text = serde_json::to_string(plan)?;
        pipes::write_line(&mut self.process.plans, &text)
    }

    fn hear(&mut self) -> io::Result<Observations> {
        let line = pipes::read_line(&mut self.process.answers, ANSWER, Instant::now() + PATIENCE)
            .map_err(|error| io::Error::other(format!("{error}; why is in helper.log")))?;
        serde_json::from_str(&line).map_err(io::Error::other)
    }

    fn ask(&mut self, part: &ProbePlan) -> io::Result<Observations> {
        self.say(part)?;
        self.hear()
    }
}

impl Process {
    fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(plans), Some(answers)) => Ok(Self { child, plans, answers }),
            _ => Err(io::Error::other("a control without pipes")),
        }
    }

    /// Whether it has not ended.
    pub(super) fn waits(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Has it try the whole plan.
    pub(super) fn told(self, plan: &ProbePlan) -> io::Result<Control> {
        let mut control = Control { plan: plan.clone(), began: Instant::now(), slow: false, process: self };
        control.say(plan)?;
        Ok(control)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing of it is wanted any more, and it has no state to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(spec: &SandboxSpec) -> Command {
    let mut command = Command::new(&spec.probe);
    command.arg("control").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// The control of one proof, that may also have failed to run.
pub(super) struct Controlled {
    plan: ProbePlan,
    control: io::Result<Control>,
}

impl Controlled {
    /// What the control saw before the tenant's attempts, and the control itself for what it repeats. It is
    /// the prepared one if that was asked the very same, and not long ago.
    pub(super) fn before(sandbox: &Sandbox, prepared: Option<Control>, plan: &ProbePlan) -> (Observations, Self) {
        let fresh = prepared.filter(|control| control.plan == *plan && control.began.elapsed() <= FRESH);
        let mut control = match fresh {
            Some(control) if control.slow => control.hurry().map(|()| control),
            Some(control) => Ok(control),
            None => Control::beside(sandbox, plan),
        };
        let answer = match &mut control {
            Ok(control) => control.hear(),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        (fitting(plan, Role::Control, answer), Self { plan: plan.clone(), control })
    }

    /// The same things again.
    pub(super) fn again(&mut self, part: &ProbePlan) -> Observations {
        let answer = match &mut self.control {
            Ok(control) => control.ask(part),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        fitting(part, Role::Control, answer)
    }

    /// The same things again, part by part as they come, until no more can come.
    pub(super) fn follow(mut self, parts: &std::sync::mpsc::Receiver<&ProbePlan>) -> Observations {
        parts
            .iter()
            .map(|part| self.again(part))
            .reduce(Observations::together)
            .unwrap_or_else(|| disturbed(&self.plan, Role::Control, "it was not run again".to_owned()))
    }
}
