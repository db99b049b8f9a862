//! One connection from the end of its handshake to its last byte: HTTP/1.1 or HTTP/2, timeouts, drain, tunnels.

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
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::exchange_guard::ExchangeGuard;
use super::watch::{GuardSignal, TimeoutKind, Watch};
use super::watched_io::WatchedIo;

/// The reason for which a connection ended, if it has to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// Closed by either side. Requests that were refused or cut have their own records.
    Closed,
    /// Closed by the gateway: the input is not HTTP.
    Malformed,
    /// Closed by the gateway: the request head exceeds the limits.
    TooLarge,
    /// Closed by the gateway: the client flooded it with frames that request nothing.
    Flooded,
    /// Closed by the gateway after a timeout.
    Overdue(TimeoutKind),
}

/// For the graceful close of a connection after a timeout.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The time that an HTTP/1.1 connection without a request in flight waits, at the drain and at the end of its age, for
/// a request that is on its way.
const REQUEST_GRACE: Duration = Duration::from_millis(100);
/// The same for a connection that was in its handshake or in the kernel's queue when the drain began: its client is
/// about to send a request.
const LATE_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// How a connection's turn with hyper came to its end.
pub(super) enum PollOutcome {
    Ended(ConnectionEnd),
    /// There has been no request for some time, and the buffers are free.
    AtRest,
}

/// Serves HTTP/1.1. hyper has the connection only while it is active.
///
/// The buffers of hyper are most of the memory of a connection. So an idle connection has none: only the stream is kept
/// until the next byte arrives.
pub(super) async fn serve_http1<T, S, B>(
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
        if !poll_fn(|context| poll_activity(&mut io, &watch, context)).await {
            let _ = timeout(CLOSE_TIMEOUT, io.shutdown()).await;
            return ConnectionEnd::Closed;
        }
        let mut connection = Box::pin(protocol.serve_connection(TokioIo::new(io), service));
        match drive(&mut connection, |connection| connection.graceful_shutdown(), &watch).await {
            PollOutcome::Ended(ConnectionEnd::Closed) if watch.may_switch() => {
                let parts = Pin::into_inner(connection).into_parts();
                return Box::pin(serve_after_switch(parts.io.into_inner(), parts.read_buf, watch)).await;
            }
            PollOutcome::Ended(ended) => return ended,
            PollOutcome::AtRest => {
                let parts = Pin::into_inner(connection).into_parts();
                (io, service) = (parts.io.into_inner(), parts.service);
                io.unread(&parts.read_buf);
            }
        }
    }
}

/// Ready when a connection without buffers has input or a signal; false when the client has closed it.
fn poll_activity<T: AsyncRead + Unpin>(io: &mut WatchedIo<T>, watch: &Watch, context: &mut Context<'_>) -> Poll<bool> {
    match io.poll_readable(context) {
        Poll::Pending => watch.poll_has_signal(context).map(|()| true),
        Poll::Ready(result) => Poll::Ready(matches!(result, Ok(true))),
    }
}

/// Drives a connection and handles the signals of the guard.
pub(super) async fn drive<C>(
    connection: &mut Pin<Box<C>>,
    shut_down: impl Fn(Pin<&mut C>),
    watch: &Watch,
) -> PollOutcome
where
    C: Future<Output = hyper::Result<()>>,
{
    loop {
        let next = poll_fn(|context| match connection.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Err(ended(done, watch))),
            Poll::Pending => {
                watch.polled();
                watch.poll_signal(context).map(Ok)
            }
        });
        match next.await {
            Err(ended) => return PollOutcome::Ended(ended),
            Ok(GuardSignal::Rest) => {
                if watch.may_rest() {
                    match release_buffers(connection.as_mut(), &shut_down, watch).await {
                        Poll::Ready(Ok(())) => return PollOutcome::AtRest,
                        Poll::Ready(failed) => return PollOutcome::Ended(ended(failed, watch)),
                        Poll::Pending => {}
                    }
                }
            }
            Ok(GuardSignal::Drain) => {
                watch.close_after_answer();
                if let Some(ended) = await_request(connection.as_mut(), watch).await {
                    return PollOutcome::Ended(ended);
                }
                shut_down(connection.as_mut());
            }
            Ok(GuardSignal::Cut) => {
                drop(watch.take_tunnel());
                return PollOutcome::Ended(ConnectionEnd::Closed);
            }
            Ok(GuardSignal::Overdue(overdue)) => {
                shut_down(connection.as_mut());
                if overdue == TimeoutKind::Idle {
                    let _ = timeout(CLOSE_TIMEOUT, connection).await;
                }
                return PollOutcome::Ended(ConnectionEnd::Overdue(overdue));
            }
        }
    }
}

/// Makes hyper end without writing a byte, so that its buffers can be freed. hyper does so only if the last exchange is
/// complete in both directions. Otherwise the connection stays with hyper and ends after that exchange: the rest of a
/// request body must never be read as a request.
async fn release_buffers<C>(
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

/// Runs the tunnel after a connection has switched protocols, or closes the connection.
async fn serve_after_switch<T: AsyncRead + AsyncWrite + Unpin>(
    mut stream: T,
    early: Bytes,
    watch: Rc<Watch>,
) -> ConnectionEnd {
    if let Some(tunnel) = watch.take_tunnel() {
        return run_tunnel(tunnel.run(stream, early), &watch).await;
    }
    // After a switch, hyper does not shut the stream down.
    let _ = timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
    ConnectionEnd::Closed
}

/// A tunnel ends by itself, after a timeout, or at the drain timeout. Its protocol has no graceful close that the
/// gateway could send, so neither its age nor the beginning of the drain ends it.
async fn run_tunnel(running: impl Future<Output = ()>, watch: &Rc<Watch>) -> ConnectionEnd {
    let _exchange = ExchangeGuard::begin(watch);
    let mut running = pin!(running);
    loop {
        let next = poll_fn(|context| match running.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => watch.poll_signal(context).map(Some),
        });
        match next.await {
            None | Some(GuardSignal::Cut) => return ConnectionEnd::Closed,
            Some(GuardSignal::Overdue(overdue)) => return ConnectionEnd::Overdue(overdue),
            Some(GuardSignal::Drain | GuardSignal::Rest) => {}
        }
    }
}

/// Waits a short time for a request that may be on its way to a connection that is about to end: hyper would drop it.
/// Not needed for HTTP/2, which answers requests that the client sent before it received GOAWAY.
async fn await_request<C>(mut connection: Pin<&mut C>, watch: &Watch) -> Option<ConnectionEnd>
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
    let grace = if watch.is_late() { LATE_REQUEST_GRACE } else { REQUEST_GRACE };
    timeout(grace, begun).await.ok().flatten()
}

fn ended(done: hyper::Result<()>, watch: &Watch) -> ConnectionEnd {
    if done.is_err() {
        // The client did not receive the answer that would have opened the tunnel.
        drop(watch.take_tunnel());
    }
    match done {
        Err(error) if error.is_parse_too_large() => ConnectionEnd::TooLarge,
        Err(error) if error.is_parse() => ConnectionEnd::Malformed,
        Ok(()) | Err(_) => ConnectionEnd::Closed,
    }
}

#[cfg(test)]
mod tests;
