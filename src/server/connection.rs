//! One connection from the end of its handshake to its last byte: HTTP by ALPN, the guard, the drain.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http1::Parts;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::frame_meter::FrameMeter;
use super::guard::{Overdue, Told, Watch};
use super::limits::Limits;
use super::tls::Protocol;
use super::watched_io::WatchedIo;

/// How a connection ended, where that is worth a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By either side, in order or not: what was refused or cut has its own record.
    Plainly,
    /// By us: what came in is not HTTP.
    Malformed,
    /// By us: the head is larger than we take.
    TooLarge,
    /// By us: what comes in asks for nothing, and without end.
    Flooded,
    /// By us, at a deadline.
    Overdue(Overdue),
}

/// The settings of both protocols, made once a worker.
#[derive(Debug)]
pub(crate) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<Local>,
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
/// For the first request of a connection that the kernel had taken, or that was in its handshake, when the drain began.
const FIRST_WORDS: Duration = Duration::from_secs(1);

impl Protocols {
    /// `tunnels`: whether any route opens tunnels, which HTTP/2 clients are told (RFC 8441 §3).
    pub(crate) fn new(limits: &Limits, tunnels: bool) -> Self {
        let mut http1 = http1::Builder::new();
        http1.header_read_timeout(None).half_close(false).max_header_size(limits.header_bytes);
        http1.max_buf_size(limits.header_bytes.max(MAX_BUFFER));
        if limits.header_count != HYPER_DEFAULT_HEADERS {
            http1.max_headers(limits.header_count);
        }
        let mut http2 = http2::Builder::new(Local);
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
        Self { http1, http2 }
    }

    /// Serves requests until the connection ends, is overdue, or has drained.
    ///
    /// Boxed piece by piece: a future that held every state of a connection's life at once would cost each idle connection
    /// ten kilobytes.
    pub(crate) fn serve<T, S, B>(&self, stream: T, protocol: Protocol, watch: Rc<Watch>, service: S) -> Driven
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + 'static,
        S::Future: 'static,
        B: Body + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let flooded = Rc::default();
        let meter = (protocol == Protocol::Http2).then(|| FrameMeter::new(&flooded));
        let io = TokioIo::new(WatchedIo::new(stream, Rc::clone(&watch), meter));
        match protocol {
            Protocol::Http1 => {
                let mut connection = Box::pin(self.http1.serve_connection(io, service));
                Box::pin(async move {
                    let ended = drive(connection.as_mut(), |connection| connection.graceful_shutdown(), &watch).await;
                    if ended != Ended::Plainly || !watch.may_switch() {
                        return ended;
                    }
                    let Parts { io, read_buf, .. } = Pin::into_inner(connection).into_parts();
                    Box::pin(switched(io.into_inner(), read_buf, watch)).await
                })
            }
            Protocol::Http2 => {
                let mut connection = Box::pin(self.http2.serve_connection(io, service));
                Box::pin(async move {
                    let ended = drive(connection.as_mut(), |connection| connection.graceful_shutdown(), &watch).await;
                    if flooded.get() { Ended::Flooded } else { ended }
                })
            }
        }
    }
}

/// A connection under way.
pub(crate) type Driven = Pin<Box<dyn Future<Output = Ended>>>;

/// Drives a connection, and does what it is told meanwhile.
async fn drive<C>(mut connection: Pin<&mut C>, shut_down: impl Fn(Pin<&mut C>), watch: &Watch) -> Ended
where
    C: Future<Output = hyper::Result<()>>,
{
    loop {
        let next = poll_fn(|context| match connection.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Err(ended(done, watch))),
            Poll::Pending => watch.poll_told(context).map(Ok),
        });
        match next.await {
            Err(ended) => return ended,
            Ok(Told::Drain) => {
                if let Some(ended) = first_words(connection.as_mut(), watch).await {
                    return ended;
                }
                shut_down(connection.as_mut());
            }
            Ok(Told::Cut) => {
                drop(watch.take_tunnel());
                return Ended::Plainly;
            }
            Ok(Told::Overdue(overdue)) => {
                shut_down(connection.as_mut());
                if overdue == Overdue::Idle {
                    let _ = timeout(FAREWELL, connection).await;
                }
                return Ended::Overdue(overdue);
            }
        }
    }
}

/// What follows the last request of a connection that may go on in another protocol.
async fn switched<T: AsyncRead + AsyncWrite + Unpin>(mut stream: T, early: Bytes, watch: Rc<Watch>) -> Ended {
    if let Some(tunnel) = watch.take_tunnel() {
        return tunnelled(tunnel.run(stream, early), &watch).await;
    }
    // hyper leaves the goodbye to whoever switches.
    let _ = timeout(FAREWELL, stream.shutdown()).await;
    Ended::Plainly
}

/// A connection that has become a tunnel ends by itself, at a deadline, or at the cut. It has no end in order that its other
/// protocol would know of, and so its age and the beginning of the drain leave it alone.
async fn tunnelled(running: impl Future<Output = ()>, watch: &Rc<Watch>) -> Ended {
    let _exchange = watch.begin();
    let mut running = pin!(running);
    loop {
        let next = poll_fn(|context| match running.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => watch.poll_told(context).map(Some),
        });
        match next.await {
            None | Some(Told::Cut) => return Ended::Plainly,
            Some(Told::Overdue(overdue)) => return Ended::Overdue(overdue),
            Some(Told::Drain) => {}
        }
    }
}

/// A connection that the drain finds without a request may have one on its way, which hyper would drop: it is given a moment.
async fn first_words<C>(mut connection: Pin<&mut C>, watch: &Watch) -> Option<Ended>
where
    C: Future<Output = hyper::Result<()>>,
{
    let begun = poll_fn(|context| match connection.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(ended(done, watch))),
        Poll::Pending if watch.is_new() => Poll::Pending,
        Poll::Pending => Poll::Ready(None),
    });
    timeout(FIRST_WORDS, begun).await.ok().flatten()
}

fn ended(done: hyper::Result<()>, watch: &Watch) -> Ended {
    if done.is_err() {
        // Whoever was not told that there is a tunnel has none.
        drop(watch.take_tunnel());
    }
    match done {
        Err(error) if error.is_parse_too_large() => Ended::TooLarge,
        Err(error) if error.is_parse() => Ended::Malformed,
        Ok(()) | Err(_) => Ended::Plainly,
    }
}

/// Streams of an HTTP/2 connection are tasks of the worker that has the connection.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
