//! One look at the database, for `check --connect`: whether a gateway could use it.

use super::super::postgres_address::PostgresAddress;
use super::super::postgres_connection::{PostgresConnection, PostgresFault, within};
use super::super::settings::PostgresSettings;
use super::super::sql::{DatabaseRefusal, SqlRow, SqlValue, Statement};
use super::keeper::{SETUP_TIMEOUT, check_tables, end_of};
use super::{PostgresOpenError, open_error};

/// A database that a gateway can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsableDatabase {
    pub(crate) version: String,
    pub(crate) is_encrypted: bool,
}

/// A row for each table that the user cannot read.
const UNREADABLE: &str = "SELECT name FROM unnest(ARRAY['clients', 'client_federation', 'signing_keys']) AS name \
                          WHERE NOT has_table_privilege(name, 'SELECT')";
const VERSION: &str = "SELECT current_setting('server_version')";

/// Connects and reads as the gateway does. Writes nothing.
pub(crate) async fn look(settings: &PostgresSettings) -> Result<UsableDatabase, PostgresOpenError> {
    let address = PostgresAddress::new(settings)?;
    let of_open = |fault| open_error(fault, &address);
    let (connection, mut messages) = PostgresConnection::connect(&address).await.map_err(of_open)?;
    tokio::select! {
        version = within(SETUP_TIMEOUT, usable_version(&connection)) => {
            let version = version.map_err(of_open)?;
            Ok(UsableDatabase { version, is_encrypted: address.tls.is_some() })
        }
        fault = end_of(&mut messages) => Err(of_open(fault)),
    }
}

async fn usable_version(connection: &PostgresConnection) -> Result<String, PostgresFault> {
    check_tables(connection).await?;
    let ask = async |text| connection.rows(&Statement { text, values: Vec::new() }).await;
    if let Some(SqlValue::Text(table)) = first(ask(UNREADABLE).await?) {
        let refused = DatabaseRefusal::Rights(format!("permission denied for table {table}"));
        return Err(PostgresFault::Tables(refused.into()));
    }
    match first(ask(VERSION).await?) {
        Some(SqlValue::Text(version)) => Ok(version),
        Some(_) | None => Err(PostgresFault::ColumnType),
    }
}

fn first(rows: Vec<SqlRow>) -> Option<SqlValue> {
    rows.into_iter().next()?.into_iter().next()
}
