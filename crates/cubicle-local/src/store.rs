//! The engine's state in SQLite: templates, workspaces, homes. One writer: this process.

mod log;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cubicle_core::engine::Volume;
use cubicle_core::name::{TemplateName, UserId, WorkspaceId};
use cubicle_core::problem::Problem;
use cubicle_core::report::Report;
use cubicle_core::reservation::Reservation;
use cubicle_core::template::Template;
use cubicle_core::workspace::{StepEvent, Workspace};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use rusqlite_migration::{M, Migrations};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::machine;
use crate::settle::secret;
use log::{LOG_PAGES, log_of};

pub(crate) use log::keep_log_short;

/// What the engine alone knows about a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Private {
    /// The template as it was at launch.
    pub(crate) template: Template,
    /// Which range of host uids is this workspace's: the first is `ID_BASE + slot * 65536`.
    pub(crate) slot: u32,
    /// The digest of the image that was planned.
    pub(crate) image: String,
    /// The notebook's own token.
    pub(crate) token: String,
    /// The boot in which it last ran.
    pub(crate) boot_id: String,
    /// Start time of the first process, in clock ticks since boot, against pid reuse.
    pub(crate) pid_start: u64,
    /// The sandbox that it runs in, or ran in last, when that has an identifier of its own: one that was ready when
    /// this workspace was started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sandbox: Option<WorkspaceId>,
}

impl Private {
    /// Of a sandbox that is not built yet.
    pub(crate) fn new(template: Template, slot: u32, image: String) -> Self {
        Self { template, slot, image, token: secret(), boot_id: machine::boot_id(), pid_start: 0, sandbox: None }
    }
}

/// One row of the table of workspaces.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) workspace: Workspace,
    pub(crate) private: Private,
}

impl Row {
    /// The identifier of the sandbox that it runs in, or ran in last.
    pub(crate) fn sandbox(&self) -> &WorkspaceId {
        self.private.sandbox.as_ref().unwrap_or(&self.workspace.id)
    }
}

/// The database.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Mutex<Connection>,
    /// The file of its write-ahead log.
    log: PathBuf,
}

const SCHEMA: &str = "
CREATE TABLE template (name TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT;
CREATE TABLE workspace (
    id TEXT PRIMARY KEY,
    created_at TEXT NOT NULL,
    document TEXT NOT NULL,
    private TEXT NOT NULL,
    events TEXT NOT NULL DEFAULT '[]',
    report TEXT
) STRICT;
CREATE TABLE volume (user TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT;
";

/// What a launch said and what its proof found, apart from what changes while a workspace runs: a report is a hundred times
/// as large, and a row is written as a whole.
const LAUNCHES: &str = "
CREATE TABLE steps (workspace TEXT PRIMARY KEY, events TEXT NOT NULL) STRICT;
CREATE TABLE report (workspace TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT;
INSERT INTO steps SELECT id, events FROM workspace;
INSERT INTO report SELECT id, report FROM workspace WHERE report IS NOT NULL;
ALTER TABLE workspace DROP COLUMN events;
ALTER TABLE workspace DROP COLUMN report;
";

/// A connection that waits for the disk again when this is dropped.
struct Light<'a>(MutexGuard<'a, Connection>);

impl Drop for Light<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.pragma_update(None, "synchronous", "FULL") {
            tracing::error!(%error, "what is written from now on may be undone by a power cut");
        }
    }
}

