//! The watch over live workspaces: notices those that ended by themselves, warns and stops
//! those that nobody uses.
//!
//! Activity is what a user did. A server's word that it is busy counts only while its
//! processor counter, read by the kernel and not by the workspace, really grows, and never
//! beyond the template's `maxBusy`: a lying server and a forgotten open tab are both stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cubicle_core::engine::Activity;
use cubicle_core::name::WorkspaceId;
use cubicle_core::template::Idle;
use cubicle_core::workspace::State;
use cubicle_sandbox::client;
use cubicle_sandbox::protocol::{Request, Response};
use jiff::{SignedDuration, Timestamp};

use crate::recover;
use crate::site::Site;
use crate::store::Row;
use crate::supervisor::{Supervisor, locked};

/// How often live workspaces are looked at.
const PERIOD: Duration = Duration::from_secs(5);
/// Processor time that counts as work, in thousandths of one CPU. A notebook server that only
/// waits uses about 3 to 5.
const WORKING_MILLI_CPU: u64 = 20;
/// How old a server's word that it is busy may be, in seconds.
const BUSY_WORD_SECONDS: i64 = 150;
/// How long one goes on at least that somebody's byte has thawed, for example of an open page that asks again and again.
const AWAKE: Duration = Duration::from_secs(60);
/// A home with less than this share of free space is called full, in percent used.
const FULL_PERCENT: u64 = 95;

/// Watches until the engine ends.
pub(crate) async fn watch(supervisor: Arc<Supervisor>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let rows = match supervisor.store.rows() {
            Ok(rows) => rows,
            Err(problem) => {
                tracing::warn!(%problem, "live workspaces could not be looked at");
                continue;
            }
        };
        for row in rows.into_iter().filter(|row| row.workspace.state == State::Running) {
            if let Err(problem) = look(&supervisor, &row).await {
                tracing::warn!(workspace = %row.workspace.id, %problem, "a workspace could not be looked at");
            }
        }
    }
}

async fn look(supervisor: &Arc<Supervisor>, row: &Row) -> Result<(), cubicle_core::problem::Problem> {
    let id = &row.workspace.id;
    let status = supervisor.status(id).await.ok();
    if status.as_ref().is_none_or(|status| status.exit.is_some()) {
        return ended(supervisor, id).await;
    }
    let answer = client::request(&supervisor.folder(id), &Request::Usage).await?;
    let Response::Usage { cgroup, home_used, home_limit, frozen } = answer else { return Ok(()) };
    let works = works(supervisor, id, cgroup.cpu_usage_us);
    let activity = *locked(&supervisor.live(id).activity);
    let idle = &row.private.template.spec.idle;
    let opened = row.workspace.opened_at.unwrap_or(row.workspace.created_at);
    let user = row.workspace.last_activity.unwrap_or(opened).max(opened);
    let stops_at = deadline(user, activity, works == Some(true), idle, Timestamp::now());
    if Timestamp::now() >= stops_at {
        tracing::info!(workspace = %id, "idle, stopping");
        supervisor.stop(id, "idle: its user did nothing for longer than the template allows").await?;
        return Ok(());
    }
    let warn_before = SignedDuration::from_secs(i64::try_from((idle.after.0 / 4).clamp(1, 300)).unwrap_or(300));
    let shown = (stops_at.duration_since(Timestamp::now()) <= warn_before).then_some(stops_at);
    let warnings = warnings(home_used, home_limit);
    if row.workspace.stops_at != shown || row.workspace.warnings != warnings {
        supervisor.store.update(id, |row| {
            row.workspace.stops_at = shown;
            row.workspace.warnings = warnings;
        })?;
    }
    let awake = supervisor.live(id).awake(!frozen);
    if let Some(after) = Site::read(&supervisor.layout)?.freeze_after
        && awake.is_some_and(|awake| awake >= Duration::from_secs(after.0).min(AWAKE))
    {
        let unused = Timestamp::now() >= user.checked_add(Duration::from_secs(after.0)).unwrap_or(Timestamp::MAX);
        if unused && works == Some(false) && !said_busy(activity, Timestamp::now()) {
            freeze(supervisor, row).await?;
        }
    }
    Ok(())
}

