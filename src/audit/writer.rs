//! The one writer: numbers and chains the lines of all workers and writes them, on a thread of its own.
//!
//! A failed write is tried again from where it stopped, so that a full disk loses no line and tears none; until it
//! succeeds the log is *broken* and [`super::ledger`] refuses. The file is checked before every write: one that was
//! renamed, deleted or replaced is reopened, and one that was altered is recorded. Lines that wait for the disk share
//! one flush. Other lines wait for no flush: those of checkpoints run on another thread.

mod files;
mod group;
mod opening;
mod output;
mod signer;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use group::Group;
use output::Output;
use signer::Signer;
use tracing::{error, info};

use super::audit_key::PublicKey;
use super::batch::Batch;
use super::chain::{Hasher, Link};
use super::health::Health;
use super::log_file::LogFile;
use super::record::Event;
use super::rotation::Rotation;
use super::target::AuditTarget;
use crate::clock::{self, UnixTime};

/// The settings of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct WriterSettings {
    pub(crate) target: AuditTarget,
    /// Names this gateway in every line.
    pub(crate) instance: String,
    /// The folder of the key for checkpoints.
    pub(crate) state_directory: PathBuf,
    pub(crate) changing: Arc<ArcSwap<ChangingSettings>>,
}

/// The settings that may change while the writer runs.
#[derive(Clone, Debug)]
pub(crate) struct ChangingSettings {
    pub(crate) rotation: Rotation,
    /// The digest of the configuration, for the writer's own lines.
    pub(crate) config: String,
}

/// The writer before it runs: the file is open, so that a bad path refuses the start.
pub(crate) struct AuditWriter {
    settings: WriterSettings,
    output: Output,
    /// The link of the last sealed line.
    link: Link,
    /// The next line names the hash that it follows: it begins a file, or comes after missing lines.
    begins_file: bool,
    /// The file does not end with a line break.
    breaks_line: bool,
    /// The number of the file's first line.
    first: u64,
    began: UnixTime,
    /// No rotation is tried before.
    next_rotation: Instant,
    /// Old files to remove, once the lines that record it are written.
    surplus: Vec<PathBuf>,
    /// `None` where there are no checkpoints.
    signer: Option<Signer>,
    group: Group,
    /// The writer's own lines, for the next group.
    own_lines: Batch,
    hasher: Hasher,
    reopen: Arc<AtomicBool>,
    health: Arc<Health>,
}

/// How often the path is compared with the open file while there is nothing to write.
const CHECK_FILE_EVERY: Duration = Duration::from_millis(500);
/// How often a failed write is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// How long the first line that waits for the disk waits for others to share its flush.
const GATHER: Duration = Duration::from_millis(1);
/// No more batches are added to a group of this size.
const GROUP_BYTES: usize = 64 * 1024;

impl AuditWriter {
    /// Verifies the checkpoints; `None` where there are none.
    pub(crate) fn public_key(&self) -> Option<PublicKey> {
        self.signer.as_ref()?.public_key()
    }

    fn record_event(&mut self, event: Event<'_>) {
        self.health.handed_over.fetch_add(1, Ordering::Relaxed);
        event.write(clock::now(), &self.settings.changing.load().config, &mut self.own_lines);
    }

    /// Records how many lines never reached this thread.
    fn record_lost(&mut self) {
        if let lines @ 1.. = self.health.take_lost() {
            self.record_event(Event::Lost { lines });
        }
    }

    /// Runs until every ledger has gone, then flushes to the disk.
    pub(crate) fn start(self, batches: Receiver<Batch>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("audit".to_owned()).spawn(move || self.run(&batches))
    }

