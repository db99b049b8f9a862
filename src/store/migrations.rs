//! The tables in PostgreSQL, by version. They only go forward: each version is a step from the one before.
//!
//! A gateway uses tables of its own version only. An older gateway does not know the rules of newer tables.

use super::postgres::{AdvisoryLock, PostgresStore, PostgresTransaction};
use super::sql::{DatabaseError, SqlValue, Statement};
use super::table_version::{self, VERSION};

/// The steps. The first makes version 1.
const STEPS: [&str; VERSION as usize] = [include_str!("migrations/1.sql")];
const MAKE_VERSION: &str = "CREATE TABLE IF NOT EXISTS portcullis_version (version BIGINT NOT NULL)";

/// The versions before and after a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Migration {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// Brings the tables to the version of this gateway, all steps or none. Another migration at the same time waits.
pub(crate) async fn migrate(store: &PostgresStore) -> Result<Migration, DatabaseError> {
    let transaction = store.begin(Some(AdvisoryLock::Migration)).await?;
    transaction.batch(MAKE_VERSION).await?;
    let from = read_version(&transaction).await?;
    if from > VERSION {
        return Err(table_version::too_new(from));
    }
    for step in STEPS.iter().skip(usize::try_from(from).unwrap_or_default()) {
        transaction.batch(step).await?;
    }
    if from < VERSION {
        transaction.batch("DELETE FROM portcullis_version").await?;
        let text = "INSERT INTO portcullis_version (version) VALUES ($1)";
        transaction.execute(&Statement { text, values: vec![SqlValue::Integer(VERSION)] }).await?;
    }
    transaction.commit().await?;
    Ok(Migration { from, to: VERSION })
}

/// The version of the tables; 0 if there are none.
pub(crate) async fn found(store: &PostgresStore) -> Result<i64, DatabaseError> {
    let transaction = store.begin(None).await?;
    match read_version(&transaction).await {
        Err(DatabaseError::NotMigrated) => Ok(0),
        found => found,
    }
}

async fn read_version(transaction: &PostgresTransaction) -> Result<i64, DatabaseError> {
    let rows = transaction.rows(&Statement { text: table_version::READ, values: Vec::new() }).await?;
    Ok(match rows.first().and_then(|row| row.first()) {
        Some(SqlValue::Integer(version)) => *version,
        Some(_) | None => 0,
    })
}