/// Lets it stand still until somebody does something in it.
async fn freeze(supervisor: &Supervisor, row: &Row) -> Result<(), cubicle_core::problem::Problem> {
    let id = &row.workspace.id;
    let request = Request::Freeze { port: row.private.template.spec.port };
    match client::request(&supervisor.folder(id), &request).await? {
        Response::Frozen => tracing::debug!(workspace = %id, "nobody uses it; it stands still"),
        other => return Err(crate::supervisor::unexpected("Freeze", &other)),
    }
    Ok(())
}

/// Whether its server said a moment ago that it is busy.
fn said_busy(activity: Option<Activity>, now: Timestamp) -> bool {
    activity
        .and_then(|activity| activity.busy_at)
        .is_some_and(|at| now.duration_since(at) <= SignedDuration::from_secs(BUSY_WORD_SECONDS))
}

/// Whether the workspace's processor counter grew like work since the last look; nothing at the first.
fn works(supervisor: &Supervisor, id: &WorkspaceId, counter: u64) -> Option<bool> {
    let live = supervisor.live(id);
    let earlier = locked(&live.counter).replace((counter, Instant::now()));
    earlier.map(|(earlier, at)| {
        let elapsed_us = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        counter.saturating_sub(earlier).saturating_mul(1000) / elapsed_us >= WORKING_MILLI_CPU
    })
}

/// When a workspace is stopped if nothing happens from now on.
fn deadline(user: Timestamp, activity: Option<Activity>, works: bool, idle: &Idle, now: Timestamp) -> Timestamp {
    let seconds = |seconds: u64| SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX / 4));
    let add = |time: Timestamp, duration| time.checked_add(duration).unwrap_or(Timestamp::MAX);
    let active = if said_busy(activity, now) && works { now } else { user };
    let by_idleness = add(active, seconds(idle.after.0));
    let by_busyness = add(user, seconds(idle.max_busy.0.max(idle.after.0)));
    by_idleness.min(by_busyness)
}

fn warnings(home_used: u64, home_limit: Option<u64>) -> Vec<String> {
    let Some(limit) = home_limit.filter(|limit| home_used.saturating_mul(100) >= limit.saturating_mul(FULL_PERCENT))
    else {
        return Vec::new();
    };
    vec![format!(
        "Your home is full: {} of {} MiB used. Delete files you no longer need; ~/.cache, ~/.local/share/Trash and old \
         checkpoints in .ipynb_checkpoints are good places to begin.",
        home_used >> 20,
        limit >> 20
    )]
}

async fn ended(supervisor: &Arc<Supervisor>, id: &WorkspaceId) -> Result<(), cubicle_core::problem::Problem> {
    let live = supervisor.live(id);
    let _one = live.lifecycle.lock().await;
    if supervisor.store.row(id)?.workspace.state != State::Running {
        return Ok(());
    }
    let reason = recover::exit_reason(&supervisor.folder(id));
    supervisor.tear_down(id).await?;
    supervisor.store.update(id, |row| {
        row.workspace.state = State::Failed;
        row.workspace.reason = reason;
        row.workspace.pid = None;
        row.workspace.stops_at = None;
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use cubicle_core::template::Duration;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("valid")
    }

    #[test]
    fn a_busy_word_counts_only_while_the_counter_grows_and_never_for_ever() {
        let idle = Idle { after: Duration(100), max_busy: Duration(1000) };
        let busy = Some(Activity { at: at(0), busy_at: Some(at(500)) });
        assert_eq!(deadline(at(0), None, true, &idle, at(500)), at(100), "work without a busy word is not activity");
        assert_eq!(deadline(at(0), busy, false, &idle, at(500)), at(100), "a lying server is stopped");
        assert_eq!(deadline(at(0), busy, true, &idle, at(500)), at(600), "a working kernel keeps it alive");
        let late = Some(Activity { at: at(0), busy_at: Some(at(990)) });
        assert_eq!(deadline(at(0), late, true, &idle, at(990)), at(1000), "but not beyond maxBusy");
        assert_eq!(deadline(at(0), busy, true, &idle, at(900)), at(100), "an old word does not count");
    }

    #[test]
    fn a_full_home_says_what_to_delete() {
        assert!(warnings(90, Some(100)).is_empty());
        assert!(warnings(99 << 20, Some(100 << 20))[0].contains("Delete"));
        assert!(warnings(99, None).is_empty());
    }
}
