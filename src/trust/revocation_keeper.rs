//! Keeps what all workers see of revocations in step with the file, on a thread of its own because disks are slow.
//!
//! Workers hand it entries and hear when they are on the disk and published; a tool's or another gateway's are noticed within
//! [`LOOK_EVERY`]. What is known stays known while the file can't be read: nothing makes a revoked token good again.

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

/// The keeper before it runs: what the file held at the start is published.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Store,
    known: Arc<Revocations>,
    published: Arc<PublishedRevocations>,
    requests: Receiver<Request>,
    /// What could not be done with the file the last time.
    failing: Failing,
    next_compaction: Instant,
    /// What was refused for want of a place since the last compaction, so that it is logged once.
    told_refused: HashSet<(RevocationsFull, Option<String>)>,
}

/// A worker's way to the keeper.
#[derive(Clone, Debug)]
pub(crate) struct Revoker {
    requests: SyncSender<Request>,
}

/// Why a token is not revoked, although it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotRevoked {
    /// Too many are waiting.
    Busy,
    /// There is no room for another.
    Full,
    /// There is no room for another of this client.
    ShareFull,
    /// The file can't be written.
    Broken,
}

/// A full disk can be read all the same: each is noticed, and logged, for itself.
#[derive(Clone, Copy, Debug, Default)]
struct Failing {
    reading: bool,
    writing: bool,
}

#[derive(Debug)]
enum Request {
    Revoke { entry: RevocationEntry, reply: RevocationReply },
    End,
}

type RevocationReply = oneshot::Sender<Result<(), NotRevoked>>;

const LOOK_EVERY: Duration = Duration::from_millis(300);
const COMPACT_EVERY: Duration = Duration::from_secs(3600);
/// Requests that may wait, and how many are flushed to the disk together.
const WAITING: usize = 256;
/// For a disk that hangs.
const PATIENCE: Duration = Duration::from_secs(5);

impl Revoker {
    /// Returns once the entry is on the disk and every worker sees it. Dropped before, it is revoked all the same.
    pub(crate) async fn revoke(&self, entry: RevocationEntry) -> Result<(), NotRevoked> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Revoke { entry, reply }).map_err(|_| NotRevoked::Busy)?;
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(NotRevoked::Broken),
        }
    }

    /// Ends the keeper, if it is not stuck: then the process ends without it.
    pub(crate) fn end(&self) {
        let _ = self.requests.try_send(Request::End);
    }
}

impl Keeper {
    /// Reads what the folder holds. `rules` are the configuration's, which no file can take back.
    pub(crate) fn open(
        directory: &Path,
        rules: &[RevocationEntry],
        now: UnixTime,
    ) -> Result<(Self, Revoker), StoreError> {
        let mut store = Store::in_directory(directory);
        store.check()?;
        let mut known = Revocations::default();
        // What has expired counts too, and the file is left as it is for now: the clock may be wrong until it has been set.
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
        let (sender, requests) = sync_channel(WAITING);
        let next_compaction = clock::instant() + COMPACT_EVERY;
        Ok((
            Self {
                store,
                known,
                published,
                requests,
                failing: Failing::default(),
                next_compaction,
                told_refused: HashSet::default(),
            },
            Revoker { requests: sender },
        ))
    }

    /// Makes folder and file, where revoking could otherwise fail for the first time when it matters.
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

    /// Runs until it is told to end, or nobody can ask any more. `told` hears of entries that others have written.
    pub(crate) fn run(&mut self, told: &mut impl FnMut(&[RevocationEntry])) {
        loop {
            let request = match self.requests.recv_timeout(LOOK_EVERY) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut group = Vec::new();
            for request in request.into_iter().chain(self.requests.try_iter()).take(WAITING) {
                match request {
                    Request::Revoke { entry, reply } => group.push((entry, reply)),
                    Request::End => return,
                }
            }
            let now = clock::now();
            if group.is_empty() {
                self.look(now, told);
            } else {
                self.write(group, now, told);
            }
            if clock::instant() >= self.next_compaction {
                self.compact(now);
            }
        }
    }

    /// Takes in what others have written.
    fn look(&mut self, now: UnixTime, told: &mut impl FnMut(&[RevocationEntry])) {
        let read = self.store.read();
        let taken = read.map(|news| take_in(&mut self.known, news, now));
        let taken = noticed(&mut self.failing.reading, "read", taken).unwrap_or_default();
        if !taken.is_empty() {
            self.publish();
            told(&taken);
        }
    }

