//! One connection from the end of its handshake to its last byte: HTTP by ALPN, the guard, the drain.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::frame_meter::FrameMeter;
use super::guard::{GuardSignal, TimeoutKind, Watch};
use super::limits::Limits;
use super::tls::HttpVersion;
use super::watched_io::WatchedIo;

/// How a connection ended, where that is worth a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// By either side, in order or not: what was refused or cut has its own record.
    Plainly,
    /// By us: what came in is not HTTP.
    Malformed,
    /// By us: the head is larger than we take.
    TooLarge,
    /// By us: what comes in asks for nothing, and without end.
    Flooded,
    /// By us, at a deadline.
    Overdue(TimeoutKind),
}

/// The settings of both protocols, made once a worker.
#[derive(Debug)]
pub(crate) struct Protocols {
    http1: Rc<http1::Builder>,
    http2: http2::Builder<LocalExecutor>,
}

/// What hyper takes when nothing is set; setting it anyway makes it allocate for every request.
const HYPER_DEFAULT_HEADERS: usize = 100;
const MAX_BUFFER: usize = 64 * 1024;
const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const H2_SEND_BUFFER: usize = 64 * 1024;
const H2_HEADER_LIST: u32 = 16 * 1024;
const H2_FRAME: u32 = 16 * 1024;
const H2_PENDING_RESETS: usize = 20;
const H2_LOCAL_RESETS: usize = 256;
const H2_PING_EVERY: Duration = Duration::from_secs(30);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// For the last words of a connection that is ended by a deadline.
const FAREWELL: Duration = Duration::from_secs(1);
/// For the next request of a connection that is told to end while none is under way: it may be on its way.
const FIRST_WORDS: Duration = Duration::from_millis(100);
/// The same where the connection was in its handshake when the drain began, or in the kernel's queue: its client is about to ask.
const LATE_FIRST_WORDS: Duration = Duration::from_secs(1);

impl Protocols {
    /// `tunnels`: whether any route opens tunnels, which HTTP/2 clients are told (RFC 8441 §3).
    pub(crate) fn new(limits: &Limits, tunnels: bool) -> Self {
        let mut http1 = http1::Builder::new();
        http1.header_read_timeout(None).half_close(false).max_header_size(limits.header_bytes);
        http1.max_buf_size(limits.header_bytes.max(MAX_BUFFER));
        if limits.header_count != HYPER_DEFAULT_HEADERS {
            http1.max_headers(limits.header_count);
        }
        let mut http2 = http2::Builder::new(LocalExecutor);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_streams)
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_send_buf_size(H2_SEND_BUFFER)
            .max_header_list_size(H2_HEADER_LIST)
            .max_frame_size(H2_FRAME)
            .max_pending_accept_reset_streams(H2_PENDING_RESETS)
            .max_local_error_reset_streams(H2_LOCAL_RESETS)
            .keep_alive_interval(H2_PING_EVERY)
            .keep_alive_timeout(H2_PING_TIMEOUT);
        if tunnels {
            http2.enable_connect_protocol();
        }
        Self { http1: Rc::new(http1), http2 }
    }

    /// Serves requests until the connection ends, is overdue, or has drained.
    ///
    /// Boxed piece by piece: a future that held every state of a connection's life at once would cost each idle connection
    /// ten kilobytes.
    pub(crate) fn serve<T, S, B>(&self, stream: T, protocol: HttpVersion, watch: Rc<Watch>, service: S) -> Driven
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + 'static,
        S::Future: 'static,
        B: Body + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        // Boxed, because it goes from hand to hand, and each hand would have room for it.
        let stream = Box::new(stream);
        match protocol {
            HttpVersion::Http1 => {
                let io = WatchedIo::new(stream, Rc::clone(&watch), None);
                Box::pin(take_turns(Rc::clone(&self.http1), io, service, watch))
            }
            HttpVersion::Http2 => {
                let flooded = Rc::default();
                let io = WatchedIo::new(stream, Rc::clone(&watch), Some(FrameMeter::new(&flooded)));
                let mut connection = Box::pin(self.http2.serve_connection(TokioIo::new(io), service));
                Box::pin(async move {
                    let turn = drive(&mut connection, |connection| connection.graceful_shutdown(), &watch).await;
                    match turn {
                        _ if flooded.get() => ConnectionEnd::Flooded,
                        PollOutcome::Ended(ended) => ended,
                        PollOutcome::AtRest => ConnectionEnd::Plainly,
                    }
                })
            }
        }
    }
}

