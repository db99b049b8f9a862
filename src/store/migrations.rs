//! The tables in PostgreSQL, by version. They only go forward: each version is a step from the one before.
//!
//! A gateway uses tables of its own version only. An older one refuses newer tables, since it could not keep their rules.

use super::database::{DatabaseError, SqlValue, Statement};
use super::postgres::{AdvisoryLock, PostgresStore, PostgresTransaction};

/// The steps. The first makes version 1.
const STEPS: [&str; 1] = [include_str!("migrations/1.sql")];
pub(crate) const VERSION: i64 = STEPS.len() as i64;
const MAKE_VERSION: &str = "CREATE TABLE IF NOT EXISTS portcullis_version (version BIGINT NOT NULL)";
pub(super) const READ_VERSION: &str = "SELECT version FROM portcullis_version";

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
        return Err(too_new(from));
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
    let rows = transaction.rows(&Statement { text: READ_VERSION, values: Vec::new() }).await?;
    Ok(match rows.first().and_then(|row| row.first()) {
        Some(SqlValue::Integer(version)) => *version,
        Some(_) | None => 0,
    })
}

/// Whether this gateway can use tables of this version.
pub(super) fn check(found: i64) -> Result<(), DatabaseError> {
    match found {
        VERSION => Ok(()),
        1.. if found > VERSION => Err(too_new(found)),
        1.. => Err(DatabaseError::Version { found, known: VERSION, remedy: "run `portcullis store migrate`" }),
        _ => Err(DatabaseError::NotMigrated),
    }
}

fn too_new(found: i64) -> DatabaseError {
    let remedy = "use the newer gateway that has made them, or restore a backup from before";
    DatabaseError::Version { found, known: VERSION, remedy }
}
