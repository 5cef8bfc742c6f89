//! What the probe is asked to try and what it answers: the language between engine and probe.

mod action;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use action::{Action, Call, Fact, FilteredCall, ProxyCredential, Rule, SharedProxy, SocketKind};

/// When a proof happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before any user code, by the workspace's first process.
    Gate,
    /// Beside running user code of the same uid.
    Later,
}

/// Who made the observations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The tenant, under the walls.
    Tenant,
    /// The same binary as root without walls, in a scratch network namespace that owns every
    /// address it dials.
    Control,
}

/// Everything one proof tries, in both roles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbePlan {
    /// Comes back with every answer, so that an old one cannot be replayed.
    pub nonce: String,
    /// When this proof happens.
    pub phase: Phase,
    /// How long a dial may take, in milliseconds. A dial that ran into it counts only when the
    /// control was at least fifty times faster.
    #[serde(default = "default_dial_deadline")]
    pub dial_deadline_ms: u64,
    /// What to try.
    pub attempts: Vec<Attempt>,
}

impl ProbePlan {
    /// The same plan with these attempts only.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&Action) -> bool) -> Self {
        let attempts = self.attempts.iter().filter(|attempt| keep(&attempt.action)).cloned().collect();
        Self { attempts, ..self.clone() }
    }

    /// What the gate is asked one after the other: everything that a processor limit would only
    /// slow down; what runs into that limit; what ends with the start-up window. The first part
    /// is asked even when it is empty.
    pub fn gate_parts(&self) -> [Self; 3] {
        let spins = |action: &Action| matches!(action, Action::Spin { .. });
        let waits = |action: &Action| matches!(action, Action::TcpWindow { .. });
        [self.only(|action| !spins(action) && !waits(action)), self.only(spins), self.only(waits)]
    }
}

fn default_dial_deadline() -> u64 {
    DIAL_DEADLINE_MS
}

/// The shortest deadline of a dial, in milliseconds.
pub const DIAL_DEADLINE_MS: u64 = 100;

/// The longest, in milliseconds.
const LONGEST_DIAL_DEADLINE_MS: u64 = 5000;

/// How many times longer than the control a dial must have had before its silence counts.
pub const DIAL_MARGIN: u64 = 50;

/// The deadline of the tenant's dials, in milliseconds, after what the control needed for the same.
pub fn dial_deadline_ms(control: &Observations) -> u64 {
    let dialled = |id: &str| id.contains("/tcp ") || id.contains("/udp ") || id.contains("/from the start ");
    let slowest = control
        .observations
        .iter()
        .filter(|one| one.outcome == Outcome::Succeeded && dialled(&one.attempt))
        .map(|one| one.duration_us)
        .max()
        .unwrap_or(0);
    // Twice what the rule asks for: the control after may be slower than the one before.
    (slowest.saturating_mul(DIAL_MARGIN * 2)).div_ceil(1000).clamp(DIAL_DEADLINE_MS, LONGEST_DIAL_DEADLINE_MS)
}

/// One thing to try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Unique within the plan: the guarantee's id, a slash, and a label.
    pub id: String,
    /// What to do.
    pub action: Action,
}

/// What the supervisor writes to the gate, a line of JSON each: the parts of one proof, and after
/// the verdict the go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateMessage {
    /// A part of the proof; the gate answers it with its observations.
    Plan(ProbePlan),
    /// The single-use go.
    Go(Go),
}

/// The go: what the gate starts once its proof has been judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go {
    /// The nonce of the proof that was judged; any other starts nothing.
    pub nonce: String,
    /// The notebook's command; the first word is an absolute path or is looked up in `PATH`.
    pub command: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// Its working directory.
    pub directory: String,
}

/// Memory that the supervisor grants while the gate proves, in bytes: little, so that the
/// limit can be hit for real without taking much from the machine.
pub const GATE_MEMORY_LIMIT: u64 = 40 << 20;

/// What the gate then tries to allocate, in bytes.
pub const GATE_MEMORY_ATTEMPT: u64 = 48 << 20;

/// Processor time that the supervisor grants while the gate runs into that limit, in thousandths
/// of one CPU: less than what a busy machine still gives to the control.
pub const GATE_CPU_LIMIT: u64 = 200;

/// The period over which that is counted, in microseconds. It is shorter than the time for which
/// the scheduler lets a thread run at once: so the limit also bites on a machine that is so busy
/// that the workspace's fair share is smaller than the limit.
pub const GATE_CPU_PERIOD_US: u64 = 10_000;

