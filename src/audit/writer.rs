//! The one writer: numbers and chains the lines of all workers and writes them, on a thread of its own.
//!
//! A write that fails is tried again from where it stopped, so that a full disk costs no line and tears none; until it succeeds
//! the log is *broken* and [`super::ledger`] refuses. Before every write the file is looked at: one that was renamed, deleted or
//! replaced is opened anew, one that was altered is told of. Lines that wait for the disk share one flush.

mod files;
mod group;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use group::Group;
use tracing::{error, info, warn};

use super::audit_key::{AuditKey, PublicKey};
use super::chain::{Hasher, Link};
use super::checkpoint::Checkpoints;
use super::disk;
use super::health::Health;
use super::ledger::Batch;
use super::log_file::{Condition, LogFile};
use super::record::Event;
use super::recovery::{self, Tail, predecessor, tail};
use super::rotation::{self, Rotation};
use super::target::{AuditTarget, OpenError};
use crate::clock::{self, UnixTime};

/// What the configuration says.
#[derive(Clone, Debug)]
pub(crate) struct WriterSettings {
    pub(crate) target: AuditTarget,
    pub(crate) rotation: Rotation,
    /// Where the key for checkpoints is.
    pub(crate) state_directory: PathBuf,
    /// Which configuration it is, for lines of our own.
    pub(crate) config: String,
}

/// The writer before it runs: the file is open, so that a bad path refuses the start.
pub(crate) struct AuditWriter {
    settings: WriterSettings,
    output: Output,
    /// After the last line of `pending`.
    link: Link,
    /// The file has no line of ours yet: the next says which hash it follows.
    begins_file: bool,
    /// What is last in the file is no whole line.
    breaks_line: bool,
    /// The number of the file's first line.
    first: u64,
    began: UnixTime,
    /// After a rotation that could not be done.
    next_rotation: Instant,
    /// Old files to remove after the lines that say so.
    surplus: Vec<PathBuf>,
    checkpoints: Option<Checkpoints>,
    group: Group,
    /// Lines of our own, for the next group.
    notes: Batch,
    hasher: Hasher,
    reopen: Arc<AtomicBool>,
    health: Arc<Health>,
}

enum Output {
    /// Without the standard library's buffer, which does not tell how much of it was written.
    Stdout(File),
    File(LogFile),
}

/// How often the path is compared with the open file, and a failed write is tried again.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// How long the first who waits for the disk waits for others to share its flush.
const GATHER: Duration = Duration::from_millis(1);
/// Batches written with one call at most.
const GROUP: usize = 64;

fn stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

impl AuditWriter {
    pub(crate) fn open(
        settings: WriterSettings,
        reopen: Arc<AtomicBool>,
        health: Arc<Health>,
    ) -> Result<Self, OpenError> {
        let mut writer = Self {
            output: Output::Stdout(stdout().map_err(|error| OpenError::Log { path: PathBuf::from("-"), error })?),
            link: Link::GENESIS,
            begins_file: true,
            breaks_line: false,
            first: 1,
            began: clock::now(),
            next_rotation: clock::instant(),
            surplus: Vec::new(),
            checkpoints: None,
            group: Group::default(),
            notes: Batch::default(),
            hasher: Hasher::default(),
            settings,
            reopen,
            health,
        };
        if let AuditTarget::File(path) = writer.settings.target.clone() {
            let failed = |error| OpenError::Log { path: path.clone(), error };
            let file = LogFile::open(&path).map_err(failed)?;
            if file.length().is_some() {
                let file = writer.recover(file).map_err(failed)?;
                let key = AuditKey::open(&writer.settings.state_directory)?;
                let checkpoints =
                    Checkpoints::open(key, &path, writer.first - 1, writer.link.sequence).map_err(failed)?;
                writer.checkpoints = Some(checkpoints);
                disk::warn_if_short(&path, &writer.settings.rotation);
                writer.output = Output::File(file);
            } else {
                writer.output = Output::File(file);
            }
        }
        Ok(writer)
    }

    /// By which checkpoints can be believed; `None` where there are none.
    pub(crate) fn public_key(&self) -> Option<PublicKey> {
        self.checkpoints.as_ref().map(Checkpoints::public_key)
    }

    /// Finds where the chain goes on, and cuts off what a crash has torn.
    fn recover(&mut self, mut file: LogFile) -> io::Result<LogFile> {
        let path = file.path().to_owned();
        match tail(&path)? {
            Tail::Empty => self.link = predecessor(&path),
            Tail::Whole(link) => self.go_on(link, &path),
            Tail::Torn { link, keep, text } => {
                warn!(bytes = text.len(), "the last line of the audit log was torn by a crash: it is cut off");
                file.cut_to(keep)?;
                match link {
                    Some(link) => self.go_on(link, &path),
                    None => self.link = predecessor(&path),
                }
                let bytes = text.len() as u64;
                self.note(Event::Recovered { bytes, text: &text });
            }
            Tail::Damaged { link } => {
                let names = (0..).map(|number| format!("damaged-{}-{number}", link.sequence));
                let mut names = names.map(|suffix| rotation::with_suffix(&path, &suffix));
                let aside = names.find(|aside| !aside.exists()).unwrap_or_else(|| path.with_extension("damaged"));
                error!(to = %aside.display(), "the end of the audit log is damaged: the file is put aside as it is");
                drop(file);
                fs::rename(&path, &aside)?;
                file = LogFile::open(&path)?;
                // What is signed or stands in another file is not numbered again.
                self.link = std::cmp::max_by_key(link, predecessor(&path), |link| link.sequence);
                self.note(Event::Damaged { file: &name(&aside) });
            }
        }
        let signed = super::checkpoint::last(&super::checkpoint::path(&path)).map_or(0, |link| link.sequence);
        if signed > self.link.sequence {
            error!(line = signed, "a checkpoint of the audit log knows of lines that are not there");
            self.note(Event::Missing { up_to: signed });
        }
        if self.begins_file {
            self.first = self.link.sequence + 1;
        }
        Ok(file)
    }

