//! The clients of the database that this process holds, and the ids that it knows to be absent. Both are bounded.
//!
//! Does no I/O, and takes the time as a parameter. A client that is no longer held is retired, so that tokens look it
//! up again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use crate::issuer::client::Client;
use crate::trust::token_client::TokenClient;

/// A client of the database, as it was last read.
#[derive(Debug)]
pub(crate) struct StoredClient {
    pub(crate) client: Client,
    /// The part of it that tokens hold.
    pub(crate) token_client: Arc<TokenClient>,
    pub(super) entry: Box<str>,
    /// The time of the last query that returned this entry.
    confirmed: Mutex<Instant>,
    /// Whether it may have changed since.
    is_due: AtomicBool,
}

#[derive(Debug)]
pub(super) struct HeldClients {
    clients: Cache<Box<str>, Arc<StoredClient>, ByEntry, RandomState, Retire>,
    /// With the time of the query.
    absent: Cache<Box<str>, Instant>,
    retired: Retire,
}

const MOST_CLIENTS: usize = 10_000;
/// Some 16 MiB at most.
const MOST_WEIGHT: u64 = 16 << 20;
const MOST_ABSENT: usize = 10_000;
/// How long an unknown id is not looked up again.
const ABSENT_FOR: Duration = Duration::from_secs(10);

impl StoredClient {
    pub(super) fn new(client: Client, entry: &str, table: u64, confirmed: Instant) -> Arc<Self> {
        let token_client = Arc::new(TokenClient::new(table, client.allow_from.clone()));
        Arc::new(Self {
            client,
            token_client,
            entry: entry.into(),
            confirmed: Mutex::new(confirmed),
            is_due: AtomicBool::new(false),
        })
    }

    pub(super) fn id(&self) -> &str {
        self.client.id.as_str()
    }

    pub(super) fn confirmed(&self) -> Instant {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn confirm(&self, asked: Instant) {
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        *confirmed = asked.max(*confirmed);
        self.is_due.store(false, Ordering::Release);
    }
}

impl HeldClients {
    pub(super) fn new() -> Self {
        let retired = Retire::default();
        let options = OptionsBuilder::new().estimated_items_capacity(MOST_CLIENTS).weight_capacity(MOST_WEIGHT).build();
        let clients = match options {
            Ok(options) => Cache::with_options(options, ByEntry, RandomState::default(), retired.clone()),
            Err(_) => Cache::with(MOST_CLIENTS, MOST_WEIGHT, ByEntry, RandomState::default(), retired.clone()),
        };
        Self { clients, absent: Cache::new(MOST_ABSENT), retired }
    }

    /// Grows with each client that is retired.
    pub(super) fn retired(&self) -> u64 {
        self.retired.0.load(Ordering::Acquire)
    }

    /// The client, if it was confirmed within `stale`.
    pub(super) fn get(&self, id: &str, now: Instant, stale: Duration) -> Option<Arc<StoredClient>> {
        let known = self.clients.get(id)?;
        (now.saturating_duration_since(known.confirmed()) < stale).then_some(known)
    }

    pub(super) fn peek(&self, id: &str) -> Option<Arc<StoredClient>> {
        self.clients.peek(id)
    }

    pub(super) fn all(&self) -> Vec<Arc<StoredClient>> {
        self.clients.iter().map(|(_, client)| client).collect()
    }

    pub(super) fn is_known_absent(&self, id: &str, now: Instant) -> bool {
        self.absent.get(id).is_some_and(|asked| now.saturating_duration_since(asked) < ABSENT_FOR)
    }

    /// Takes over the result of a query, and returns it.
    pub(super) fn update(
        &self,
        id: &str,
        client: Option<Arc<StoredClient>>,
        asked: Instant,
    ) -> Option<Arc<StoredClient>> {
        match &client {
            Some(client) => {
                client.confirm(asked);
                self.absent.remove(id);
                if !self.peek(id).is_some_and(|known| Arc::ptr_eq(&known, client)) {
                    self.keep(Arc::clone(client));
                }
            }
            None => {
                self.remove(id);
                self.absent.insert(id.into(), asked);
            }
        }
        client
    }

    pub(super) fn keep(&self, client: Arc<StoredClient>) {
        if let Some(before) = self.clients.peek(client.id()) {
            self.retired.retire(&before);
        }
        self.clients.insert(client.id().into(), client);
    }

    pub(super) fn remove(&self, id: &str) {
        if let Some((_, client)) = self.clients.remove(id) {
            self.retired.retire(&client);
        }
    }

    pub(super) fn forget_absent(&self, id: &str) {
        self.absent.remove(id);
    }

    pub(super) fn forget_all_absent(&self) {
        self.absent.clear();
    }

    /// Removes clients that the database has not confirmed for `stale`.
    pub(super) fn remove_stale(&self, now: Instant, stale: Duration) {
        for client in self.all() {
            if now.saturating_duration_since(client.confirmed()) >= stale {
                self.remove(client.id());
            }
        }
    }

    pub(super) fn mark_due(&self, id: &str) {
        if let Some(client) = self.clients.peek(id) {
            client.is_due.store(true, Ordering::Release);
        }
    }

    pub(super) fn mark_all_due(&self) {
        self.all().iter().for_each(|client| client.is_due.store(true, Ordering::Release));
    }

    /// The ids of clients to read again: those that may have changed, and those that were last confirmed `after` ago. The
    /// oldest come first.
    pub(super) fn due(&self, now: Instant, after: Duration) -> Vec<Box<str>> {
        let is_due = |client: &Arc<StoredClient>| {
            let age = now.saturating_duration_since(client.confirmed());
            client.is_due.load(Ordering::Acquire) || age >= after
        };
        let all = self.all().into_iter().filter(is_due);
        let mut due: Vec<(Instant, Box<str>)> = all.map(|client| (client.confirmed(), client.id().into())).collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }
}

/// A held client takes several times the memory of its entry.
#[derive(Clone, Debug)]
struct ByEntry;

impl Weighter<Box<str>, Arc<StoredClient>> for ByEntry {
    fn weight(&self, _: &Box<str>, client: &Arc<StoredClient>) -> u64 {
        1024 + 4 * client.entry.len() as u64
    }
}

/// Retires clients, and counts them.
#[derive(Clone, Debug, Default)]
struct Retire(Arc<AtomicU64>);

impl Retire {
    fn retire(&self, client: &StoredClient) {
        client.token_client.retire();
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Lifecycle<Box<str>, Arc<StoredClient>> for Retire {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Box<str>, client: Arc<StoredClient>) {
        self.retire(&client);
    }
}
