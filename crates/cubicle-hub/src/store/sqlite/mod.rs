//! `hub.db`: accounts, sessions and everything that hangs on a session.
//!
//! SQLite in WAL mode with one connection that writes and one that reads, so that a slow disk
//! does not hold up the look-ups that every proxied request makes.

mod accounts;
mod links;
mod sessions;
mod site;
mod tokens;
mod usage;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cubicle_core::problem::Problem;
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use rusqlite_migration::{M, Migrations};

use super::records;

/// How long an attempt to write answers for the next one: anybody may ask whether the hub is ready.
const WRITTEN: Duration = Duration::from_secs(2);

const STEPS: &[M<'static>] =
    &[M::up(include_str!("schema.sql")), M::up(include_str!("identity.sql")), M::up(include_str!("site.sql"))];

/// When somebody tried to write, and what came of it.
type Written = (Instant, Result<(), Problem>);

/// The open database. Cloning shares it.
#[derive(Clone)]
pub(crate) struct File {
    writer: Arc<Mutex<Connection>>,
    reader: Arc<Mutex<Connection>>,
    /// What came of the last attempt to write that was made only to know.
    written: Arc<tokio::sync::Mutex<Option<Written>>>,
}

impl File {
    /// Opens or makes `hub.db`, readable by the hub's user alone, and brings it to the newest
    /// schema. A file of a newer version is refused and left as it is.
    pub(crate) fn open(directory: &Path) -> Result<Self, Problem> {
        let path = directory.join("hub.db");
        let refuse = |why: String, remedy: &str| Problem::engine(format!("{}: {why}", path.display()), remedy);
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| refuse(error.to_string(), "the hub's user must own its data directory"))?;
        let damaged = "restore the file from a backup, or move it away to begin with no accounts";
        let mut writer = connect(&path).map_err(|error| refuse(error.to_string(), damaged))?;
        let version: i64 = writer
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|error| refuse(error.to_string(), damaged))?;
        let newest = STEPS.len();
        if usize::try_from(version).map_or(true, |version| version > newest) {
            return Err(refuse(
                format!("has schema version {version}, this program knows up to {newest}"),
                "run the newer version of cubicle that wrote it, or restore an older backup",
            ));
        }
        Migrations::from_slice(STEPS).to_latest(&mut writer).map_err(|error| refuse(error.to_string(), damaged))?;
        let reader = connect(&path).map_err(|error| refuse(error.to_string(), damaged))?;
        reader.pragma_update(None, "query_only", true).map_err(|error| refuse(error.to_string(), damaged))?;
        let (writer, reader) = (Arc::new(Mutex::new(writer)), Arc::new(Mutex::new(reader)));
        Ok(Self { writer, reader, written: Arc::default() })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let reader = Arc::clone(&self.reader);
        settle(tokio::task::spawn_blocking(move || work(&reader.lock().unwrap_or_else(PoisonError::into_inner))).await)
    }

    /// All of `work` happens or nothing of it.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.transact(Durability::PowerCut, work).await
    }

    /// The same for what a power cut may undo without harm: nobody waits for the disk.
    async fn write_lightly<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.transact(Durability::Process, work).await
    }

    async fn transact<T: Send + 'static>(
        &self,
        survives: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let writer = Arc::clone(&self.writer);
        settle(
            tokio::task::spawn_blocking(move || {
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                writer.pragma_update(None, "synchronous", survives.synchronous())?;
                let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let value = work(&transaction)?;
                transaction.commit()?;
                Ok(value)
            })
            .await,
        )
    }

    /// Whether the database can be read and written: a full disk lets nobody in and nobody out.
    pub(crate) async fn ping(&self) -> Result<(), Problem> {
        self.read(|connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?)).await?;
        let mut written = self.written.lock().await;
        if let Some((at, outcome)) = &*written
            && at.elapsed() < WRITTEN
        {
            return outcome.clone();
        }
        let outcome = self
            .write(|transaction| {
                // Says nothing new, but has to reach the disk.
                let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
                Ok(transaction.pragma_update(None, "user_version", version)?)
            })
            .await;
        *written = Some((Instant::now(), outcome.clone()));
        outcome
    }

    /// Forgets what can no longer be used.
    pub(crate) async fn forget_expired(&self) -> Result<(), Problem> {
        let now = Timestamp::now().as_millisecond();
        self.write(move |transaction| {
            for table in ["sessions", "tickets", "links", "tokens"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE expires_at <= ?1"), [now])?;
            }
            Ok(())
        })
        .await
    }
}

