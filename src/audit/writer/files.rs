//! What the writer does about its file: opened anew where it was moved, put aside where it is full, told of where it was altered.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{error, info, warn};

use super::{AuditWriter, Output, name};
use crate::audit::log_file::Condition;
use crate::audit::record::Event;
use crate::audit::rotation;
use crate::clock;

/// After a rotation that could not be done.
const ROTATE_AGAIN_AFTER: Duration = Duration::from_secs(10);

impl AuditWriter {
    /// Finds out what others have done to the file, and opens it anew if that helps, or if asked to.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let asked = self.reopen.swap(false, Ordering::Relaxed);
        let Output::File(file) = &mut self.output else { return Ok(()) };
        match file.condition() {
            Condition::Sound if !asked => Ok(()),
            Condition::Sound | Condition::Moved => self.open_anew(),
            Condition::Closed { mode } => {
                Err(io::Error::other(format!("its owner may not write to it (mode {mode:03o})")))
            }
            Condition::Altered { expected, found } => {
                error!(expected, found, "the audit log was altered by another hand");
                file.accept(found);
                self.breaks_line = !ends_with_line(file.path());
                self.note(Event::Altered { expected, found });
                self.begin_file();
                Ok(())
            }
        }
    }

    fn open_anew(&mut self) -> io::Result<()> {
        let Output::File(old) = &mut self.output else { return Ok(()) };
        let anew = old.open_anew()?;
        info!(path = %anew.path().display(), "opened the audit log anew");
        if anew.is_same(old) && anew.length() == old.length() {
            *old = anew;
            return Ok(());
        }
        let mut left = std::mem::replace(old, anew);
        let torn = self.group.torn();
        if torn > 0
            && let Some(length) = left.length()
            && let Err(error) = left.cut_to(length.saturating_sub(torn))
        {
            warn!(%error, "the last line of the audit log's old file is not whole");
        }
        self.begin_file();
        Ok(())
    }

    /// The next line says which hash it follows. What is not written yet is sealed anew.
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

    /// Before `more` bytes are added.
    pub(super) fn rotate_if_due(&mut self, more: u64) {
        let Output::File(file) = &self.output else { return };
        let Some(length) = file.length() else { return };
        let due = self.settings.rotation.is_due(length, more, self.began, clock::now());
        if !due || self.begins_file || file.condition() != Condition::Sound || clock::instant() < self.next_rotation {
            return;
        }
        let path = file.path().to_owned();
        if let Err(error) = self.rotate(&path) {
            error!(%error, "cannot rotate the audit log: its file goes on");
            self.next_rotation = clock::instant() + ROTATE_AGAIN_AFTER;
        }
    }

    /// What the path leads to afterwards is found by the next look.
    fn rotate(&mut self, path: &Path) -> io::Result<()> {
        self.sync()?;
        self.checkpoint(clock::instant());
        rotation::put_aside(path, &rotation::aside(path, self.first, self.link.sequence))?;
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.moved();
        }
        self.surplus = rotation::surplus(path, self.settings.rotation.keep)?;
        for old in self.surplus.clone() {
            self.note(Event::Removed { file: &name(&old) });
        }
        Ok(())
    }

    /// A file goes once the line that says so is on the disk: without it the chain would lack its beginning.
    pub(super) fn remove_surplus(&mut self) {
        if self.surplus.is_empty() {
            return;
        }
        let surplus = std::mem::take(&mut self.surplus);
        let removed = self.sync().and_then(|()| surplus.iter().try_for_each(|old| rotation::remove(old)));
        if let Err(error) = removed {
            error!(%error, "cannot remove old files of the audit log: the next rotation tries again");
        }
    }
}

/// Or is empty.
fn ends_with_line(path: &Path) -> bool {
    let last = |mut file: File| -> io::Result<u8> {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    File::open(path).and_then(last).map_or(true, |byte| byte == b'\n')
}
