//! Opens the log at the start: where the chain continues, and what has happened to the file since the last run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tracing::{error, warn};

use super::files::name;
use super::group::Group;
use super::output::Output;
use super::signer::Signer;
use super::{AuditWriter, WriterSettings};
use crate::audit::audit_key::AuditKey;
use crate::audit::batch::Batch;
use crate::audit::chain::{Hasher, Link};
use crate::audit::checkpoint::{self, Checkpoints};
use crate::audit::health::Health;
use crate::audit::log_file::LogFile;
use crate::audit::record::Event;
use crate::audit::recovery::{self, Tail, newest_end, predecessor, tail};
use crate::audit::target::{AuditTarget, OpenError};
use crate::audit::{disk, log_paths};
use crate::clock;

impl AuditWriter {
    pub(crate) fn open(
        settings: WriterSettings,
        reopen: Arc<AtomicBool>,
        health: Arc<Health>,
    ) -> Result<Self, OpenError> {
        let mut writer = Self {
            output: Output::stdout().map_err(|error| OpenError::Log { path: PathBuf::from("-"), error })?,
            link: Link::GENESIS,
            begins_file: true,
            breaks_line: false,
            first: 1,
            began: clock::now(),
            next_rotation: clock::instant(),
            surplus: Vec::new(),
            signer: None,
            group: Group::of_instance(&settings.instance),
            own_lines: Batch::default(),
            hasher: Hasher::default(),
            settings,
            reopen,
            health,
        };
        if let AuditTarget::File(path) = writer.settings.target.clone() {
            let failed = |error| OpenError::Log { path: path.clone(), error };
            let mut file = LogFile::open(&path).map_err(failed)?;
            if file.length().is_some() {
                file = writer.recover(file).map_err(failed)?;
                let key = AuditKey::open(&writer.settings.state_directory)?;
                let (begins_after, last) = (writer.first - 1, writer.link.sequence);
                let checkpoints = Checkpoints::open(key, &path, begins_after, last);
                writer.signer = Some(checkpoints.and_then(Signer::start).map_err(failed)?);
                // `keep` may be lower than in the last run.
                writer.record_surplus(&path).map_err(failed)?;
                disk::warn_if_short(&path, &writer.settings.changing.load().rotation);
            }
            writer.output = Output::File(file);
        }
        Ok(writer)
    }

    /// Finds where the chain continues, and cuts off a line that a crash has torn.
    fn recover(&mut self, mut file: LogFile) -> io::Result<LogFile> {
        let path = file.path().to_owned();
        match tail(&path)? {
            Tail::Empty => self.link = newest_end(&path),
            Tail::Whole(link) => self.resume_after(link, &path),
            Tail::Torn { link, keep, text } => {
                warn!(
                    bytes = text.len(),
                    "a crash has torn the last line of the audit log: the line is cut off and recorded"
                );
                file.cut_to(keep)?;
                match link {
                    Some(link) => self.resume_after(link, &path),
                    None => self.link = newest_end(&path),
                }
                let bytes = text.len() as u64;
                self.record_event(Event::Recovered { bytes, text: &text });
            }
            Tail::Damaged { link } => {
                let aside = log_paths::damaged(&path, link.sequence);
                error!(to = %aside.display(), "the end of the audit log is damaged: the file is renamed and kept as it is");
                drop(file);
                fs::rename(&path, &aside)?;
                file = LogFile::open(&path)?;
                // Signed lines are taken to be in the damaged file. Their numbers are not used again.
                self.link = std::cmp::max_by_key(link, predecessor(&path), |link| link.sequence);
                self.record_event(Event::Damaged { file: &name(&aside) });
            }
        }
        let is_empty = self.begins_file;
        self.skip_missing(&path);
        if is_empty {
            self.first = self.link.sequence + 1;
        }
        Ok(file)
    }

    /// Records lines that a checkpoint has signed and that no file holds. Their numbers are not used again, so that
    /// `verify` can name them.
    fn skip_missing(&mut self, path: &Path) {
        let Some(signed) = checkpoint::last(&log_paths::checkpoints(path)) else { return };
        if signed.sequence <= self.link.sequence {
            return;
        }
        let (from, up_to) = (self.link.sequence + 1, signed.sequence);
        error!(
            from,
            up_to,
            "lines of the audit log are missing: a checkpoint has signed them, and no file has them; the loss is recorded"
        );
        self.record_event(Event::Missing { from, up_to });
        self.link = signed;
        self.begins_file = true;
    }

    fn resume_after(&mut self, link: Link, path: &Path) {
        self.link = link;
        self.begins_file = false;
        let (first, began) = recovery::beginning(path);
        self.first = first.unwrap_or(1).max(1);
        self.began = began.unwrap_or(self.began);
    }
}