/// Processes that the supervisor grants while the gate proves: the final limit, but never so
/// many that the attempt to exceed it would take long or more than the gate's memory.
pub const fn gate_pids_limit(limit: u32) -> u32 {
    if limit < 1024 { limit } else { 1024 }
}

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It worked: there is no wall here.
    Succeeded,
    /// It was stopped.
    Denied,
    /// The kernel or machine does not have what was tried.
    Missing,
    /// It could not be tried.
    Failed,
}

/// One attempt's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The attempt.
    pub attempt: String,
    /// What came of it.
    pub outcome: Outcome,
    /// In words: the errno, the value read.
    pub detail: String,
    /// When.
    pub at: Timestamp,
    /// How long, in microseconds.
    pub duration_us: u64,
    /// A dial that nobody answered, not even with an error, until its deadline.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
}

/// All answers of one run of the probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observations {
    /// The plan's nonce.
    pub nonce: String,
    /// Who observed.
    pub role: Role,
    /// The answers.
    pub observations: Vec<Observation>,
    /// Why the run is not to be believed: killed, stopped, traced, out of time.
    #[serde(default)]
    pub disturbed: Option<String>,
}

impl Observations {
    /// Two parts of one run. Parts of two proofs, or of two roles, are disturbed: nothing of them is believed.
    #[must_use]
    pub fn together(mut self, other: Self) -> Self {
        if self.nonce != other.nonce || self.role != other.role {
            self.disturbed = Some("its parts are of two proofs".to_owned());
        }
        self.observations.extend(other.observations);
        self.disturbed = self.disturbed.or(other.disturbed);
        self
    }
}

/// What the kernel says about the workspace's own cgroup, read from outside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CgroupReading {
    /// Memory limit in bytes; none when unlimited.
    pub memory_limit: Option<u64>,
    /// Swap on top of memory in bytes; none when unlimited.
    pub swap_limit: Option<u64>,
    /// Memory in use, in bytes.
    pub memory_usage: u64,
    /// Processes killed for memory so far.
    pub memory_kills: u64,
    /// CPU limit in thousandths; none when unlimited.
    pub cpu_limit: Option<u64>,
    /// Times the CPU limit bit so far.
    pub cpu_throttled: u64,
    /// CPU time used so far, in microseconds.
    pub cpu_usage_us: u64,
    /// Process limit; none when unlimited.
    pub pids_limit: Option<u64>,
    /// Forks refused so far.
    pub pids_denied: u64,
    /// Processes now.
    pub pids: u64,
}

/// One proof: what the tenant saw, between two runs of the control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// What was tried.
    pub plan: ProbePlan,
    /// The control before.
    pub control_before: Observations,
    /// The tenant.
    pub tenant: Observations,
    /// The control after.
    pub control_after: Observations,
    /// The workspace's cgroup before the probe, while it ran under the proof's limits.
    pub cgroup_before: CgroupReading,
    /// The same after the probe.
    pub cgroup_after: CgroupReading,
    /// The same with the final limits in force, right before the go.
    pub cgroup_final: CgroupReading,
    /// The root cgroup: what an unlimited one looks like to the same reader.
    pub cgroup_reference: CgroupReading,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(duration_us: u64) -> Observations {
        Observations {
            nonce: "n".to_owned(),
            role: Role::Control,
            observations: vec![Observation {
                attempt: "network.services/tcp 10.0.0.1:80".to_owned(),
                outcome: Outcome::Succeeded,
                detail: String::new(),
                at: Timestamp::UNIX_EPOCH,
                duration_us,
                silent: false,
            }],
            disturbed: None,
        }
    }

    #[test]
    fn the_deadline_follows_the_slowest_control() {
        assert_eq!(dial_deadline_ms(&control(300)), 100);
        assert_eq!(dial_deadline_ms(&control(4000)), 400);
        assert_eq!(dial_deadline_ms(&control(10_000_000)), 5000);
    }

    #[test]
    fn parts_of_two_proofs_or_roles_make_none() {
        let part = |nonce: &str, role| Observations {
            nonce: nonce.to_owned(),
            role,
            observations: control(300).observations,
            disturbed: None,
        };
        let one = || part("n", Role::Control);
        let whole = one().together(one());
        assert_eq!((whole.observations.len(), whole.disturbed), (2 * one().observations.len(), None));
        assert!(one().together(part("another", Role::Control)).disturbed.is_some());
        assert!(one().together(part("n", Role::Tenant)).disturbed.is_some());
        let stopped = Observations { disturbed: Some("stopped".to_owned()), ..one() };
        assert_eq!(one().together(stopped).disturbed.as_deref(), Some("stopped"));
    }
}
