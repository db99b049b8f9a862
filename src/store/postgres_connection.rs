//! One connection to PostgreSQL: makes it, and carries out statements on it.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::future::poll_fn;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, NoTls, Row};

use super::outage::Outage;
use super::postgres_address::{CONNECT_TIMEOUT, PostgresAddress};
use super::postgres_tls::PostgresTls;
use super::sql::{DatabaseError, DatabaseRefusal, SqlRow, SqlValue, Statement};

/// Statements are prepared once.
pub(super) struct PostgresConnection {
    client: Client,
    prepared: Mutex<HashMap<&'static str, tokio_postgres::Statement>>,
}

/// The connection makes progress only while this is polled.
pub(super) struct ConnectionMessages(Box<dyn PollMessage>);

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostgresFault {
    #[error("no answer within {}s", .0.as_secs())]
    TimedOut(Duration),
    #[error(transparent)]
    Postgres(#[from] Error),
    #[error("the connection was closed")]
    Closed,
    #[error(
        "notifications do not arrive: connect to the server itself, since a connection pool in transaction mode loses them"
    )]
    NoNotifications,
    #[error(transparent)]
    Tables(DatabaseError),
    #[error("a column has a type that the gateway does not know")]
    ColumnType,
}

trait PollMessage: Send {
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>>;
}

impl<S, T> PollMessage for Connection<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> {
        Self::poll_message(self, context)
    }
}

impl PostgresConnection {
    /// Statements make progress only while the messages are polled.
    pub(super) async fn connect(address: &PostgresAddress) -> Result<(Self, ConnectionMessages), PostgresFault> {
        let PostgresAddress { config, tls, .. } = address;
        let connect = async {
            Ok::<_, Error>(match tls {
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    (client, ConnectionMessages(Box::new(connection)))
                }
                Some(tls) => {
                    let (client, connection) = config.connect(PostgresTls(tls.clone())).await?;
                    (client, ConnectionMessages(Box::new(connection)))
                }
            })
        };
        let (client, messages) = within(CONNECT_TIMEOUT, connect).await?;
        Ok((Self { client, prepared: Mutex::default() }, messages))
    }

    pub(super) async fn rows(&self, statement: &Statement) -> Result<Vec<SqlRow>, PostgresFault> {
        let prepared = self.prepare(statement.text).await?;
        let rows = self.client.query(&prepared, &parameters(statement)).await?;
        rows.iter().map(sql_row).collect()
    }

    /// The number of changed rows.
    pub(super) async fn execute(&self, statement: &Statement) -> Result<u64, PostgresFault> {
        let prepared = self.prepare(statement.text).await?;
        Ok(self.client.execute(&prepared, &parameters(statement)).await?)
    }

    /// Statements without parameters, one after the other.
    pub(super) async fn batch(&self, text: &str) -> Result<(), PostgresFault> {
        Ok(self.client.batch_execute(text).await?)
    }

    async fn prepare(&self, text: &'static str) -> Result<tokio_postgres::Statement, PostgresFault> {
        let known = self.prepared.lock().ok().and_then(|prepared| prepared.get(text).cloned());
        if let Some(known) = known {
            return Ok(known);
        }
        let new = self.client.prepare(text).await?;
        if let Ok(mut prepared) = self.prepared.lock() {
            prepared.insert(text, new.clone());
        }
        Ok(new)
    }
}

impl ConnectionMessages {
    /// The payload of the next notification, with its channel. Ends with the connection.
    pub(super) async fn notification(&mut self) -> Result<(String, String), PostgresFault> {
        loop {
            match poll_fn(|context| self.0.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(told))) => {
                    return Ok((told.channel().to_owned(), told.payload().to_owned()));
                }
                // Notices, such as those of statements that had nothing to do.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(PostgresFault::Closed),
            }
        }
    }
}

