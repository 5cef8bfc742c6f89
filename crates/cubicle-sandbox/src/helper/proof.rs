//! Proofs: the gate's before user code, and later ones beside it, each between two controls.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use cubicle_core::attempt::{
    GATE_CPU_LIMIT, GATE_CPU_PERIOD_US, GATE_MEMORY_LIMIT, GateMessage, Go, Observations, ProbePlan, Proof, Role,
    gate_pids_limit,
};
use cubicle_core::problem::Problem;

use super::{Sandbox, egress, final_limits};
use crate::cgroup::Settings;
use crate::pipes;
use crate::protocol::Stage;

/// How long the tenant's or the control's side of a proof may take. The plan's own deadlines are
/// shorter; this one also covers a machine that is busy with many proofs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers above this size are not read.
const ANSWER: usize = 4 << 20;

/// The pipes to the workspace's first process.
pub(super) struct Gate {
    plan: File,
    answer: File,
}

impl Gate {
    pub(super) fn new(plan: OwnedFd, answer: OwnedFd) -> Self {
        Self { plan: File::from(plan), answer: File::from(answer) }
    }

    fn ask(&mut self, plan: &str) -> io::Result<Observations> {
        pipes::write_line(&mut self.plan, plan)?;
        let line = pipes::read_line(&mut self.answer, ANSWER, Instant::now() + PATIENCE)?;
        serde_json::from_str(&line).map_err(io::Error::other)
    }

    fn go(&mut self, line: &str) -> io::Result<()> {
        pipes::write_line(&mut self.plan, line)
    }
}

fn engine(what: &str, error: &dyn std::fmt::Display) -> Problem {
    Problem::engine(format!("{what}: {error}"), "")
}

/// An answer that is not to be believed.
fn disturbed(plan: &ProbePlan, role: Role, reason: String) -> Observations {
    Observations { nonce: plan.nonce.clone(), role, observations: Vec::new(), disturbed: Some(reason) }
}

/// Checks that an answer belongs to its plan.
fn fitting(plan: &ProbePlan, role: Role, answer: io::Result<Observations>) -> Observations {
    match answer {
        Ok(answer) if answer.nonce != plan.nonce => disturbed(plan, role, "it answered another plan".to_owned()),
        Ok(answer) if answer.role != role => disturbed(plan, role, "it answered in another role".to_owned()),
        Ok(answer) => answer,
        Err(error) => disturbed(plan, role, error.to_string()),
    }
}

