//! Opens the database of the clients, keeps held clients up to date, and records their changes.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Handle};
use tokio::time::timeout;

use super::process_parts::ProcessParts;
use super::start_error::StartError;
use super::tasks::{Task, TaskSubject};
use crate::audit::batch::Batch;
use crate::audit::ledger::LineSender;
use crate::audit::record::Event;
use crate::clock;
use crate::config::types::Config;
use crate::issuer::authorization_server::AuthorizationServer;
use crate::issuer::client::Client;
use crate::issuer::stored_clients::changes::ClientChange;
use crate::issuer::stored_clients::{ClientDatabase, ClientStoreUnavailable, StoredClientSettings, StoredClients};
use crate::pipeline::routing::snapshot::Snapshot;
use crate::store::client_table::ClientTable;
use crate::store::database::Database;
use crate::store::postgres::PostgresStore;
use crate::store::settings::PostgresSettings;
use crate::store::sqlite::SqliteStore;

/// For the connection and the client.
const LOOK_UP_DEADLINE: Duration = Duration::from_secs(5);

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
        ClientDatabase::Sqlite(file) => Database::Sqlite(SqliteStore::open_existing(file).ok()?),
        ClientDatabase::Postgres => Database::Postgres(PostgresStore::open(postgres?, &control).await.ok()?),
    };
    Some(Arc::new(StoredClients::new(settings, ClientTable::new(database), control)))
}

/// Looks up one client for a command, outside a task. `None` if no database has it.
pub(super) fn look_up_now(config: &Config, id: &str) -> Result<Option<Client>, ClientStoreUnavailable> {
    let Some(settings) = config.oauth.as_ref().and_then(|oauth| oauth.stored.clone()) else { return Ok(None) };
    if matches!(&settings.place, ClientDatabase::Sqlite(file) if !file.exists()) {
        return Ok(None);
    }
    let look_up = async {
        let stored = open_to_inspect(settings, config.shared.postgres.as_ref()).await.ok_or(ClientStoreUnavailable)?;
        Ok(stored.find(id).await?.map(|found| found.client.clone()))
    };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|_| ClientStoreUnavailable)?;
    runtime.block_on(async { timeout(LOOK_UP_DEADLINE, look_up).await }).unwrap_or(Err(ClientStoreUnavailable))
}

/// The snapshot identifies the configuration in audit lines.
pub(super) fn task(
    server: &AuthorizationServer,
    published: &Arc<ArcSwap<Snapshot>>,
    lines: &LineSender,
) -> Option<Task> {
    let stored = Arc::clone(server.stored_clients()?);
    let (published, lines) = (Arc::clone(published), lines.clone());
    Some(Task::new(TaskSubject::StoredClients(stored.number), async move {
        tokio::join!(Arc::clone(&stored).keep(), record_changes(&stored, &published, &lines));
    }))
}

async fn record_changes(stored: &StoredClients, published: &ArcSwap<Snapshot>, lines: &LineSender) {
    loop {
        let changes = stored.changes().await;
        let (snapshot, mut batch) = (published.load_full(), Batch::default());
        for ClientChange { client, state } in &changes {
            let event = Event::ClientChanged { client, state: state.as_str() };
            event.write(clock::now(), &snapshot.config, &mut batch);
        }
        lines.hand_over_within(batch);
    }
}
