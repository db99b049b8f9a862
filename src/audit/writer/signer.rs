//! Checkpoints, signed beside the writing of lines.
//!
//! A checkpoint needs a flush of the file, which takes many times as long as writing the lines of that time. A thread
//! of its own does both, so that lines do not queue behind a flush and then take a long turn on the processor. That
//! thread owns the checkpoints until it has signed: nothing else can sign in the meantime. Requests that wait for the
//! disk wait for the flush that is under way, and not for the signature.

use std::fs::File;
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::audit::audit_key::PublicKey;
use crate::audit::chain::Link;
use crate::audit::checkpoint::Checkpoints;
use crate::clock;

/// The checkpoints of a file, and the thread that flushes and signs.
#[derive(Debug)]
pub(super) struct Signer {
    /// `None` while the thread has them.
    checkpoints: Option<Checkpoints>,
    is_flushing: bool,
    /// The begin of the last flush.
    began: Instant,
    jobs: Sender<Job>,
    steps: Receiver<Step>,
}

/// A flush, and a checkpoint of the lines that were written before it.
#[derive(Debug)]
pub(super) struct Job {
    file: Arc<File>,
    checkpoints: Checkpoints,
    link: Link,
    now: Instant,
}

/// The reports of the thread about a job, in this order.
#[derive(Debug)]
pub(super) enum Step {
    Flushed(io::Result<()>),
    /// After a failed flush nothing was signed.
    Ended(Checkpoints),
}

/// A checkpoint that takes longer is waited for, so that a disk that hangs does not go unnoticed.
pub(super) const LATE_AFTER: Duration = Duration::from_secs(1);

impl Signer {
    /// Starts the thread. It ends with the signer.
    pub(super) fn start(checkpoints: Checkpoints) -> io::Result<Self> {
        let (signer, jobs, steps) = Self::without_thread(checkpoints);
        let work = move || jobs.iter().for_each(|job| job.run(&steps));
        thread::Builder::new().name("audit-sign".to_owned()).spawn(work)?;
        Ok(signer)
    }

    pub(super) fn without_thread(checkpoints: Checkpoints) -> (Self, Receiver<Job>, Sender<Step>) {
        let ((jobs, waiting), (reports, steps)) = (channel(), channel());
        let checkpoints = Some(checkpoints);
        (Self { checkpoints, is_flushing: false, began: clock::instant(), jobs, steps }, waiting, reports)
    }

    /// `None` while a checkpoint is made.
    pub(super) fn public_key(&self) -> Option<PublicKey> {
        self.checkpoints.as_ref().map(Checkpoints::public_key)
    }

    /// Flushes the file and signs its last line if a checkpoint is due. Does nothing while one is made.
    pub(super) fn begin_if_due(&mut self, file: Arc<File>, link: Link, now: Instant) {
        if let Some(checkpoints) = self.checkpoints.take_if(|checkpoints| checkpoints.is_due(link.sequence, now)) {
            (self.is_flushing, self.began) = (true, now);
            if self.jobs.send(Job { file, checkpoints, link, now }).is_err() {
                died();
            }
        }
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.checkpoints.is_none() && now.saturating_duration_since(self.began) >= LATE_AFTER
    }

    /// Takes note of what has ended, without waiting. Returns the error of a flush.
    pub(super) fn poll(&mut self) -> io::Result<()> {
        let mut flushed = Ok(());
        while self.checkpoints.is_none() {
            match self.steps.try_recv() {
                Ok(step) => flushed = flushed.and(self.take(step)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => died(),
            }
        }
        flushed
    }

    /// Waits until no flush is under way, and returns the error of the one that was: the system reports it only once.
    pub(super) fn wait_for_flush(&mut self) -> io::Result<()> {
        while self.is_flushing {
            self.wait()?;
        }
        Ok(())
    }

    /// Waits until no checkpoint is made.
    pub(super) fn wait_for_checkpoint(&mut self) -> io::Result<()> {
        while self.checkpoints.is_none() {
            self.wait()?;
        }
        Ok(())
    }

    /// Waits until no checkpoint is made.
    pub(super) fn checkpoints(&mut self) -> io::Result<Option<&mut Checkpoints>> {
        self.wait_for_checkpoint()?;
        Ok(self.checkpoints.as_mut())
    }

    fn wait(&mut self) -> io::Result<()> {
        match self.steps.recv() {
            Ok(step) => self.take(step),
            Err(_) => died(),
        }
    }

    fn take(&mut self, step: Step) -> io::Result<()> {
        match step {
            Step::Flushed(flushed) => {
                self.is_flushing = false;
                flushed
            }
            Step::Ended(checkpoints) => {
                self.checkpoints = Some(checkpoints);
                Ok(())
            }
        }
    }
}

impl Job {
    pub(super) fn run(self, steps: &Sender<Step>) {
        let flushed = self.file.sync_data();
        self.end(flushed, steps);
    }

    /// As after a flush with this result.
    pub(super) fn end(self, flushed: io::Result<()>, steps: &Sender<Step>) {
        let Self { mut checkpoints, link, now, .. } = self;
        let is_on_disk = flushed.is_ok();
        // Nothing receives it at the end of the writer, which may be before the end of the job.
        let _ = steps.send(Step::Flushed(flushed));
        if is_on_disk {
            checkpoints.sign(link, clock::now(), now);
        }
        let _ = steps.send(Step::Ended(checkpoints));
    }
}

/// The writer ends too: a log without checkpoints must not look complete.
fn died() -> ! {
    resume_unwind(Box::new("the thread that signs the checkpoints of the audit log has died"))
}
