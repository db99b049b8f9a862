//! The database in PostgreSQL.
//!
//! One connection in the control plane carries all reads and the notifications of changes. Each transaction opens a
//! connection of its own, because transactions are rare. A statement waits [`STATEMENT_TIMEOUT`] at most. A server that
//! does not answer in time counts as unreachable: all calls fail at once until there is a new connection.

mod keeper;
pub(crate) mod look;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use keeper::PostgresKeeper;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, broadcast, watch};
use tracing::warn;

use super::postgres_address::{PostgresAddress, PostgresUrlFault};
use super::postgres_connection::{PostgresConnection, PostgresFault, within};
use super::settings::PostgresSettings;
use super::sql::{DatabaseChange, DatabaseError, LOGIN_REMEDY, SqlRow, Statement};
use crate::telemetry::error_chain::ErrorChain;

#[derive(Clone)]
pub(crate) struct PostgresStore {
    parts: Arc<PostgresParts>,
}

struct PostgresParts {
    address: PostgresAddress,
    control: Handle,
    connection: ArcSwapOption<PostgresConnection>,
    reachable: watch::Sender<bool>,
    /// Whether there was a connection since the start.
    was_reachable: AtomicBool,
    changes: broadcast::Sender<DatabaseChange>,
    /// Wakes the keeper when a call has failed.
    lost: Notify,
    calls: Arc<Semaphore>,
}

/// Why the database cannot be used at the start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostgresOpenError {
    #[error("`shared.postgres.url` cannot be used")]
    Url(#[from] PostgresUrlFault),
    #[error("{server} is unreachable: {reason}; {REACH_REMEDY}")]
    Unreachable { server: String, reason: String },
    #[error("{server} refuses the login: {reason}; {LOGIN_REMEDY}")]
    Login { server: String, reason: String },
    #[error(transparent)]
    Tables(DatabaseError),
}

/// A lock that one process at a time holds until the end of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdvisoryLock {
    Migration,
    SigningKeys,
}

/// Rolled back unless it is committed.
pub(crate) struct PostgresTransaction {
    connection: Arc<PostgresConnection>,
    control: Handle,
}

pub(crate) const REACH_REMEDY: &str = "check that the server runs, and `shared.postgres.url` and `ca`";
/// The effect of an outage on requests.
pub(crate) const WITHOUT_DATABASE: &str = "cached clients stay valid for `shared.postgres.stale`, others get 503, and known keys sign until their intervals end";
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// The time to connect, begin a transaction and wait for its lock.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A migration may change large tables.
const BATCH_TIMEOUT: Duration = Duration::from_secs(600);
/// The limit on concurrent calls. More fail at once.
const MOST_CALLS: usize = 1024;
/// The buffer of changes. A receiver that lags further behind reads everything again.
const TOLD_CHANGES: usize = 4096;

impl PostgresStore {
    /// Tries to connect once. An unreachable database is no error: the task tries again.
    pub(crate) async fn open(settings: &PostgresSettings, control: &Handle) -> Result<Self, PostgresOpenError> {
        let store = Self::new(settings, control)?;
        let mut keeper = PostgresKeeper::new(store.clone());
        let connected = control.spawn(async move {
            let connected = keeper.connect().await;
            (keeper, connected)
        });
        let Ok((keeper, connected)) = connected.await else { return Ok(store) };
        match connected {
            Err(PostgresFault::Tables(error)) => return Err(PostgresOpenError::Tables(error)),
            Ok(()) | Err(_) => drop(control.spawn(keeper.keep())),
        }
        Ok(store)
    }

    /// Like [`PostgresStore::open`], for a command: an unreachable database is an error.
    pub(crate) async fn open_now(settings: &PostgresSettings, control: &Handle) -> Result<Self, PostgresOpenError> {
        let store = Self::new(settings, control)?;
        let mut keeper = PostgresKeeper::new(store.clone());
        keeper.connect().await.map_err(|fault| open_error(fault, &store.parts.address))?;
        drop(control.spawn(keeper.keep()));
        Ok(store)
    }

