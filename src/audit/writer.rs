//! The one writer: numbers the lines of all workers and writes them, on a thread of its own.
//!
//! A write that fails is tried again from where it stopped, so that a full disk costs no line and tears none; until it succeeds the log is
//! *broken* and [`super::ledger`] refuses. A file that was renamed or deleted is noticed and opened anew.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{error, info};

use super::ledger::{Batch, Health};
use crate::clock;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    File(PathBuf),
}

#[derive(Debug, thiserror::Error)]
#[error("cannot open the audit log `{path}`")]
pub(crate) struct OpenError {
    path: PathBuf,
    source: io::Error,
}

/// The writer before it runs: the file is open, so that a bad path refuses the start.
pub(crate) struct Writer {
    target: Target,
    output: Output,
    sequence: u64,
    /// Numbered lines that are not written yet, from `done` on.
    pending: Vec<u8>,
    done: usize,
    reopen: Arc<AtomicBool>,
    health: Arc<Health>,
    next_look: Instant,
}

enum Output {
    Stdout(io::Stdout),
    File(File),
}

/// How often the path is compared with the open file, and a failed write is tried again.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// Batches written with one call at most.
const GROUP: usize = 64;
/// A last line longer than this was not written by us.
const TAIL_BYTES: u64 = 64 * 1024;

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Target {
    /// Says what [`Writer::open`] would, as far as can be told without writing.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let Self::File(path) = self else {
            return Ok(());
        };
        let failed = |source| OpenError { path: path.clone(), source };
        refuse_pipes(path).map_err(failed)?;
        if path.exists() {
            return OpenOptions::new().append(true).open(path).map(drop).map_err(failed);
        }
        let folder = path.ancestors().skip(1).find(|folder| folder.as_os_str().is_empty() || folder.exists());
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let metadata = fs::metadata(folder).map_err(failed)?;
        match (metadata.is_dir(), metadata.permissions().readonly()) {
            (true, false) => Ok(()),
            (true, true) => Err(failed(io::ErrorKind::PermissionDenied.into())),
            (false, _) => Err(failed(io::ErrorKind::NotADirectory.into())),
        }
    }
}

impl Writer {
    pub(crate) fn open(target: Target, reopen: Arc<AtomicBool>, health: Arc<Health>) -> Result<Self, OpenError> {
        let (output, sequence, pending) = match &target {
            Target::Stdout => (Output::Stdout(io::stdout()), 0, Vec::new()),
            Target::File(path) => {
                let failed = |source| OpenError { path: path.clone(), source };
                let (sequence, torn) = tail(path).map_err(failed)?;
                // A torn last line is ended, so that ours begins on its own.
                let pending = if torn { b"\n".to_vec() } else { Vec::new() };
                (Output::File(open(path).map_err(failed)?), sequence, pending)
            }
        };
        let next_look = clock::instant() + LOOK_EVERY;
        Ok(Self { target, output, sequence, pending, done: 0, reopen, health, next_look })
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
                Ok(first) => self.take(first, batches),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look();
        }
        if let Output::File(file) = &self.output
            && let Err(error) = file.sync_all()
        {
            error!(%error, "cannot flush the audit log");
        }
    }

    fn take(&mut self, first: Batch, batches: &Receiver<Batch>) {
        let group: Vec<Batch> = std::iter::once(first).chain(batches.try_iter().take(GROUP)).collect();
        for batch in &group {
            self.number(batch);
        }
        self.write_until_done();
        for batch in group {
            self.health.written.fetch_add(batch.ends.len() as u64, Ordering::Relaxed);
            if let Some(owner) = batch.owner {
                owner.written(batch.ends.len());
            }
        }
    }

    fn number(&mut self, batch: &Batch) {
        let mut start = 0;
        for end in &batch.ends {
            self.sequence += 1;
            // Writing into a Vec does not fail.
            let _ = write!(self.pending, "{{\"seq\":{}", self.sequence);
            self.pending.extend_from_slice(&batch.bytes[start..*end]);
            start = *end;
        }
    }

    fn write_until_done(&mut self) {
        while let Err(error) = self.write_pending() {
            self.health.failures.fetch_add(1, Ordering::Relaxed);
            if self.health.set_broken(true) {
                error!(%error, "cannot write the audit log: protected requests and grants are refused until it works again");
            }
            thread::park_timeout(RETRY_EVERY);
            self.look();
        }
        self.works_again();
        self.pending.clear();
        self.done = 0;
    }

    fn write_pending(&mut self) -> io::Result<()> {
        while self.done < self.pending.len() {
            let rest = &self.pending[self.done..];
            self.health.writing(true);
            let written = match &mut self.output {
                Output::Stdout(stdout) => stdout.write_all(rest).and_then(|()| stdout.flush()).map(|()| rest.len()),
                Output::File(file) => file.write(rest),
            };
            self.health.writing(false);
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Opens the path anew if it is no longer the open file, or if asked to.
    fn look(&mut self) {
        let asked = self.reopen.swap(false, Ordering::Relaxed);
        if !asked && clock::instant() < self.next_look {
            return;
        }
        self.next_look = clock::instant() + LOOK_EVERY;
        let (Target::File(path), Output::File(file)) = (&self.target, &self.output) else {
            return;
        };
        let opened = if !asked && is_same(path, file) {
            Ok(None)
        } else {
            // It may be the same file, whose lock is ours.
            let _ = file.unlock();
            open(path).map(Some)
        };
        match opened {
            Ok(anew) => {
                if let Some(file) = anew {
                    info!(path = %path.display(), "opened the audit log anew");
                    self.output = Output::File(file);
                }
                if self.pending.is_empty() {
                    self.works_again();
                }
            }
            Err(error) => {
                if self.health.set_broken(true) {
                    error!(%error, path = %path.display(), "cannot open the audit log anew: protected requests and grants are refused until it works again");
                }
            }
        }
    }

    fn works_again(&self) {
        if self.health.set_broken(false) {
            info!("the audit log can be written again");
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("target", &self.target).finish_non_exhaustive()
    }
}

struct BrokenOnDrop(Arc<Health>);

impl Drop for BrokenOnDrop {
    fn drop(&mut self) {
        self.0.set_broken(true);
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    refuse_pipes(path)?;
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    match file.metadata()?.is_file().then(|| file.try_lock()) {
        None | Some(Ok(())) => Ok(file),
        Some(Err(TryLockError::WouldBlock)) => Err(io::Error::other("another process writes to it")),
        Some(Err(TryLockError::Error(error))) => Err(error),
    }
}

/// Opening a pipe waits for its reader, which may never come.
fn refuse_pipes(path: &Path) -> io::Result<()> {
    match fs::metadata(path).map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_fifo() || kind.is_socket() => Err(io::Error::other("it is a pipe or socket, not a file")),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_same(path: &Path, file: &File) -> bool {
    let (Ok(there), Ok(here)) = (fs::metadata(path), file.metadata()) else {
        return false;
    };
    (there.dev(), there.ino()) == (here.dev(), here.ino())
}

/// The sequence number to go on from, and whether the last line was never ended.
fn tail(path: &Path) -> io::Result<(u64, bool)> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, false)),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok((0, false));
    }
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let torn = end.last().is_some_and(|byte| *byte != b'\n');
    let lines = end.split(|byte| *byte == b'\n').rev();
    Ok((lines.filter_map(sequence_of).next().unwrap_or(0), torn))
}

