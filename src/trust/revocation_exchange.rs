//! Exchanges revocations with the other replicas, through their store.
//!
//! What another replica revokes is known here within [`POLL_EVERY`], and what this one revokes is sent at once. While
//! the store is away, revocations of this replica are pending, and are sent when it is back. Each start, and each new
//! epoch of the store, begins with a comparison of everything: what the store lacks is added again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::{error, info, warn};

use super::published_revocations::PublishedRevocations;
use super::revocation::{MAX_ENTRIES, MAX_WITH_TOKENS, RevocationEntry, Revocations};
use super::revocation_outbox::RevocationOutbox;
use super::revoker::{NotRevoked, Revoker};
use crate::clock;
use crate::store::redis_revocations::{PAGE, RevocationAnswer, RevocationQuestion, SharedRevocation};
use crate::store::redis_store::RedisStore;
use crate::store::shared_state::SharedState;

/// The task that exchanges.
#[derive(Debug)]
pub(crate) struct RevocationExchange {
    store: RedisStore,
    revoker: Revoker,
    published: Arc<PublishedRevocations>,
    outbox: Arc<RevocationOutbox>,
    /// For other replicas to add what they know to an empty store.
    heartbeat: Duration,
    /// Whether this replica had a copy of the revocations at its start, or has read all since.
    has_copy: bool,
    /// The epoch that everything was compared with, and the last sequence number that is known of it.
    compared: Option<(String, u64)>,
    compare_again_at: Instant,
    /// Since when this replica, without a copy, waits for others to fill a store.
    waits_since: Option<(String, Instant)>,
    is_pending: bool,
    is_full: bool,
}

const POLL_EVERY: Duration = Duration::from_millis(250);
/// A store that has lost its last writes is found out by then.
const COMPARE_EVERY: Duration = Duration::from_secs(10 * 60);

/// A round that could not be finished. The next one goes on.
struct Interrupted;

impl RevocationExchange {
    /// `has_copy` is whether there was a file of revocations at the start. Without one, no token can be judged until
    /// the store was read.
    pub(crate) fn new(
        store: RedisStore,
        revoker: Revoker,
        published: Arc<PublishedRevocations>,
        heartbeat: Duration,
        has_copy: bool,
    ) -> Self {
        published.set_complete(has_copy);
        let (outbox, compare_again_at) = (Arc::default(), clock::instant());
        let (compared, waits_since, is_pending, is_full) = (None, None, false, false);
        Self {
            store,
            revoker,
            published,
            outbox,
            heartbeat,
            has_copy,
            compared,
            compare_again_at,
            waits_since,
            is_pending,
            is_full,
        }
    }

