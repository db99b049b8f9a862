//! The connection to PostgreSQL: one, in the control plane, which is made anew when it is lost.
//!
//! Every statement has a deadline. Changes by other processes come as notifications. A heartbeat shows that they do
//! come: without one for [`SILENT_FOR`] the connection is given up.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Row, Socket};
use tracing::{info, warn};

use super::database::{DatabaseChange, DatabaseError, SqlRow, SqlValue, Statement};
use super::migrations::{MIGRATIONS, VERSION};
use super::postgres_tls::{PostgresStream, PostgresTls};
use super::settings::PostgresSettings;
use crate::telemetry::error_chain::ErrorChain;

#[derive(Clone)]
pub(crate) struct PostgresStore {
    parts: Arc<PostgresParts>,
}

struct PostgresParts {
    config: Config,
    tls: PostgresTls,
    control: Handle,
    /// `None` while the database is away.
    client: ArcSwapOption<Client>,
    changes: broadcast::Sender<DatabaseChange>,
    /// Statements under way.
    room: Semaphore,
    /// Wakes the keeper when a statement has shown that the connection is lost.
    lost: Notify,
}

/// `shared.postgres` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostgresSetupError {
    #[error("`shared.postgres.url` cannot be used: {0}")]
    Url(#[from] UrlFault),
    #[error("`shared.postgres.ca` cannot be used")]
    Tls(#[from] rustls::Error),
}

/// Why a URL of a database cannot be used. Shows nothing of it, as it may have a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlFault {
    #[error("expected a URL such as `postgres://USER:PASSWORD@HOST:PORT/DATABASE`")]
    Form,
    #[error("`sslmode` is one of `disable`, `require` and `verify-full`; all but the first verify the server")]
    TlsMode,
    #[error("it names no host")]
    NoHost,
}

type PostgresConnection = Connection<Socket, PostgresStream>;

/// The channel of all notifications.
const CHANNEL: &str = "portcullis";
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const BEAT_EVERY: Duration = Duration::from_secs(5);
const SILENT_FOR: Duration = Duration::from_secs(15);
const CONNECT_AGAIN_AFTER: Duration = Duration::from_secs(1);
const MOST_STATEMENTS: usize = 256;
/// Changes that are told before a receiver has to read everything again.
const TOLD_CHANGES: usize = 4096;

impl PostgresStore {
    /// Starts to connect. It does not wait: a database that is out of reach has a defined state.
    pub(crate) fn start(settings: &PostgresSettings, control: &Handle) -> Result<Self, PostgresSetupError> {
        let parts = PostgresParts {
            config: parse_url(settings.url.expose())?,
            tls: PostgresTls::new(settings.ca.as_deref())?,
            control: control.clone(),
            client: ArcSwapOption::empty(),
            changes: broadcast::Sender::new(TOLD_CHANGES),
            room: Semaphore::new(MOST_STATEMENTS),
            lost: Notify::new(),
        };
        let store = Self { parts: Arc::new(parts) };
        control.spawn(Arc::clone(&store.parts).keep());
        Ok(store)
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<DatabaseChange> {
        self.parts.changes.subscribe()
    }

    pub(crate) fn is_away(&self) -> bool {
        self.parts.client.load().is_none()
    }

    /// Until the database is reached for the first time, or for this time at most.
    pub(crate) async fn reached_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_away() && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        !self.is_away()
    }

    pub(super) async fn rows(&self, statement: Statement) -> Result<Vec<SqlRow>, DatabaseError> {
        let Some(client) = self.parts.client.load_full() else { return Err(DatabaseError::Unavailable) };
        let Ok(_place) = self.parts.room.try_acquire() else { return Err(DatabaseError::Unavailable) };
        let parameters = typed(&statement.values);
        match timeout(STATEMENT_TIMEOUT, client.query_typed(statement.text, &parameters)).await {
            Ok(Ok(rows)) => Ok(rows.iter().map(sql_row).collect()),
            Ok(Err(error)) => Err(self.parts.failed(&client, &error)),
            Err(_) => {
                self.parts.lose(&client, &"a statement had no answer within 2 s");
                Err(DatabaseError::Unavailable)
            }
        }
    }

    /// Over a connection of its own, so that no other statement becomes a part of it.
    pub(super) async fn transaction(&self, statements: Vec<Statement>) -> Result<Vec<u64>, DatabaseError> {
        let parts = Arc::clone(&self.parts);
        let transacted = self.parts.control.spawn(async move {
            timeout(CONNECT_TIMEOUT, parts.transact(&statements)).await.map_err(|_| DatabaseError::Unavailable)?
        });
        transacted.await.map_err(|_| DatabaseError::Unavailable)?
    }