fn sequence_of(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let digits = rest.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("portcullis-audit-{}-{name}", std::process::id()))
    }

    fn write(target: &Path, lines: &[&str]) -> Arc<Health> {
        let health = Arc::new(Health::default());
        let writer = Writer::open(Target::File(target.to_owned()), Arc::default(), Arc::clone(&health)).unwrap();
        let (sender, receiver) = sync_channel(8);
        let thread = writer.start(receiver).unwrap();
        for line in lines {
            let mut batch = Batch::default();
            batch.push(|bytes| bytes.extend_from_slice(format!(",{line}}}\n").as_bytes()));
            sender.send(batch).unwrap();
        }
        drop(sender);
        thread.join().unwrap();
        health
    }

    #[test]
    fn lines_are_numbered_on_from_where_the_last_run_ended() {
        let folder = folder("numbers");
        let path = folder.join("deep/audit.jsonl");
        write(&path, &["\"a\":1", "\"a\":2"]);
        write(&path, &["\"a\":3"]);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"seq\":1,\"a\":1}\n{\"seq\":2,\"a\":2}\n{\"seq\":3,\"a\":3}\n"
        );
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_torn_last_line_does_not_swallow_the_next() {
        let folder = folder("torn");
        let path = folder.join("audit.jsonl");
        write(&path, &["\"a\":1"]);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"seq\":2,\"a").unwrap();
        write(&path, &["\"a\":3"]);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"seq\":1,\"a\":1}\n{\"seq\":2,\"a\n{\"seq\":3,\"a\":3}\n");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_full_disk_is_broken_and_a_path_that_cannot_be_opened_refuses_the_start() {
        let health = Arc::new(Health::default());
        let mut writer = Writer::open(Target::File("/dev/full".into()), Arc::default(), Arc::clone(&health)).unwrap();
        writer.number(&Batch { bytes: b"}\n".to_vec(), ends: vec![2], owner: None });
        assert!(writer.write_pending().is_err());
        assert_eq!(writer.done, 0);
        let target = Target::File("/proc/nowhere/audit.jsonl".into());
        assert!(Writer::open(target, Arc::default(), health).is_err());
    }

    #[test]
    fn a_file_that_another_writer_has_is_refused() {
        let folder = folder("shared");
        let target = || Target::File(folder.join("audit.jsonl"));
        let first = Writer::open(target(), Arc::default(), Arc::default()).unwrap();
        assert!(Writer::open(target(), Arc::default(), Arc::default()).is_err());
        drop(first);
        assert!(Writer::open(target(), Arc::default(), Arc::default()).is_ok());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_renamed_file_is_noticed() {
        let folder = folder("renamed");
        let path = folder.join("audit.jsonl");
        let mut writer = Writer::open(Target::File(path.clone()), Arc::default(), Arc::default()).unwrap();
        fs::rename(&path, folder.join("audit.1")).unwrap();
        writer.next_look = clock::instant();
        writer.look();
        assert!(path.exists());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_writer_that_dies_leaves_the_log_broken() {
        let folder = folder("dies");
        assert!(write(&folder.join("audit.jsonl"), &[]).is_broken());
        fs::remove_dir_all(folder).unwrap();
    }
}