/// A connection under way.
pub(crate) type Driven = Pin<Box<dyn Future<Output = ConnectionEnd>>>;

/// How a connection's turn with hyper came to its end.
enum PollOutcome {
    Ended(ConnectionEnd),
    /// Nothing is under way, and has not been for a while.
    AtRest,
}

/// HTTP/1.1: hyper has the connection while there is something to do.
///
/// Its buffers are most of what a connection costs, so one that waits for its first request, or rests after its last, has none: of it
/// there is just the stream, until the next byte comes.
async fn take_turns<T, S, B>(
    protocol: Rc<http1::Builder>,
    mut io: WatchedIo<T>,
    mut service: S,
    watch: Rc<Watch>,
) -> ConnectionEnd
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + 'static,
    S::Future: 'static,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    loop {
        if !poll_fn(|context| poll_busy(&mut io, &watch, context)).await {
            let _ = timeout(FAREWELL, io.shutdown()).await;
            return ConnectionEnd::Plainly;
        }
        let mut connection = Box::pin(protocol.serve_connection(TokioIo::new(io), service));
        match drive(&mut connection, |connection| connection.graceful_shutdown(), &watch).await {
            PollOutcome::Ended(ConnectionEnd::Plainly) if watch.may_switch() => {
                let parts = Pin::into_inner(connection).into_parts();
                return Box::pin(switched(parts.io.into_inner(), parts.read_buf, watch)).await;
            }
            PollOutcome::Ended(ended) => return ended,
            PollOutcome::AtRest => {
                let parts = Pin::into_inner(connection).into_parts();
                (io, service) = (parts.io.into_inner(), parts.service);
                io.put_back(&parts.read_buf);
            }
        }
    }
}

/// Ready when a resting connection has something to do, be it that it is told so; false when it has ended.
fn poll_busy<T: AsyncRead + Unpin>(io: &mut WatchedIo<T>, watch: &Watch, context: &mut Context<'_>) -> Poll<bool> {
    match io.poll_ahead(context) {
        Poll::Pending => watch.poll_is_told(context).map(|()| true),
        Poll::Ready(result) => Poll::Ready(matches!(result, Ok(true))),
    }
}

/// Drives a connection, and does what it is told meanwhile.
async fn drive<C>(connection: &mut Pin<Box<C>>, shut_down: impl Fn(Pin<&mut C>), watch: &Watch) -> PollOutcome
where
    C: Future<Output = hyper::Result<()>>,
{
    loop {
        let next = poll_fn(|context| match connection.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Err(ended(done, watch))),
            Poll::Pending => {
                watch.polled();
                watch.poll_told(context).map(Ok)
            }
        });
        match next.await {
            Err(ended) => return PollOutcome::Ended(ended),
            Ok(GuardSignal::Rest) => {
                if watch.may_rest() {
                    match give_back(connection.as_mut(), &shut_down, watch).await {
                        Poll::Ready(Ok(())) => return PollOutcome::AtRest,
                        Poll::Ready(failed) => return PollOutcome::Ended(ended(failed, watch)),
                        Poll::Pending => {}
                    }
                }
            }
            Ok(GuardSignal::Drain) => {
                watch.close_after_answer();
                if let Some(ended) = first_words(connection.as_mut(), watch).await {
                    return PollOutcome::Ended(ended);
                }
                shut_down(connection.as_mut());
            }
            Ok(GuardSignal::Cut) => {
                drop(watch.take_tunnel());
                return PollOutcome::Ended(ConnectionEnd::Plainly);
            }
            Ok(GuardSignal::Overdue(overdue)) => {
                shut_down(connection.as_mut());
                if overdue == TimeoutKind::Idle {
                    let _ = timeout(FAREWELL, connection).await;
                }
                return PollOutcome::Ended(ConnectionEnd::Overdue(overdue));
            }
        }
    }
}