    fn write(
        &mut self,
        group: Vec<(RevocationEntry, RevocationReply)>,
        now: UnixTime,
        told: &mut impl FnMut(&[RevocationEntry]),
    ) {
        let (mut taken, mut refused, mut grown) = (Vec::new(), Vec::new(), None);
        let known = &mut self.known;
        let written = self.store.append(|news| {
            taken = take_in(known, news, now);
            let mut with_ours = Arc::clone(known);
            let (chosen, others) = choose(&mut with_ours, group.iter().map(|(entry, _)| entry), now);
            (refused, grown) = (others, Some(with_ours));
            chosen
        });
        let written = noticed(&mut self.failing.writing, "written", written).is_some();
        if let Some(grown) = grown.filter(|_| written) {
            self.known = grown;
        }
        if written || !taken.is_empty() {
            self.publish();
        }
        for (number, (entry, reply)) in group.into_iter().enumerate() {
            let lack = refused.iter().find(|(refused, _)| *refused == number).map(|(_, lack)| *lack);
            let answer = match (written, lack) {
                (false, _) => Err(NotRevoked::Broken),
                (true, None) => Ok(()),
                (true, Some(lack)) => Err(self.refused(entry, lack)),
            };
            // Who has hung up needs no answer.
            let _ = reply.send(answer);
        }
        if !taken.is_empty() {
            told(&taken);
        }
    }

    /// Counted, and logged once an hour for each client that has used its share: few can at once.
    fn refused(&mut self, entry: RevocationEntry, lack: RevocationsFull) -> NotRevoked {
        self.published.count_refused();
        match lack {
            RevocationsFull::Full => {
                if self.told_refused.insert((lack, None)) {
                    error!("revocations are refused: all places are taken, and those that expire make room");
                }
                NotRevoked::Full
            }
            RevocationsFull::Share => {
                if let Some(client) = entry.revoked_by
                    && self.told_refused.insert((lack, Some(client.clone())))
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
        self.told_refused.clear();
        self.next_compaction = clock::instant() + COMPACT_EVERY;
        let compacted = self.store.compact(now);
        noticed(&mut self.failing.writing, "written", compacted);
        if self.known.has_expired(now) {
            Arc::make_mut(&mut self.known).forget_expired(now);
            self.publish();
        }
    }

    fn publish(&self) {
        self.published.publish(Arc::clone(&self.known));
    }
}

/// Logs a failure once, and its end.
fn noticed<T>(failing: &mut bool, done: &'static str, outcome: Result<T, StoreError>) -> Option<T> {
    match outcome {
        Ok(value) => {
            if std::mem::replace(failing, false) {
                info!("revocations can be {done} again");
            }
            Some(value)
        }
        Err(error) => {
            if !std::mem::replace(failing, true) {
                error!(error = %ErrorChain(&error), "revocations can't be {done}: those known so far stay");
            }
            None
        }
    }
}

/// Adds those that are news and says which they were.
fn take_in(known: &mut Arc<Revocations>, mut news: Vec<RevocationEntry>, now: UnixTime) -> Vec<RevocationEntry> {
    news.retain(|entry| entry.is_live(now) && !known.cover(entry));
    // Others keep to the bound as we do; should they not, a revocation goes before it.
    if !news.is_empty() {
        let known = Arc::make_mut(known);
        news.iter().for_each(|entry| known.add(entry));
    }
    news
}

/// Adds what there is room for; gives what has to be written, and the numbers of those that found no room with the reason.
fn choose<'e>(
    known: &mut Arc<Revocations>,
    wanted: impl Iterator<Item = &'e RevocationEntry>,
    now: UnixTime,
) -> (Vec<RevocationEntry>, Vec<(usize, RevocationsFull)>) {
    let (mut chosen, mut refused) = (Vec::new(), Vec::new());
    let known = Arc::make_mut(known);
    for (number, entry) in wanted.enumerate() {
        if known.cover(entry) {
            continue;
        }
        if known.lack_place_for(entry).is_some() && known.has_expired(now) {
            known.forget_expired(now);
        }
        match known.lack_place_for(entry) {
            Some(lack) => refused.push((number, lack)),
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