    pub(crate) fn outbox(&self) -> &Arc<RevocationOutbox> {
        &self.outbox
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let _ = self.round().await;
            self.log_pending();
            tokio::select! {
                () = sleep(POLL_EVERY) => {}
                () = self.outbox.filled() => {}
            }
        }
    }

    async fn round(&mut self) -> Result<(), Interrupted> {
        let SharedState::Reached { epoch, .. } = self.store.state().borrow().clone() else { return Err(Interrupted) };
        let known = self.compared.as_ref().filter(|(compared, _)| *compared == epoch).map(|(_, number)| *number);
        match known {
            Some(number) if clock::instant() < self.compare_again_at => self.follow(&epoch, number).await,
            Some(_) | None => self.compare(&epoch).await,
        }
    }

    /// Reads what is new, and sends what is pending.
    async fn follow(&mut self, epoch: &str, number: u64) -> Result<(), Interrupted> {
        let (mut after, mut add) = (number, self.outbox.first(PAGE));
        loop {
            let answer = self.exchange(epoch, after, add.clone(), false).await?;
            self.sent(&add, &answer);
            if answer.last < after {
                warn!("the shared store has lost its last revocations: they are added again");
                self.compared = None;
                return Ok(());
            }
            self.learn(answer.found).await?;
            self.compared = Some((epoch.to_owned(), answer.up_to));
            after = answer.up_to;
            add = if answer.refused.is_empty() { self.outbox.first(PAGE) } else { Vec::new() };
            if after >= answer.last && add.is_empty() {
                return Ok(());
            }
        }
    }

    /// Reads everything, and adds what the store lacks.
    async fn compare(&mut self, epoch: &str) -> Result<(), Interrupted> {
        let (mut after, mut in_store, mut are_complete) = (0, Vec::new(), false);
        loop {
            let answer = self.exchange(epoch, after, Vec::new(), false).await?;
            are_complete |= answer.are_complete;
            in_store.extend(answer.found.iter().copied());
            self.learn(answer.found).await?;
            after = answer.up_to;
            if after >= answer.last {
                break;
            }
        }
        let mut of_store = Revocations::default();
        let now = clock::now();
        in_store.iter().for_each(|shared| of_store.add(&RevocationEntry::learned(shared, now)));
        let lacking = |shared: &SharedRevocation| shared.expires_at > now.seconds() && !of_store.covers(shared);
        let known = self.published.current();
        self.outbox.add(known.to_share().filter(lacking));
        drop(known);
        if !are_complete && !self.may_complete(epoch) {
            return Ok(());
        }
        loop {
            let add = self.outbox.first(PAGE);
            let is_last = add.len() < PAGE;
            let answer = self.exchange(epoch, after, add.clone(), is_last).await?;
            self.sent(&add, &answer);
            self.learn(answer.found).await?;
            after = answer.up_to;
            if (is_last || !answer.refused.is_empty()) && after >= answer.last {
                break;
            }
        }
        self.compared = Some((epoch.to_owned(), after));
        self.compare_again_at = clock::instant() + COMPARE_EVERY;
        (self.has_copy, self.waits_since) = (true, None);
        if !self.published.are_complete() {
            self.published.set_complete(true);
            info!("the revocations of all replicas are known");
        }
        Ok(())
    }

    /// Whether this replica may say that a store is complete which was emptied or is new. Without a copy it waits a
    /// heartbeat for those who have one.
    fn may_complete(&mut self, epoch: &str) -> bool {
        if self.has_copy {
            return true;
        }
        let now = clock::instant();
        match &self.waits_since {
            Some((waits_for, since)) if waits_for == epoch => now >= *since + self.heartbeat,
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
        let question = RevocationQuestion { epoch: epoch.to_owned(), after, add, are_complete };
        let answer = self.store.exchange_revocations(&question, (MAX_WITH_TOKENS, MAX_ENTRIES)).await;
        answer.map_err(|_| Interrupted)?.ok_or(Interrupted)
    }

    async fn learn(&self, found: Vec<SharedRevocation>) -> Result<(), Interrupted> {
        let known = self.published.current();
        let new: Vec<SharedRevocation> = found.into_iter().filter(|shared| !known.covers(shared)).collect();
        drop(known);
        if new.is_empty() {
            return Ok(());
        }
        // They hold also if the disk does not take them; then everything is compared again at the next start.
        match self.revoker.learn(new).await {
            Ok(()) | Err(NotRevoked::Broken) => Ok(()),
            Err(_) => Err(Interrupted),
        }
    }

    fn sent(&mut self, add: &[SharedRevocation], answer: &RevocationAnswer) {
        let is_taken = |place: &usize| !answer.refused.contains(place);
        let taken: Vec<_> =
            add.iter().enumerate().filter(|(place, _)| is_taken(place)).map(|(_, entry)| *entry).collect();
        self.outbox.remove(&taken);
        if !answer.refused.is_empty() && !std::mem::replace(&mut self.is_full, true) {
            error!(
                "the shared store takes no more revocations: the limit of {MAX_ENTRIES} is reached until some expire"
            );
        } else if answer.refused.is_empty() && !add.is_empty() {
            self.is_full = false;
        }
    }

    fn log_pending(&mut self) {
        let pending = self.outbox.len();
        if pending > 0 && !std::mem::replace(&mut self.is_pending, true) {
            warn!(pending, "revocations hold here, and are sent to the other replicas when the shared store is back");
        } else if pending == 0 && std::mem::replace(&mut self.is_pending, false) {
            info!("the other replicas know all revocations of this one");
        }
    }
}