    fn run(mut self, batches: &Receiver<Batch>) {
        // If this thread ends for any reason, requests must be refused, because they would not be recorded.
        let _dead = BrokenOnDrop(Arc::clone(&self.health));
        loop {
            match batches.recv_timeout(CHECK_FILE_EVERY) {
                Ok(first) => {
                    if !first.waiters.is_empty() {
                        // A flush costs more than everything before it; other lines arrive in the meantime.
                        thread::sleep(GATHER);
                    }
                    self.write_batches(gather(first, batches));
                }
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.checkpoint_if_due();
        }
        self.record_lost();
        if !self.own_lines.ends.is_empty() {
            self.write_batches(Vec::new());
        }
        match self.sync() {
            Ok(()) => self.checkpoint(clock::instant()),
            Err(error) => {
                error!(%error, "cannot flush the audit log at the end: its last lines may be lost in a power failure; check its disk")
            }
        }
    }

    /// Begins a flush that ends with a checkpoint, and takes note of the end of the one before.
    fn checkpoint_if_due(&mut self) {
        let now = clock::instant();
        let is_late = self.signer.as_ref().is_some_and(|signer| signer.is_late(now));
        let ended = if is_late {
            self.settle(Signer::wait_for_checkpoint)
        } else {
            self.signer.as_mut().map_or(Ok(()), Signer::poll)
        };
        if let Err(error) = ended {
            self.mark_broken(&error);
        }
        if let Some(signer) = &mut self.signer
            && let Some(file) = self.output.file().and_then(LogFile::to_flush)
        {
            signer.begin_if_due(file, self.link, now);
        }
    }

    /// Signs the last line at once. The lines up to it must be on the disk.
    fn checkpoint(&mut self, now: Instant) {
        match self.signer.as_mut().map(Signer::checkpoints) {
            Some(Ok(Some(checkpoints))) => checkpoints.sign(self.link, clock::now(), now),
            Some(Err(error)) => self.mark_broken(&error),
            Some(Ok(None)) | None => {}
        }
    }

    /// There is nothing to write: checks whether the file is still there.
    fn idle(&mut self) {
        self.record_lost();
        match self.check_file() {
            Ok(()) if self.own_lines.ends.is_empty() => self.mark_working(),
            Ok(()) => self.write_batches(Vec::new()),
            Err(error) => self.mark_broken(&error),
        }
    }

    /// Writes these lines after the writer's own.
    fn write_batches(&mut self, batches: Vec<Batch>) {
        self.record_lost();
        self.group.begin(std::mem::take(&mut self.own_lines), batches);
        self.rotate_if_due(self.group.bytes());
        self.group.begin(std::mem::take(&mut self.own_lines), Vec::new());
        self.seal();
        while let Err(error) = self.check_file().and_then(|()| self.write()) {
            self.health.failures.fetch_add(1, Ordering::Relaxed);
            self.mark_broken(&error);
            // Requests that wait for the disk fail now, and not only when the disk works again.
            self.group.drop_waiters();
            thread::park_timeout(RETRY_EVERY);
        }
        self.mark_working();
        self.finish();
    }

    /// The lines are written: releases their slots and notifies their waiters.
    fn finish(&mut self) {
        let on_disk = !self.group.has_waiters() || self.reached_the_disk();
        let lines = self.group.end(on_disk);
        self.health.written.fetch_add(lines as u64, Ordering::Relaxed);
        self.remove_surplus();
    }

    /// Flushes the file. True only if the path still leads to it.
    fn reached_the_disk(&mut self) -> bool {
        let synced = self.sync();
        if let Err(error) = &synced {
            self.health.failures.fetch_add(1, Ordering::Relaxed);
            self.mark_broken(error);
        }
        synced.is_ok() && self.output.is_in_place()
    }

    /// Numbers and chains the lines that are not written yet.
    fn seal(&mut self) {
        if std::mem::take(&mut self.breaks_line) {
            self.group.break_line();
        }
        if self.group.seal(&mut self.link, self.begins_file, &mut self.hasher) {
            self.begins_file = false;
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let group = &mut self.group;
        while let rest = group.rest()
            && !rest.is_empty()
        {
            self.health.writing(true);
            let written = self.output.write(rest);
            self.health.writing(false);
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => group.written(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Flushes to the disk. A flush that is under way ends first: its error may be about the same lines.
    fn sync(&mut self) -> io::Result<()> {
        self.settle(Signer::wait_for_flush)?;
        self.health.writing(true);
        let synced = self.output.sync();
        self.health.writing(false);
        synced
    }

    /// Waits for the thread that flushes and signs, as for a write: a wait that does not end is noticed.
    fn settle(&mut self, wait: fn(&mut Signer) -> io::Result<()>) -> io::Result<()> {
        self.health.writing(true);
        let settled = self.signer.as_mut().map_or(Ok(()), wait);
        self.health.writing(false);
        settled
    }

    fn mark_working(&self) {
        if self.health.set_broken(false) {
            info!("the audit log can be written again");
        }
    }

    fn mark_broken(&self, error: &io::Error) {
        if self.health.set_broken(true) {
            error!(%error, "cannot write the audit log: protected requests and token requests are refused until it can be written; check its disk");
        }
    }
}

/// Adds batches that wait to the first. A group is small, so that its slots are soon free again.
fn gather(first: Batch, more: &Receiver<Batch>) -> Vec<Batch> {
    let mut bytes = first.bytes.len();
    let mut group = vec![first];
    while bytes < GROUP_BYTES
        && let Ok(next) = more.try_recv()
    {
        bytes += next.bytes.len();
        group.push(next);
    }
    group
}

impl fmt::Debug for AuditWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("target", &self.settings.target).finish_non_exhaustive()
    }
}

struct BrokenOnDrop(Arc<Health>);

impl Drop for BrokenOnDrop {
    fn drop(&mut self) {
        self.0.set_broken(true);
    }
}

#[cfg(test)]
mod tests;