/// What a write has to survive once it is answered.
#[derive(Debug, Clone, Copy)]
enum Durability {
    /// What ends the machine, too: a sign-out must not come back.
    PowerCut,
    /// What ends this process.
    Process,
}

impl Durability {
    /// The mode of a connection to a database with a write-ahead log (SQLite, PRAGMA synchronous).
    fn synchronous(self) -> &'static str {
        match self {
            Self::PowerCut => "FULL",
            Self::Process => "NORMAL",
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", Durability::PowerCut.synchronous())?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// Why a piece of work on the database ended without a value.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("{0}")]
    Refused(Problem),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

fn settle<T>(outcome: Result<Result<T, StoreError>, tokio::task::JoinError>) -> Result<T, Problem> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(StoreError::Refused(problem))) => Err(problem),
        Ok(Err(StoreError::Sqlite(error))) => {
            Err(Problem::engine(format!("hub.db: {error}"), "check free space and permissions of the data directory"))
        }
        Err(error) => Err(Problem::engine(format!("hub.db: {error}"), "this is a bug; please report it")),
    }
}

/// Reads a column of milliseconds since the epoch.
fn timestamp(milliseconds: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millisecond(milliseconds).map_err(|error| unreadable(&error.to_string()))
}

/// A column that does not hold what this program wrote.
fn unreadable(why: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, why.to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        drop(File::open(directory.path()).expect("a new store"));
        let file = directory.path().join("hub.db");
        Connection::open(&file).expect("open").pragma_update(None, "user_version", 4711).expect("update");
        let problem = File::open(directory.path()).err().expect("refused");
        assert!(problem.what.contains("4711"), "{}", problem.what);
        assert!(!problem.remedy.is_empty());
        let version: i64 = Connection::open(&file)
            .expect("open")
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .expect("a version");
        assert_eq!(version, 4711);
    }

    #[tokio::test]
    async fn a_file_that_cannot_grow_is_not_ready() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = File::open(directory.path()).expect("a new store");
        store.ping().await.expect("ready");
        {
            let writer = store.writer.lock().expect("unpoisoned");
            writer.pragma_update(None, "query_only", true).expect("read-only");
        }
        store.ping().await.expect("the attempt of just now counts");
        tokio::time::sleep(WRITTEN).await;
        assert!(store.ping().await.is_err());
    }

    #[tokio::test]
    async fn a_new_ticket_does_not_wait_for_the_disk_and_its_use_does() {
        use crate::secret::{Digest, Purpose};
        let directory = tempfile::tempdir().expect("a directory");
        let store = File::open(directory.path()).expect("a new store");
        // 1 is NORMAL, 2 is FULL.
        let mode = || -> i64 {
            let writer = store.writer.lock().expect("unpoisoned");
            writer.pragma_query_value(None, "synchronous", |row| row.get(0)).expect("a mode")
        };
        let of = |purpose| Digest::of(purpose, "any");
        let workspace: cubicle_core::name::WorkspaceId = "w-000000000001".parse().expect("an id");
        // Of nobody's session, so that it is refused; how it would be written is what counts.
        let until = jiff::Timestamp::now();
        let refused = store.issue_ticket(of(Purpose::Ticket), of(Purpose::Session), workspace.clone(), until).await;
        assert!(refused.is_err());
        assert_eq!(mode(), 1);
        assert!(!store.redeem_ticket(of(Purpose::Ticket), workspace, of(Purpose::Grant)).await.expect("asked"));
        assert_eq!(mode(), 2, "one that is used up must not come back after a power cut");
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(
            directory.path().join("hub.db"),
            b"not a database, but long enough to be read as one....".repeat(40),
        )
        .expect("written");
        assert!(File::open(directory.path()).is_err());
    }

    #[test]
    fn only_the_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let _store = File::open(directory.path()).expect("a new store");
        for name in ["hub.db", "hub.db-wal"] {
            let mode = std::fs::metadata(directory.path().join(name)).expect("a file").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
    }
}
