//! Maintains the writer's file. A moved file is reopened, a full or old one is rotated. Changes and deletions are
//! recorded.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{error, info, warn};

use super::AuditWriter;
use crate::audit::log_file::Condition;
use crate::audit::log_paths;
use crate::audit::record::Event;
use crate::audit::rotation;
use crate::clock;

/// After a failed rotation.
const RETRY_ROTATION_AFTER: Duration = Duration::from_secs(10);

impl AuditWriter {
    /// Finds out what other processes have done to the file. Reopens it if it was moved, or if that was requested.
    pub(super) fn check_file(&mut self) -> io::Result<()> {
        let requested = self.reopen.swap(false, Ordering::Relaxed);
        let Some(file) = self.output.file_mut() else { return Ok(()) };
        match file.condition() {
            Condition::Sound if !requested => Ok(()),
            Condition::Sound | Condition::Moved => self.reopen_file(),
            Condition::Closed { mode } => {
                Err(io::Error::other(format!("its owner may not write to it (mode {mode:03o})")))
            }
            Condition::Altered { expected, found } => {
                error!(
                    expected,
                    found,
                    "another process has altered the audit log: this is recorded, and the log continues; check which process writes to it"
                );
                file.accept(found);
                self.breaks_line = !ends_with_line(file.path());
                self.record_event(Event::Altered { expected, found });
                self.begin_file();
                Ok(())
            }
        }
    }

    fn reopen_file(&mut self) -> io::Result<()> {
        let Some(old) = self.output.file_mut() else { return Ok(()) };
        let reopened = old.reopen()?;
        info!(path = %reopened.path().display(), "reopened the audit log");
        if reopened.is_same(old) && reopened.length() == old.length() {
            *old = reopened;
            return Ok(());
        }
        let mut left = std::mem::replace(old, reopened);
        let torn = self.group.torn();
        if torn > 0
            && let Some(length) = left.length()
            && let Err(error) = left.cut_to(length.saturating_sub(torn))
        {
            warn!(%error, "cannot cut off the incomplete last line of the audit log's old file: the line is written again to the new file");
        }
        let first = self.first;
        self.begin_file();
        let up_to = self.first - 1;
        if left.is_deleted() && first <= up_to {
            error!(
                from = first,
                up_to, "the file of the audit log was deleted: its lines are lost, and the loss is recorded"
            );
            self.record_event(Event::Missing { from: first, up_to });
        }
        Ok(())
    }

    /// The next line names the hash that it follows. Lines that are not written yet are sealed again.
    fn begin_file(&mut self) {
        let over = self.group.start_over();
        self.link = over.unwrap_or(self.link);
        self.begins_file = true;
        self.first = self.link.sequence + 1;
        self.began = clock::now();
        if over.is_some() {
            self.seal();
        }
    }

    /// To be called before `more` bytes are added.
    pub(super) fn rotate_if_due(&mut self, more: u64) {
        let Some(file) = self.output.file() else { return };
        let Some(length) = file.length() else { return };
        let due = self.settings.changing.load().rotation.is_due(length, more, self.began, clock::now());
        if !due || self.begins_file || file.condition() != Condition::Sound || clock::instant() < self.next_rotation {
            return;
        }
        let path = file.path().to_owned();
        if let Err(error) = self.rotate(&path) {
            error!(%error, "cannot rotate the audit log: it continues in the same file, and the rotation is tried again");
            self.next_rotation = clock::instant() + RETRY_ROTATION_AFTER;
        }
    }

    /// The next check of the file finds that the path leads nowhere, and makes a new file.
    fn rotate(&mut self, path: &Path) -> io::Result<()> {
        self.sync()?;
        self.checkpoint(clock::instant());
        rotation::rename(path, &log_paths::aside(path, self.first, self.link.sequence))?;
        if let Some(signer) = &mut self.signer
            && let Some(checkpoints) = signer.checkpoints()?
        {
            checkpoints.moved();
        }
        self.record_surplus(path)
    }

    /// Records the files that are more than are to be kept. They are removed once these lines are written.
    pub(super) fn record_surplus(&mut self, path: &Path) -> io::Result<()> {
        for old in rotation::surplus(path, self.settings.changing.load().rotation.keep)? {
            if !self.surplus.contains(&old) {
                self.record_event(Event::Removed { file: &name(&old) });
                self.surplus.push(old);
            }
        }
        Ok(())
    }

    /// A file is removed only once the line that says so is on the disk and a checkpoint covers it: without such a line
    /// the chain would lack its beginning.
    pub(super) fn remove_surplus(&mut self) {
        if self.surplus.is_empty() {
            return;
        }
        let surplus = std::mem::take(&mut self.surplus);
        let recorded = self.sync().and_then(|()| self.confirm_lines());
        let removed = recorded.and_then(|()| surplus.iter().try_for_each(|old| rotation::remove(old)));
        if let Err(error) = removed {
            error!(%error, "cannot remove old files of the audit log: the next rotation tries again");
        }
    }

    /// Signs a checkpoint that covers all lines so far. They must be on the disk.
    fn confirm_lines(&mut self) -> io::Result<()> {
        self.checkpoint(clock::instant());
        let Some(signer) = &mut self.signer else { return Ok(()) };
        if signer.checkpoints()?.is_some_and(|checkpoints| checkpoints.covers(self.link.sequence)) {
            return Ok(());
        }
        Err(io::Error::other("no checkpoint could be written for the lines that record it"))
    }
}

pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// True for an empty file too.
fn ends_with_line(path: &Path) -> bool {
    let last = |mut file: File| -> io::Result<u8> {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    File::open(path).and_then(last).map_or(true, |byte| byte == b'\n')
}
