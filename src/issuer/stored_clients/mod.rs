//! The clients in a database. A client that this process has used is *held*: it stays in a bounded cache.
//!
//! [`StoredClients::find`] gives a held client, or looks it up once for all concurrent requests. Unknown ids are
//! remembered for a short time. [`keeper`] reads held clients again: at once when they change, and in any case within a
//! minute. While the database is unreachable, held clients stay valid for the configured time, and others are
//! [unavailable](ClientStoreUnavailable).
//!
//! A change of a client during its look-up restarts the look-up, so that an outdated client is never held.

pub(crate) mod changes;
pub(crate) mod held;
pub(crate) mod keeper;
pub(crate) mod subjects;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;
use tracing::{error, warn};

use super::client::Client;
use crate::clock;
use crate::store::client_table::{ClientRow, ClientTable};
use crate::store::sql::DatabaseError;
use changes::{ChangeQueue, StoredClientState};
use held::{HeldClients, StoredClient};
use subjects::HeldSubjects;

/// Parses a client from its id and its entry, by the rules for entries of the configuration file.
#[derive(Clone)]
pub(crate) struct ClientReader(Arc<ReadClient>);

type ReadClient = dyn Fn(&str, &str) -> Result<Client, String> + Send + Sync;

/// The clients in a database, as configured.
#[derive(Clone, Debug)]
pub(crate) struct StoredClientSettings {
    pub(crate) place: ClientDatabase,
    /// How long held clients stay valid while the database is unreachable.
    pub(crate) stale: Duration,
    pub(crate) reader: ClientReader,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientDatabase {
    /// The file of SQLite.
    Sqlite(PathBuf),
    /// The database of `shared.postgres`.
    Postgres,
}

/// The clients in a database, under one configuration.
pub(crate) struct StoredClients {
    /// Unique within this process.
    pub(crate) number: u64,
    place: ClientDatabase,
    table: ClientTable,
    reader: ClientReader,
    stale: Duration,
    control: Handle,
    held: HeldClients,
    subjects: HeldSubjects,
    changes: ChangeQueue,
    /// The look-ups under way, by id.
    under_way: Mutex<HashMap<String, LookUp>>,
    /// Bounds the concurrent queries of this process.
    slots: Semaphore,
    /// Bounds those of held clients: a flood of unknown ids must not keep a disabled client in use.
    slots_of_held: Semaphore,
    /// Begins a round of reading everything again.
    read_again: Notify,
}

/// The state of the held clients. Only compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientsVersion {
    number: u64,
    retired: u64,
}

/// The database is unreachable, and the client is not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database of the clients is unreachable")]
pub(crate) struct ClientStoreUnavailable;

type LookedUp = Result<Option<Arc<StoredClient>>, ClientStoreUnavailable>;

struct LookUp {
    done: watch::Sender<Option<LookedUp>>,
    /// Whether the client was changed since the last query.
    is_outdated: bool,
}

/// For one query, including its wait for a slot.
const DEADLINE: Duration = Duration::from_secs(2);
const MAX_QUERIES: usize = 32;
const MAX_QUERIES_OF_HELD: usize = 8;
/// Ids that are looked up or wait for it. Others are refused with 503.
const MOST_LOOK_UPS: usize = 1024;
/// A client that changes during each of this many queries counts as unavailable.
const MOST_REPEATS: usize = 5;

impl ClientReader {
    pub(crate) fn new(read: impl Fn(&str, &str) -> Result<Client, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The reason why the entry cannot be used, in one line.
    pub(crate) fn read(&self, id: &str, entry: &str) -> Result<Client, String> {
        (self.0)(id, entry)
    }
}

impl StoredClients {
    pub(crate) fn new(settings: StoredClientSettings, table: ClientTable, control: Handle) -> Self {
        let StoredClientSettings { place, stale, reader } = settings;
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            place,
            table,
            reader,
            stale,
            control,
            held: HeldClients::new(),
            subjects: HeldSubjects::new(),
            changes: ChangeQueue::new(),
            under_way: Mutex::default(),
            slots: Semaphore::new(MAX_QUERIES),
            slots_of_held: Semaphore::new(MAX_QUERIES_OF_HELD),
            read_again: Notify::new(),
        }
    }

    /// The same clients under another configuration. Held clients are parsed again by its rules.
    pub(crate) fn following(&self, settings: StoredClientSettings) -> Self {
        let next = Self::new(settings, self.table.clone(), self.control.clone());
        for known in self.held.all() {
            if let Some(client) = next.read(known.id(), &known.entry) {
                client.credentials.take_over(&known.client.credentials);
                next.held.keep(StoredClient::new(client, &known.entry, next.number, known.confirmed()));
            }
        }
        next
    }

    pub(crate) fn place(&self) -> &ClientDatabase {
        &self.place
    }

    /// Another value after each change of a client that is held: its streams must be judged again.
    pub(crate) fn version(&self) -> ClientsVersion {
        ClientsVersion { number: self.number, retired: self.held.retired() }
    }

