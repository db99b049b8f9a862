//! The one writer: numbers and chains the lines of all workers and writes them, on a thread of its own.
//!
//! A failed write is tried again from where it stopped, so that a full disk loses no line and tears none; until it
//! succeeds the log is *broken* and [`super::ledger`] refuses. The file is checked before every write: one that was
//! renamed, deleted or replaced is reopened, and one that was altered is recorded. Lines that wait for the disk share
//! one flush.

mod files;
mod group;
mod opening;
mod output;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use group::Group;
use output::Output;
use tracing::{error, info};

use super::audit_key::PublicKey;
use super::batch::Batch;
use super::chain::{Hasher, Link};
use super::checkpoint::Checkpoints;
use super::health::Health;
use super::record::Event;
use super::rotation::Rotation;
use super::target::AuditTarget;
use crate::clock::{self, UnixTime};

/// The settings of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct WriterSettings {
    pub(crate) target: AuditTarget,
    pub(crate) rotation: Rotation,
    /// The folder of the key for checkpoints.
    pub(crate) state_directory: PathBuf,
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
    checkpoints: Option<Checkpoints>,
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
/// The most batches that are written with one call.
const GROUP: usize = 64;

impl AuditWriter {
    /// Verifies the checkpoints; `None` where there are none.
    pub(crate) fn public_key(&self) -> Option<PublicKey> {
        self.checkpoints.as_ref().map(Checkpoints::public_key)
    }

    fn record_event(&mut self, event: Event<'_>) {
        self.health.handed_over.fetch_add(1, Ordering::Relaxed);
        event.write(clock::now(), &self.settings.config, &mut self.own_lines);
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
                    self.write_batches(std::iter::once(first).chain(batches.try_iter().take(GROUP)).collect());
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

    fn checkpoint_if_due(&mut self) {
        let now = clock::instant();
        if !self.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.is_due(self.link.sequence, now)) {
            return;
        }
        match self.sync() {
            Ok(()) => self.checkpoint(now),
            Err(error) => self.mark_broken(&error),
        }
    }

    /// The lines that it covers must be on the disk.
    fn checkpoint(&mut self, now: Instant) {
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.sign(self.link, clock::now(), now);
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

    fn sync(&self) -> io::Result<()> {
        self.health.writing(true);
        let synced = self.output.sync();
        self.health.writing(false);
        synced
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
