//! Proofs: the gate's before user code, and later ones beside it, each between two controls.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use cubicle_core::attempt::{
    Action, CgroupReading, GATE_CPU_LIMIT, GATE_CPU_PERIOD_US, GATE_MEMORY_LIMIT, GateMessage, Go, Observations,
    ProbePlan, Proof, Role, dial_deadline_ms, gate_pids_limit,
};
use cubicle_core::problem::Problem;

use super::control::{Control, Controlled};
use super::{Sandbox, final_limits};
use crate::cgroup::Settings;
use crate::pipes;
use crate::protocol::Stage;

/// How long the tenant's or the control's side of a proof may take. The plan's own deadlines are
/// shorter; this one also covers a machine that is busy with many proofs.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How often the gate tries to run into its processor limit, each time four times as long and into a
/// limit of a quarter.
const SPINS: u32 = 4;

/// The smallest limit that it tries, in thousandths of one CPU.
const LEAST_CPU_LIMIT: u64 = 10;

/// The smallest quota that the kernel takes, in microseconds (Linux, Documentation/scheduler/sched-bwc.rst).
const LEAST_QUOTA_US: u64 = 1000;

/// Answers above this size are not read.
pub(super) const ANSWER: usize = 4 << 20;

/// The pipes to the workspace's first process.
pub(super) struct Gate {
    plan: File,
    answer: File,
}

impl Gate {
    pub(super) fn new(plan: OwnedFd, answer: OwnedFd) -> Self {
        Self { plan: File::from(plan), answer: File::from(answer) }
    }

    /// Has the gate try one part of a proof.
    fn ask(&mut self, part: &ProbePlan) -> Observations {
        let mut ask = || {
            self.say(&GateMessage::Plan(part.clone()))?;
            let line = pipes::read_line(&mut self.answer, ANSWER, Instant::now() + PATIENCE)?;
            serde_json::from_str(&line).map_err(io::Error::other)
        };
        let answer = ask();
        fitting(part, Role::Tenant, answer)
    }

    fn say(&mut self, message: &GateMessage) -> io::Result<()> {
        pipes::write_line(&mut self.plan, &serde_json::to_string(message)?)
    }
}

fn engine(what: &str, error: &dyn std::fmt::Display) -> Problem {
    Problem::engine(format!("{what}: {error}"), "")
}

/// Whether a part of a plan asks for anything.
fn asked(part: &ProbePlan) -> bool {
    !part.attempts.is_empty()
}

/// An answer that is not to be believed.
pub(super) fn disturbed(plan: &ProbePlan, role: Role, reason: String) -> Observations {
    Observations { nonce: plan.nonce.clone(), role, observations: Vec::new(), disturbed: Some(reason) }
}

