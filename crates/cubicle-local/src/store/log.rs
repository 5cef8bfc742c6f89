//! The database's write-ahead log: kept short by nobody's launch, and waited for when somebody is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cubicle_core::problem::Problem;
use rusqlite::Connection;

use super::Store;

/// How often to look whether the log of the database is long.
const LOG_LOOK: Duration = Duration::from_secs(5);
/// From how many bytes on it is.
const LOG_SIZE: u64 = 4 << 20;
/// At how many pages of 4 KiB whoever writes has to shorten it, should nobody else have done so.
pub(super) const LOG_PAGES: u32 = 16_000;

/// Moves what was written from the log into the database from time to time. SQLite would let a launch do that which
/// happens to write the thousandth page, and wait for the disk twice (its "Write-Ahead Logging", chapter 3).
pub(crate) async fn keep_log_short(database: PathBuf) {
    loop {
        tokio::time::sleep(LOG_LOOK).await;
        let database = database.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || move_if_long(&database)).await {
            tracing::warn!(%error, "the log of the engine's database was not moved");
        }
    }
}

fn move_if_long(database: &Path) -> rusqlite::Result<()> {
    if std::fs::metadata(log_of(database)).map_or(0, |log| log.len()) < LOG_SIZE {
        return Ok(());
    }
    // A connection of its own, so that nobody waits for it: a passive move hinders neither readers nor the writer.
    Connection::open(database)?.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// The log of a database (SQLite, "Write-Ahead Logging", chapter 2).
pub(super) fn log_of(database: &Path) -> PathBuf {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

impl Store {
    /// Waits until the disk has what was written so far, as every durable write does for itself: what is not in the
    /// log any more was moved into the database, and waited for.
    pub(crate) async fn settle(&self) -> Result<(), Problem> {
        let log = self.log.clone();
        let synced = tokio::task::spawn_blocking(move || std::fs::File::open(&log)?.sync_data()).await;
        let synced = synced.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        synced.map_err(|error| {
            let log = self.log.display();
            Problem::engine(format!("{log} is not on the disk: {error}"), "check the disk for space and errors")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(log: &Path) -> u64 {
        std::fs::metadata(log).expect("a log").len()
    }

    #[tokio::test]
    async fn what_cannot_be_waited_for_is_told() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut store = Store::open(&folder.path().join("engine.db")).expect("new database");
        store.settle().await.expect("it is on the disk");
        store.log = folder.path().join("gone");
        let problem = store.settle().await.expect_err("there is nothing to wait for");
        assert!(problem.what.contains("gone") && problem.remedy.contains("disk"), "{problem}");
    }

    #[test]
    fn a_long_log_is_moved_and_cut() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("engine.db");
        let store = Store::open(&path).expect("new database");
        let write = |bytes: u64| {
            let events = "x".repeat(usize::try_from(bytes).expect("small"));
            let insert = "INSERT OR REPLACE INTO steps (workspace, events) VALUES ('w', ?1)";
            store
                .lightly(|connection| connection.execute(insert, [events]).map_err(super::super::database))
                .expect("written");
        };
        write(2 * LOG_SIZE);
        write(0);
        assert!(size(&store.log) > LOG_SIZE, "somebody else has moved it");
        move_if_long(&path).expect("moved");
        write(0);
        assert!(size(&store.log) < LOG_SIZE, "{} bytes", size(&store.log));
    }
}
