//! Bodies in both directions: streamed, never gathered, with a bound on size and on standing still.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::upstream::body::body_copy::ReplayBuffer;
use crate::upstream::body::body_timeouts::{BodyTimeouts, IdleTimer, MinRateTimer};
use crate::upstream::body::drain_body::{DrainLimit, drain_body};
use crate::upstream::body::expect_continue::{ContinueSender, ContinueWait};
use crate::upstream::body::incoming_response::Answered;
use crate::upstream::body::request_end::{RequestEndSender, UploadEnd};
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::fault::{BodyFault, BoxError};
use crate::upstream::pool::Lease;

/// A request body on its way to the upstream, with its trailers.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    left: Option<u64>,
    pace: MinRateTimer,
    progress: Rc<UploadProgress>,
    /// Of a request whose length does not say where it ends, as over HTTP/2.
    watcher: Option<RequestEndSender>,
    /// The piece that fills the announced length, until the end is seen: with it the upstream would have a whole request.
    /// Where nothing comes in, all of the body.
    last: Option<Bytes>,
    /// Was waited for ahead of the others.
    first: Option<Box<Frame<Bytes>>>,
    copy: Option<Box<ReplayBuffer>>,
    /// Says which trailers stay behind.
    strip: StripTrailers,
    trailers: Option<Box<HeaderMap>>,
    /// Where the client is not to be asked for it yet.
    waits: Option<ContinueWait>,
}

/// Takes out of trailers what may not go on.
pub(crate) type StripTrailers = fn(&mut HeaderMap);

/// A request's body as it comes in, with whoever is told of its end.
#[derive(Debug)]
pub(crate) struct IncomingUpload {
    pub(crate) incoming: Option<Incoming>,
    pub(crate) watcher: Option<RequestEndSender>,
    /// The client sends it when it is asked for it.
    pub(crate) is_awaiting: bool,
}

/// An answer's body on its way to the client; gives its connection back when it has come to its end.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    incoming: Answered,
    idleness: IdleTimer,
    ended: bool,
    lease: Option<Lease>,
    /// Of a request whose body was not asked for.
    go_ahead: Option<ContinueSender>,
    /// For the whole of it.
    deadline: Option<(Pin<Box<Sleep>>, bool)>,
}

/// The upstream stopped sending in the middle of its answer.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer stopped coming")]
pub(crate) struct ResponseStalled;

/// How long the first piece of a body is waited for where there may be none.
const FIRST_PIECE: Duration = Duration::from_secs(1);

/// Whether a body of no bytes is worth a word (RFC 9110 §8.6).
pub(crate) fn has_payload(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS)
}

/// The caller waits no longer.
#[derive(Debug, thiserror::Error)]
#[error("the answer took longer than the caller allows")]
pub(crate) struct CallerDeadlinePassed {
    /// What it answers is a call whose status comes last.
    pub(crate) is_call: bool,
    /// More of its request was to come.
    pub(crate) awaits_caller: bool,
}

impl RequestBody {
    pub(crate) fn new(
        upload: &mut IncomingUpload,
        limit: Option<u64>,
        patience: BodyTimeouts,
        strip: StripTrailers,
    ) -> (Self, Rc<UploadProgress>) {
        let progress = Rc::new(UploadProgress::default());
        let incoming = upload.incoming.take().filter(|incoming| !incoming.is_end_stream());
        progress.finished.set(incoming.is_none());
        let (pace, watcher) = (MinRateTimer::new(patience), upload.watcher.take());
        let progress_of = Rc::clone(&progress);
        let body = Self {
            incoming,
            left: limit,
            pace,
            progress: progress_of,
            watcher,
            last: None,
            first: None,
            strip,
            trailers: None,
            copy: None,
            waits: None,
        };
        (body, progress)
    }

