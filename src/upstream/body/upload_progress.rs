//! The progress of a request's body, and which side the exchange waits for.
//!
//! A timeout is attributed to the side that is waited for. That is the caller while the next chunk of its body is
//! awaited and the upstream has taken all that was sent. In every other case it is the upstream: it takes nothing, has
//! not sent its `100 Continue`, or has the complete request. A timeout of the caller counts neither against a server
//! nor against a connection that others share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::balancing::breaker::BreakerTrial;
use super::super::connect::write_progress::WriteProgress;
use super::super::fault::{BodyFault, UpstreamFault};

/// Shared by a request body and the code that waits for the response.
#[derive(Debug, Default)]
pub(crate) struct UploadProgress {
    /// All of it was given to the upstream's connection.
    pub(in crate::upstream) finished: Cell<bool>,
    pub(in crate::upstream) fault: Cell<Option<BodyFault>>,
    /// When the last chunk was forwarded.
    last_forwarded: Cell<Option<Instant>>,
    /// Since when the caller's next chunk is awaited.
    awaited_since: Cell<Option<Instant>>,
    /// Of the upstream's connection.
    connection: RefCell<Option<Rc<WriteProgress>>>,
    /// Of the stream, over HTTP/2.
    pub(in crate::upstream) stream: WriteProgress,
    /// Paused while the caller is awaited: callers that stall their uploads must not keep a circuit breaker open.
    trial: RefCell<Option<BreakerTrial>>,
}

/// The request is the trial of a circuit breaker, until this is dropped.
#[derive(Debug)]
pub(in crate::upstream) struct HeldTrial(Rc<UploadProgress>);

/// If the caller has kept the upstream waiting for this long, an exchange that the upstream ends does not count against
/// it.
const STALL: Duration = Duration::from_secs(1);

impl UploadProgress {
    /// The exchange waits for a connection now, even if it waited for its caller before.
    pub(in crate::upstream) fn begin_attempt(&self) {
        if self.awaited_since.get().is_some() {
            self.set_awaited_since(None);
        }
    }

    /// The attempt uses this connection.
    pub(in crate::upstream) fn use_connection(&self, connection: &Rc<WriteProgress>) {
        *self.connection.borrow_mut() = Some(Rc::clone(connection));
    }

    pub(in crate::upstream) fn hold_trial(progress: &Rc<Self>, trial: BreakerTrial) -> HeldTrial {
        *progress.trial.borrow_mut() = Some(trial);
        HeldTrial(Rc::clone(progress))
    }

    pub(in crate::upstream) fn finish(&self) {
        self.set_awaited_since(None);
        self.finished.set(true);
    }

    /// A chunk is forwarded.
    pub(in crate::upstream) fn forwarded(&self) {
        self.last_forwarded.set(Some(Instant::now()));
    }

    /// The caller's next chunk is awaited. False if the upstream is blocked: the caller's time starts when the upstream
    /// takes data again.
    pub(in crate::upstream) fn await_caller(&self) -> bool {
        let is_blocked = self.is_blocked();
        match self.awaited_since.get() {
            None if !is_blocked => self.set_awaited_since(Some(Instant::now())),
            Some(_) if is_blocked => self.set_awaited_since(None),
            None | Some(_) => {}
        }
        !is_blocked
    }

    /// The caller is no longer awaited.
    pub(in crate::upstream) fn caller_has_sent(&self) {
        self.set_awaited_since(None);
    }

    fn set_awaited_since(&self, since: Option<Instant>) {
        self.awaited_since.set(since);
        if let Some(trial) = &*self.trial.borrow() {
            match since {
                Some(_) => trial.pause(),
                None => trial.resume(),
            }
        }
    }

    /// The upstream takes no data at present.
    pub(in crate::upstream) fn is_blocked(&self) -> bool {
        self.stream.is_blocked() || self.connection.borrow().as_ref().is_some_and(|connection| connection.is_blocked())
    }

    /// Since when the exchange waits for the caller only.
    pub(in crate::upstream) fn awaits_caller(&self) -> Option<Instant> {
        self.awaited_since.get().filter(|_| !self.is_blocked())
    }

    /// The exchange has waited for the caller only, for at least this time.
    pub(in crate::upstream) fn awaited_caller_for(&self, time: Duration) -> bool {
        self.awaits_caller().is_some_and(|since| since.elapsed() >= time)
    }

    pub(in crate::upstream) fn is_stalled_by_caller(&self) -> bool {
        self.awaited_caller_for(STALL)
    }

    /// The upstream has taken nothing for so long that sending has ended.
    pub(in crate::upstream) fn has_given_up(&self) -> bool {
        let connection = self.connection.borrow();
        self.stream.has_given_up() || connection.as_ref().is_some_and(|connection| connection.has_given_up())
    }

    /// A later deadline for the response, if there is one: the response timeout runs from the last chunk of the
    /// request, so an upload in progress is not late. A caller that is awaited has the same time from the start of the
    /// wait.
    pub(in crate::upstream) fn extended_deadline(&self, timeout: Duration) -> Option<Instant> {
        let deadline = self.awaits_caller().or(self.last_forwarded.get())? + timeout;
        (deadline > Instant::now()).then_some(deadline)
    }

    /// The fault of the deadline that has passed.
    pub(crate) fn timeout(&self) -> UpstreamFault {
        if self.awaits_caller().is_none() {
            return UpstreamFault::Timeout;
        }
        self.fault.set(Some(BodyFault::Slow));
        UpstreamFault::RequestBody(BodyFault::Slow)
    }
}

impl Drop for HeldTrial {
    fn drop(&mut self) {
        self.0.trial.take();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3);

    fn until(progress: &UploadProgress) -> Result<Instant, UpstreamFault> {
        progress.extended_deadline(TIMEOUT).ok_or_else(|| progress.timeout())
    }

    async fn seconds(seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_response_timeout_runs_from_the_requests_last_chunk() {
        let progress = UploadProgress::default();
        assert!(matches!(until(&progress), Err(UpstreamFault::Timeout)), "nothing was sent");
        seconds(1).await;
        let moved = Instant::now();
        progress.forwarded();
        seconds(2).await;
        assert_eq!(until(&progress).unwrap(), moved + TIMEOUT);
        seconds(1).await;
        assert!(matches!(until(&progress), Err(UpstreamFault::Timeout)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_is_the_callers_after_the_whole_response_timeout() {
        let progress = UploadProgress::default();
        progress.forwarded();
        seconds(2).await;
        let awaited_since = Instant::now();
        progress.await_caller();
        seconds(2).await;
        progress.await_caller();
        assert_eq!(until(&progress).unwrap(), awaited_since + TIMEOUT);
        seconds(1).await;
        assert!(matches!(until(&progress), Err(UpstreamFault::RequestBody(BodyFault::Slow))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_reads_nothing_is_waited_for() {
        let (progress, connection) = (UploadProgress::default(), Rc::new(WriteProgress::default()));
        progress.use_connection(&connection);
        for write_progress in [&connection, &progress.stream] {
            progress.forwarded();
            assert!(progress.await_caller(), "nothing was written yet");
            write_progress.block();
            seconds(3).await;
            assert!(!progress.await_caller());
            assert!(progress.awaits_caller().is_none());
            assert!(matches!(until(&progress), Err(UpstreamFault::Timeout)));
            let freed = Instant::now();
            write_progress.unblock();
            assert!(progress.await_caller());
            seconds(1).await;
            assert_eq!(progress.awaits_caller(), Some(freed));
            assert_eq!(until(&progress).unwrap(), freed + TIMEOUT);
            progress.caller_has_sent();
        }
    }
}