    /// Whether a connection can be made.
    pub(crate) async fn probe(&self) -> Result<(), PostgresOpenError> {
        let connected = PostgresConnection::connect(&self.parts.address).await;
        connected.map(drop).map_err(|fault| open_error(fault, &self.parts.address))
    }

    /// Without a connection: [`PostgresStore::begin`] makes its own.
    pub(crate) fn new(settings: &PostgresSettings, control: &Handle) -> Result<Self, PostgresUrlFault> {
        let parts = PostgresParts {
            address: PostgresAddress::new(settings)?,
            control: control.clone(),
            connection: ArcSwapOption::empty(),
            reachable: watch::Sender::new(false),
            was_reachable: AtomicBool::new(false),
            changes: broadcast::Sender::new(TOLD_CHANGES),
            lost: Notify::new(),
            calls: Arc::new(Semaphore::new(MOST_CALLS)),
        };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// The database in messages, with its key and `HOST:PORT`.
    pub(crate) fn name(&self) -> &str {
        &self.parts.address.name
    }

    /// Whether the database answers, and its changes.
    pub(crate) fn reachable(&self) -> watch::Receiver<bool> {
        self.parts.reachable.subscribe()
    }

    pub(super) fn was_reachable(&self) -> bool {
        self.parts.was_reachable.load(Ordering::Acquire)
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<DatabaseChange> {
        self.parts.changes.subscribe()
    }

    /// The query goes on if the future is dropped.
    pub(super) async fn rows(&self, statement: Statement) -> Result<Vec<SqlRow>, DatabaseError> {
        let Some(connection) = self.parts.connection.load_full() else { return Err(DatabaseError::Unavailable) };
        let Ok(permit) = Arc::clone(&self.parts.calls).try_acquire_owned() else {
            return Err(DatabaseError::Unavailable);
        };
        let parts = Arc::clone(&self.parts);
        let called = self.parts.control.spawn(async move {
            let _permit = permit;
            let rows = within(STATEMENT_TIMEOUT, connection.rows(&statement)).await;
            rows.map_err(|fault| {
                if !fault.is_refusal() {
                    parts.disconnect(&connection, &fault);
                }
                fault.into_error()
            })
        });
        called.await.unwrap_or(Err(DatabaseError::Unavailable))
    }

    pub(super) async fn transaction(&self, statements: Vec<Statement>) -> Result<Vec<u64>, DatabaseError> {
        let store = self.clone();
        let done = self.parts.control.spawn(async move {
            let transaction = store.begin(None).await?;
            let mut counts = Vec::with_capacity(statements.len());
            for statement in &statements {
                counts.push(transaction.execute(statement).await?);
            }
            transaction.commit().await?;
            Ok(counts)
        });
        done.await.unwrap_or(Err(DatabaseError::Unavailable))
    }

    /// Begins a transaction, and waits for a lock that ends with it.
    pub(crate) async fn begin(&self, lock: Option<AdvisoryLock>) -> Result<PostgresTransaction, DatabaseError> {
        let (parts, control) = (Arc::clone(&self.parts), self.parts.control.clone());
        let begun = self.parts.control.spawn(async move {
            let begin = async {
                let (connection, mut messages) = PostgresConnection::connect(&parts.address).await?;
                // Ends when the connection is dropped.
                drop(parts.control.spawn(async move { while messages.notification().await.is_ok() {} }));
                connection
                    .batch("SET lock_timeout = '8s'; SET idle_in_transaction_session_timeout = '30s'; BEGIN")
                    .await?;
                if let Some(lock) = lock {
                    connection.batch(lock.take()).await?;
                }
                Ok::<_, PostgresFault>(connection)
            };
            // Boxed, because the handshakes make the future large.
            within(BEGIN_TIMEOUT, Box::pin(begin)).await
        });
        match begun.await {
            Ok(Ok(connection)) => Ok(PostgresTransaction { connection: Arc::new(connection), control }),
            Ok(Err(fault)) => {
                warn!(error = %ErrorChain(&fault), "cannot begin a transaction of {}", self.name());
                Err(fault.into_error())
            }
            Err(_) => Err(DatabaseError::Unavailable),
        }
    }

    /// Calls go over this connection from now on.
    fn use_connection(&self, connection: Arc<PostgresConnection>) {
        self.parts.connection.store(Some(connection));
        self.parts.reachable.send_replace(true);
        self.parts.was_reachable.store(true, Ordering::Release);
        self.publish(DatabaseChange::Anything);
    }

    fn publish(&self, change: DatabaseChange) {
        // Fails if there is no receiver.
        let _ = self.parts.changes.send(change);
    }
}

fn open_error(fault: PostgresFault, address: &PostgresAddress) -> PostgresOpenError {
    let server = address.name.clone();
    match (fault.refused_login(), fault) {
        (_, PostgresFault::Tables(error)) => PostgresOpenError::Tables(error),
        (Some(reason), _) => PostgresOpenError::Login { server, reason },
        (None, other) => PostgresOpenError::Unreachable { server, reason: ErrorChain(&other).to_string() },
    }
}

impl PostgresParts {
    fn is_in_use(&self, connection: &Arc<PostgresConnection>) -> bool {
        self.connection.load().as_ref().is_some_and(|known| Arc::ptr_eq(known, connection))
    }

    /// Ends a connection that does not answer.
    fn disconnect(&self, connection: &Arc<PostgresConnection>, fault: &PostgresFault) {
        let is_same = |known: &Arc<PostgresConnection>| Arc::ptr_eq(known, connection);
        let before = self.connection.rcu(|known| known.clone().filter(|known| !is_same(known)));
        if !before.is_some_and(|before| is_same(&before)) {
            return;
        }
        self.reachable.send_replace(false);
        warn!(
            error = %ErrorChain(fault),
            "{} is unreachable: {WITHOUT_DATABASE}", self.address.name
        );
        self.lost.notify_one();
    }
}

impl PostgresTransaction {
    pub(crate) async fn rows(&self, statement: &Statement) -> Result<Vec<SqlRow>, DatabaseError> {
        let (connection, statement) = (Arc::clone(&self.connection), statement.clone());
        self.run(async move { within(STATEMENT_TIMEOUT, connection.rows(&statement)).await }).await
    }

    pub(crate) async fn execute(&self, statement: &Statement) -> Result<u64, DatabaseError> {
        let (connection, statement) = (Arc::clone(&self.connection), statement.clone());
        self.run(async move { within(STATEMENT_TIMEOUT, connection.execute(&statement)).await }).await
    }

    /// Statements without parameters.
    pub(super) async fn batch(&self, text: &'static str) -> Result<(), DatabaseError> {
        let connection = Arc::clone(&self.connection);
        self.run(async move { within(BATCH_TIMEOUT, connection.batch(text)).await }).await
    }

    pub(crate) async fn commit(self) -> Result<(), DatabaseError> {
        self.batch("COMMIT").await
    }

    /// In the control plane, which has the connection.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PostgresFault>> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        match self.control.spawn(work).await {
            Ok(done) => done.map_err(PostgresFault::into_error),
            Err(_) => Err(DatabaseError::Unavailable),
        }
    }
}

impl AdvisoryLock {
    /// The first number is `port` in ASCII, so that our locks do not collide with those of other programs.
    const fn take(self) -> &'static str {
        match self {
            Self::Migration => "SELECT pg_advisory_xact_lock(1886351988, 1)",
            Self::SigningKeys => "SELECT pg_advisory_xact_lock(1886351988, 2)",
        }
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresStore(..)")
    }
}

impl fmt::Debug for PostgresTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresTransaction(..)")
    }
}