/// Has hyper end by itself, now and without another byte, which it does exactly if the last exchange is complete in both directions:
/// what follows a body that has not come in whole must never be read as a request. Such a connection goes on with hyper, and ends with
/// that body.
async fn give_back<C>(
    mut connection: Pin<&mut C>,
    shut_down: impl Fn(Pin<&mut C>),
    watch: &Watch,
) -> Poll<hyper::Result<()>>
where
    C: Future<Output = hyper::Result<()>>,
{
    watch.hold_stream(true);
    shut_down(connection.as_mut());
    let done = poll_fn(|context| Poll::Ready(connection.as_mut().poll(context))).await;
    watch.hold_stream(false);
    done
}

/// What follows the last request of a connection that may go on in another protocol.
async fn switched<T: AsyncRead + AsyncWrite + Unpin>(mut stream: T, early: Bytes, watch: Rc<Watch>) -> ConnectionEnd {
    if let Some(tunnel) = watch.take_tunnel() {
        return tunnelled(tunnel.run(stream, early), &watch).await;
    }
    // hyper leaves the goodbye to whoever switches.
    let _ = timeout(FAREWELL, stream.shutdown()).await;
    ConnectionEnd::Plainly
}

/// A connection that has become a tunnel ends by itself, at a deadline, or at the cut. It has no end in order that its other
/// protocol would know of, and so its age and the beginning of the drain leave it alone.
async fn tunnelled(running: impl Future<Output = ()>, watch: &Rc<Watch>) -> ConnectionEnd {
    let _exchange = watch.begin();
    let mut running = pin!(running);
    loop {
        let next = poll_fn(|context| match running.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => watch.poll_told(context).map(Some),
        });
        match next.await {
            None | Some(GuardSignal::Cut) => return ConnectionEnd::Plainly,
            Some(GuardSignal::Overdue(overdue)) => return ConnectionEnd::Overdue(overdue),
            Some(GuardSignal::Drain | GuardSignal::Rest) => {}
        }
    }
}

/// A connection that is told to end while no request is under way may have one on its way, which hyper would drop: it is given a moment.
/// That holds for new and for kept connections. Over HTTP/2 the graceful shutdown leaves room for it.
async fn first_words<C>(mut connection: Pin<&mut C>, watch: &Watch) -> Option<ConnectionEnd>
where
    C: Future<Output = hyper::Result<()>>,
{
    if watch.is_multiplexed() {
        return None;
    }
    let begun = poll_fn(|context| match connection.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(ended(done, watch))),
        Poll::Pending if watch.awaits_request() => Poll::Pending,
        Poll::Pending => Poll::Ready(None),
    });
    let patience = if watch.is_late() { LATE_FIRST_WORDS } else { FIRST_WORDS };
    timeout(patience, begun).await.ok().flatten()
}

fn ended(done: hyper::Result<()>, watch: &Watch) -> ConnectionEnd {
    if done.is_err() {
        // Whoever was not told that there is a tunnel has none.
        drop(watch.take_tunnel());
    }
    match done {
        Err(error) if error.is_parse_too_large() => ConnectionEnd::TooLarge,
        Err(error) if error.is_parse() => ConnectionEnd::Malformed,
        Ok(()) | Err(_) => ConnectionEnd::Plainly,
    }
}

/// Streams of an HTTP/2 connection are tasks of the worker that has the connection.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

#[cfg(test)]
mod tests;
