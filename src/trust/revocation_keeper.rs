//! Keeps the revocations of all workers and the file consistent, on a separate thread because disks are slow.
//!
//! Workers send it entries and get a reply when they are on the disk and published. Entries of the command line or of
//! another gateway are noticed within [`POLL_INTERVAL`]. While the file cannot be read, the known revocations stay in
//! force.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use foldhash::HashSet;
use tracing::{error, info, warn};

use super::published_revocations::PublishedRevocations;
use super::revocation::{MAX_ENTRIES, MAX_OF_CLIENT, RevocationEntry, Revocations, RevocationsFull};
use super::revocation_outbox::RevocationOutbox;
use super::revocation_selection::{merge, select};
use super::revocation_store::{Store, StoreError};
use super::revoker::{NotRevoked, QUEUE_CAPACITY, RevocationReply, Revoker, RevokerRequest, RulesChange};
use crate::clock::{self, UnixTime};
use crate::store::redis_revocations::SharedRevocation;
use crate::telemetry::error_chain::ErrorChain;

/// The keeper. The revocations of the file are published when it is made.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Store,
    known: Arc<Revocations>,
    published: Arc<PublishedRevocations>,
    requests: Receiver<RevokerRequest>,
    /// The operations that failed the last time.
    failing: Failing,
    next_compaction: Instant,
    /// The limits that were reached since the last compaction, so that each is logged once.
    logged_refusals: HashSet<(RevocationsFull, Option<String>)>,
    /// The entries that are not in the shared store yet. `None` without a shared store.
    outbox: Option<Arc<RevocationOutbox>>,
    /// Entries of other replicas that hold, and could not be written to the file yet.
    unwritten: Vec<RevocationEntry>,
}

/// Reading and writing are tracked and logged separately: a full disk can still be read.
#[derive(Clone, Copy, Debug, Default)]
struct Failing {
    reading: bool,
    writing: bool,
}

const POLL_INTERVAL: Duration = Duration::from_millis(300);
const COMPACT_EVERY: Duration = Duration::from_secs(3600);
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
        let entries = store.read()?;
        entries.iter().for_each(|entry| known.add(entry));
        if known.len() > MAX_ENTRIES {
            known.forget_expired(now);
        }
        // Those of other replicas have their limit in the shared store.
        let own = || entries.iter().filter(|entry| !entry.is_learned() && entry.is_live(now)).count();
        if known.len() > MAX_ENTRIES && own() > MAX_ENTRIES {
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
                outbox: None,
                unwritten: Vec::new(),
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

    /// Whether the file has all revocations that the replicas had at one time.
    pub(crate) fn has_copy(&self) -> bool {
        self.store.is_complete()
    }

    pub(crate) fn path(&self) -> &Path {
        self.store.path()
    }

    pub(crate) fn published(&self) -> &Arc<PublishedRevocations> {
        &self.published
    }

    /// Sends new entries to the other replicas from now on. Called once the file has been read.
    pub(crate) fn share(&mut self, outbox: Arc<RevocationOutbox>) {
        self.outbox = Some(outbox);
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
                    RevokerRequest::Revoke { entry, reply } => group.push((entry, reply)),
                    RevokerRequest::Rules { rules, change, reply } => {
                        let changed = self.set_rules(&rules, change, clock::now(), record);
                        let changed = log_change(&mut self.failing.reading, "read", changed);
                        // Fails if the requester no longer waits.
                        let _ = reply.send(changed.ok_or(NotRevoked::Broken));
                    }
                    RevokerRequest::Learn { learned, reply } => {
                        // Fails if the requester no longer waits.
                        let _ = reply.send(self.learn(&learned, clock::now(), record));
                    }
                    RevokerRequest::MarkComplete => {
                        self.store.mark_complete();
                        // If it fails, it is done again.
                        let _ = self.write_learned(clock::now(), record);
                    }
                    RevokerRequest::End => return,
                }
            }
            let now = clock::now();
            if group.is_empty() {
                self.poll_file(now, record);
                let _ = self.write_learned(now, record);
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
                // Records the new entries of the file first.
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
        rules.iter().chain(&self.unwritten).for_each(|entry| known.add(entry));
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
            self.send(&taken);
            record(&taken);
        }
    }

    /// Publishes and writes the revocations of other replicas. They hold even if they cannot be written.
    fn learn(
        &mut self,
        learned: &[SharedRevocation],
        now: UnixTime,
        record: &mut impl FnMut(&[RevocationEntry]),
    ) -> Result<(), NotRevoked> {
        let entries = learned.iter().map(|shared| RevocationEntry::learned(shared, now)).collect();
        let new = merge(&mut self.known, entries, now);
        if !new.is_empty() {
            self.publish();
            record(&new);
            self.unwritten.extend(new);
        }
        self.write_learned(now, record)
    }

    fn write_learned(&mut self, now: UnixTime, record: &mut impl FnMut(&[RevocationEntry])) -> Result<(), NotRevoked> {
        if self.unwritten.is_empty() && !self.store.is_to_mark() {
            return Ok(());
        }
        self.unwritten.retain(|entry| entry.is_live(now));
        let (known, unwritten, mut taken) = (&mut self.known, &self.unwritten, Vec::new());
        let written = self.store.append(|news| {
            taken = merge(known, news, now);
            unwritten.clone()
        });
        if !taken.is_empty() {
            self.publish();
            self.send(&taken);
            record(&taken);
        }
        log_change(&mut self.failing.writing, "written", written).ok_or(NotRevoked::Broken)?;
        self.unwritten.clear();
        Ok(())
    }

    fn send(&self, entries: &[RevocationEntry]) {
        if let Some(outbox) = &self.outbox {
            outbox.add(entries.iter().filter_map(RevocationEntry::to_share));
        }
    }

    fn write(
        &mut self,
        group: Vec<(RevocationEntry, RevocationReply)>,
        now: UnixTime,
        record: &mut impl FnMut(&[RevocationEntry]),
    ) {
        let (mut taken, mut ours, mut refused, mut grown) = (Vec::new(), Vec::new(), Vec::new(), None);
        let known = &mut self.known;
        let written = self.store.append(|news| {
            taken = merge(known, news, now);
            let mut with_ours = Arc::clone(known);
            let (chosen, others) = select(&mut with_ours, group.iter().map(|(entry, _)| entry), now);
            (refused, grown) = (others, Some(with_ours));
            ours.clone_from(&chosen);
            chosen
        });
        let written = log_change(&mut self.failing.writing, "written", written).is_some();
        if let Some(grown) = grown.filter(|_| written) {
            self.known = grown;
        }
        if written || !taken.is_empty() {
            self.publish();
            self.send(&taken);
        }
        if written {
            self.send(&ours);
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

#[cfg(test)]
mod tests;
