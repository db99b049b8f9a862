//! Keeps the revocations of all workers and the file consistent, on a separate thread because disks are slow.
//!
//! Workers send it entries and get a reply when they are on the disk and published. Entries of the command line or of
//! another gateway are noticed within [`POLL_INTERVAL`]. While the file cannot be read, the known revocations stay in
//! force.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use foldhash::HashSet;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::revocation::{
    MAX_ENTRIES, MAX_OF_CLIENT, PublishedRevocations, RevocationEntry, Revocations, RevocationsFull,
};
use super::revocation_store::{Store, StoreError};
use crate::clock::{self, UnixTime};
use crate::telemetry::error_chain::ErrorChain;

/// The keeper. The revocations of the file are published when it is made.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Store,
    known: Arc<Revocations>,
    published: Arc<PublishedRevocations>,
    requests: Receiver<Request>,
    /// The operations that failed the last time.
    failing: Failing,
    next_compaction: Instant,
    /// The limits that were reached since the last compaction, so that each is logged once.
    logged_refusals: HashSet<(RevocationsFull, Option<String>)>,
}

/// Sends requests to the keeper.
#[derive(Clone, Debug)]
pub(crate) struct Revoker {
    requests: SyncSender<Request>,
}

/// The reason for which a token could not be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotRevoked {
    /// Too many requests are waiting.
    Busy,
    /// The limit on all revocations is reached.
    Full,
    /// The limit of this client is reached.
    ShareFull,
    /// The file cannot be written.
    Broken,
}

/// Reading and writing are tracked and logged separately: a full disk can still be read.
#[derive(Clone, Copy, Debug, Default)]
struct Failing {
    reading: bool,
    writing: bool,
}

#[derive(Debug)]
enum Request {
    Revoke {
        entry: RevocationEntry,
        reply: RevocationReply,
    },
    /// The rules of a configuration.
    Rules {
        rules: Vec<RevocationEntry>,
        change: RulesChange,
        reply: RevocationReply,
    },
    End,
}

/// How the rules of a new configuration replace those of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RulesChange {
    /// They apply beside the former rules.
    Add,
    /// The former rules apply no more.
    Replace,
}

type RevocationReply = oneshot::Sender<Result<(), NotRevoked>>;

const POLL_INTERVAL: Duration = Duration::from_millis(300);
const COMPACT_EVERY: Duration = Duration::from_secs(3600);
/// The number of requests that may wait, and that are flushed to the disk together.
const QUEUE_CAPACITY: usize = 256;
/// The time to wait for the reply, in case the disk hangs.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

impl Revoker {
    /// Revokes nothing: no keeper takes its requests.
    pub(crate) fn without_keeper() -> Self {
        Self { requests: sync_channel(0).0 }
    }

    /// Returns once the entry is on the disk and published to all workers. If the future is dropped before, the token
    /// is still revoked.
    pub(crate) async fn revoke(&self, entry: RevocationEntry) -> Result<(), NotRevoked> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Revoke { entry, reply }).map_err(|_| NotRevoked::Busy)?;
        Self::reply(answer).await
    }

    /// Returns once the rules of another configuration are published to all workers.
    pub(crate) async fn set_rules(&self, rules: Vec<RevocationEntry>, change: RulesChange) -> Result<(), NotRevoked> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Rules { rules, change, reply }).map_err(|_| NotRevoked::Busy)?;
        Self::reply(answer).await
    }

    async fn reply(answer: oneshot::Receiver<Result<(), NotRevoked>>) -> Result<(), NotRevoked> {
        match timeout(REPLY_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(NotRevoked::Broken),
        }
    }

    /// Ends the keeper. If it hangs, the process ends without it.
    pub(crate) fn end(&self) {
        let _ = self.requests.try_send(Request::End);
    }
}

