//! Bodies in both directions: streamed, never gathered, with a bound on size and on standing still.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::copy::Copy;
use super::fault::{BodyFault, BoxError};
use super::incoming::Answered;
use super::pool::Lease;
use super::request_end::{End, Watcher};

/// A request body on its way to the upstream. Trailers stay behind: HTTP/1.1 upstreams were not asked whether they want them.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    left: Option<u64>,
    pace: Pace,
    progress: Rc<Progress>,
    /// Of a request whose length does not say where it ends, as over HTTP/2.
    watcher: Option<Watcher>,
    /// The piece that fills the announced length, until the end is seen: with it the upstream would have a whole request.
    /// Where nothing comes in, all of the body.
    last: Option<Bytes>,
    copy: Option<Box<Copy>>,
}

/// A request's body as it comes in, with whoever is told of its end.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) incoming: Option<Incoming>,
    pub(crate) watcher: Option<Watcher>,
}

/// How far a request body has come, for those who wait for the answer.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// All of it was handed to the upstream's connection.
    pub(super) finished: Cell<bool>,
    pub(super) fault: Cell<Option<BodyFault>>,
    /// A piece was taken since someone last asked.
    moved: Cell<bool>,
}

/// An answer's body on its way to the client; gives its connection back when it has come to its end.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    incoming: Answered,
    idleness: Idleness,
    ended: bool,
    lease: Option<Lease>,
}

/// How long a client may keep its body waiting: between two pieces, and on the whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) idle: Option<Duration>,
    /// Bytes in a second.
    pub(crate) min_rate: Option<u64>,
}

/// Keeps the time that a client may still take. Only waiting for the client is counted, not for an upstream that takes its time;
/// what came quickly pays for what comes slowly, up to a point. Costs nothing while pieces are there when asked for.
#[derive(Debug)]
struct Pace {
    patience: Patience,
    credit: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// Before the rate counts.
const GRACE: Duration = Duration::from_secs(5);
/// What a client that was quick may rest.
const MOST_CREDIT: Duration = Duration::from_secs(30);

/// A deadline between two pieces. Costs nothing while pieces are there when asked for.
#[derive(Debug)]
struct Idleness {
    limit: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// How much of a body that nobody wants is read on. Past it a client is cut off, whether it has read its answer or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linger {
    /// What a client that means well may send before it looks up.
    Long,
    /// While there is too much to do already.
    Short,
}

const LINGER_TIME: Duration = Duration::from_secs(2);
/// Bodies that are read on at once, for each worker; others are cut off.
const MAX_LINGERING: usize = 64;

/// The upstream stopped sending in the middle of its answer.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer stopped coming")]
pub(crate) struct Stalled;

/// Reads on, for a while, in a body that nobody wants any more.
///
/// A client that is cut off while it sends may never read why it was refused: over HTTP/1.1 the kernel answers what we leave
/// unread with a reset, over HTTP/2 common clients take the end of their stream for its failure.
pub(crate) fn linger(mut body: Incoming, how: Linger, watcher: Option<Watcher>) {
    thread_local!(static LINGERING: Cell<usize> = const { Cell::new(0) });
    if body.is_end_stream() || LINGERING.get() == MAX_LINGERING {
        return;
    }
    LINGERING.set(LINGERING.get() + 1);
    tokio::task::spawn_local(async move {
        let rest = async {
            let mut left: usize = match how {
                Linger::Long => 16 * 1024 * 1024,
                Linger::Short => 64 * 1024,
            };
            loop {
                let length = match body.frame().await {
                    Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) => return End::Broken,
                    None => return End::Whole,
                };
                let Some(less) = left.checked_sub(length) else { return End::Unseen };
                left = less;
            }
        };
        let end = timeout(LINGER_TIME, rest).await.unwrap_or(End::Unseen);
        if let Some(watcher) = watcher {
            watcher.saw(end);
        }
        LINGERING.set(LINGERING.get() - 1);
    });
}

impl RequestBody {
    pub(crate) fn new(upload: &mut Upload, limit: Option<u64>, patience: Patience) -> (Self, Rc<Progress>) {
        let progress = Rc::new(Progress::default());
        let incoming = upload.incoming.take().filter(|incoming| !incoming.is_end_stream());
        progress.finished.set(incoming.is_none());
        let (pace, watcher) = (Pace::new(patience), upload.watcher.take());
        let progress_of = Rc::clone(&progress);
        let body = Self { incoming, left: limit, pace, progress: progress_of, watcher, last: None, copy: None };
        (body, progress)
    }