    /// One that is there already.
    pub(crate) fn whole(bytes: Bytes) -> (Self, Rc<UploadProgress>) {
        let progress = Rc::new(UploadProgress::default());
        progress.finished.set(bytes.is_empty());
        let last = (!bytes.is_empty()).then_some(bytes);
        let pace = MinRateTimer::new(BodyTimeouts { idle: None, min_rate: None });
        let progress_of = Rc::clone(&progress);
        let body = Self {
            incoming: None,
            left: None,
            pace,
            progress: progress_of,
            watcher: None,
            last,
            first: None,
            strip: HeaderMap::clear,
            trailers: None,
            copy: None,
            waits: None,
        };
        (body, progress)
    }

    /// Waits until there is a first piece, or none: a client over HTTP/2 may end a request without a body by an empty frame.
    /// A client that keeps us waiting has a body.
    pub(crate) async fn begin(&mut self) -> Result<(), BodyFault> {
        let first = poll_fn(|context| self.poll_first(context));
        let frame = timeout(FIRST_PIECE, first).await.ok().transpose()?.flatten();
        self.first = frame.map(Box::new);
        Ok(())
    }

    fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyFault>> {
        loop {
            match ready!(Pin::new(&mut *self).poll_frame(context)) {
                Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                Some(Ok(frame)) => return Poll::Ready(Ok(Some(frame))),
                Some(Err(_)) => return Poll::Ready(Err(self.progress.fault.get().unwrap_or(BodyFault::Broken))),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// Keeps a copy of what passes, and hands it over once that is `length` bytes. A body that breaks off is not handed over.
    pub(crate) fn copy(&mut self, length: usize, then: impl FnOnce(Bytes) + 'static) {
        self.copy = Some(Box::new(ReplayBuffer::new(length, then)));
    }

    fn passed(&mut self, data: &Bytes) {
        if self.copy.as_mut().is_some_and(|copy| copy.keep(data))
            && let Some(copy) = self.copy.take()
        {
            copy.hand_over();
        }
    }

    /// Of a request that has none and is sent again.
    pub(in crate::upstream) fn none(progress: Rc<UploadProgress>) -> Self {
        Self {
            incoming: None,
            left: None,
            pace: MinRateTimer::new(BodyTimeouts { idle: None, min_rate: None }),
            progress,
            watcher: None,
            last: None,
            first: None,
            copy: None,
            strip: HeaderMap::clear,
            trailers: None,
            waits: None,
        }
    }

    pub(in crate::upstream) fn progress(&self) -> &UploadProgress {
        &self.progress
    }

    /// Does not ask the client for its body before the word is given.
    pub(crate) fn wait(&mut self) -> ContinueSender {
        let (go_ahead, waits) = ContinueSender::new();
        self.waits = Some(waits);
        go_ahead
    }

    fn take(&mut self, data: &Bytes) -> Result<(), BodyFault> {
        self.progress.moved();
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
        self.progress.finish();
        self.incoming = None;
        self.saw(UploadEnd::Whole);
        Poll::Ready(self.rest())
    }

    /// What is left once the end was seen.
    fn rest(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        let last = self.last.take();
        last.iter().for_each(|data| self.passed(data));
        last.map(Frame::data).or_else(|| self.trailers.take().map(|trailers| Frame::trailers(*trailers))).map(Ok)
    }

    fn fit(&self, mut trailers: HeaderMap) -> Option<Box<HeaderMap>> {
        (self.strip)(&mut trailers);
        (!trailers.is_empty()).then(|| Box::new(trailers))
    }

    fn failed(&mut self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.progress.fault.set(Some(fault));
        self.last = None;
        let rest = self.incoming.take();
        match fault {
            BodyFault::TooLarge => {
                if let Some(rest) = rest {
                    drain_body(rest, DrainLimit::Long, self.watcher.take());
                }
            }
            BodyFault::Broken => self.saw(UploadEnd::Broken),
            BodyFault::Slow => self.saw(UploadEnd::Unseen),
        }
        Poll::Ready(Some(Err(fault.into())))
    }

    fn saw(&mut self, end: UploadEnd) {
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
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(*first)));
        }
        if let Some(waits) = &mut this.waits {
            if !ready!(waits.poll(context)) {
                return this.failed(BodyFault::Broken);
            }
            this.waits = None;
        }
        loop {
            let Some(incoming) = &mut this.incoming else {
                return Poll::Ready(this.rest());
            };
            let data = match Pin::new(incoming).poll_frame(context) {
                Poll::Pending => {
                    if !this.progress.asks() {
                        this.pace.pause();
                    } else if this.pace.is_over(context) {
                        return this.failed(BodyFault::Slow);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    this.progress.answered();
                    this.pace.came(frame.data_ref().map_or(0, Bytes::len));
                    match frame.into_data() {
                        Ok(data) => data,
                        Err(frame) => {
                            this.trailers = frame.into_trailers().ok().and_then(|trailers| this.fit(trailers));
                            return this.finished();
                        }
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
        if self.first.is_some() {
            return false;
        }
        match &self.incoming {
            Some(incoming) => self.last.is_none() && incoming.is_end_stream(),
            None => self.last.is_none() && self.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.first.is_some() {
            return SizeHint::default();
        }
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
                self.progress.finish();
            }
            self.saw(UploadEnd::Whole);
        } else if self.waits.is_none()
            && self.progress.fault.get().is_none()
            && let Some(rest) = self.incoming.take()
        {
            // The upstream has enough, or is gone. What the client still sends is looked at, though nobody wants it.
            drain_body(rest, DrainLimit::Long, self.watcher.take());
        }
    }
}

impl ResponseBody {
    pub(in crate::upstream) fn new(incoming: Answered, patience: Option<Duration>, lease: Lease) -> Self {
        Self {
            incoming,
            idleness: IdleTimer::new(patience),
            ended: false,
            lease: Some(lease),
            go_ahead: None,
            deadline: None,
        }
    }

    /// The request's body need not come any more.
    pub(crate) fn answers(&mut self, go_ahead: ContinueSender) {
        go_ahead.answered();
        self.go_ahead = Some(go_ahead);
    }

    fn give_back_at_end(&mut self) {
        if self.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            // A stream that is reset now does not remember its end.
            self.ended = true;
            lease.give_back();
        }
    }

    /// Why nothing came for too long: the caller may owe what the answer is about.
    fn stalled(&self) -> BoxError {
        let is_callers = self
            .lease
            .as_ref()
            .zip(self.idleness.limit)
            .is_some_and(|(lease, limit)| lease.progress().awaited_caller_for(limit));
        if is_callers { BodyFault::Slow.into() } else { ResponseStalled.into() }
    }

    /// Has an end, wherever it is by then.
    pub(crate) fn until(&mut self, deadline: Instant, is_call: bool) {
        self.deadline = Some((Box::pin(sleep_until(deadline)), is_call));
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some((deadline, is_call)) = &mut this.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            let is_call = *is_call;
            let awaits_caller = this.lease.as_ref().is_some_and(|lease| lease.progress().awaits_caller().is_some());
            return Poll::Ready(Some(Err(CallerDeadlinePassed { is_call, awaits_caller }.into())));
        }
        match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Pending if this.idleness.is_over(context) => Poll::Ready(Some(Err(this.stalled()))),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                this.idleness.renew();
                // Nothing follows trailers.
                this.ended = frame.is_trailers();
                this.give_back_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                // A request body that failed took the connection with it: that is what happened.
                let progress = this.lease.as_ref().map(Lease::progress);
                let error = match progress.map(|progress| (progress.fault.get(), progress.was_never_taken())) {
                    Some((Some(fault), _)) => fault.into(),
                    Some((None, true)) => ResponseStalled.into(),
                    Some((None, false)) | None => error,
                };
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                this.ended = true;
                this.give_back_at_end();
                Poll::Ready(None)
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
        self.give_back_at_end();
    }
}
