//! The settings for HTTP/1.1 and HTTP/2, and a connection's way to one of them.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::client_stream::ClientStream;
use super::connection_end::ConnectionEnd;
use super::exchange_guard::ExchangeGuard;
use super::frame_meter::FrameMeter;
use super::http1::connection::serve_http1;
use super::http2_connection::drive;
use super::limits::Limits;
use super::received_request::{Received, ReceivedRequest};
use super::tls::HttpVersion;
use super::watch::Watch;
use super::watched_io::WatchedIo;
use crate::http1::request_head::HeadLimits;

/// The settings for both protocols, made once for each worker.
#[derive(Debug)]
pub(super) struct Protocols {
    http1: HeadLimits,
    http2: http2::Builder<LocalExecutor>,
}

const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const H2_SEND_BUFFER: usize = 64 * 1024;
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
        let http1 =
            HeadLimits { target_bytes: limits.uri_bytes, bytes: limits.header_bytes, fields: limits.header_count };
        let mut http2 = http2::Builder::new(LocalExecutor);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_streams)
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_send_buf_size(H2_SEND_BUFFER)
            .max_header_list_size(http1.header_list_bytes())
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

    /// Serves requests until the connection is closed, times out, or has drained.
    ///
    /// Boxed in parts: one future with all states of a connection would cost ten kilobytes for each idle connection.
    pub(super) fn serve<A, Fut, B>(
        &self,
        stream: ClientStream,
        protocol: HttpVersion,
        watch: Rc<Watch>,
        answer: A,
    ) -> Driven
    where
        A: FnOnce(ExchangeGuard, Received) -> Fut + Clone + 'static,
        Fut: Future<Output = Response<B>> + 'static,
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if protocol == HttpVersion::Http1 {
            return Box::pin(serve_http1(stream, self.http1, watch, answer));
        }
        let service = {
            let watch = Rc::clone(&watch);
            service_fn(move |request| {
                let exchange = ExchangeGuard::begin(&watch);
                let answer = answer.clone();
                async move { Ok::<_, Infallible>(answer(exchange, ReceivedRequest::from_hyper(request)).await) }
            })
        };
        let flooded = Rc::default();
        let io = WatchedIo::new(stream, Rc::clone(&watch), FrameMeter::new(&flooded));
        let connection = Box::pin(self.http2.serve_connection(TokioIo::new(io), service));
        Box::pin(async move {
            let ended = drive(connection, |connection| connection.graceful_shutdown(), &watch).await;
            if flooded.get() { ConnectionEnd::Flooded } else { ended }
        })
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
