//! Records the uses of assertions, by their ids, so that each counts once.
//!
//! A use is on the disk before it is confirmed, so that neither a restart nor another gateway of the same state
//! directory accepts it again. A separate thread does the work because disks are slow; the uses that wait are flushed
//! together. A use that cannot be written down is not confirmed. A forgotten use is never confirmed again, even if the
//! clock is set back: a use that ends no later than a forgotten one is refused.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, info};

use super::replay_store::{RecordedUse, ReplayStore, ReplayStoreError};
use super::replay_uses::{KnownUses, NotedUse, Room};
use crate::clock::{self, UnixTime};
use crate::oauth::caller::Digest;
use crate::store::redis_store::RedisStore;
use crate::store::redis_uses::SharedUse;
use crate::telemetry::error_chain::ErrorChain;

/// Asks the keeper whether something is used for the first time.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    requests: SyncSender<Request>,
    /// The store in which all replicas record uses, in addition to the file of this one.
    store: Option<RedisStore>,
}

/// It is unknown whether something was used before, or its use cannot be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the use of an assertion cannot be recorded")]
pub(crate) struct ReplayUnavailable;

/// Keeps the uses in memory and in the file.
#[derive(Debug)]
pub(crate) struct ReplayKeeper {
    store: ReplayStore,
    known: KnownUses,
    requests: Receiver<Request>,
    /// The state of the last attempt to write.
    is_failing: bool,
    /// Whether a use was refused for lack of room, since this was last logged, and since the last sweep.
    is_full: bool,
    lacked_room: bool,
    next_sweep: Instant,
}

#[derive(Debug)]
enum Request {
    Use { used: RecordedUse, reply: UseReply },
    End,
}

/// True for the first use.
type UseReply = oneshot::Sender<Result<bool, ReplayUnavailable>>;

/// Uses that have not expired. Further ones are refused, so that neither memory nor disk can be filled.
const ROOM: Room = Room { of_all: 1_000_000, of_user: 250_000 };
/// The uses that may wait, and that are flushed to the disk together.
const QUEUE_CAPACITY: usize = 1024;
/// The time to wait for the reply, in case the disk hangs.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// The clocks of replicas may differ by this.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// The file is rewritten if it has this many more lines than twice the uses that count.
const NEEDLESS_LINES: usize = 4096;

impl Replay {
    /// Confirms nothing: no keeper takes its requests.
    pub(crate) fn without_keeper() -> Self {
        Self { requests: sync_channel(0).0, store: None }
    }

    /// Uses count once over all replicas that share this store. While it is unreachable, no use is confirmed.
    pub(crate) fn over_replicas(self, store: Option<RedisStore>) -> Self {
        Self { store, ..self }
    }

    /// True if `by` uses `id` for the first time. Then the use is on the disk. If the future is dropped before, it still
    /// counts as used. `expires_at`, in seconds since 1970, is the time from which on the caller refuses it in any case.
    pub(crate) async fn use_once(
        &self,
        by: &str,
        id: &str,
        expires_at: u64,
        now: UnixTime,
    ) -> Result<bool, ReplayUnavailable> {
        if expires_at <= now.seconds() {
            return Ok(false);
        }
        // Not recorded in the file either, so that the client can retry.
        if self.store.as_ref().is_some_and(|store| !store.is_reached()) {
            return Err(ReplayUnavailable);
        }
        let used = RecordedUse { digest: Digest::of(&[by, id]), user: Digest::of(&[by]).0 as u64, expires_at };
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Use { used, reply }).map_err(|_| ReplayUnavailable)?;
        let is_first_here = match timeout(REPLY_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(_)) | Err(_) => return Err(ReplayUnavailable),
        };
        match &self.store {
            Some(store) if is_first_here => {
                let known_for = Duration::from_secs(expires_at.saturating_sub(now.seconds())) + CLOCKS_DIFFER;
                store.use_once(SharedUse::Assertion, used.digest, known_for).await.map_err(|_| ReplayUnavailable)
            }
            Some(_) | None => Ok(is_first_here),
        }
    }

    /// Ends the keeper. If it hangs, the process ends without it.
    pub(crate) fn end(&self) {
        let _ = self.requests.try_send(Request::End);
    }
}