    /// The version of the tables: 0 if there are none.
    pub(crate) async fn version(&self) -> Result<i64, DatabaseError> {
        let text = "SELECT CAST(count(*) AS BIGINT) FROM information_schema.tables \
                    WHERE table_schema = current_schema() AND table_name = 'portcullis_version'";
        let exists = self.rows(Statement { text, values: Vec::new() }).await?;
        if !matches!(exists.first().map(|row| &row[..]), Some([SqlValue::Integer(1..)])) {
            return Ok(0);
        }
        let text = "SELECT version FROM portcullis_version";
        let rows = self.rows(Statement { text, values: Vec::new() }).await?;
        match rows.first().map(|row| &row[..]) {
            Some([SqlValue::Integer(version)]) => Ok(*version),
            Some(_) | None => Ok(0),
        }
    }

    /// Checks that the tables are those that this program knows.
    pub(crate) async fn check_version(&self) -> Result<(), DatabaseError> {
        match self.version().await? {
            0 => Err(DatabaseError::NotMigrated),
            VERSION => Ok(()),
            found => Err(version_fault(found)),
        }
    }

    /// Brings the tables to the version of this program. Gives the version that they had.
    pub(crate) async fn migrate(&self) -> Result<i64, DatabaseError> {
        let parts = Arc::clone(&self.parts);
        let migrated = self.parts.control.spawn(async move { parts.migrate().await });
        migrated.await.map_err(|_| DatabaseError::Unavailable)?
    }
}

fn version_fault(found: i64) -> DatabaseError {
    let remedy =
        if found > VERSION { "use a gateway that is as new as the tables" } else { "run `portcullis store migrate`" };
    DatabaseError::Version { found, known: VERSION, remedy }
}

impl PostgresParts {
    /// Connects, and connects again. Runs as long as the process.
    async fn keep(self: Arc<Self>) {
        let mut is_failing = false;
        loop {
            match self.connect().await {
                Ok((client, connection)) => {
                    if std::mem::replace(&mut is_failing, false) {
                        info!("the database is reached again");
                    }
                    self.serve(Arc::new(client), connection).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!(error = %ErrorChain(&*error), "the database cannot be reached; trying again every second");
                    }
                }
            }
            is_failing |= self.client.swap(None).is_some();
            sleep(CONNECT_AGAIN_AFTER).await;
        }
    }

    /// Uses a connection until it is lost.
    async fn serve(&self, client: Arc<Client>, mut connection: PostgresConnection) {
        let (sender, mut messages) = mpsc::unbounded_channel();
        let driver = self.control.spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message {
                    let _ = sender.send(notification.payload().to_owned());
                }
            }
        });
        let listens = timeout(STATEMENT_TIMEOUT, client.batch_execute("LISTEN portcullis")).await;
        if matches!(listens, Ok(Ok(()))) {
            self.client.store(Some(Arc::clone(&client)));
            // Those that were told without a listener.
            let _ = self.changes.send(DatabaseChange::Anything);
            let mut heard = Instant::now();
            loop {
                tokio::select! {
                    message = messages.recv() => match message {
                        Some(payload) => {
                            heard = Instant::now();
                            self.tell(&payload);
                        }
                        None => break,
                    },
                    () = sleep(BEAT_EVERY) => {
                        let beat = async { client.batch_execute("NOTIFY portcullis, 'heartbeat'").await };
                        // Its answer, and the notification itself, come by the driver.
                        let _ = timeout(STATEMENT_TIMEOUT, beat).await;
                    }
                    () = self.lost.notified() => break,
                }
                if heard.elapsed() > SILENT_FOR {
                    warn!("the database is lost: no heartbeat for 15 s");
                    break;
                }
            }
        }
        self.client.store(None);
        driver.abort();
    }

    fn tell(&self, payload: &str) {
        let change = match payload.split_once(':') {
            Some(("client", id)) => DatabaseChange::Client(id.to_owned()),
            None if payload == "signing_keys" => DatabaseChange::SigningKeys,
            None if payload == "heartbeat" => return,
            Some(_) | None => DatabaseChange::Anything,
        };
        // Fails if nobody listens.
        let _ = self.changes.send(change);
    }

    async fn connect(&self) -> Result<(Client, PostgresConnection), ConnectFault> {
        match timeout(CONNECT_TIMEOUT, self.config.connect(self.tls.clone())).await {
            Ok(connected) => Ok(connected.map_err(|error| error.to_string())?),
            Err(_) => Err("no connection within 5 s".into()),
        }
    }

    async fn transact(&self, statements: &[Statement]) -> Result<Vec<u64>, DatabaseError> {
        let (mut client, connection) = self.connect().await.map_err(|_| DatabaseError::Unavailable)?;
        // It ends with the client.
        self.control.spawn(connection);
        let transaction = client.transaction().await.map_err(refused)?;
        let mut counts = Vec::new();
        for statement in statements {
            let parameters = typed(&statement.values);
            counts.push(transaction.execute_typed(statement.text, &parameters).await.map_err(refused)?);
        }
        transaction.commit().await.map_err(refused)?;
        Ok(counts)
    }

    async fn migrate(&self) -> Result<i64, DatabaseError> {
        let (mut client, connection) =
            self.connect().await.map_err(|error| DatabaseError::Refused(error.to_string()))?;
        self.control.spawn(connection);
        let transaction = client.transaction().await.map_err(refused)?;
        let begin = "SELECT pg_advisory_xact_lock(7205759403);
             CREATE TABLE IF NOT EXISTS portcullis_version (version BIGINT NOT NULL)";
        transaction.batch_execute(begin).await.map_err(refused)?;
        let found =
            transaction.query_typed_opt("SELECT version FROM portcullis_version", &[]).await.map_err(refused)?;
        let found: i64 = found.map_or(0, |row| row.get(0));
        if found > VERSION {
            return Err(version_fault(found));
        }
        for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or_default()) {
            transaction.batch_execute(migration).await.map_err(refused)?;
        }
        let end = format!("DELETE FROM portcullis_version; INSERT INTO portcullis_version VALUES ({VERSION})");
        transaction.batch_execute(&end).await.map_err(refused)?;
        transaction.commit().await.map_err(refused)?;
        Ok(found)
    }

    fn failed(&self, client: &Arc<Client>, error: &tokio_postgres::Error) -> DatabaseError {
        // The server ends a connection with an error too, such as 57P01.
        let is_answer = error.as_db_error().is_some_and(|error| !error.code().code().starts_with("57P"));
        if is_answer && !client.is_closed() {
            return DatabaseError::Refused(ErrorChain(error).to_string());
        }
        self.lose(client, &ErrorChain(error));
        DatabaseError::Unavailable
    }

    fn lose(&self, client: &Arc<Client>, why: &dyn fmt::Display) {
        let is_same = |known: &Arc<Client>| Arc::ptr_eq(known, client);
        let before = self.client.rcu(|known| known.clone().filter(|known| !is_same(known)));
        if before.is_some_and(|before| is_same(&before)) {
            warn!(error = %why, "the database is lost: known clients and keys go on");
            self.lost.notify_one();
        }
    }
}