/// When which template was launched, and what is announced: what the pool is sized by.
const ARRIVALS: &str = "
CREATE TABLE arrival (template TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE INDEX arrival_at ON arrival (at);
CREATE TABLE reservation (id TEXT PRIMARY KEY, at INTEGER NOT NULL, document TEXT NOT NULL) STRICT;
";

impl Store {
    /// Opens or creates the database. A file of a newer version is refused and left as it is.
    pub(crate) fn open(path: &Path) -> Result<Self, Problem> {
        let mut connection = Connection::open(path).map_err(database)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(database)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(database)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(database)?;
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES).map_err(database)?;
        // Whoever writes first after the log was moved makes its file short; otherwise it would look long for ever.
        connection.pragma_update(None, "journal_size_limit", 0).map_err(database)?;
        let migrations = Migrations::new(vec![M::up(SCHEMA), M::up(ARRIVALS), M::up(LAUNCHES)]);
        migrations.to_latest(&mut connection).map_err(|error| {
            Problem::engine(
                format!("the engine's database {} cannot be used: {error}", path.display()),
                "it was written by a newer Cubicle or is damaged: install that version, or restore a backup",
            )
        })?;
        Ok(Self { connection: Mutex::new(connection), log: log_of(path) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what matters while the machine runs: a power cut may undo it, and ends what it is about as well. Nobody
    /// waits for the disk then; the death of this process undoes nothing (SQLite, PRAGMA synchronous with a WAL).
    fn lightly<T>(&self, write: impl FnOnce(&mut Connection) -> Result<T, Problem>) -> Result<T, Problem> {
        let mut light = Light(self.lock());
        light.0.pragma_update(None, "synchronous", "NORMAL").map_err(database)?;
        write(&mut light.0)
    }

    pub(crate) fn templates(&self) -> Result<Vec<Template>, Problem> {
        self.documents("SELECT document FROM template ORDER BY name")
    }

    pub(crate) fn template(&self, name: &TemplateName) -> Result<Option<Template>, Problem> {
        self.document("SELECT document FROM template WHERE name = ?1", name.as_str())
    }

    pub(crate) fn put_template(&self, template: &Template) -> Result<(), Problem> {
        self.lock()
            .execute(
                "INSERT INTO template (name, document) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET document = excluded.document",
                params![template.metadata.name.as_str(), text(template)?],
            )
            .map_err(database)?;
        Ok(())
    }

    pub(crate) fn delete_template(&self, name: &TemplateName) -> Result<bool, Problem> {
        let changed = self.lock().execute("DELETE FROM template WHERE name = ?1", [name.as_str()]);
        Ok(changed.map_err(database)? > 0)
    }

    pub(crate) fn rows(&self) -> Result<Vec<Row>, Problem> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT document, private FROM workspace ORDER BY created_at DESC, id")
            .map_err(database)?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(database)?;
        rows.map(|row| {
            let (document, private) = row.map_err(database)?;
            Ok(Row { workspace: parse(&document)?, private: parse(&private)? })
        })
        .collect()
    }

    pub(crate) fn row(&self, id: &WorkspaceId) -> Result<Row, Problem> {
        let found = self
            .lock()
            .query_row("SELECT document, private FROM workspace WHERE id = ?1", [id.as_str()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
            .optional()
            .map_err(database)?;
        let (document, private) = found.ok_or_else(|| no_workspace(id))?;
        Ok(Row { workspace: parse(&document)?, private: parse(&private)? })
    }

    /// Records a new workspace, and that its template was asked for. Before anybody is told, `settle`.
    pub(crate) fn insert(&self, row: &Row) -> Result<(), Problem> {
        let Workspace { id, template, created_at, .. } = &row.workspace;
        let values = params![id.as_str(), created_at.to_string(), text(&row.workspace)?, text(&row.private)?];
        let insert = "INSERT INTO workspace (id, created_at, document, private) VALUES (?1, ?2, ?3, ?4)";
        self.lightly(|connection| {
            let transaction = connection.transaction().map_err(database)?;
            transaction.execute(insert, values).map_err(database)?;
            arrived(&transaction, template, *created_at)?;
            transaction.commit().map_err(database)
        })
    }

    /// Changes one workspace in one transaction and returns it.
    pub(crate) fn update(&self, id: &WorkspaceId, change: impl FnOnce(&mut Row)) -> Result<Row, Problem> {
        changed(&mut self.lock(), id, change, |_, _| Ok(()))
    }

    /// Changes one workspace to what only this boot of the machine knows of it: how far a launch is, which process it has.
    pub(crate) fn note(&self, id: &WorkspaceId, change: impl FnOnce(&mut Row)) -> Result<Row, Problem> {
        self.lightly(|connection| changed(connection, id, change, |_, _| Ok(())))
    }

    /// Changes one workspace that is started again, and records that its template was asked for. What its last launch
    /// has said and found is not known of this one. Before anybody is told, `settle`.
    pub(crate) fn restart(&self, id: &WorkspaceId, change: impl FnOnce(&mut Row)) -> Result<Row, Problem> {
        let also = |transaction: &Transaction<'_>, row: &Row| {
            forget_launch(transaction, &row.workspace.id)?;
            arrived(transaction, &row.workspace.template, Timestamp::now())
        };
        self.lightly(|connection| changed(connection, id, change, also))
    }

    pub(crate) fn delete(&self, id: &WorkspaceId) -> Result<(), Problem> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(database)?;
        transaction.execute("DELETE FROM workspace WHERE id = ?1", [id.as_str()]).map_err(database)?;
        forget_launch(&transaction, id)?;
        transaction.commit().map_err(database)
    }

    /// Keeps the steps of a launch, if its workspace is still there.
    pub(crate) fn put_events(&self, id: &WorkspaceId, events: &[StepEvent]) -> Result<(), Problem> {
        let values = params![id.as_str(), text(&events)?];
        let put = "INSERT INTO steps (workspace, events) SELECT id, ?2 FROM workspace WHERE id = ?1
                   ON CONFLICT (workspace) DO UPDATE SET events = excluded.events";
        self.lightly(|connection| connection.execute(put, values).map_err(database))?;
        Ok(())
    }

    pub(crate) fn events(&self, id: &WorkspaceId) -> Result<Vec<StepEvent>, Problem> {
        Ok(self.document("SELECT events FROM steps WHERE workspace = ?1", id.as_str())?.unwrap_or_default())
    }

    /// Keeps a report that somebody has been told of.
    pub(crate) fn put_report(&self, id: &WorkspaceId, report: &Report) -> Result<(), Problem> {
        reported(&self.lock(), id, report)
    }

    /// Keeps the report of a launch that is on its way.
    pub(crate) fn note_report(&self, id: &WorkspaceId, report: &Report) -> Result<(), Problem> {
        self.lightly(|connection| reported(connection, id, report))
    }

    pub(crate) fn report(&self, id: &WorkspaceId) -> Result<Option<Report>, Problem> {
        self.document("SELECT document FROM report WHERE workspace = ?1", id.as_str())
    }

    /// Forgets launches of long ago.
    pub(crate) fn forget_arrivals(&self, before: Timestamp) -> Result<(), Problem> {
        self.lock().execute("DELETE FROM arrival WHERE at < ?1", [before.as_second()]).map_err(database)?;
        Ok(())
    }

    /// All launches that are remembered.
    pub(crate) fn arrivals(&self) -> Result<Vec<(TemplateName, Timestamp)>, Problem> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT template, at FROM arrival").map_err(database)?;
        let rows =
            statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).map_err(database)?;
        rows.map(|row| {
            let (template, at) = row.map_err(database)?;
            let template = template.parse().map_err(|_| damaged("the name of a template"))?;
            Ok((template, Timestamp::from_second(at).map_err(|_| damaged("a time"))?))
        })
        .collect()
    }

    /// All that is announced, by time.
    pub(crate) fn reservations(&self) -> Result<Vec<Reservation>, Problem> {
        self.documents("SELECT document FROM reservation ORDER BY at, id")
    }

    pub(crate) fn put_reservation(&self, reservation: &Reservation) -> Result<(), Problem> {
        self.lock()
            .execute(
                "INSERT INTO reservation (id, at, document) VALUES (?1, ?2, ?3)",
                params![reservation.id, reservation.at.as_second(), text(reservation)?],
            )
            .map_err(database)?;
        Ok(())
    }

    pub(crate) fn delete_reservation(&self, id: &str) -> Result<bool, Problem> {
        let changed = self.lock().execute("DELETE FROM reservation WHERE id = ?1", [id]);
        Ok(changed.map_err(database)? > 0)
    }

    /// Forgets what was announced for a time that is past.
    pub(crate) fn forget_reservations(&self, before: Timestamp) -> Result<(), Problem> {
        self.lock().execute("DELETE FROM reservation WHERE at < ?1", [before.as_second()]).map_err(database)?;
        Ok(())
    }

    pub(crate) fn volumes(&self) -> Result<Vec<Volume>, Problem> {
        self.documents("SELECT document FROM volume ORDER BY user")
    }

    pub(crate) fn volume(&self, user: &UserId) -> Result<Option<Volume>, Problem> {
        self.document("SELECT document FROM volume WHERE user = ?1", user.as_str())
    }

    pub(crate) fn put_volume(&self, volume: &Volume) -> Result<(), Problem> {
        self.lock()
            .execute(
                "INSERT INTO volume (user, document) VALUES (?1, ?2)
                 ON CONFLICT (user) DO UPDATE SET document = excluded.document",
                params![volume.owner.id.as_str(), text(volume)?],
            )
            .map_err(database)?;
        Ok(())
    }

    pub(crate) fn delete_volume(&self, user: &UserId) -> Result<(), Problem> {
        self.lock().execute("DELETE FROM volume WHERE user = ?1", [user.as_str()]).map_err(database)?;
        Ok(())
    }

    fn document<T: DeserializeOwned>(&self, query: &str, key: &str) -> Result<Option<T>, Problem> {
        let found: Option<String> =
            self.lock().query_row(query, [key], |row| row.get(0)).optional().map_err(database)?;
        found.map(|document| parse(&document)).transpose()
    }

    fn documents<T: DeserializeOwned>(&self, query: &str) -> Result<Vec<T>, Problem> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(query).map_err(database)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(database)?;
        rows.map(|row| parse(&row.map_err(database)?)).collect()
    }
}