    /// One that is there already.
    pub(crate) fn whole(bytes: Bytes) -> (Self, Rc<Progress>) {
        let progress = Rc::new(Progress::default());
        progress.finished.set(bytes.is_empty());
        let last = (!bytes.is_empty()).then_some(bytes);
        let pace = Pace::new(Patience { idle: None, min_rate: None });
        let progress_of = Rc::clone(&progress);
        (Self { incoming: None, left: None, pace, progress: progress_of, watcher: None, last, copy: None }, progress)
    }

    /// Keeps a copy of what passes, and hands it over once that is `length` bytes. A body that breaks off is not handed over.
    pub(crate) fn copy(&mut self, length: usize, then: impl FnOnce(Bytes) + 'static) {
        self.copy = Some(Box::new(Copy::new(length, then)));
    }

    fn passed(&mut self, data: &Bytes) {
        if self.copy.as_mut().is_some_and(|copy| copy.keep(data))
            && let Some(copy) = self.copy.take()
        {
            copy.hand_over();
        }
    }

    /// Of a request that has none and is sent again.
    pub(super) fn none(progress: Rc<Progress>) -> Self {
        let pace = Pace::new(Patience { idle: None, min_rate: None });
        Self { incoming: None, left: None, pace, progress, watcher: None, last: None, copy: None }
    }