    /// The client, if it is held.
    pub(crate) fn held(&self, id: &str) -> Option<Arc<StoredClient>> {
        self.held.get(id, clock::instant(), self.stale)
    }

    /// The enabled client with this id.
    pub(crate) async fn find(self: &Arc<Self>, id: &str) -> LookedUp {
        if let Some(known) = self.held(id) {
            return Ok(Some(known));
        }
        if self.held.is_known_absent(id, clock::instant()) {
            return Ok(None);
        }
        self.look_up(id).await
    }

    /// Queries the database, once for all concurrent requests of this id.
    async fn look_up(self: &Arc<Self>, id: &str) -> LookedUp {
        let mut done = self.begun(id)?;
        let looked_up = done.wait_for(Option::is_some).await;
        looked_up.ok().and_then(|done| done.clone()).unwrap_or(Err(ClientStoreUnavailable))
    }

    fn begun(self: &Arc<Self>, id: &str) -> Result<watch::Receiver<Option<LookedUp>>, ClientStoreUnavailable> {
        let mut under_way = self.under_way();
        if let Some(same) = under_way.get(id) {
            return Ok(same.done.subscribe());
        }
        // Held clients are bounded by their cache.
        if under_way.len() >= MOST_LOOK_UPS && self.held.peek(id).is_none() {
            return Err(ClientStoreUnavailable);
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(id.to_owned(), LookUp { done: sender, is_outdated: false });
        drop(under_way);
        let (this, id) = (Arc::clone(self), id.to_owned());
        // In the control plane, so that the look-up goes on if the first request is dropped.
        self.control.spawn(async move { this.ask(&id).await });
        Ok(receiver)
    }

    async fn ask(&self, id: &str) {
        for _ in 0..MOST_REPEATS {
            let asked = clock::instant();
            let slots = if self.held.peek(id).is_some() { &self.slots_of_held } else { &self.slots };
            let row = self.query(slots, self.table.get(id)).await;
            let known = self.held.peek(id);
            let state = row.as_ref().ok().and_then(|row| StoredClientState::of(known.as_ref(), row.as_ref()));
            let found = row.map(|row| row.filter(|row| !row.disabled).and_then(|row| self.updated(row)));
            let mut under_way = self.under_way();
            match under_way.get_mut(id) {
                Some(look_up) if look_up.is_outdated => look_up.is_outdated = false,
                Some(_) | None => {
                    // Still locked, so that no change is missed between the query and the update.
                    let looked_up = found.map(|client| self.held.update(id, client, asked));
                    self.tell(id, state, &looked_up);
                    if let Some(LookUp { done, .. }) = under_way.remove(id) {
                        let _ = done.send(Some(looked_up));
                    }
                    return;
                }
            }
        }
        warn!(client.id = %id.escape_debug(), "a client of the database changed during every query; requests of this client get 503");
        if let Some(LookUp { done, .. }) = self.under_way().remove(id) {
            let _ = done.send(Some(Err(ClientStoreUnavailable)));
        }
    }

    fn tell(&self, id: &str, state: Option<StoredClientState>, looked_up: &LookedUp) {
        match (state, looked_up) {
            (Some(StoredClientState::Changed), Ok(None)) => self.changes.add(id, StoredClientState::Unusable),
            (Some(state), _) => self.changes.add(id, state),
            (None, _) => {}
        }
    }

    /// The client of a row: the held one if its entry is the same. `None` if the entry cannot be used.
    fn updated(&self, row: ClientRow) -> Option<Arc<StoredClient>> {
        let ClientRow { id, entry, .. } = row;
        let known = self.held.peek(&id);
        if let Some(same) = known.as_ref().filter(|known| known.token_client.is_current() && *known.entry == *entry) {
            return Some(Arc::clone(same));
        }
        let client = self.read(&id, &entry)?;
        if let Some(known) = known {
            client.credentials.take_over(&known.client.credentials);
        }
        Some(StoredClient::new(client, &entry, self.number, clock::instant()))
    }

    fn read(&self, id: &str, entry: &str) -> Option<Client> {
        let read = self.reader.read(id, entry);
        let read = read.inspect_err(|reason| {
            error!(client.id = %id.escape_debug(), reason, "the entry of a client in the database cannot be used: the client is refused");
        });
        read.ok()
    }

    async fn query<T>(
        &self,
        slots: &Semaphore,
        query: impl Future<Output = Result<T, DatabaseError>>,
    ) -> Result<T, ClientStoreUnavailable> {
        let asked = timeout(DEADLINE, async {
            let _slot = slots.acquire().await.ok();
            query.await
        });
        match asked.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(DatabaseError::Unavailable)) | Err(_) => Err(ClientStoreUnavailable),
            Ok(Err(
                error @ (DatabaseError::Refused(_) | DatabaseError::NotMigrated | DatabaseError::Version { .. }),
            )) => {
                error!(%error, "the database of the clients cannot be used");
                Err(ClientStoreUnavailable)
            }
        }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<String, LookUp>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ClientReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientReader(..)")
    }
}

impl fmt::Debug for StoredClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredClients(..)")
    }
}

#[cfg(test)]
mod tests;
