//! Exchanges revocations with the other replicas, through their store.
//!
//! Revocations of other replicas are read every [`POLL_EVERY`], and those of this replica are sent at once. While the
//! store is unreachable, the latter are pending. Each start, and each new epoch of the store, begins with a full
//! comparison, which adds the entries that the store lacks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::published_revocations::PublishedRevocations;
use super::revocation::{MAX_ENTRIES, MAX_WITH_TOKENS, RevocationEntry, Revocations};
use super::revocation_outbox::RevocationOutbox;
use super::revoker::Revoker;
use crate::clock;
use crate::store::redis_revocations::{PAGE, RevocationAnswer, RevocationQuery, SharedRevocation};
use crate::store::redis_store::RedisStore;
use crate::store::shared_state::SharedState;

/// The task of the exchange.
#[derive(Debug)]
pub(crate) struct RevocationExchange {
    store: RedisStore,
    revoker: Revoker,
    published: Arc<PublishedRevocations>,
    outbox: Arc<RevocationOutbox>,
    /// The time for other replicas to add their revocations to an empty store.
    patience: Duration,
    /// Whether this replica has a copy of the revocations, from its file or from the store.
    has_copy: bool,
    compared: Option<ComparedStore>,
    /// The epoch in which this replica, without a copy, waits for other replicas, and the start of the wait.
    waits_since: Option<(String, Instant)>,
    is_pending: bool,
    is_full: bool,
    has_tried: watch::Sender<bool>,
}

/// The state of the store at the last full comparison.
#[derive(Clone, Debug)]
struct ComparedStore {
    epoch: String,
    /// The number of the connection. After a reconnect, the store may have lost its last writes.
    connection: u64,
    /// The last sequence number that is known.
    number: u64,
    again_at: Instant,
}

const POLL_EVERY: Duration = Duration::from_millis(250);
/// A loss of writes behind the same connection is detected within this time.
const COMPARE_EVERY: Duration = Duration::from_secs(10 * 60);
/// Other replicas notice an emptied store within this time.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(2);

/// A round that could not be finished. The next one continues.
struct Interrupted;

impl RevocationExchange {
    /// `has_copy` is whether the file has all revocations that the replicas had at one time. Without a copy, no token
    /// is accepted until the store has been read.
    pub(crate) fn new(
        store: RedisStore,
        revoker: Revoker,
        published: Arc<PublishedRevocations>,
        heartbeat: Duration,
        has_copy: bool,
    ) -> Self {
        published.set_complete(has_copy);
        Self {
            store,
            revoker,
            published,
            outbox: Arc::default(),
            patience: heartbeat.max(SHORTEST_PATIENCE),
            has_copy,
            compared: None,
            waits_since: None,
            is_pending: false,
            is_full: false,
            has_tried: watch::Sender::new(false),
        }
    }

    pub(crate) fn outbox(&self) -> &Arc<RevocationOutbox> {
        &self.outbox
    }