type ConnectFault = Box<dyn std::error::Error + Send + Sync>;

fn refused(error: tokio_postgres::Error) -> DatabaseError {
    if error.as_db_error().is_some() {
        DatabaseError::Refused(ErrorChain(&error).to_string())
    } else {
        DatabaseError::Unavailable
    }
}

type TypedValue<'v> = (&'v (dyn ToSql + Sync), Type);

fn typed(values: &[SqlValue]) -> Vec<TypedValue<'_>> {
    const NULL: Option<&str> = None;
    fn one(value: &SqlValue) -> TypedValue<'_> {
        match value {
            SqlValue::Text(text) => (text, Type::TEXT),
            SqlValue::Integer(number) => (number, Type::INT8),
            SqlValue::Bytes(bytes) => (bytes, Type::BYTEA),
            SqlValue::Null => (&NULL, Type::UNKNOWN),
        }
    }
    values.iter().map(one).collect()
}

/// Columns of other types than ours are null.
fn sql_row(row: &Row) -> SqlRow {
    let value = |(at, column): (usize, &tokio_postgres::Column)| match *column.type_() {
        Type::TEXT | Type::VARCHAR | Type::NAME => {
            row.try_get::<_, Option<String>>(at).ok().flatten().map(SqlValue::Text)
        }
        Type::INT8 => row.try_get::<_, Option<i64>>(at).ok().flatten().map(SqlValue::Integer),
        Type::INT4 => row.try_get::<_, Option<i32>>(at).ok().flatten().map(|number| SqlValue::Integer(number.into())),
        Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(at).ok().flatten().map(SqlValue::Bytes),
        _ => None,
    };
    row.columns().iter().enumerate().map(|column| value(column).unwrap_or(SqlValue::Null)).collect()
}

/// Without `sslmode` a server on another machine is reached by TLS only. TLS always verifies the server.
pub(crate) fn parse_url(url: &str) -> Result<Config, UrlFault> {
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(UrlFault::Form);
    }
    let says_mode = url.contains("sslmode=");
    if ["sslmode=prefer", "sslmode=allow"].iter().any(|mode| url.contains(mode)) {
        return Err(UrlFault::TlsMode);
    }
    let plain = url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    let mut config: Config = plain.parse().map_err(|_| UrlFault::Form)?;
    if config.get_hosts().is_empty() {
        return Err(UrlFault::NoHost);
    }
    let is_here = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
    };
    if !says_mode {
        let is_local = config.get_hosts().iter().all(is_here);
        config.ssl_mode(if is_local { SslMode::Disable } else { SslMode::Require });
    }
    config.application_name(CHANNEL).connect_timeout(CONNECT_TIMEOUT);
    Ok(config)
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresStore(..)")
    }
}