    fn take(&mut self, data: &Bytes) -> Result<(), BodyFault> {
        self.progress.moved.set(true);
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(data.len() as u64).ok_or(BodyFault::TooLarge)?;
        }
        Ok(())
    }

    /// The announced length is there and the end is not: something may still be wrong with the request.
    fn is_full(&self) -> bool {
        let full = |incoming: &Incoming| incoming.size_hint().exact() == Some(0) && !incoming.is_end_stream();
        self.watcher.is_some() && self.incoming.as_ref().is_some_and(full)
    }

    fn finished(&mut self) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.progress.finished.set(true);
        self.incoming = None;
        self.saw(End::Whole);
        let last = self.last.take();
        last.iter().for_each(|data| self.passed(data));
        Poll::Ready(last.map(|data| Ok(Frame::data(data))))
    }

    fn failed(&mut self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.progress.fault.set(Some(fault));
        self.last = None;
        let rest = self.incoming.take();
        match fault {
            BodyFault::TooLarge => {
                if let Some(rest) = rest {
                    linger(rest, Linger::Long, self.watcher.take());
                }
            }
            BodyFault::Broken => self.saw(End::Broken),
            BodyFault::Slow => self.saw(End::Unseen),
        }
        Poll::Ready(Some(Err(fault.into())))
    }

    fn saw(&mut self, end: End) {
        if let Some(watcher) = self.watcher.take() {
            watcher.saw(end);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let Some(incoming) = &mut this.incoming else {
                return Poll::Ready(this.last.take().map(|data| Ok(Frame::data(data))));
            };
            let data = match Pin::new(incoming).poll_frame(context) {
                Poll::Pending if this.pace.is_over(context) => return this.failed(BodyFault::Slow),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    this.pace.came(frame.data_ref().map_or(0, Bytes::len));
                    match frame.into_data() {
                        Ok(data) => data,
                        Err(_trailers) => return this.finished(),
                    }
                }
                Poll::Ready(Some(Err(_))) => return this.failed(BodyFault::Broken),
                Poll::Ready(None) => return this.finished(),
            };
            if let Err(fault) = this.take(&data) {
                return this.failed(fault);
            }
            match this.last {
                None if this.is_full() => this.last = Some(data),
                None => {
                    this.passed(&data);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // What follows a full body is empty.
                Some(_) => {}
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.incoming {
            Some(incoming) => self.last.is_none() && incoming.is_end_stream(),
            None => self.last.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some(incoming) => incoming.size_hint(),
            None => SizeHint::with_exact(self.last.as_ref().map_or(0, |last| last.len() as u64)),
        }
    }
}

impl Drop for RequestBody {
    /// With a known length hyper does not ask for the end: it drops the body once it has all of it.
    fn drop(&mut self) {
        if self.is_end_stream() {
            if self.progress.fault.get().is_none() {
                self.progress.finished.set(true);
            }
            self.saw(End::Whole);
        } else if let (Some(rest), Some(watcher)) = (self.incoming.take(), self.watcher.take()) {
            // The upstream has enough. What the client still sends is looked at, though nobody wants it.
            linger(rest, Linger::Long, Some(watcher));
        }
    }
}

impl Progress {
    /// Says whether the body has moved on since the last time.
    pub(super) fn has_moved(&self) -> bool {
        self.moved.replace(false)
    }
}

impl ResponseBody {
    pub(super) fn new(incoming: Answered, patience: Option<Duration>, lease: Lease) -> Self {
        Self { incoming, idleness: Idleness::new(patience), ended: false, lease: Some(lease) }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.incoming).poll_frame(context) {
                Poll::Pending if this.idleness.is_over(context) => return Poll::Ready(Some(Err(Stalled.into()))),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    this.idleness.renew();
                    if frame.is_data() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    // Trailers stay behind; the end follows.
                }
                Poll::Ready(Some(Err(error))) => {
                    // A request body that failed took the connection with it: that is what happened.
                    let cause = this.lease.as_ref().and_then(Lease::request_fault);
                    return Poll::Ready(Some(Err(cause.map_or(error, BoxError::from))));
                }
                Poll::Ready(None) => {
                    this.ended = true;
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for ResponseBody {
    /// An answer that was not read to its end takes its connection with it.
    fn drop(&mut self) {
        if self.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl Pace {
    fn new(patience: Patience) -> Self {
        Self { patience, credit: GRACE, waiting: None }
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let Some(limit) = self.patience.idle.into_iter().chain(self.patience.min_rate.map(|_| self.credit)).min()
        else {
            return false;
        };
        let (_, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(limit))));
        timer.as_mut().poll(context).is_ready()
    }

    fn came(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.credit = self.credit.saturating_sub(since.elapsed());
        }
        if let Some(rate) = self.patience.min_rate {
            let earned = (bytes as u64).saturating_mul(1_000_000_000) / rate.max(1);
            self.credit = (self.credit + Duration::from_nanos(earned)).min(MOST_CREDIT);
        }
    }
}

impl Idleness {
    fn new(limit: Option<Duration>) -> Self {
        Self { limit, timer: None }
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let Some(limit) = self.limit else {
            return false;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer.as_mut().poll(context).is_ready()
    }

    fn renew(&mut self) {
        self.timer = None;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// How long a client can go on that sends `bytes` every `pause`; `None` where it can for ten minutes.
    async fn lasts(patience: Patience, bytes: usize, pause: Duration) -> Option<Duration> {
        let mut pace = Pace::new(patience);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(600) {
            let over = poll_fn(|context| if pace.is_over(context) { Poll::Ready(()) } else { Poll::Pending });
            if timeout(pause, over).await.is_ok() {
                return Some(began.elapsed());
            }
            pace.came(bytes);
        }
        None
    }

    const BOTH: Patience = Patience { idle: Some(Duration::from_secs(30)), min_rate: Some(240) };

    #[tokio::test(start_paused = true)]
    async fn a_body_comes_at_the_least_rate_after_a_grace() {
        let seconds = Duration::from_secs;
        assert_eq!(lasts(BOTH, 240, seconds(1)).await, None);
        assert_eq!(lasts(BOTH, 2400, seconds(10)).await, Some(seconds(5)));
        assert_eq!(lasts(BOTH, 0, seconds(100)).await, Some(seconds(5)));
        let slow = lasts(BOTH, 10, seconds(1)).await.unwrap();
        assert!((seconds(5)..seconds(6)).contains(&slow), "{slow:?}");
        assert_eq!(lasts(Patience { min_rate: None, ..BOTH }, 1, seconds(29)).await, None);
        assert_eq!(lasts(Patience { min_rate: None, ..BOTH }, 1, seconds(31)).await, Some(seconds(30)));
        assert_eq!(lasts(Patience { idle: None, min_rate: None }, 1, seconds(300)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_quickly_pays_for_a_pause_and_no_more() {
        let mut pace = Pace::new(BOTH);
        pace.came(1 << 30);
        assert_eq!(pace.credit, MOST_CREDIT);
        sleep(Duration::from_secs(3600)).await;
        pace.came(1);
        assert_eq!(pace.credit, MOST_CREDIT, "nobody waited for the client");
    }
}
