//! Clients in a SQLite file, for one machine.
//!
//! A thread of its own has the connection. Changes by other processes are noticed within [`POLL`], because triggers
//! write the ids of changed clients to a table. A replaced file is opened again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use rusqlite::ffi::ErrorCode;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::{broadcast, oneshot};
use tracing::{info, warn};

use super::sql::{DatabaseChange, DatabaseError, DatabaseRefusal, SqlRow, SqlValue, Statement};
use crate::{clock, durable_file};

#[derive(Clone, Debug)]
pub(crate) struct SqliteStore {
    jobs: SyncSender<Job>,
    changes: broadcast::Sender<DatabaseChange>,
}

/// The reason for which the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqliteOpenError {
    #[error(
        "the database of the clients, {}, does not exist: restore it from a backup, or create a client with `portcullis \
         client new ID --store`; a gateway creates it at its start",
        .file.display()
    )]
    Missing { file: PathBuf },
    #[error("cannot open {}", .file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("{} can be read by other users: run `chmod 600` on it, and replace its secrets if others could read it", .file.display())]
    Exposed { file: PathBuf },
    #[error("cannot use {}", .file.display())]
    Sqlite { file: PathBuf, source: rusqlite::Error },
    #[error("the tables of {} are of version {found}, and this gateway knows {VERSION}: use a newer gateway", .file.display())]
    Newer { file: PathBuf, found: i64 },
}

enum Job {
    Rows(Statement, oneshot::Sender<Result<Vec<SqlRow>, DatabaseError>>),
    Transaction(Vec<Statement>, oneshot::Sender<Result<Vec<u64>, DatabaseError>>),
}

/// How often the thread looks for changes by other processes.
const POLL: Duration = Duration::from_millis(200);
/// How long a statement waits for another process to finish its own.
const BUSY: Duration = Duration::from_secs(1);
const WAITING_JOBS: usize = 1024;
/// The buffer of changes. A receiver that lags further behind reads everything again.
const TOLD_CHANGES: usize = 4096;
const VERSION: i64 = 1;
/// The ids of the last 10,000 changes are kept. A gateway that has missed more reads everything again.
const SCHEMA: &str = "
    CREATE TABLE clients (
        id TEXT NOT NULL PRIMARY KEY,
        entry TEXT NOT NULL,
        disabled BIGINT NOT NULL DEFAULT 0,
        changed_at BIGINT NOT NULL
    );
    CREATE TABLE client_federation (
        issuer TEXT NOT NULL,
        tenant TEXT NOT NULL,
        prefix TEXT NOT NULL,
        client_id TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
        PRIMARY KEY (issuer, tenant, prefix, client_id)
    ) WITHOUT ROWID;
    CREATE INDEX client_federation_client ON client_federation (client_id);
    CREATE TABLE client_changes (sequence INTEGER PRIMARY KEY AUTOINCREMENT, client_id TEXT NOT NULL);
    CREATE TRIGGER client_changes_bounded AFTER INSERT ON client_changes BEGIN
        DELETE FROM client_changes WHERE sequence <= NEW.sequence - 10000;
    END;
    CREATE TRIGGER clients_inserted AFTER INSERT ON clients BEGIN
        INSERT INTO client_changes (client_id) VALUES (NEW.id);
    END;
    CREATE TRIGGER clients_updated AFTER UPDATE ON clients BEGIN
        INSERT INTO client_changes (client_id) VALUES (OLD.id);
        INSERT INTO client_changes (client_id) SELECT NEW.id WHERE NEW.id <> OLD.id;
    END;
    CREATE TRIGGER clients_deleted AFTER DELETE ON clients BEGIN
        INSERT INTO client_changes (client_id) VALUES (OLD.id);
    END;
    PRAGMA user_version = 1;
";

impl SqliteStore {
    /// Opens the file. Creates it with its tables if it is missing.
    pub(crate) fn open(file: &Path) -> Result<Self, SqliteOpenError> {
        Self::of(file, OpenedFile::open(file, true)?)
    }

    /// Opens a file that must exist: a running gateway would use a new one, and all its clients would be gone.
    pub(crate) fn open_existing(file: &Path) -> Result<Self, SqliteOpenError> {
        if place_of(file).is_none() {
            return Err(SqliteOpenError::Missing { file: file.to_owned() });
        }
        Self::of(file, OpenedFile::open(file, false)?)
    }

