//! Opens the database of the clients, and makes the task that keeps held clients up to date.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::process_parts::ProcessParts;
use super::start_error::StartError;
use super::tasks::{Task, TaskSubject};
use crate::issuer::authorization_server::AuthorizationServer;
use crate::issuer::stored_clients::{ClientDatabase, StoredClientSettings, StoredClients};
use crate::store::client_table::ClientTable;
use crate::store::database::Database;
use crate::store::postgres::PostgresStore;
use crate::store::settings::PostgresSettings;
use crate::store::sqlite::SqliteStore;

/// Keeps the held clients of the configuration before, if it has the same database.
pub(super) fn open(
    settings: StoredClientSettings,
    before: Option<&Arc<StoredClients>>,
    parts: &ProcessParts,
) -> Result<Arc<StoredClients>, StartError> {
    if let Some(before) = before.filter(|before| *before.place() == settings.place) {
        return Ok(Arc::new(before.following(settings)));
    }
    let database = match &settings.place {
        ClientDatabase::Sqlite(file) => Database::Sqlite(SqliteStore::open(file)?),
        ClientDatabase::Postgres => parts.shared.database.clone().ok_or(StartError::NoPostgres)?,
    };
    Ok(Arc::new(StoredClients::new(settings, ClientTable::new(database), parts.control.clone())))
}

/// For a command that verifies a token. `None` if the database cannot be used. Creates no file.
pub(super) async fn open_to_inspect(
    settings: StoredClientSettings,
    postgres: Option<&PostgresSettings>,
) -> Option<Arc<StoredClients>> {
    let control = Handle::current();
    let database = match &settings.place {
        ClientDatabase::Sqlite(file) if !file.exists() => return None,
        ClientDatabase::Sqlite(file) => Database::Sqlite(SqliteStore::open(file).ok()?),
        ClientDatabase::Postgres => Database::Postgres(PostgresStore::open(postgres?, &control).await.ok()?),
    };
    Some(Arc::new(StoredClients::new(settings, ClientTable::new(database), control)))
}

pub(super) fn task(server: &AuthorizationServer) -> Option<Task> {
    let stored = server.stored_clients()?;
    Some(Task::new(TaskSubject::StoredClients(stored.number), Arc::clone(stored).keep()))
}
