//! What can be asked of one workspace: use, log, a connection, a command inside.

use std::os::fd::OwnedFd;
use std::time::Duration;

use cubicle_core::engine::Activity;
use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::Problem;
use cubicle_core::workspace::{State, Usage};
use cubicle_sandbox::protocol::{Request, Response};
use cubicle_sandbox::{client, namespaces};
use jiff::Timestamp;

use crate::store::Row;
use crate::supervisor::{Supervisor, locked, state_word, unexpected};
use crate::volumes;

impl Supervisor {
    pub(crate) async fn usage(&self, id: &WorkspaceId) -> Result<Usage, Problem> {
        let row = self.store.row(id)?;
        if row.workspace.state != State::Running {
            let volume = self.store.volume(&row.workspace.owner.id)?;
            let home = volumes::used(&self.layout, &row.workspace.owner.id);
            return Ok(Usage { home, home_limit: volume.and_then(|volume| volume.limit), ..Usage::default() });
        }
        match client::request(&self.folder(id), &Request::Usage).await? {
            Response::Usage { cgroup, home_used, home_limit, frozen } => Ok(Usage {
                cpu_us: cgroup.cpu_usage_us,
                memory: cgroup.memory_usage,
                memory_limit: cgroup.memory_limit.unwrap_or_default(),
                pids: cgroup.pids,
                pids_limit: cgroup.pids_limit.unwrap_or_default(),
                home: home_used,
                home_limit,
                frozen,
            }),
            other => Err(unexpected("Usage", &other)),
        }
    }

    pub(crate) fn logs(&self, id: &WorkspaceId) -> Result<String, Problem> {
        self.store.row(id)?;
        Ok(self.tail_of_log(id))
    }

    /// The last lines that a notebook printed.
    pub(crate) fn tail_of_log(&self, id: &WorkspaceId) -> String {
        const SHOWN: usize = 64 << 10;
        let bytes = std::fs::read(self.folder(id).join("notebook.log")).unwrap_or_default();
        let tail = &bytes[bytes.len().saturating_sub(SHOWN)..];
        String::from_utf8_lossy(tail).into_owned()
    }

    pub(crate) async fn connect(&self, id: &WorkspaceId) -> Result<(OwnedFd, String), Problem> {
        let row = self.store.row(id)?;
        if row.workspace.state != State::Running {
            return Err(Problem::conflict(
                format!("workspace \"{id}\" is {}", state_word(row.workspace.state)),
                "start it and wait until it is open",
            ));
        }
        let dialled = match Place::of(&row) {
            Ok(place) => place.dial().await,
            Err(error) => Err(error),
        };
        let stream = dialled.map_err(|error| {
            Problem::engine(
                format!("the notebook of \"{id}\" does not answer: {error}"),
                "look at its log, or stop and start it",
            )
        })?;
        Ok((stream, row.private.token))
    }

    pub(crate) async fn exec(
        &self,
        id: &WorkspaceId,
        command: Vec<String>,
        streams: [OwnedFd; 3],
    ) -> Result<i32, Problem> {
        let row = self.store.row(id)?;
        if row.workspace.state != State::Running {
            return Err(Problem::conflict(
                format!("workspace \"{id}\" is {}", state_word(row.workspace.state)),
                "start it first",
            ));
        }
        if command.is_empty() {
            return Err(Problem::bad_input("exec needs a command", "write it after --, for example `-- id`"));
        }
        client::exec(&self.folder(id), command, streams).await
    }

    pub(crate) fn record_activity(&self, id: &WorkspaceId, activity: Activity) -> Result<(), Problem> {
        // A hub that is wrong or hostile about the time cannot keep a workspace alive for ever.
        let now = Timestamp::now();
        let activity = Activity { at: activity.at.min(now), busy_at: activity.busy_at.map(|at| at.min(now)) };
        self.store.update(id, |row| {
            if row.workspace.last_activity.is_none_or(|last| last < activity.at) {
                row.workspace.last_activity = Some(activity.at);
                row.workspace.stops_at = None;
            }
        })?;
        *locked(&self.live(id).activity) = Some(activity);
        Ok(())
    }
}

/// Where a notebook listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The host's pid of its sandbox's first process.
    pub(crate) pid: u32,
    /// The start time of that process, against reuse.
    pub(crate) pid_start: u64,
    /// The port on the sandbox's own loopback.
    pub(crate) port: u16,
}

impl Place {
    fn of(row: &Row) -> std::io::Result<Self> {
        let pid = row.workspace.pid.ok_or_else(|| std::io::Error::other("it has no process"))?;
        Ok(Self { pid, pid_start: row.private.pid_start, port: row.private.template.spec.port })
    }

    /// Connects through the sandbox's network namespace.
    async fn dial(self) -> std::io::Result<OwnedFd> {
        self.dialled(namespaces::dial).await
    }

    /// The same, after waiting for a listener for a while.
    pub(crate) async fn dial_when_it_listens(self, patience: Duration) -> std::io::Result<OwnedFd> {
        self.dialled(move |pid, start, port| namespaces::dial_when_it_listens(pid, start, port, patience)).await
    }

    async fn dialled(
        self,
        dial: impl FnOnce(u32, u64, u16) -> std::io::Result<OwnedFd> + Send + 'static,
    ) -> std::io::Result<OwnedFd> {
        let Self { pid, pid_start, port } = self;
        tokio::task::spawn_blocking(move || dial(pid, pid_start, port)).await.map_err(std::io::Error::other)?
    }
}