impl Keeper {
    /// Reads the file in the folder. `rules` are those of the configuration, which apply in any case.
    pub(crate) fn open(
        directory: &Path,
        rules: &[RevocationEntry],
        now: UnixTime,
    ) -> Result<(Self, Revoker), StoreError> {
        let mut store = Store::in_directory(directory);
        store.check()?;
        let mut known = Revocations::default();
        // Expired entries are kept, and the file is not compacted yet: the clock may not be set yet.
        store.read()?.iter().for_each(|entry| known.add(entry));
        if known.len() > MAX_ENTRIES {
            known.forget_expired(now);
        }
        if known.len() > MAX_ENTRIES {
            return Err(StoreError::TooMany { path: store.path().to_owned() });
        }
        rules.iter().for_each(|entry| known.add(entry));
        let known = Arc::new(known);
        let published = Arc::new(PublishedRevocations::default());
        published.publish(Arc::clone(&known));
        let (sender, requests) = sync_channel(QUEUE_CAPACITY);
        let next_compaction = clock::instant() + COMPACT_EVERY;
        Ok((
            Self {
                store,
                known,
                published,
                requests,
                failing: Failing::default(),
                next_compaction,
                logged_refusals: HashSet::default(),
            },
            Revoker { requests: sender },
        ))
    }

    /// Makes the folder and the file, so that an error shows at the start and not at the first revocation.
    pub(crate) fn make_file(&mut self) -> Result<(), StoreError> {
        self.store.make()
    }

    pub(crate) fn has_file(&self) -> bool {
        self.store.path().exists()
    }

    pub(crate) fn path(&self) -> &Path {
        self.store.path()
    }

    pub(crate) fn published(&self) -> &Arc<PublishedRevocations> {
        &self.published
    }

    /// Runs until [`Revoker::end`] or until all revokers are dropped. Calls `record` with the entries of other
    /// processes.
    pub(crate) fn run(&mut self, record: &mut impl FnMut(&[RevocationEntry])) {
        loop {
            let request = match self.requests.recv_timeout(POLL_INTERVAL) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut group = Vec::new();
            let requests: Vec<_> = request.into_iter().chain(self.requests.try_iter()).take(QUEUE_CAPACITY).collect();
            for request in requests {
                match request {
                    Request::Revoke { entry, reply } => group.push((entry, reply)),
                    Request::Rules { rules, change, reply } => {
                        let changed = self.set_rules(&rules, change, clock::now(), record);
                        let changed = log_change(&mut self.failing.reading, "read", changed);
                        // Fails if the requester no longer waits.
                        let _ = reply.send(changed.ok_or(NotRevoked::Broken));
                    }
                    Request::End => return,
                }
            }
            let now = clock::now();
            if group.is_empty() {
                self.poll_file(now, record);
            } else {
                self.write(group, now, record);
            }
            if clock::instant() >= self.next_compaction {
                self.compact(now);
            }
        }
    }

    /// The entries of the file stay in force in any case.
    fn set_rules(
        &mut self,
        rules: &[RevocationEntry],
        change: RulesChange,
        now: UnixTime,
        record: &mut impl FnMut(&[RevocationEntry]),
    ) -> Result<(), StoreError> {
        let mut known = match change {
            RulesChange::Add => Revocations::clone(&self.known),
            RulesChange::Replace => {
                // What is new in the file is recorded before it is known.
                self.poll_file(now, record);
                let mut known = Revocations::default();
                self.store
                    .reopened()
                    .read()?
                    .iter()
                    .filter(|entry| entry.is_live(now))
                    .for_each(|entry| known.add(entry));
                known
            }
        };
        rules.iter().for_each(|entry| known.add(entry));
        self.known = Arc::new(known);
        self.publish();
        Ok(())
    }

    /// Reads the entries of other processes.
    fn poll_file(&mut self, now: UnixTime, record: &mut impl FnMut(&[RevocationEntry])) {
        let read = self.store.read();
        let taken = read.map(|news| merge(&mut self.known, news, now));
        let taken = log_change(&mut self.failing.reading, "read", taken).unwrap_or_default();
        if !taken.is_empty() {
            self.publish();
            record(&taken);
        }
    }

