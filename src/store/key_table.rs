//! The table of signing keys. Private keys are ciphertext here.

use super::database::Database;
use super::postgres::{AdvisoryLock, PostgresTransaction};
use super::sql::{DatabaseError, DatabaseRefusal, SqlRow, SqlValue, Statement};

/// A row. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) key_id: String,
    pub(crate) algorithm: String,
    pub(crate) made_at: u64,
    pub(crate) signs_from: u64,
    /// `None`: it has no end.
    pub(crate) signs_until: Option<u64>,
    pub(crate) token_ttl: u64,
    pub(crate) max_age: u64,
    pub(crate) nonce: Vec<u8>,
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) certificate: Option<Vec<u8>>,
}

/// Changes of the table, by one process at a time.
#[derive(Debug)]
pub(crate) struct KeyTableChange(PostgresTransaction);

const SELECT: &str = "SELECT kid, algorithm, made_at, signs_from, signs_until, token_ttl, max_age, nonce, sealed_key, \
                      certificate FROM signing_keys ORDER BY signs_from, kid LIMIT 1000";

pub(crate) async fn read(database: &Database) -> Result<Vec<KeyRow>, DatabaseError> {
    let rows = database.rows(Statement { text: SELECT, values: Vec::new() }).await?;
    rows.into_iter().map(key_row).collect()
}

/// Waits until no other process changes the table.
pub(crate) async fn change(database: &Database) -> Result<KeyTableChange, DatabaseError> {
    match database {
        Database::Postgres(store) => store.begin(Some(AdvisoryLock::SigningKeys)).await.map(KeyTableChange),
        Database::Sqlite(_) => {
            Err(DatabaseRefusal::Statement("signing keys are kept in PostgreSQL or in files".to_owned()).into())
        }
    }
}

impl KeyTableChange {
    pub(crate) async fn read(&self) -> Result<Vec<KeyRow>, DatabaseError> {
        let rows = self.0.rows(&Statement { text: SELECT, values: Vec::new() }).await?;
        rows.into_iter().map(key_row).collect()
    }

    pub(crate) async fn insert(&self, row: KeyRow) -> Result<(), DatabaseError> {
        let text = "INSERT INTO signing_keys (kid, algorithm, made_at, signs_from, signs_until, token_ttl, max_age, nonce, \
                    sealed_key, certificate) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let KeyRow { key_id, algorithm, made_at, signs_from, signs_until, token_ttl, max_age, .. } = row;
        let values = vec![
            SqlValue::Text(key_id),
            SqlValue::Text(algorithm),
            time_value(made_at),
            time_value(signs_from),
            signs_until.map_or(SqlValue::Null, time_value),
            time_value(token_ttl),
            time_value(max_age),
            SqlValue::Bytes(row.nonce),
            SqlValue::Bytes(row.ciphertext),
            row.certificate.map_or(SqlValue::Null, SqlValue::Bytes),
        ];
        self.0.execute(&Statement { text, values }).await.map(drop)
    }

    /// Other times for the tokens of a key, or a certificate. Its interval stays.
    pub(crate) async fn replace(&self, row: KeyRow) -> Result<(), DatabaseError> {
        let text = "UPDATE signing_keys SET token_ttl = $1, max_age = $2, nonce = $3, sealed_key = $4, certificate = $5 \
                    WHERE kid = $6";
        let values = vec![
            time_value(row.token_ttl),
            time_value(row.max_age),
            SqlValue::Bytes(row.nonce),
            SqlValue::Bytes(row.ciphertext),
            row.certificate.map_or(SqlValue::Null, SqlValue::Bytes),
            SqlValue::Text(row.key_id),
        ];
        self.0.execute(&Statement { text, values }).await.map(drop)
    }

    pub(crate) async fn remove(&self, key_id: &str) -> Result<(), DatabaseError> {
        let text = "DELETE FROM signing_keys WHERE kid = $1";
        let values = vec![SqlValue::Text(key_id.to_owned())];
        self.0.execute(&Statement { text, values }).await.map(drop)
    }

    pub(crate) async fn commit(self) -> Result<(), DatabaseError> {
        self.0.commit().await
    }
}

fn time_value(seconds: u64) -> SqlValue {
    SqlValue::Integer(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn key_row(row: SqlRow) -> Result<KeyRow, DatabaseError> {
    use SqlValue::{Bytes, Integer, Null, Text};
    let unexpected =
        || DatabaseError::from(DatabaseRefusal::Statement("a column of `signing_keys` has another type".to_owned()));
    let row: [SqlValue; 10] = row.try_into().map_err(|_| unexpected())?;
    let [
        Text(key_id),
        Text(algorithm),
        Integer(made_at),
        Integer(signs_from),
        until,
        Integer(token_ttl),
        Integer(max_age),
        Bytes(nonce),
        Bytes(ciphertext),
        certificate,
    ] = row
    else {
        return Err(unexpected());
    };
    // No time is that late, so that the ring leaves the row aside.
    let positive = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    Ok(KeyRow {
        key_id,
        algorithm,
        made_at: positive(made_at),
        signs_from: positive(signs_from),
        signs_until: until.integer().map(positive),
        token_ttl: positive(token_ttl),
        max_age: positive(max_age),
        nonce,
        ciphertext,
        certificate: match certificate {
            Bytes(certificate) => Some(certificate),
            Text(_) | Integer(_) | Null => None,
        },
    })
}
