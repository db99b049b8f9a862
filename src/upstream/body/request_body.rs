//! The body of a request, streamed to the upstream, with a limit on its size and a minimum rate.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body::{Body, Frame, SizeHint};
use tokio::time::timeout;

use super::super::fault::{BodyFault, BoxError};
use super::body_copy::BodyCopy;
use super::body_timeouts::{BodyTimeouts, MinRateTimer};
use super::buffered_bytes::BufferedBytes;
use super::drain_body::{ClientBody, DrainLimit, drain_body};
use super::expect_continue::{ContinueSender, ContinueWait};
use super::request_end::{RequestEndSender, UploadEnd};
use super::upload_progress::UploadProgress;

/// A request body with its trailers.
pub(crate) struct RequestBody {
    incoming: Option<ClientBody>,
    /// Bytes until its limit.
    remaining: Option<u64>,
    rate_timer: MinRateTimer,
    progress: Rc<UploadProgress>,
    /// Of a request whose end is not known from its length, as over HTTP/2.
    watcher: Option<RequestEndSender>,
    /// The chunk that completes the announced length, held until the end of the request: with it the upstream would
    /// have a complete request. For a body without an incoming stream, all of it.
    last: Option<Bytes>,
    /// Was read by [`begin`](Self::begin).
    first: Option<Box<Frame<Bytes>>>,
    copy: Option<Box<BodyCopy>>,
    strip_trailers: StripTrailers,
    trailers: Option<Box<HeaderMap>>,
    /// While the client must not be asked for its body.
    continue_wait: Option<ContinueWait>,
}

/// Removes the trailers that may not be forwarded.
pub(crate) type StripTrailers = Box<dyn Fn(&mut HeaderMap)>;

/// A request's body as it arrives.
pub(crate) struct IncomingUpload {
    pub(crate) incoming: Option<ClientBody>,
    /// Is notified of the body's end.
    pub(crate) watcher: Option<RequestEndSender>,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) is_awaiting: bool,
}

/// Why a body could not be buffered.
#[derive(Debug)]
pub(crate) enum BufferFault {
    Body(BodyFault),
    /// The worker buffers too much already.
    NoRoom,
}

/// How long to wait for the first frame of a body that may be empty.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(1);

/// True if an empty body is announced by `Content-Length: 0` (RFC 9110 §8.6).
pub(crate) fn has_payload(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS)
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

impl RequestBody {
    pub(crate) fn new(
        upload: &mut IncomingUpload,
        limit: Option<u64>,
        timeouts: BodyTimeouts,
        strip_trailers: StripTrailers,
    ) -> (Self, Rc<UploadProgress>) {
        let progress = Rc::new(UploadProgress::default());
        let incoming = upload.incoming.take().filter(|incoming| !incoming.is_end_stream());
        progress.finished.set(incoming.is_none());
        let (rate_timer, watcher) = (MinRateTimer::new(timeouts), upload.watcher.take());
        let progress_of = Rc::clone(&progress);
        let body = Self {
            incoming,
            remaining: limit,
            rate_timer,
            progress: progress_of,
            watcher,
            last: None,
            first: None,
            strip_trailers,
            trailers: None,
            copy: None,
            continue_wait: None,
        };
        (body, progress)
    }

    /// A body that is complete already.
    pub(crate) fn whole(bytes: Bytes) -> (Self, Rc<UploadProgress>) {
        let progress = Rc::new(UploadProgress::default());
        progress.finished.set(bytes.is_empty());
        let last = (!bytes.is_empty()).then_some(bytes);
        let rate_timer = MinRateTimer::new(BodyTimeouts { idle: None, min_rate: None });
        let progress_of = Rc::clone(&progress);
        let body = Self {
            incoming: None,
            remaining: None,
            rate_timer,
            progress: progress_of,
            watcher: None,
            last,
            first: None,
            strip_trailers: Box::new(HeaderMap::clear),
            trailers: None,
            copy: None,
            continue_wait: None,
        };
        (body, progress)
    }

    /// Waits until the body has a first frame or has ended: an HTTP/2 client may end a request without a body by an
    /// empty frame. After the timeout, the request counts as one with a body.
    pub(crate) async fn begin(&mut self) -> Result<(), BodyFault> {
        let first = poll_fn(|context| self.poll_first(context));
        let frame = timeout(FIRST_FRAME_TIMEOUT, first).await.ok().transpose()?.flatten();
        self.first = frame.map(Box::new);
        Ok(())
    }

    fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyFault>> {
        loop {
            match ready!(Pin::new(&mut *self).poll_frame(context)) {
                Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                Some(Ok(frame)) => return Poll::Ready(Ok(Some(frame))),
                Some(Err(_)) => return Poll::Ready(Err(self.fault())),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// Waits until all of the body has arrived, so that it is forwarded with its length. A body of more than `limit`
    /// bytes is too large. Its trailers are dropped.
    pub(crate) async fn buffer(&mut self, limit: usize) -> Result<(), BufferFault> {
        self.remaining = Some(self.remaining.unwrap_or(u64::MAX).min(limit as u64));
        let mut buffered = BufferedBytes::default();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut *self).poll_frame(context)).await {
            let frame = frame.map_err(|_| BufferFault::Body(self.fault()))?;
            if let Some(data) = frame.data_ref() {
                buffered.append(data, limit).map_err(|_| BufferFault::NoRoom)?;
            }
        }
        let whole = buffered.into_bytes();
        self.progress.finished.set(whole.is_empty());
        self.last = (!whole.is_empty()).then_some(whole);
        Ok(())
    }

    fn fault(&self) -> BodyFault {
        self.progress.fault.get().unwrap_or(BodyFault::Broken)
    }

    /// Copies what is forwarded, and passes the copy on once it has `length` bytes. An incomplete body is not passed
    /// on.
    pub(crate) fn copy(&mut self, length: usize, then: impl FnOnce(Bytes) + 'static) {
        self.copy = Some(Box::new(BodyCopy::new(length, then)));
    }

    fn copy_forwarded(&mut self, data: &Bytes) {
        if self.copy.as_mut().is_some_and(|copy| copy.append(data))
            && let Some(copy) = self.copy.take()
        {
            copy.pass_on();
        }
    }

    /// The body of a request that has none and is sent again.
    pub(in crate::upstream) fn none(progress: Rc<UploadProgress>) -> Self {
        Self {
            incoming: None,
            remaining: None,
            rate_timer: MinRateTimer::new(BodyTimeouts { idle: None, min_rate: None }),
            progress,
            watcher: None,
            last: None,
            first: None,
            copy: None,
            strip_trailers: Box::new(HeaderMap::clear),
            trailers: None,
            continue_wait: None,
        }
    }

    pub(in crate::upstream) fn progress(&self) -> &UploadProgress {
        &self.progress
    }

    /// Requests the body from the client only after `100 Continue` from the upstream.
    pub(crate) fn wait(&mut self) -> ContinueSender {
        let (sender, wait) = ContinueSender::new();
        self.continue_wait = Some(wait);
        sender
    }

    fn count(&mut self, data: &Bytes) -> Result<(), BodyFault> {
        self.progress.forwarded();
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.checked_sub(data.len() as u64).ok_or(BodyFault::TooLarge)?;
        }
        Ok(())
    }

    /// The announced length has arrived and the end has not: the request may still turn out to be invalid.
    fn is_full(&self) -> bool {
        let full = |incoming: &ClientBody| incoming.size_hint().exact() == Some(0) && !incoming.is_end_stream();
        self.watcher.is_some() && self.incoming.as_ref().is_some_and(full)
    }

    fn finished(&mut self) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.progress.finish();
        self.incoming = None;
        self.notify_end(UploadEnd::Complete);
        Poll::Ready(self.next_held())
    }

    /// The held frames, after the end of the request.
    fn next_held(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        let last = self.last.take();
        last.iter().for_each(|data| self.copy_forwarded(data));
        last.map(Frame::data).or_else(|| self.trailers.take().map(|trailers| Frame::trailers(*trailers))).map(Ok)
    }

    fn stripped(&self, mut trailers: HeaderMap) -> Option<Box<HeaderMap>> {
        (self.strip_trailers)(&mut trailers);
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
            BodyFault::Broken | BodyFault::Malformed(_) => self.notify_end(UploadEnd::Broken),
            BodyFault::Slow => self.notify_end(UploadEnd::Unknown),
        }
        Poll::Ready(Some(Err(fault.into())))
    }

    fn notify_end(&mut self, end: UploadEnd) {
        if let Some(watcher) = self.watcher.take() {
            watcher.notify(end);
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
        if let Some(wait) = &mut this.continue_wait {
            if !ready!(wait.poll(context)) {
                return this.failed(BodyFault::Broken);
            }
            this.continue_wait = None;
        }
        loop {
            let Some(incoming) = &mut this.incoming else {
                return Poll::Ready(this.next_held());
            };
            let data = match incoming.as_mut().poll_frame(context) {
                Poll::Pending => {
                    if !this.progress.await_caller() {
                        this.rate_timer.pause();
                    } else if this.rate_timer.is_over(context) {
                        return this.failed(BodyFault::Slow);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    this.progress.caller_has_sent();
                    this.rate_timer.received(frame.data_ref().map_or(0, Bytes::len));
                    match frame.into_data() {
                        Ok(data) => data,
                        Err(frame) => {
                            this.trailers = frame.into_trailers().ok().and_then(|trailers| this.stripped(trailers));
                            return this.finished();
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => return this.failed(BodyFault::of(&error)),
                Poll::Ready(None) => return this.finished(),
            };
            if let Err(fault) = this.count(&data) {
                return this.failed(fault);
            }
            match this.last {
                None if this.is_full() => this.last = Some(data),
                None => {
                    this.copy_forwarded(&data);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // Only empty chunks follow the announced length.
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
    /// A connection drops the body once it has all of it, and need not poll for its end.
    fn drop(&mut self) {
        if self.is_end_stream() {
            if self.progress.fault.get().is_none() {
                self.progress.finish();
            }
            self.notify_end(UploadEnd::Complete);
        } else if self.continue_wait.is_none()
            && self.progress.fault.get().is_none()
            && let Some(rest) = self.incoming.take()
        {
            // The upstream needs no more of the body, or has gone. The rest is read and discarded, to see how the
            // request ends.
            drain_body(rest, DrainLimit::Long, self.watcher.take());
        }
    }
}