impl PostgresFault {
    /// Whether the server has refused a statement, so that the connection can still be used.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Postgres(error) => error.code().is_some_and(|code| !ends_connections(code)),
            Self::Tables(_) | Self::ColumnType => true,
            Self::TimedOut(_) | Self::Closed | Self::NoNotifications => false,
        }
    }

    /// Why the server does not let this user in.
    pub(super) fn refused_login(&self) -> Option<String> {
        let Self::Postgres(error) = self else { return None };
        match of_refusal(error.as_db_error()?) {
            DatabaseRefusal::Login(reason) => Some(reason),
            DatabaseRefusal::Statement(_) | DatabaseRefusal::Rights(_) => None,
        }
    }

    /// Whether waiting does not help: the operator has to correct the login, the rights or the tables.
    pub(super) fn outage(&self) -> Outage {
        if matches!(self, Self::Tables(_)) || self.refused_login().is_some() {
            Outage::Refused
        } else {
            Outage::Unreachable
        }
    }

    /// Without the values of the statement: only the details of a refusal have them.
    pub(super) fn into_error(self) -> DatabaseError {
        match self {
            Self::Postgres(error) => match error.as_db_error() {
                Some(refusal) if *refusal.code() == SqlState::UNDEFINED_TABLE => DatabaseError::NotMigrated,
                Some(refusal) if is_passing(refusal.code()) => DatabaseError::Unavailable,
                Some(refusal) => of_refusal(refusal).into(),
                // Made by the library, before anything was sent.
                None if !error.is_closed() && is_conversion(&error) => {
                    DatabaseRefusal::Statement(error.to_string()).into()
                }
                None => DatabaseError::Unavailable,
            },
            Self::Tables(error) => error,
            Self::ColumnType => DatabaseRefusal::Statement(Self::ColumnType.to_string()).into(),
            Self::TimedOut(_) | Self::Closed | Self::NoNotifications => DatabaseError::Unavailable,
        }
    }
}

/// Class 28 is an invalid login, class 3D a database that does not exist. The message about a wrong password has the name
/// of the user, which is left out.
fn of_refusal(refusal: &DbError) -> DatabaseRefusal {
    let (code, message) = (refusal.code(), refusal.message().to_owned());
    match code.code() {
        _ if *code == SqlState::INVALID_PASSWORD => DatabaseRefusal::Login("password authentication failed".to_owned()),
        login if login.starts_with("28") || login.starts_with("3D") => DatabaseRefusal::Login(message),
        _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => DatabaseRefusal::Rights(message),
        _ => DatabaseRefusal::Statement(message),
    }
}

/// The server shuts down, or has become a standby.
fn ends_connections(code: &SqlState) -> bool {
    // Class 57P is the intervention of an operator, class 08 are lost connections.
    code.code().starts_with("57P") || code.code().starts_with("08") || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

/// Whether a retry may succeed, such as after too many connections, a full disk, a deadlock or a timeout.
fn is_passing(code: &SqlState) -> bool {
    let classes = ["53", "40", "57", "55", "58"];
    ends_connections(code) || classes.iter().any(|class| code.code().starts_with(class))
}

fn is_conversion(error: &Error) -> bool {
    error.source().is_none_or(|source| source.downcast_ref::<std::io::Error>().is_none())
}

/// Waits no longer than `limit`.
pub(super) async fn within<T, E: Into<PostgresFault>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, PostgresFault> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(PostgresFault::TimedOut(limit)),
    }
}

fn parameters(statement: &Statement) -> Vec<&(dyn ToSql + Sync)> {
    statement.values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn sql_row(row: &Row) -> Result<SqlRow, PostgresFault> {
    (0..row.len()).map(|column| sql_value(row, column)).collect()
}

fn sql_value(row: &Row, column: usize) -> Result<SqlValue, PostgresFault> {
    let value = match *row.columns()[column].type_() {
        Type::TEXT | Type::VARCHAR | Type::NAME => row.try_get::<_, Option<String>>(column)?.map(SqlValue::Text),
        Type::INT8 => row.try_get::<_, Option<i64>>(column)?.map(SqlValue::Integer),
        Type::INT4 => row.try_get::<_, Option<i32>>(column)?.map(|number| SqlValue::Integer(number.into())),
        Type::BOOL => row.try_get::<_, Option<bool>>(column)?.map(|flag| SqlValue::Integer(flag.into())),
        Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(column)?.map(SqlValue::Bytes),
        _ => return Err(PostgresFault::ColumnType),
    };
    Ok(value.unwrap_or(SqlValue::Null))
}

impl ToSql for SqlValue {
    fn to_sql(&self, kind: &Type, to: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Text(text) if <&str as ToSql>::accepts(kind) => text.as_str().to_sql(kind, to),
            Self::Integer(number) if *kind == Type::INT8 => number.to_sql(kind, to),
            Self::Integer(number) if *kind == Type::INT4 => i32::try_from(*number)?.to_sql(kind, to),
            Self::Bytes(bytes) if *kind == Type::BYTEA => bytes.as_slice().to_sql(kind, to),
            Self::Null => Ok(IsNull::Yes),
            Self::Text(_) | Self::Integer(_) | Self::Bytes(_) => Err(format!("a parameter must be {kind}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
