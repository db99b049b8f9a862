//! The lines that are being written: sealed, and sealed again if they have to go into another file.

use crate::audit::batch::Batch;
use crate::audit::chain::{Hasher, Link};
use crate::audit::line::LineBuilder;

#[derive(Debug, Default)]
pub(super) struct Group {
    batches: Vec<Batch>,
    /// Lines of `batches` that are in an earlier file.
    in_earlier_file: usize,
    /// The other lines, sealed.
    pending: Vec<u8>,
    /// The end of each line in `pending`.
    ends: Vec<usize>,
    /// The chain's link before them, and after each.
    links: Vec<Link>,
    /// How much of `pending` is written.
    done: usize,
    /// The member of all lines that names the instance.
    instance: Vec<u8>,
}

/// The number of a line and its hash, about.
const SEAL_BYTES: usize = 64;

impl Group {
    pub(super) fn of_instance(name: &str) -> Self {
        let mut instance = Vec::new();
        LineBuilder::open(&mut instance).text("gateway.instance", name);
        Self { instance, ..Self::default() }
    }

    pub(super) fn begin(&mut self, own_lines: Batch, batches: Vec<Batch>) {
        self.batches.push(own_lines);
        self.batches.extend(batches);
    }

    /// About the size after sealing.
    pub(super) fn bytes(&self) -> u64 {
        let added = SEAL_BYTES + self.instance.len();
        self.batches.iter().map(|batch| (batch.bytes.len() + batch.ends.len() * added) as u64).sum()
    }

    /// Ends an incomplete line that the file ends with.
    pub(super) fn break_line(&mut self) {
        self.pending.push(b'\n');
    }

    /// Seals the lines that are in no file yet. Says whether there are any.
    pub(super) fn seal(&mut self, link: &mut Link, mut begins_file: bool, hasher: &mut Hasher) -> bool {
        self.links.push(*link);
        for line in self.batches.iter().flat_map(Batch::lines).skip(self.in_earlier_file) {
            link.seal([&self.instance, line], begins_file, hasher, &mut self.pending);
            begins_file = false;
            self.ends.push(self.pending.len());
            self.links.push(*link);
        }
        !self.ends.is_empty()
    }

    pub(super) fn rest(&self) -> &[u8] {
        self.pending.get(self.done..).unwrap_or_default()
    }

    pub(super) fn written(&mut self, bytes: usize) {
        self.done += bytes;
    }

    /// Bytes of a line that is written in part.
    pub(super) fn torn(&self) -> u64 {
        let whole = self.whole_lines();
        let begins = whole.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        (self.done - begins.min(self.done)) as u64
    }

    /// Whole lines stay where they are written; the others are to be sealed again, after the link that this returns.
    /// `None` between groups.
    pub(super) fn start_over(&mut self) -> Option<Link> {
        let whole = self.whole_lines();
        let link = self.links.get(whole).copied();
        self.in_earlier_file += whole;
        self.unseal();
        link
    }

    fn whole_lines(&self) -> usize {
        self.ends.partition_point(|end| *end <= self.done)
    }

    fn unseal(&mut self) {
        self.pending.clear();
        self.ends.clear();
        self.links.clear();
        self.done = 0;
    }

    pub(super) fn has_waiters(&self) -> bool {
        self.batches.iter().any(|batch| !batch.waiters.is_empty())
    }

    pub(super) fn drop_waiters(&mut self) {
        self.batches.iter_mut().for_each(|batch| batch.waiters.clear());
    }

    /// All lines are written: releases their slots, notifies the waiters and returns the number of lines.
    pub(super) fn end(&mut self, on_disk: bool) -> usize {
        let mut lines = 0;
        for batch in self.batches.drain(..) {
            lines += batch.ends.len();
            if let Some(owner) = batch.owner {
                owner.written(batch.ends.len());
            }
            if on_disk {
                // A waiter that has timed out is gone.
                batch.waiters.into_iter().for_each(|waiter| waiter.send(()).unwrap_or(()));
            }
        }
        self.in_earlier_file = 0;
        self.unseal();
        lines
    }
}
