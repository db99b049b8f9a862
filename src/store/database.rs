//! The database of clients and signing keys: PostgreSQL, or SQLite on one machine.
//!
//! Both take the same statements. Parameters are `$1`, `$2`, … in the order of their first use, and columns are TEXT,
//! BIGINT or BYTEA.

use tokio::sync::broadcast;

use super::postgres::PostgresStore;
use super::sql::{DatabaseChange, DatabaseError, SqlRow, Statement};
use super::sqlite::SqliteStore;

#[derive(Clone, Debug)]
pub(crate) enum Database {
    Postgres(PostgresStore),
    Sqlite(SqliteStore),
}

impl Database {
    /// Whether statements fail at once, because the database does not answer.
    pub(crate) fn is_unreachable(&self) -> bool {
        match self {
            Self::Postgres(store) => !*store.reachable().borrow(),
            Self::Sqlite(_) => false,
        }
    }

    /// Whether it has answered since the start of this process.
    pub(crate) fn was_reachable(&self) -> bool {
        match self {
            Self::Postgres(store) => store.was_reachable(),
            Self::Sqlite(_) => true,
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