fn changed(
    connection: &mut Connection,
    id: &WorkspaceId,
    change: impl FnOnce(&mut Row),
    also: impl FnOnce(&Transaction<'_>, &Row) -> Result<(), Problem>,
) -> Result<Row, Problem> {
    let transaction = connection.transaction().map_err(database)?;
    let (document, private): (String, String) = transaction
        .query_row("SELECT document, private FROM workspace WHERE id = ?1", [id.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
        .map_err(database)?
        .ok_or_else(|| no_workspace(id))?;
    let mut row = Row { workspace: parse(&document)?, private: parse(&private)? };
    change(&mut row);
    transaction
        .execute(
            "UPDATE workspace SET document = ?2, private = ?3 WHERE id = ?1",
            params![id.as_str(), text(&row.workspace)?, text(&row.private)?],
        )
        .map_err(database)?;
    also(&transaction, &row)?;
    transaction.commit().map_err(database)?;
    Ok(row)
}

fn reported(connection: &Connection, id: &WorkspaceId, report: &Report) -> Result<(), Problem> {
    let values = params![id.as_str(), text(report)?];
    let put = "INSERT INTO report (workspace, document) SELECT id, ?2 FROM workspace WHERE id = ?1
               ON CONFLICT (workspace) DO UPDATE SET document = excluded.document";
    connection.execute(put, values).map_err(database)?;
    Ok(())
}

fn forget_launch(transaction: &Transaction<'_>, id: &WorkspaceId) -> Result<(), Problem> {
    for forget in ["DELETE FROM steps WHERE workspace = ?1", "DELETE FROM report WHERE workspace = ?1"] {
        transaction.execute(forget, [id.as_str()]).map_err(database)?;
    }
    Ok(())
}

fn arrived(transaction: &Transaction<'_>, template: &TemplateName, at: Timestamp) -> Result<(), Problem> {
    let values = params![template.as_str(), at.as_second()];
    transaction.execute("INSERT INTO arrival (template, at) VALUES (?1, ?2)", values).map_err(database)?;
    Ok(())
}

fn text<T: Serialize>(value: &T) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(|error| Problem::engine(format!("state cannot be written: {error}"), ""))
}

fn parse<T: DeserializeOwned>(document: &str) -> Result<T, Problem> {
    serde_json::from_str(document).map_err(|error| damaged(&format!("a document: {error}")))
}

fn damaged(what: &str) -> Problem {
    Problem::engine(format!("the engine's database is damaged: {what}"), "restore a backup")
}

fn database(error: rusqlite::Error) -> Problem {
    Problem::engine(format!("the engine's database failed: {error}"), "check the disk for space and errors")
}

fn no_workspace(id: &WorkspaceId) -> Problem {
    Problem::not_found(format!("there is no workspace \"{id}\""), "list the known ones with `cubicle list`")
}

#[cfg(test)]
mod tests {
    use cubicle_core::workspace::{Progress, Step};

    use super::*;

    #[test]
    fn only_what_is_written_lightly_does_not_wait_for_the_disk() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(&folder.path().join("engine.db")).expect("new database");
        let synchronous = |connection: &Connection| -> i64 {
            connection.pragma_query_value(None, "synchronous", |row| row.get(0)).expect("a mode")
        };
        // 1 is NORMAL, 2 is FULL.
        assert_eq!(store.lightly(|connection| Ok(synchronous(connection))).expect("written"), 1);
        assert_eq!(synchronous(&store.lock()), 2);
        let failed: Result<(), Problem> = store.lightly(|_| Err(damaged("a test")));
        assert!(failed.is_err());
        assert_eq!(synchronous(&store.lock()), 2, "also after a failure");
    }

    #[test]
    fn what_an_older_version_kept_of_launches_is_still_there() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("engine.db");
        let older = Connection::open(&path).expect("new database");
        older.execute_batch(&format!("{SCHEMA}{ARRIVALS}")).expect("its tables");
        older.pragma_update(None, "user_version", 2).expect("its version");
        let said = StepEvent { step: Step::Open, state: Progress::Done, message: "open".to_owned(), elapsed_ms: 7 };
        let insert = "INSERT INTO workspace VALUES (?1, '', '{}', '{}', ?2, ?3)";
        let report = r#"{"workspace": "w-000000000001", "engine": "local", "level": "standard", "template": "jupyterlab",
            "started_at": "2026-01-01T00:00:00Z", "duration_ms": 1, "guarantees": [],
            "summary": {"held": 0, "breached": 0, "unproven": 0, "absent": 0, "not_claimed": 0}}"#;
        let events = text(&[&said]).expect("events");
        older.execute(insert, params!["w-000000000001", events, report]).expect("proven");
        older.execute(insert, params!["w-000000000002", "[]", None::<String>]).expect("not proven");
        drop(older);
        let store = Store::open(&path).expect("taken over");
        let (one, other) = ("w-000000000001".parse().expect("an id"), "w-000000000002".parse().expect("an id"));
        assert_eq!(store.events(&one).expect("its steps"), [said]);
        assert!(store.report(&one).expect("its report").is_some());
        assert!(store.report(&other).expect("none").is_none());
        store.delete(&one).expect("deleted");
        store.put_events(&one, &[]).expect("nothing to do");
        assert!(store.report(&one).expect("none").is_none() && store.events(&one).expect("none").is_empty());
        let left: i64 = store.lock().query_row("SELECT count(*) FROM steps", [], |row| row.get(0)).expect("a count");
        assert_eq!(left, 1, "only the other's");
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused_and_kept() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("engine.db");
        drop(Store::open(&path).expect("new database"));
        let connection = Connection::open(&path).expect("open");
        connection.pragma_update(None, "user_version", 99).expect("newer version");
        drop(connection);
        let problem = Store::open(&path).expect_err("refused");
        assert!(problem.what.contains("engine.db"), "{problem}");
        assert!(problem.remedy.contains("newer"), "{}", problem.remedy);
        let connection = Connection::open(&path).expect("open");
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("version");
        assert_eq!(version, 99);
    }
}
