//! The database of clients and signing keys: PostgreSQL, or SQLite on one machine.
//!
//! Both take the same statements: parameters are `$1`, `$2`, … in the order in which they first stand in the text;
//! columns are TEXT, BIGINT or BYTEA.

use tokio::sync::broadcast;

use super::postgres::PostgresStore;
use super::sqlite::SqliteStore;

#[derive(Clone, Debug)]
pub(crate) enum Database {
    Postgres(PostgresStore),
    Sqlite(SqliteStore),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SqlValue {
    Text(String),
    Integer(i64),
    Bytes(Vec<u8>),
    Null,
}

#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) text: &'static str,
    pub(crate) values: Vec<SqlValue>,
}

impl SqlValue {
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Text(_) | Self::Bytes(_) | Self::Null => None,
        }
    }
}

pub(crate) type SqlRow = Vec<SqlValue>;

/// What another process has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseChange {
    /// The client with this id.
    Client(String),
    SigningKeys,
    /// Changes may have been missed: everything that is known is read again.
    Anything,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error("the database is out of reach")]
    Unavailable,
    #[error("the database refused a statement: {0}")]
    Refused(String),
    #[error("the database has no tables of this gateway: run `portcullis store migrate`")]
    NotMigrated,
    #[error("the tables of the database are of version {found}, and this gateway knows {known}: {remedy}")]
    Version { found: i64, known: i64, remedy: &'static str },
}

impl Database {
    /// Whether statements fail at once, because the database does not answer.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Postgres(store) => !*store.reachable().borrow(),
            Self::Sqlite(_) => false,
        }
    }

    /// The changes from now on, by this process and by others.
    pub(crate) fn changes(&self) -> broadcast::Receiver<DatabaseChange> {
        match self {
            Self::Postgres(store) => store.changes(),
            Self::Sqlite(store) => store.changes(),
        }
    }

    /// The rows that a statement gives.
    pub(crate) async fn rows(&self, statement: Statement) -> Result<Vec<SqlRow>, DatabaseError> {
        match self {
            Self::Postgres(store) => store.rows(statement).await,
            Self::Sqlite(store) => store.rows(statement).await,
        }
    }

    /// Executes all statements, or none. The number of changed rows of each.
    pub(crate) async fn transaction(&self, statements: Vec<Statement>) -> Result<Vec<u64>, DatabaseError> {
        match self {
            Self::Postgres(store) => store.transaction(statements).await,
            Self::Sqlite(store) => store.transaction(statements).await,
        }
    }
}