impl ReplayKeeper {
    /// Reads the file in the folder, if there is one. It is made at the first use.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Replay), ReplayStoreError> {
        let mut store = ReplayStore::in_directory(directory);
        // Expired uses are kept: the clock may not be set yet.
        let mut known = KnownUses::new(ROOM);
        known.learn(&store.load()?);
        let (sender, requests) = sync_channel(QUEUE_CAPACITY);
        let next_sweep = clock::instant() + SWEEP_EVERY;
        let keeper = Self { store, known, requests, is_failing: false, is_full: false, lacked_room: false, next_sweep };
        Ok((keeper, Replay { requests: sender, store: None }))
    }

    /// Runs until [`Replay::end`] or until all senders are dropped.
    pub(crate) fn run(&mut self) {
        loop {
            let wait = self.next_sweep.saturating_duration_since(clock::instant());
            let first = match self.requests.recv_timeout(wait) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut group = Vec::new();
            for request in first.into_iter().chain(self.requests.try_iter()).take(QUEUE_CAPACITY) {
                match request {
                    Request::Use { used, reply } => group.push((used, reply)),
                    Request::End => return,
                }
            }
            let now = clock::now();
            if !group.is_empty() {
                self.record(group, now);
            }
            if clock::instant() >= self.next_sweep {
                self.sweep(now);
            }
        }
    }

    /// Writes the uses of a group that are the first, and answers all.
    fn record(&mut self, group: Vec<(RecordedUse, UseReply)>, now: UnixTime) {
        let mut answers = Vec::new();
        let mut first = Vec::new();
        let known = &mut self.known;
        let written = self.store.append(|news| {
            known.learn(&news);
            for (used, _) in &group {
                answers.push(match known.note(used, now) {
                    NotedUse::First => {
                        first.push(*used);
                        Ok(true)
                    }
                    NotedUse::Repeated => Ok(false),
                    NotedUse::NoRoom => Err(ReplayUnavailable),
                });
            }
            first.clone()
        });
        let is_written = self.log_change(written);
        if !is_written {
            // They were confirmed to no request, and the file does not have them.
            first.iter().for_each(|used| self.known.take_back(used));
            answers = vec![Err(ReplayUnavailable); group.len()];
        } else if answers.contains(&Err(ReplayUnavailable)) {
            self.lacks_room();
        }
        for ((_, reply), answer) in group.into_iter().zip(answers) {
            // Fails if the requester no longer waits.
            let _ = reply.send(answer);
        }
    }

    /// Forgets the uses that have expired, in the file too if it has many of them.
    fn sweep(&mut self, now: UnixTime) {
        self.next_sweep = clock::instant() + SWEEP_EVERY;
        self.known.forget_expired(now);
        // Not after each use: of several clients, one may lack room and another not.
        if !std::mem::replace(&mut self.lacked_room, false) && std::mem::replace(&mut self.is_full, false) {
            info!("there is room again for the uses of assertions");
        }
        if self.store.lines() <= 2 * self.known.len() + NEEDLESS_LINES {
            return;
        }
        let known = &mut self.known;
        let written = self.store.rewrite(|news| {
            known.learn(&news);
            known.forget_expired(now);
            known.recorded()
        });
        self.log_change(written);
    }

    /// Logs the first lack of room.
    fn lacks_room(&mut self) {
        self.lacked_room = true;
        if !std::mem::replace(&mut self.is_full, true) {
            error!(
                "assertions are refused with 503: {} in all or {} of one client or issuer were used and have not expired",
                ROOM.of_all, ROOM.of_user
            );
        }
    }

    /// Logs the first failure and the next success. True for a success.
    fn log_change(&mut self, written: Result<(), ReplayStoreError>) -> bool {
        match written {
            Ok(()) => {
                if std::mem::replace(&mut self.is_failing, false) {
                    info!("the uses of assertions can be recorded again");
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    error!(error = %ErrorChain(&error), "the uses of assertions cannot be recorded: token requests with assertions get 503; check `state_directory`");
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
