//! The language between the engine and the helper process of one sandbox.
//!
//! The helper listens on `DIR/helper.sock` (root only). One connection carries one request:
//! a frame each way, each a 32-bit big-endian length and that many bytes of JSON. `Exec` is
//! followed by three descriptors in an `SCM_RIGHTS` message: stdin, stdout, stderr.

use std::net::SocketAddr;
use std::path::PathBuf;

use cubicle_core::attempt::{CgroupReading, ProbePlan, Proof};
use cubicle_core::name::WorkspaceId;
use cubicle_core::plan::Limits;
use cubicle_core::problem::Problem;
use cubicle_core::template::Egress;
use serde::{Deserialize, Serialize};

/// Frames above this size are refused, in bytes.
pub const MAX_FRAME: u32 = 8 << 20;

/// Everything the helper needs; written by the engine to `DIR/sandbox.json`, mode 0600.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The workspace.
    pub id: WorkspaceId,
    /// The image's root file system, read-only, named by its digest.
    pub rootfs: PathBuf,
    /// The static probe that is the workspace's first process, root-owned, mode 0711.
    pub probe: PathBuf,
    /// First of the 65536 host uids and gids of this workspace.
    pub id_base: u32,
    /// The home.
    pub home: HomeSpec,
    /// Read-only data sets: host directory and path inside.
    pub datasets: Vec<(PathBuf, String)>,
    /// Limits.
    pub limits: Limits,
    /// Where it may connect to; [`cubicle_core::template::EgressMode::None`] starts no proxy.
    pub egress: Egress,
    /// Addresses that the egress proxy refuses besides all that is not public, in CIDR notation.
    pub egress_refused: Vec<String>,
    /// The notebook's command, started by the gate after the go.
    pub command: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// What runs the OCI bundle.
    pub runtime: RuntimeChoice,
    /// The cgroup, absolute, for example `/cubicle/w-...`.
    pub cgroup: String,
    /// Walls to leave out; only a build with the `wall-removal` feature accepts any.
    #[serde(default)]
    pub remove: Vec<String>,
    /// What the gate will be asked, when that is known already: its control then runs while the
    /// sandbox is being built.
    #[serde(default)]
    pub prepare: Option<ProbePlan>,
}

/// The home volume of one workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeSpec {
    /// Where it lives on the host.
    pub backend: HomeBackend,
    /// Where it is mounted inside.
    pub mount_path: String,
}

/// Where a home lives on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HomeBackend {
    /// An ext4 file, already checked; hard size limit.
    Image(PathBuf),
    /// A directory; no limit.
    Directory(PathBuf),
    /// None yet: the place is an empty directory of a read-only file system until a claim brings one.
    /// The directory that holds the mount point must not be the root.
    Later,
}

/// What runs the OCI bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeChoice {
    /// libcontainer, in the helper itself.
    Libcontainer,
    /// An OCI runtime's command line, for example `/usr/sbin/runc`.
    Command(PathBuf),
}

/// What the engine asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "request")]
pub enum Request {
    /// How it is. Answered at any time.
    Status,
    /// Prove before any user code, by the gate. Once.
    Prove {
        /// What to try.
        plan: ProbePlan,
    },
    /// Start the notebook. Once, and only after `Prove`.
    Go {
        /// The nonce of the proof that was judged.
        nonce: String,
    },
    /// Prove again beside running user code, from a sibling pid namespace.
    Verify {
        /// What to try.
        plan: ProbePlan,
    },
    /// Run a command as the tenant under the very walls of the notebook.
    Exec {
        /// The command.
        command: Vec<String>,
    },
    /// What it uses now.
    Usage,
    /// Let it stand still until somebody sends something to its notebook, or asks for anything of it but how it is.
    Freeze {
        /// The notebook's port.
        port: u16,
    },
    /// Lives for as long as this connection does, until it is claimed: what was built in advance
    /// never outlasts whoever would hand it out. There is no answer.
    Hold,
    /// Give a running sandbox that was built without a home ([`HomeBackend::Later`]) to a user, once, whatever
    /// becomes of it. The answer is [`Response::Expecting`]; then comes a frame with the [`HomeSpec`], already
    /// checked, with the mount path that the sandbox was built for; it is mounted, and the answer is the proof.
    Claim {
        /// What to try when the home is there; what tries it gets ready meanwhile.
        plan: ProbePlan,
    },
    /// End it: SIGTERM, after the grace SIGKILL; answers when nothing of it is left.
    Stop {
        /// Milliseconds between the two signals.
        grace_ms: u64,
    },
}

/// What the helper answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "response")]
pub enum Response {
    /// To `Status`.
    Status(Status),
    /// To `Prove`, `Verify` and `Claim`.
    Proof(Box<Proof>),
    /// To `Go`.
    Started,
    /// To `Claim`: the home may come.
    Expecting,
    /// To `Exec`: the exit code, 128 + signal when killed.
    Exited {
        /// The code.
        code: i32,
    },
    /// To `Usage`.
    Usage {
        /// The cgroup.
        cgroup: CgroupReading,
        /// Bytes used in the home.
        home_used: u64,
        /// Size of the home; none without a limit.
        home_limit: Option<u64>,
        /// Whether it stands still.
        frozen: bool,
    },
    /// To `Freeze`.
    Frozen,
    /// To `Stop`.
    Stopped,
    /// To anything that failed.
    Failed {
        /// Why.
        problem: Problem,
    },
}

/// How a sandbox is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The host's pid of the workspace's first process.
    pub pid: u32,
    /// Its start time in clock ticks since boot (field 22 of `/proc/PID/stat`), against reuse.
    pub pid_start: u64,
    /// How far it is.
    pub stage: Stage,
    /// Where the egress proxy listens inside, when there is one.
    pub egress: Option<SocketAddr>,
    /// How the notebook ended, when it has.
    pub exit: Option<String>,
}

/// How far a sandbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The gate waits for its plan.
    Built,
    /// The gate has answered and waits for the go.
    Proven,
    /// The notebook was started.
    Started,
    /// The notebook has ended.
    Ended,
}
