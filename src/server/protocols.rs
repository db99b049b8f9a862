//! The settings of hyper for HTTP/1.1 and HTTP/2.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::frame_meter::FrameMeter;
use super::http_connection::{ConnectionEnd, PollOutcome, drive, serve_http1};
use super::limits::Limits;
use super::tls::HttpVersion;
use super::watch::Watch;
use super::watched_io::WatchedIo;

/// The settings for both protocols, made once for each worker.
#[derive(Debug)]
pub(super) struct Protocols {
    http1: Rc<http1::Builder>,
    http2: http2::Builder<LocalExecutor>,
}

/// hyper's default. If the same value is set explicitly, hyper allocates for every request.
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

/// A connection under way.
pub(super) type Driven = Pin<Box<dyn Future<Output = ConnectionEnd>>>;

impl Protocols {
    /// `tunnels`: whether any route accepts WebSocket; then HTTP/2 clients are told (RFC 8441 §3).
    pub(super) fn new(limits: &Limits, tunnels: bool) -> Self {
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

    /// Serves requests until the connection is closed, times out, or has drained.
    ///
    /// Boxed in parts: one future with all states of a connection would cost ten kilobytes for each idle connection.
    pub(super) fn serve<T, S, B>(&self, stream: T, protocol: HttpVersion, watch: Rc<Watch>, service: S) -> Driven
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + 'static,
        S::Future: 'static,
        B: Body + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        // Boxed to keep the futures small that it is moved through.
        let stream = Box::new(stream);
        match protocol {
            HttpVersion::Http1 => {
                let io = WatchedIo::new(stream, Rc::clone(&watch), None);
                Box::pin(serve_http1(Rc::clone(&self.http1), io, service, watch))
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
                        PollOutcome::AtRest => ConnectionEnd::Closed,
                    }
                })
            }
        }
    }
}

/// Runs the streams of an HTTP/2 connection as tasks of the worker of the connection.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