    fn of(file: &Path, opened: OpenedFile) -> Result<Self, SqliteOpenError> {
        let (jobs, waiting) = sync_channel(WAITING_JOBS);
        let changes = broadcast::Sender::new(TOLD_CHANGES);
        let thread = SqliteThread { file: file.to_owned(), opened: Some(opened), changes: changes.clone() };
        let spawned = std::thread::Builder::new().name("sqlite".to_owned()).spawn(move || thread.run(&waiting));
        spawned.map_err(|source| SqliteOpenError::Io { file: file.to_owned(), source })?;
        Ok(Self { jobs, changes })
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<DatabaseChange> {
        self.changes.subscribe()
    }

    pub(super) async fn rows(&self, statement: Statement) -> Result<Vec<SqlRow>, DatabaseError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Rows(statement, reply)).map_err(|_| DatabaseError::Unavailable)?;
        answer.await.unwrap_or(Err(DatabaseError::Unavailable))
    }

    pub(super) async fn transaction(&self, statements: Vec<Statement>) -> Result<Vec<u64>, DatabaseError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Transaction(statements, reply)).map_err(|_| DatabaseError::Unavailable)?;
        answer.await.unwrap_or(Err(DatabaseError::Unavailable))
    }
}

struct SqliteThread {
    file: PathBuf,
    /// `None` while the file cannot be opened.
    opened: Option<OpenedFile>,
    changes: broadcast::Sender<DatabaseChange>,
}

impl SqliteThread {
    /// Ends with the last [`SqliteStore`].
    fn run(mut self, jobs: &Receiver<Job>) {
        let mut next_look = clock::instant() + POLL;
        loop {
            let now = clock::instant();
            match jobs.recv_timeout(next_look.saturating_duration_since(now)) {
                Ok(job) => self.carry_out(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if clock::instant() >= next_look {
                self.look();
                next_look = clock::instant() + POLL;
            }
        }
    }

    fn carry_out(&mut self, job: Job) {
        // Fails if the caller no longer waits.
        match job {
            Job::Rows(statement, reply) => {
                let rows = self.with(|opened| opened.rows(&statement));
                let _ = reply.send(rows);
            }
            Job::Transaction(statements, reply) => {
                let counts = self.with(|opened| opened.transaction(&statements));
                let _ = reply.send(counts);
                self.tell_changes();
            }
        }
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut OpenedFile) -> rusqlite::Result<T>) -> Result<T, DatabaseError> {
        match &mut self.opened {
            Some(opened) => work(opened).map_err(|error| database_error(&error)),
            None => Err(DatabaseError::Unavailable),
        }
    }

    /// Looks for changes by other processes, and whether the file is still the same.
    fn look(&mut self) {
        let place = place_of(&self.file);
        match &self.opened {
            Some(opened) if place.is_some() && place == opened.place => self.tell_changes(),
            Some(_) => {
                warn!(file = %self.file.display(), "the client database is missing or replaced; reopening it");
                self.opened = None;
                self.open_again(place);
            }
            None => self.open_again(place),
        }
    }

    /// Does not create a missing file, because the loss of its clients would go unnoticed.
    fn open_again(&mut self, place: Option<(u64, u64)>) {
        if place.is_none() {
            return;
        }
        if let Ok(opened) = OpenedFile::open(&self.file, false) {
            info!(file = %self.file.display(), "the client database is open again");
            self.opened = Some(opened);
            let _ = self.changes.send(DatabaseChange::Anything);
        }
    }

    fn tell_changes(&mut self) {
        let Some(opened) = &mut self.opened else { return };
        match opened.changed() {
            Ok(changed) => changed.into_iter().for_each(|change| drop(self.changes.send(change))),
            // The next look reads them.
            Err(error) => warn!(file = %self.file.display(), %error, "cannot read changes of clients"),
        }
    }
}

struct OpenedFile {
    connection: Connection,
    /// The device and the inode.
    place: Option<(u64, u64)>,
    /// `PRAGMA data_version`: changes with a commit by another connection.
    version: i64,
    /// The last change that was published.
    told: i64,
}

impl OpenedFile {
    fn open(file: &Path, make: bool) -> Result<Self, SqliteOpenError> {
        let io = |source| SqliteOpenError::Io { file: file.to_owned(), source };
        if make {
            make_file(file).map_err(io)?;
        }
        if fs::metadata(file).map_err(io)?.mode() & 0o077 != 0 {
            return Err(SqliteOpenError::Exposed { file: file.to_owned() });
        }
        let place = place_of(file);
        let sqlite = |source| SqliteOpenError::Sqlite { file: file.to_owned(), source };
        let mut connection = connect(file).map_err(sqlite)?;
        match migrate(&mut connection).map_err(sqlite)? {
            found if found > VERSION => return Err(SqliteOpenError::Newer { file: file.to_owned(), found }),
            _known => {}
        }
        let (version, told) = (data_version(&connection), last_change(&connection));
        let (version, told) = (version.map_err(sqlite)?, told.map_err(sqlite)?);
        Ok(Self { connection, place, version, told })
    }