    fn write(
        &mut self,
        group: Vec<(RevocationEntry, RevocationReply)>,
        now: UnixTime,
        record: &mut impl FnMut(&[RevocationEntry]),
    ) {
        let (mut taken, mut refused, mut grown) = (Vec::new(), Vec::new(), None);
        let known = &mut self.known;
        let written = self.store.append(|news| {
            taken = merge(known, news, now);
            let mut with_ours = Arc::clone(known);
            let (chosen, others) = select(&mut with_ours, group.iter().map(|(entry, _)| entry), now);
            (refused, grown) = (others, Some(with_ours));
            chosen
        });
        let written = log_change(&mut self.failing.writing, "written", written).is_some();
        if let Some(grown) = grown.filter(|_| written) {
            self.known = grown;
        }
        if written || !taken.is_empty() {
            self.publish();
        }
        for (number, (entry, reply)) in group.into_iter().enumerate() {
            let full = refused.iter().find(|(refused, _)| *refused == number).map(|(_, full)| *full);
            let answer = match (written, full) {
                (false, _) => Err(NotRevoked::Broken),
                (true, None) => Ok(()),
                (true, Some(full)) => Err(self.refused(entry, full)),
            };
            // Fails if the requester no longer waits.
            let _ = reply.send(answer);
        }
        if !taken.is_empty() {
            record(&taken);
        }
    }

    /// Counts a refusal. Logs each limit, and each client that reached its limit, once an hour.
    fn refused(&mut self, entry: RevocationEntry, full: RevocationsFull) -> NotRevoked {
        self.published.count_refused();
        match full {
            RevocationsFull::Full => {
                if self.logged_refusals.insert((full, None)) {
                    error!("revocations are refused: the limit of {MAX_ENTRIES} is reached until some expire");
                }
                NotRevoked::Full
            }
            RevocationsFull::Share => {
                if let Some(client) = entry.revoked_by
                    && self.logged_refusals.insert((full, Some(client.clone())))
                {
                    warn!(
                        client.id = %client,
                        "revocations of `{client}` are refused: {MAX_OF_CLIENT} tokens that it revoked have not expired; \
                         revoke all of its tokens with `portcullis token revoke --client {client}`"
                    );
                }
                NotRevoked::ShareFull
            }
        }
    }

    fn compact(&mut self, now: UnixTime) {
        self.logged_refusals.clear();
        self.next_compaction = clock::instant() + COMPACT_EVERY;
        let compacted = self.store.compact(now);
        log_change(&mut self.failing.writing, "written", compacted);
        if self.known.has_expired(now) {
            Arc::make_mut(&mut self.known).forget_expired(now);
            self.publish();
        }
    }

    fn publish(&self) {
        self.published.publish(Arc::clone(&self.known));
    }
}

/// Logs the first failure and the next success.
fn log_change<T>(failing: &mut bool, done: &'static str, outcome: Result<T, StoreError>) -> Option<T> {
    match outcome {
        Ok(value) => {
            if std::mem::replace(failing, false) {
                info!("revocations can be {done} again");
            }
            Some(value)
        }
        Err(error) => {
            if !std::mem::replace(failing, true) {
                error!(error = %ErrorChain(&error), "revocations cannot be {done}: the known ones stay in force; trying again");
            }
            None
        }
    }
}

/// Adds the entries that are new and returns them.
fn merge(known: &mut Arc<Revocations>, mut news: Vec<RevocationEntry>, now: UnixTime) -> Vec<RevocationEntry> {
    news.retain(|entry| entry.is_live(now) && !known.cover(entry));
    // Other processes keep to the limits too. If they do not, revoking has priority over the limit.
    if !news.is_empty() {
        let known = Arc::make_mut(known);
        news.iter().for_each(|entry| known.add(entry));
    }
    news
}

/// Adds the entries that the limits allow. Returns the entries to write, and the indices of the others with the limit
/// that they exceed.
fn select<'e>(
    known: &mut Arc<Revocations>,
    wanted: impl Iterator<Item = &'e RevocationEntry>,
    now: UnixTime,
) -> (Vec<RevocationEntry>, Vec<(usize, RevocationsFull)>) {
    let (mut chosen, mut refused) = (Vec::new(), Vec::new());
    let known = Arc::make_mut(known);
    for (number, entry) in wanted.enumerate() {
        // A rule of the configuration may be removed before the tokens expire.
        if known.cover(entry) && !known.has_standing(entry) {
            continue;
        }
        if known.full_for(entry).is_some() && known.has_expired(now) {
            known.forget_expired(now);
        }
        match known.full_for(entry) {
            Some(full) => refused.push((number, full)),
            None => {
                known.add(entry);
                chosen.push(entry.clone());
            }
        }
    }
    (chosen, refused)
}

#[cfg(test)]
mod tests;
