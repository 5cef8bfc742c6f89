//! Finding again what was running before the engine started, and removing what is left of
//! what is not.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::Problem;
use cubicle_core::workspace::State;
use cubicle_sandbox::cgroup;
use cubicle_sandbox::protocol::Stage;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::layout::Layout;
use crate::machine;
use crate::store::Row;
use crate::supervisor::Supervisor;

/// Looks at every workspace that was live and records the truth about it.
pub(crate) async fn recover(supervisor: &Arc<Supervisor>) -> Result<(), Problem> {
    for row in supervisor.store.rows()? {
        if row.workspace.state.is_live() {
            adopt(supervisor, &row).await?;
        }
    }
    remove_orphans(supervisor).await
}

async fn adopt(supervisor: &Arc<Supervisor>, row: &Row) -> Result<(), Problem> {
    let id = &row.workspace.id;
    let rebooted = row.private.boot_id != machine::boot_id();
    let status = if rebooted { None } else { supervisor.status(id).await.ok() };
    let runs = status.as_ref().is_some_and(|status| status.stage == Stage::Started && status.exit.is_none());
    if runs && row.workspace.state == State::Running {
        tracing::info!(workspace = %id, "found again");
        return Ok(());
    }
    let (state, reason) = match (rebooted, row.workspace.state) {
        (true, _) => (State::Stopped, "the machine was restarted".to_owned()),
        (_, State::Stopping) => (State::Stopped, "stopped".to_owned()),
        (_, State::Running) => (State::Failed, exit_reason(&supervisor.folder(id))),
        _ => (State::Failed, "the engine ended during the launch; start it again".to_owned()),
    };
    if !rebooted {
        supervisor.tear_down(id).await?;
    }
    supervisor.store.update(id, |row| {
        row.workspace.state = state;
        row.workspace.reason = reason;
        row.workspace.pid = None;
        row.workspace.stops_at = None;
    })?;
    Ok(())
}

/// Ends what runs without a record: left by an engine that was killed while it deleted.
async fn remove_orphans(supervisor: &Supervisor) -> Result<(), Problem> {
    let known: Vec<String> = supervisor.store.rows()?.iter().map(|row| row.sandbox().as_str().to_owned()).collect();
    let entries = std::fs::read_dir(supervisor.layout.workspaces()).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(id) = name.parse::<WorkspaceId>() else { continue };
        if !known.contains(&name) {
            supervisor.end_sandbox(&id).await?;
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Why the notebook of a sandbox ended, as its helper wrote it down in this folder.
pub(crate) fn exit_reason(folder: &Path) -> String {
    #[derive(Deserialize)]
    struct Exit {
        reason: String,
    }
    let text = std::fs::read_to_string(folder.join("exit.json")).unwrap_or_default();
    serde_json::from_str::<Exit>(&text).map_or_else(|_| "its helper process ended".to_owned(), |exit| exit.reason)
}

/// Ends helper and sandbox by force and removes what they leave. The mounts of a sandbox
/// live in its helper's mount namespace, and its loop device frees itself: both go with it.
pub(crate) async fn remove_remains(layout: &Layout, id: &WorkspaceId) -> Result<(), Problem> {
    let folder = layout.workspace(id);
    let group = format!("/cubicle/{id}");
    // A process that waits for its disk ends when that answers; on a busy machine not at once.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        // Before the control group: a runtime's process that a killed helper left makes it anew.
        let helpers = helpers(&folder);
        for pid in &helpers {
            // One that is already gone is what we want.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        let removed = if helpers.is_empty() { cgroup::kill_and_remove(&group) } else { Err(ends(&helpers)) };
        match removed {
            Ok(()) => break,
            Err(error) if Instant::now() > deadline => {
                return Err(Problem::engine(
                    format!("processes of sandbox \"{id}\" cannot be ended: {error}"),
                    "look at them in the cgroup /cubicle; a process in uninterruptible sleep waits for its disk",
                ));
            }
            Err(_) if helpers.is_empty() => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
    for name in ["helper.sock", "helper.pid", "bundle", "runtime"] {
        let path = folder.join(name);
        let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
    }
    Ok(())
}

fn ends(helpers: &[Pid]) -> std::io::Error {
    std::io::Error::other(format!("helpers {helpers:?} were killed and have not ended"))
}

/// The helper of this folder and what it forked that has not become another program yet: the processes with which a
/// runtime builds outlive a helper that is killed, and wait for it without end. What is in the group of a sandbox, where
/// a tenant's processes may call themselves anything, is none of them; it ends with the group.
fn helpers(folder: &Path) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            // Empty for one that has ended and is not reaped.
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
            is_helper(&command, &groups, folder).then(|| Pid::from_raw(pid))
        })
        .collect()
}

fn is_helper(command: &[u8], groups: &str, folder: &Path) -> bool {
    let mut words = command.split(|byte| *byte == 0).skip(1);
    words.next() == Some(b"internal-sandbox")
        && words.next() == Some(folder.as_os_str().as_encoded_bytes())
        && !groups.contains("/cubicle/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tenant_calls_itself_makes_it_no_helper() {
        let folder = Path::new("/var/lib/cubicle/workspaces/w-000000000000");
        let command = b"/x/cubicle\0internal-sandbox\0/var/lib/cubicle/workspaces/w-000000000000\0";
        assert!(is_helper(command, "2:cpu:/\n0::/\n", folder));
        for groups in ["2:cpu:/cubicle/w-111111111111\n0::/\n", "0::/system.slice/cubicle/w-000000000000\n"] {
            assert!(!is_helper(command, groups, folder), "{groups}");
        }
        assert!(!is_helper(command, "0::/\n", Path::new("/var/lib/cubicle/workspaces/w-00000000000")));
        assert!(!is_helper(b"", "0::/\n", folder));
    }
}