    /// True once the store was read or could not be read.
    pub(crate) fn has_tried(&self) -> watch::Receiver<bool> {
        self.has_tried.subscribe()
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let _ = self.round().await;
            self.has_tried.send_replace(true);
            self.log_pending();
            tokio::select! {
                () = sleep(POLL_EVERY) => {}
                () = self.outbox.filled() => {}
            }
        }
    }

    async fn round(&mut self) -> Result<(), Interrupted> {
        let SharedState::Reached { epoch, .. } = self.store.state().borrow().clone() else { return Err(Interrupted) };
        let connection = self.store.connection_number();
        let is_same = |compared: &&ComparedStore| compared.epoch == epoch && compared.connection == connection;
        match self.compared.as_ref().filter(is_same).cloned() {
            Some(compared) if clock::instant() < compared.again_at => self.follow(compared).await,
            Some(_) | None => self.compare(epoch, connection).await,
        }
    }

    /// Reads what is new, and sends what is pending.
    async fn follow(&mut self, mut compared: ComparedStore) -> Result<(), Interrupted> {
        let mut add = self.outbox.first(PAGE);
        loop {
            let answer = self.exchange(&compared.epoch, compared.number, add.clone(), false).await?;
            self.sent(&add, &answer);
            if answer.last < compared.number {
                warn!("Redis has lost its last revocations: they are added again");
                self.compared = None;
                return Ok(());
            }
            self.learn(answer.found).await?;
            compared.number = answer.up_to;
            self.compared = Some(compared.clone());
            add = if answer.refused.is_empty() { self.outbox.first(PAGE) } else { Vec::new() };
            if compared.number >= answer.last && add.is_empty() {
                return Ok(());
            }
        }
    }

    /// Reads everything, and adds what the store lacks.
    async fn compare(&mut self, epoch: String, connection: u64) -> Result<(), Interrupted> {
        let (number, are_complete) = self.read_all(&epoch).await?;
        if !are_complete && !self.may_complete(&epoch) {
            return Ok(());
        }
        let number = self.send_all(&epoch, number).await?;
        let again_at = clock::instant() + COMPARE_EVERY;
        self.compared = Some(ComparedStore { epoch, connection, number, again_at });
        (self.has_copy, self.waits_since) = (true, None);
        if !self.revoker.mark_complete() {
            // The next comparison marks it.
            self.compared = None;
        }
        if !self.published.are_complete() {
            self.published.set_complete(true);
            info!("the revocations of all replicas are known");
        }
        Ok(())
    }

    /// Learns everything that is in the store, and notes what it lacks. Gives the last sequence number, and whether the
    /// store is complete.
    async fn read_all(&self, epoch: &str) -> Result<(u64, bool), Interrupted> {
        let (mut after, mut of_store, now) = (0, Revocations::default(), clock::now());
        let are_complete = loop {
            let answer = self.exchange(epoch, after, Vec::new(), false).await?;
            answer.found.iter().for_each(|shared| of_store.add(&RevocationEntry::learned(shared, now)));
            self.learn(answer.found).await?;
            after = answer.up_to;
            if after >= answer.last {
                break answer.are_complete;
            }
        };
        let lacking = |shared: &SharedRevocation| shared.expires_at > now.seconds() && !of_store.covers(shared);
        self.outbox.add(self.published.current().to_share().filter(lacking));
        Ok((after, are_complete))
    }

    /// Sends all pending entries, as far as the store has room, and marks the store as complete. Gives the last
    /// sequence number.
    async fn send_all(&mut self, epoch: &str, mut after: u64) -> Result<u64, Interrupted> {
        let mut is_full = false;
        loop {
            let add = if is_full { Vec::new() } else { self.outbox.first(PAGE) };
            let is_last = add.len() < PAGE;
            let answer = self.exchange(epoch, after, add.clone(), is_last).await?;
            self.sent(&add, &answer);
            self.learn(answer.found).await?;
            is_full |= !answer.refused.is_empty();
            after = answer.up_to;
            if is_last && after >= answer.last {
                return Ok(after);
            }
        }
    }

    /// Whether this replica may mark a new or emptied store as complete. Without a copy it waits for replicas that have
    /// one.
    fn may_complete(&mut self, epoch: &str) -> bool {
        if self.has_copy {
            return true;
        }
        let now = clock::instant();
        match &self.waits_since {
            Some((waits_for, since)) if waits_for == epoch => now >= *since + self.patience,
            Some(_) | None => {
                self.waits_since = Some((epoch.to_owned(), now));
                false
            }
        }
    }

    async fn exchange(
        &self,
        epoch: &str,
        after: u64,
        add: Vec<SharedRevocation>,
        are_complete: bool,
    ) -> Result<RevocationAnswer, Interrupted> {
        let query = RevocationQuery { epoch: epoch.to_owned(), after, add, are_complete };
        let answer = self.store.exchange_revocations(&query, (MAX_WITH_TOKENS, MAX_ENTRIES)).await;
        answer.map_err(|_| Interrupted)?.ok_or(Interrupted)
    }

    async fn learn(&self, found: Vec<SharedRevocation>) -> Result<(), Interrupted> {
        let now = clock::now().seconds();
        let is_new = |shared: &SharedRevocation| now < shared.expires_at && !self.published.current().covers(shared);
        let new: Vec<SharedRevocation> = found.into_iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        let learned = self.revoker.learn(new.clone()).await;
        // They hold even if they cannot be written to the disk.
        if learned.is_ok() || !new.iter().any(is_new) { Ok(()) } else { Err(Interrupted) }
    }

    fn sent(&mut self, add: &[SharedRevocation], answer: &RevocationAnswer) {
        let is_taken = |place: &usize| !answer.refused.contains(place);
        let taken: Vec<_> =
            add.iter().enumerate().filter(|(place, _)| is_taken(place)).map(|(_, entry)| *entry).collect();
        self.outbox.remove(&taken);
        if !answer.refused.is_empty() && !std::mem::replace(&mut self.is_full, true) {
            error!("Redis takes no more revocations: the limit of {MAX_ENTRIES} is reached until some expire");
        } else if answer.refused.is_empty() && !add.is_empty() {
            self.is_full = false;
        }
    }

    fn log_pending(&mut self) {
        self.outbox.forget_expired(clock::now());
        let pending = self.outbox.len();
        if pending > 0 && !std::mem::replace(&mut self.is_pending, true) {
            warn!(pending, "revocations are in force here, and are sent to the other replicas when Redis is reachable");
        } else if pending == 0 && std::mem::replace(&mut self.is_pending, false) {
            info!("the other replicas know all revocations of this one");
        }
    }
}