    fn rows(&mut self, statement: &Statement) -> rusqlite::Result<Vec<SqlRow>> {
        let mut prepared = self.connection.prepare_cached(statement.text)?;
        bind(&mut prepared, statement)?;
        let columns = prepared.column_count();
        let (mut rows, mut all) = (prepared.raw_query(), Vec::new());
        while let Some(row) = rows.next()? {
            let row = (0..columns).map(|column| row.get_ref(column).map(sql_value));
            all.push(row.collect::<rusqlite::Result<SqlRow>>()?);
        }
        Ok(all)
    }

    fn transaction(&mut self, statements: &[Statement]) -> rusqlite::Result<Vec<u64>> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut counts = Vec::with_capacity(statements.len());
        for statement in statements {
            let mut prepared = transaction.prepare_cached(statement.text)?;
            bind(&mut prepared, statement)?;
            counts.push(prepared.raw_execute()? as u64);
        }
        transaction.commit()?;
        Ok(counts)
    }

    /// The changes since the last look.
    fn changed(&mut self) -> rusqlite::Result<Vec<DatabaseChange>> {
        let (version, last) = (data_version(&self.connection)?, last_change(&self.connection)?);
        if version == self.version && last == self.told {
            return Ok(Vec::new());
        }
        self.version = version;
        // A restored copy may have fewer changes, or as many.
        let behind = last - self.told;
        if !(1..=TOLD_CHANGES as i64 / 2).contains(&behind) {
            self.told = last;
            return Ok(vec![DatabaseChange::Anything]);
        }
        let text = "SELECT DISTINCT client_id FROM client_changes WHERE sequence > $1 AND sequence <= $2";
        let mut prepared = self.connection.prepare_cached(text)?;
        let ids = prepared.query_map([self.told, last], |row| {
            // An id of another type must not hide the changes of others.
            Ok(row.get(0).map_or(DatabaseChange::Anything, DatabaseChange::Client))
        })?;
        let changes = ids.collect::<rusqlite::Result<Vec<DatabaseChange>>>()?;
        self.told = last;
        Ok(changes)
    }
}

/// SQLite gives the files beside it the same owner and mode.
fn make_file(file: &Path) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        durable_file::make_folder(folder, 0o700)?;
    }
    match durable_file::create_new(file, 0o600) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A client whose secret was shown must survive a power failure.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Memory does not grow with the file: 4 MiB of pages.
    connection.pragma_update(None, "cache_size", -4096)?;
    Ok(connection)
}

/// Creates the tables of a new file. Returns the version of the tables.
fn migrate(connection: &mut Connection) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found == 0 {
        transaction.execute_batch(SCHEMA)?;
    }
    transaction.commit()?;
    Ok(found.max(1))
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

fn last_change(connection: &Connection) -> rusqlite::Result<i64> {
    let mut prepared = connection.prepare_cached("SELECT coalesce(max(sequence), 0) FROM client_changes")?;
    prepared.query_row([], |row| row.get(0))
}

fn place_of(file: &Path) -> Option<(u64, u64)> {
    fs::metadata(file).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn bind(prepared: &mut rusqlite::Statement<'_>, statement: &Statement) -> rusqlite::Result<()> {
    for (number, value) in (1..).zip(&statement.values) {
        let value = match value {
            SqlValue::Text(text) => Value::Text(text.clone()),
            SqlValue::Integer(number) => Value::Integer(*number),
            SqlValue::Bytes(bytes) => Value::Blob(bytes.clone()),
            SqlValue::Null => Value::Null,
        };
        prepared.raw_bind_parameter(number, value)?;
    }
    Ok(())
}

fn sql_value(value: ValueRef<'_>) -> SqlValue {
    match value {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(number) => SqlValue::Integer(number),
        // The tables have no such column.
        ValueRef::Real(number) => SqlValue::Text(number.to_string()),
        ValueRef::Text(text) => SqlValue::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => SqlValue::Bytes(bytes.to_vec()),
    }
}

/// A statement that violates a constraint is refused. Other errors may be transient.
fn database_error(error: &rusqlite::Error) -> DatabaseError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
            DatabaseRefusal::Statement(error.to_string()).into()
        }
        Some(_) | None => {
            warn!(%error, "cannot use the client database");
            DatabaseError::Unavailable
        }
    }
}

#[cfg(test)]
mod tests;
