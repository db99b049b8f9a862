//! Lines on their way from a worker to the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

/// Lines of one worker, in order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// The end of each line.
    pub(super) ends: Vec<usize>,
    /// The worker whose slots are released once the lines are written.
    pub(super) owner: Option<Arc<Outstanding>>,
    /// Notified once the lines are on the disk; dropped where they can't be written.
    pub(super) waiters: Vec<oneshot::Sender<()>>,
}

/// How many lines of one worker have been handed over and are not yet written.
#[derive(Debug, Default)]
pub(crate) struct Outstanding(AtomicUsize);

impl Batch {
    /// The next batch will be as large as the last one was.
    pub(super) fn with_capacity(bytes: usize, lines: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(lines), ..Self::default() }
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }

    pub(super) fn push(&mut self, line: impl FnOnce(&mut Vec<u8>)) {
        line(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }
}

impl Outstanding {
    pub(super) fn lines(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, lines: usize) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn written(&self, lines: usize) {
        self.0.fetch_sub(lines, Ordering::Relaxed);
    }
}
