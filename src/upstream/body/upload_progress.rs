//! How far a request's body has come, and which side is waited for.
//!
//! Blamed for a deadline is the side that is waited for. That is the caller while its body is asked for and everything that it has
//! sent was taken, and the upstream in every other case: it takes nothing, owes its `100 Continue`, or has the whole request.
//! What the caller is to blame for counts neither against a server nor against a connection that others share.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::connect::write_progress::WriteProgress;
use crate::upstream::fault::{BodyFault, UpstreamFault};

/// How far a request body has come, for those who wait for the answer.
#[derive(Debug, Default)]
pub(crate) struct UploadProgress {
    /// All of it was handed to the upstream's connection.
    pub(in crate::upstream) finished: Cell<bool>,
    pub(in crate::upstream) fault: Cell<Option<BodyFault>>,
    /// When the last piece was taken.
    moved: Cell<Option<Instant>>,
    /// Since when the caller's next piece is asked for.
    asked: Cell<Option<Instant>>,
    /// Of the upstream's connection.
    connection: RefCell<Option<Arc<WriteProgress>>>,
    /// Of the stream, over HTTP/2.
    pub(in crate::upstream) stream: WriteProgress,
}

/// An upstream that ends an exchange after its caller has kept it waiting for this long is not blamed for that.
const STALL: Duration = Duration::from_secs(1);

impl UploadProgress {
    /// The next attempt goes over this connection.
    pub(in crate::upstream) fn goes_over(&self, connection: &Arc<WriteProgress>) {
        *self.connection.borrow_mut() = Some(Arc::clone(connection));
    }

    pub(in crate::upstream) fn finish(&self) {
        self.asked.set(None);
        self.finished.set(true);
    }

    /// A piece has come.
    pub(in crate::upstream) fn moved(&self) {
        self.moved.set(Some(Instant::now()));
    }

    /// The caller's next piece is asked for and has not come. False where the upstream is waited for as well: the caller's time
    /// begins once that takes something.
    pub(in crate::upstream) fn asks(&self) -> bool {
        let is_blocked = self.is_blocked();
        match self.asked.get() {
            None if !is_blocked => self.asked.set(Some(Instant::now())),
            Some(_) if is_blocked => self.asked.set(None),
            None | Some(_) => {}
        }
        !is_blocked
    }

    /// The caller was asked and is waited for no more.
    pub(in crate::upstream) fn answered(&self) {
        self.asked.set(None);
    }

    /// The upstream takes no more of what it is sent.
    pub(in crate::upstream) fn is_blocked(&self) -> bool {
        self.stream.is_blocked() || self.connection.borrow().as_ref().is_some_and(|intake| intake.is_blocked())
    }

    /// Since when the caller is waited for, and nothing else.
    pub(in crate::upstream) fn awaits_caller(&self) -> Option<Instant> {
        self.asked.get().filter(|_| !self.is_blocked())
    }

    /// The caller has been waited for, and nothing else, for so long.
    pub(in crate::upstream) fn awaited_caller_for(&self, patience: Duration) -> bool {
        self.awaits_caller().is_some_and(|since| since.elapsed() >= patience)
    }

    pub(in crate::upstream) fn is_stalled_by_caller(&self) -> bool {
        self.awaited_caller_for(STALL)
    }

    /// The upstream has taken nothing for so long that sending has ended.
    pub(in crate::upstream) fn was_never_taken(&self) -> bool {
        let connection = self.connection.borrow();
        self.stream.has_given_up() || connection.as_ref().is_some_and(|intake| intake.has_given_up())
    }

    /// A later deadline, if there is one by now: the time for an answer runs from the end of the request, and an upload that moves
    /// on is not late. A caller that is waited for has that time from when it was first waited for.
    pub(in crate::upstream) fn renewed(&self, patience: Duration) -> Option<Instant> {
        let deadline = self.awaits_caller().or(self.moved.get())? + patience;
        (deadline > Instant::now()).then_some(deadline)
    }

    /// The fault of a deadline that has passed.
    pub(crate) fn timeout(&self) -> UpstreamFault {
        if self.awaits_caller().is_none() {
            return UpstreamFault::Timeout;
        }
        self.fault.set(Some(BodyFault::Slow));
        UpstreamFault::RequestBody(BodyFault::Slow)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    fn until(progress: &UploadProgress) -> Result<Instant, UpstreamFault> {
        progress.renewed(PATIENCE).ok_or_else(|| progress.timeout())
    }

    async fn seconds(seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_for_an_answer_runs_from_the_last_piece_of_the_request_and_not_from_when_someone_looked() {
        let progress = UploadProgress::default();
        assert!(matches!(until(&progress), Err(UpstreamFault::Timeout)), "nothing was sent");
        seconds(1).await;
        let moved = Instant::now();
        progress.moved();
        seconds(2).await;
        assert_eq!(until(&progress).unwrap(), moved + PATIENCE);
        seconds(1).await;
        assert!(matches!(until(&progress), Err(UpstreamFault::Timeout)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_caller_is_blamed_once_it_was_waited_for_as_long_as_an_upstream_would_be() {
        let progress = UploadProgress::default();
        progress.moved();
        seconds(2).await;
        let asked = Instant::now();
        progress.asks();
        seconds(2).await;
        progress.asks();
        assert_eq!(until(&progress).unwrap(), asked + PATIENCE);
        seconds(1).await;
        assert!(matches!(until(&progress), Err(UpstreamFault::RequestBody(BodyFault::Slow))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_takes_nothing_is_waited_for_whatever_its_caller_does() {
        let (progress, connection) = (UploadProgress::default(), Arc::new(WriteProgress::default()));
        progress.goes_over(&connection);
        for intake in [&connection, &progress.stream] {
            progress.moved();
            assert!(progress.asks(), "nothing was written yet");
            intake.block();
            seconds(3).await;
            assert!(!progress.asks());
            assert!(progress.awaits_caller().is_none());
            assert!(matches!(until(&progress), Err(UpstreamFault::Timeout)));
            let freed = Instant::now();
            intake.free();
            assert!(progress.asks());
            seconds(1).await;
            assert_eq!(progress.awaits_caller(), Some(freed));
            assert_eq!(until(&progress).unwrap(), freed + PATIENCE);
            progress.answered();
        }
    }
}