    fn go_on(&mut self, link: Link, path: &Path) {
        self.link = link;
        self.begins_file = false;
        let (first, began) = recovery::beginning(path);
        self.first = first.unwrap_or(1).max(1);
        self.began = began.unwrap_or(self.began);
    }

    fn note(&mut self, event: Event<'_>) {
        self.health.handed_over.fetch_add(1, Ordering::Relaxed);
        event.write(clock::now(), &self.settings.config, &mut self.notes);
    }

    /// Tells how many lines this thread never got.
    fn note_lost(&mut self) {
        if let lines @ 1.. = self.health.take_lost() {
            self.note(Event::Lost { lines });
        }
    }

    /// Runs until every ledger has gone, then flushes to the disk.
    pub(crate) fn start(self, batches: Receiver<Batch>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("audit".to_owned()).spawn(move || self.run(&batches))
    }

    fn run(mut self, batches: &Receiver<Batch>) {
        // Should this thread ever die, nothing more may pass unrecorded.
        let _dead = BrokenOnDrop(Arc::clone(&self.health));
        loop {
            match batches.recv_timeout(LOOK_EVERY) {
                Ok(first) => {
                    if !first.waiting.is_empty() {
                        // Each flush costs more than all that leads to it, and others come in the meantime.
                        thread::sleep(GATHER);
                    }
                    self.take(std::iter::once(first).chain(batches.try_iter().take(GROUP)).collect());
                }
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.checkpoint_if_due();
        }
        self.note_lost();
        if !self.notes.ends.is_empty() {
            self.take(Vec::new());
        }
        match self.sync() {
            Ok(()) => self.checkpoint(clock::instant()),
            Err(error) => error!(%error, "cannot flush the audit log"),
        }
    }

    fn checkpoint_if_due(&mut self) {
        let now = clock::instant();
        if !self.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.is_due(self.link.sequence, now)) {
            return;
        }
        match self.sync() {
            Ok(()) => self.checkpoint(now),
            Err(error) => self.fails(&error),
        }
    }

    /// What it speaks of is on the disk by now.
    fn checkpoint(&mut self, now: Instant) {
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.sign(self.link, clock::now(), now);
        }
    }

    /// Nothing to write: is the file still there?
    fn idle(&mut self) {
        self.note_lost();
        match self.look() {
            Ok(()) if self.notes.ends.is_empty() => self.works_again(),
            Ok(()) => self.take(Vec::new()),
            Err(error) => self.fails(&error),
        }
    }

    /// Writes these lines after our own.
    fn take(&mut self, batches: Vec<Batch>) {
        self.note_lost();
        self.group.begin(std::mem::take(&mut self.notes), batches);
        self.rotate_if_due(self.group.bytes());
        self.group.begin(std::mem::take(&mut self.notes), Vec::new());
        self.seal();
        while let Err(error) = self.look().and_then(|()| self.write()) {
            self.health.failures.fetch_add(1, Ordering::Relaxed);
            self.fails(&error);
            // Who waits for the disk is told now, and not when the disk is there again.
            self.group.give_up_waiting();
            thread::park_timeout(RETRY_EVERY);
        }
        self.works_again();
        self.finish();
    }

    /// The lines are written: says so to all who must know.
    fn finish(&mut self) {
        let on_disk = !self.group.is_waited_for() || self.reached_the_disk();
        let lines = self.group.end(on_disk);
        self.health.written.fetch_add(lines as u64, Ordering::Relaxed);
        self.remove_surplus();
    }

    /// In a file that is still where it was.
    fn reached_the_disk(&mut self) -> bool {
        let synced = self.sync();
        if let Err(error) = &synced {
            self.health.failures.fetch_add(1, Ordering::Relaxed);
            self.fails(error);
        }
        let still_there = match &self.output {
            Output::Stdout(_) => true,
            Output::File(file) => file.condition() == Condition::Sound,
        };
        synced.is_ok() && still_there
    }

    /// Numbers and chains what is not written yet.
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
            let written = match &mut self.output {
                Output::Stdout(stdout) => stdout.write(rest),
                Output::File(file) => file.write(rest),
            };
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
        let Output::File(file) = &self.output else { return Ok(()) };
        self.health.writing(true);
        let synced = file.sync();
        self.health.writing(false);
        synced
    }

    fn works_again(&self) {
        if self.health.set_broken(false) {
            info!("the audit log can be written again");
        }
    }

    fn fails(&self, error: &io::Error) {
        if self.health.set_broken(true) {
            error!(%error, "cannot write the audit log: protected requests and grants are refused until it works again");
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

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