/// Checks that an answer belongs to its plan.
pub(super) fn fitting(plan: &ProbePlan, role: Role, answer: io::Result<Observations>) -> Observations {
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
        let limits = final_limits(&self.spec);
        let small = Settings {
            memory: limits.memory.map(|bytes| bytes.min(GATE_MEMORY_LIMIT)),
            pids: limits.pids.map(|count| u64::from(gate_pids_limit(u32::try_from(count).unwrap_or(u32::MAX)))),
            ..limits
        };
        let small_and_slow = Settings {
            cpu: limits.cpu.map(|milli| milli.min(GATE_CPU_LIMIT)),
            cpu_period: Some(GATE_CPU_PERIOD_US),
            ..small
        };
        let group = |error: io::Error| engine("the control group", &error);
        let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (control_before, control) = Controlled::before(self, prepared, &plan);
        let plan = ProbePlan { dial_deadline_ms: dial_deadline_ms(&control_before), ..plan };
        let [quick, spinning, waiting] = plan.gate_parts();
        self.cgroup.set(small_and_slow).map_err(group)?;
        let cgroup_before = self.cgroup.read().map_err(group)?;
        self.cgroup.set(small).map_err(group)?;
        let tenant = gate.ask(&quick);
        // While the gate runs into its processor limit and waits for the end of its start-up window,
        // the control repeats what the tenant has done.
        let (rest, control_after) = std::thread::scope(|scope| {
            let (done, parts) = std::sync::mpsc::channel();
            let repeated = scope.spawn(move || control.follow(&parts));
            // The first part also when it is empty. A control that has ended has said so in what it answered.
            let _ = done.send(&quick);
            let also = |part| asked(part).then(|| done.send(part));
            let rest = (|| {
                let spun = self.spin(&mut gate, &spinning, small, small_and_slow)?;
                also(&spinning);
                let waited = asked(&waiting).then(|| gate.ask(&waiting));
                also(&waiting);
                io::Result::Ok((spun, waited))
            })();
            drop(done);
            let repeated = repeated
                .join()
                .unwrap_or_else(|_| disturbed(&plan, Role::Control, "it could not be run again".to_owned()));
            (rest, repeated)
        });
        let ((spun, cgroup_after), waited) = rest.map_err(group)?;
        let tenant = [spun, waited].into_iter().flatten().fold(tenant, Observations::together);
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

    /// What the gate says of its processor limit, when the plan asks for that, and the kernel's counters
    /// afterwards.
    fn spin(
        &self,
        gate: &mut Gate,
        spinning: &ProbePlan,
        small: Settings,
        small_and_slow: Settings,
    ) -> io::Result<(Option<Observations>, CgroupReading)> {
        let answer = asked(spinning).then(|| self.ask_until_throttled(gate, spinning, small_and_slow)).transpose()?;
        let reading = self.cgroup.read()?;
        self.cgroup.set(small)?;
        Ok((answer, reading))
    }

    /// Has the gate run into its processor limit: longer and longer and into a smaller and smaller one,
    /// because on a busy machine its fair share can be below the limit, and then nothing stops it there.
    fn ask_until_throttled(
        &self,
        gate: &mut Gate,
        spinning: &ProbePlan,
        mut settings: Settings,
    ) -> io::Result<Observations> {
        let before = self.cgroup.read()?.cpu_throttled;
        let mut part = spinning.clone();
        self.cgroup.set(settings)?;
        let mut answer = gate.ask(&part);
        for _ in 1..SPINS {
            if answer.disturbed.is_some() || self.cgroup.read()?.cpu_throttled > before {
                break;
            }
            for attempt in &mut part.attempts {
                if let Action::Spin { milliseconds, .. } = &mut attempt.action {
                    *milliseconds *= 4;
                }
            }
            settings.cpu = settings.cpu.map(|milli| (milli / 4).max(LEAST_CPU_LIMIT));
            settings.cpu_period =
                settings.cpu.map(|milli| (LEAST_QUOTA_US * 1000 / milli.max(1)).max(GATE_CPU_PERIOD_US));
            self.cgroup.set(settings)?;
            answer = gate.ask(&part);
        }
        Ok(answer)
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
        let message = GateMessage::Go(Go {
            nonce: nonce.to_owned(),
            command: self.spec.command.clone(),
            environment: self.spec.environment.clone(),
            directory: self.spec.home.mount_path.clone(),
        });
        gate.say(&message).map_err(|error| engine("the gate has ended", &error))?;
        self.state().stage = Stage::Started;
        self.changed.notify_all();
        Ok(())
    }

    /// Proves again beside running user code.
    pub(super) fn verify(&self, plan: ProbePlan) -> Result<Proof, Problem> {
        if self.state().stage != Stage::Started {
            return Err(Problem::conflict(format!("{} is not running", self.spec.id), "start it first"));
        }
        self.thaw();
        self.prove_beside(None, Prober::enter(self, "verify"), plan)
    }

    /// Has a probe beside the notebook try a plan, between two controls; `prepared` is one that has begun.
    pub(super) fn prove_beside(
        &self,
        prepared: Option<Control>,
        prober: io::Result<Prober>,
        plan: ProbePlan,
    ) -> Result<Proof, Problem> {
        let group = |error: io::Error| engine("the control group", &error);
        let (control_before, mut control) = Controlled::before(self, prepared, &plan);
        let plan = ProbePlan { dial_deadline_ms: dial_deadline_ms(&control_before), ..plan };
        let text = serde_json::to_string(&plan).map_err(|error| engine("the plan", &error))?;
        let cgroup_before = self.cgroup.read().map_err(group)?;
        let tenant = fitting(&plan, Role::Tenant, prober.and_then(|prober| prober.ask(&text)));
        let cgroup_after = self.cgroup.read().map_err(group)?;
        let control_after = control.again(&plan);
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

    /// This program again, to enter the sandbox.
    pub(super) fn join_command(&self, mode: &str, command: &[String]) -> Command {
        let mut join = Command::new("/proc/self/exe");
        join.args(["internal-join", mode]).arg(&self.dir).arg(self.pid.to_string()).arg(self.pid_start.to_string());
        join.arg("--").args(command).env_clear();
        join
    }
}

/// The probe as the tenant, from a sibling pid namespace. It waits for its plan.
pub(super) struct Prober(Child);

impl Prober {
    /// Enters the sandbox; the mode is one of `internal-join`.
    pub(super) fn enter(sandbox: &Sandbox, mode: &str) -> io::Result<Self> {
        let mut command = sandbox.join_command(mode, &[]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map(Self)
    }

    /// Whether it has not ended.
    pub(super) fn waits(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Gives it its plan and reads its observations.
    fn ask(mut self, plan: &str) -> io::Result<Observations> {
        let answer = exchange(&mut self.0, plan)?;
        let status = self.0.wait()?;
        if status.success() {
            return serde_json::from_slice(&answer).map_err(io::Error::other);
        }
        let mut said = Vec::new();
        if let Some(stderr) = &mut self.0.stderr {
            said = pipes::read_all(stderr, 4096, Instant::now() + Duration::from_secs(1)).unwrap_or_default();
        }
        Err(io::Error::other(format!("the probe ended badly ({status}): {}", String::from_utf8_lossy(&said).trim())))
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        if !self.waits() {
            return;
        }
        // What entered the sandbox has a child of its own to kill and bury.
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::TERM);
        if !pipes::wait_until(Duration::from_secs(1), || !matches!(self.0.try_wait(), Ok(None))) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

fn exchange(child: &mut Child, plan: &str) -> io::Result<Vec<u8>> {
    let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("no stdin"))?;
    stdin.write_all(plan.as_bytes())?;
    stdin.write_all(b"\n")?;
    drop(stdin);
    let stdout = child.stdout.as_mut().ok_or_else(|| io::Error::other("no stdout"))?;
    pipes::read_all(stdout, ANSWER, Instant::now() + PATIENCE)
}
