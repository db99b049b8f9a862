//! The connection to PostgreSQL.

use tokio::sync::broadcast;

use super::database::{DatabaseChange, DatabaseError, SqlRow, Statement};

#[derive(Clone, Debug)]
pub(crate) struct PostgresStore {}

impl PostgresStore {
    pub(super) fn changes(&self) -> broadcast::Receiver<DatabaseChange> {
        broadcast::Sender::new(1).subscribe()
    }

    pub(super) async fn rows(&self, _: Statement) -> Result<Vec<SqlRow>, DatabaseError> {
        Err(DatabaseError::Unavailable)
    }

    pub(super) async fn transaction(&self, _: Vec<Statement>) -> Result<Vec<u64>, DatabaseError> {
        Err(DatabaseError::Unavailable)
    }
}