impl Sandbox {
    /// Proves before any user code, once.
    pub(super) fn prove(&self, plan: ProbePlan) -> Result<Proof, Problem> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state().stage != Stage::Built {
            return Err(Problem::conflict(format!("{} was proven before", self.spec.id), "start the workspace again"));
        }
        let text = serde_json::to_string(&plan).map_err(|error| engine("the plan", &error))?;
        let limits = final_limits(&self.spec);
        let proof_limits = Settings {
            memory: limits.memory.map(|bytes| bytes.min(GATE_MEMORY_LIMIT)),
            cpu: limits.cpu.map(|milli| milli.min(GATE_CPU_LIMIT)),
            cpu_period: Some(GATE_CPU_PERIOD_US),
            pids: limits.pids.map(|count| u64::from(gate_pids_limit(u32::try_from(count).unwrap_or(u32::MAX)))),
            ..limits
        };
        let group = |error: io::Error| engine("the control group", &error);
        self.cgroup.set(proof_limits).map_err(group)?;
        let control_before = self.control(&plan, &text);
        let cgroup_before = self.cgroup.read().map_err(group)?;
        let tenant = fitting(&plan, Role::Tenant, gate.ask(&text));
        let cgroup_after = self.cgroup.read().map_err(group)?;
        let control_after = self.control(&plan, &text);
        self.cgroup.set(limits).map_err(group)?;
        let cgroup_final = self.cgroup.read().map_err(group)?;
        let mut state = self.state();
        if state.stage == Stage::Built {
            state.stage = Stage::Proven;
            // A proof that was disturbed opens nothing, whoever asks.
            state.nonce = tenant.disturbed.is_none().then(|| plan.nonce.clone());
        }
        drop(state);
        self.changed.notify_all();
        let cgroup_reference = self.cgroup.read_root();
        Ok(Proof {
            plan,
            control_before,
            tenant,
            control_after,
            cgroup_before,
            cgroup_after,
            cgroup_final,
            cgroup_reference,
        })
    }

    /// Starts the notebook, once, and only after its proof.
    pub(super) fn go(&self, nonce: &str) -> Result<(), Problem> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut state = self.state();
            if state.stage != Stage::Proven || state.nonce.as_deref() != Some(nonce) {
                return Err(Problem::new(
                    cubicle_core::problem::ProblemKind::NotAllowed,
                    format!("{} has no unused proof with this nonce", self.spec.id),
                    "prove the workspace first; a proof opens it once",
                ));
            }
            state.nonce = None;
        }
        let message = GateMessage {
            go: Go {
                nonce: nonce.to_owned(),
                command: self.spec.command.clone(),
                environment: self.spec.environment.clone(),
                directory: self.spec.home.mount_path.clone(),
            },
        };
        let line = serde_json::to_string(&message).map_err(|error| engine("the go", &error))?;
        gate.go(&line).map_err(|error| engine("the gate has ended", &error))?;
        self.state().stage = Stage::Started;
        self.changed.notify_all();
        Ok(())
    }

    /// Proves again beside running user code.
    pub(super) fn verify(&self, plan: ProbePlan) -> Result<Proof, Problem> {
        if self.state().stage != Stage::Started {
            return Err(Problem::conflict(format!("{} is not running", self.spec.id), "start it first"));
        }
        let text = serde_json::to_string(&plan).map_err(|error| engine("the plan", &error))?;
        let group = |error: io::Error| engine("the control group", &error);
        let control_before = self.control(&plan, &text);
        let cgroup_before = self.cgroup.read().map_err(group)?;
        let tenant = fitting(&plan, Role::Tenant, self.later(&text));
        let cgroup_after = self.cgroup.read().map_err(group)?;
        let control_after = self.control(&plan, &text);
        let cgroup_final = self.cgroup.read().map_err(group)?;
        let cgroup_reference = self.cgroup.read_root();
        Ok(Proof {
            plan,
            control_before,
            tenant,
            control_after,
            cgroup_before,
            cgroup_after,
            cgroup_final,
            cgroup_reference,
        })
    }

    /// The same probe as root without walls.
    fn control(&self, plan: &ProbePlan, text: &str) -> Observations {
        let run = || {
            let mut command = Command::new(&self.spec.probe);
            command.arg("control").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            egress::inherit(&mut command, self, &[]);
            converse(command, text)
        };
        fitting(plan, Role::Control, run())
    }

    /// The probe as the tenant, from a sibling pid namespace.
    fn later(&self, text: &str) -> io::Result<Observations> {
        converse(self.join_command("verify", &[]), text)
    }

    /// This program again, to enter the sandbox.
    pub(super) fn join_command(&self, mode: &str, command: &[String]) -> Command {
        let mut join = Command::new("/proc/self/exe");
        join.args(["internal-join", mode]).arg(&self.dir).arg(self.pid.to_string()).arg(self.pid_start.to_string());
        join.arg("--").args(command).env_clear();
        join
    }
}

/// Gives a probe its plan and reads its observations.
fn converse(mut command: Command, plan: &str) -> io::Result<Observations> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let answer = exchange(&mut child, plan);
    if answer.is_err() {
        // What entered the sandbox has a child of its own to kill and bury.
        let pid = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if !pipes::wait_until(Duration::from_secs(1), || !matches!(child.try_wait(), Ok(None))) {
            let _ = child.kill();
        }
    }
    let status = child.wait()?;
    let answer = answer?;
    if status.success() {
        return serde_json::from_slice(&answer).map_err(io::Error::other);
    }
    let mut said = Vec::new();
    if let Some(stderr) = &mut child.stderr {
        said = pipes::read_all(stderr, 4096, Instant::now() + Duration::from_secs(1)).unwrap_or_default();
    }
    Err(io::Error::other(format!("the probe ended badly ({status}): {}", String::from_utf8_lossy(&said).trim())))
}

fn exchange(child: &mut Child, plan: &str) -> io::Result<Vec<u8>> {
    let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("no stdin"))?;
    stdin.write_all(plan.as_bytes())?;
    stdin.write_all(b"\n")?;
    drop(stdin);
    let stdout = child.stdout.as_mut().ok_or_else(|| io::Error::other("no stdout"))?;
    pipes::read_all(stdout, ANSWER, Instant::now() + PATIENCE)
}
