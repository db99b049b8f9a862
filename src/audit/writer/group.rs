//! The lines that are being written: sealed, and sealed anew where they have to go elsewhere.

use super::Batch;
use crate::audit::chain::{Hasher, Link};

#[derive(Debug, Default)]
pub(super) struct Group {
    batches: Vec<Batch>,
    /// Lines of `batches` that are in a file that was left behind.
    elsewhere: usize,
    /// The other lines, sealed.
    pending: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    /// Where the chain stands before them, and after each.
    links: Vec<Link>,
    /// How much of `pending` is written.
    done: usize,
}

impl Group {
    pub(super) fn begin(&mut self, notes: Batch, batches: Vec<Batch>) {
        self.batches.push(notes);
        self.batches.extend(batches);
    }

    /// About as many as it will be once sealed.
    pub(super) fn bytes(&self) -> u64 {
        const ADDED_TO_A_LINE: usize = 64;
        self.batches.iter().map(|batch| (batch.bytes.len() + batch.ends.len() * ADDED_TO_A_LINE) as u64).sum()
    }

    /// Ends what stands in the file before us and is no whole line.
    pub(super) fn break_line(&mut self) {
        self.pending.push(b'\n');
    }

    /// Seals the lines that are in no file yet. Says whether there are any.
    pub(super) fn seal(&mut self, link: &mut Link, mut begins_file: bool, hasher: &mut Hasher) -> bool {
        self.links.push(*link);
        for line in self.batches.iter().flat_map(Batch::lines).skip(self.elsewhere) {
            link.seal(line, begins_file, hasher, &mut self.pending);
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

    /// What is written whole stays where it is; the rest is to be sealed anew, from the link that this gives. `None` between groups.
    pub(super) fn start_over(&mut self) -> Option<Link> {
        let whole = self.whole_lines();
        let link = self.links.get(whole).copied();
        self.elsewhere += whole;
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

    pub(super) fn is_waited_for(&self) -> bool {
        self.batches.iter().any(|batch| !batch.waiting.is_empty())
    }

    pub(super) fn give_up_waiting(&mut self) {
        self.batches.iter_mut().for_each(|batch| batch.waiting.clear());
    }

    /// All is written: frees the places and tells who waits. Gives the number of lines.
    pub(super) fn end(&mut self, on_disk: bool) -> usize {
        let mut lines = 0;
        for batch in self.batches.drain(..) {
            lines += batch.ends.len();
            if let Some(owner) = batch.owner {
                owner.written(batch.ends.len());
            }
            if on_disk {
                // Who has stopped waiting need not be told.
                batch.waiting.into_iter().for_each(|waiting| waiting.send(()).unwrap_or(()));
            }
        }
        self.elsewhere = 0;
        self.unseal();
        lines
    }
}
