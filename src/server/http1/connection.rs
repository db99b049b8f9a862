//! The life of an HTTP/1.1 connection: at rest, active, draining, and perhaps a tunnel at its end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Sleep, sleep, timeout};

use super::super::client_stream::ClientStream;
use super::super::connection_end::{CLOSE_TIMEOUT, ConnectionEnd};
use super::super::exchange_guard::ExchangeGuard;
use super::super::received_request::Received;
use super::super::tunnel::Tunnel;
use super::super::watch::{FIRST_REQUEST_GRACE, GuardSignal, TimeoutKind, Watch};
use super::client_wire::ClientWire;
use super::exchanges::{LastExchange, serve_requests};
use crate::http1::request_head::HeadLimits;

/// The time that a connection without a request in flight waits, at the drain and at the end of its age, for a request
/// that is on its way.
const REQUEST_GRACE: Duration = Duration::from_millis(100);

/// How a connection's active time came to its end.
enum Turn {
    /// There has been no request for some time, and the buffers are free.
    AtRest,
    Switched,
    Ended(ConnectionEnd),
    /// Ended by the gateway, with a graceful close.
    Closes(ConnectionEnd),
}

enum Step {
    Signal(GuardSignal),
    Ended(LastExchange),
    GraceOver,
}

/// Serves HTTP/1.1 to the end of the connection. `answer` is called for each request.
///
/// Buffers and the states of a request are most of the memory of a connection. So an idle connection has none: only the
/// stream is kept until the next byte arrives.
pub(in crate::server) async fn serve_http1<A, Fut, B>(
    stream: ClientStream,
    limits: HeadLimits,
    watch: Rc<Watch>,
    answer: A,
) -> ConnectionEnd
where
    A: FnOnce(ExchangeGuard, Received) -> Fut + Clone,
    Fut: Future<Output = Response<B>>,
    B: Body<Data = Bytes>,
{
    let wire = Rc::new(RefCell::new(ClientWire::new(stream, Rc::clone(&watch), limits)));
    serve_wire(wire, watch, answer).await
}

/// The same on a wire that is there already.
pub(super) async fn serve_wire<A, Fut, B>(wire: Rc<RefCell<ClientWire>>, watch: Rc<Watch>, answer: A) -> ConnectionEnd
where
    A: FnOnce(ExchangeGuard, Received) -> Fut + Clone,
    Fut: Future<Output = Response<B>>,
    B: Body<Data = Bytes>,
{
    let wire = OwnWire(wire);
    loop {
        if !poll_fn(|context| wire.0.borrow_mut().poll_activity(context)).await {
            return wire.close(ConnectionEnd::Closed).await;
        }
        let active = Box::pin(serve_requests(Rc::clone(&wire.0), Rc::clone(&watch), answer.clone()));
        match drive(active, &wire.0, &watch).await {
            Turn::AtRest => {}
            Turn::Switched => return Box::pin(wire.become_tunnel(watch)).await,
            Turn::Ended(ended) => {
                // The client did not receive the answer that would have opened the tunnel.
                drop(watch.take_tunnel());
                return ended;
            }
            Turn::Closes(ended) => return wire.close(ended).await,
        }
    }
}

/// The connection's own hold on its stream. When it is dropped, the connection is closed, even if the body of a request
/// is still held elsewhere.
struct OwnWire(Rc<RefCell<ClientWire>>);

impl OwnWire {
    async fn close(self, ended: ConnectionEnd) -> ConnectionEnd {
        let is_broken = self.0.borrow().is_open_ended;
        let (mut stream, _) = self.0.borrow_mut().take();
        if !is_broken {
            // Boxed, so that an idle connection has no room for it.
            let _ = Box::pin(timeout(CLOSE_TIMEOUT, stream.shutdown())).await;
        }
        ended
    }

    async fn become_tunnel(self, watch: Rc<Watch>) -> ConnectionEnd {
        let Some(tunnel) = watch.take_tunnel() else {
            return self.close(ConnectionEnd::Closed).await;
        };
        let (stream, early) = self.0.borrow_mut().take();
        run_tunnel(tunnel, stream, early, &watch).await
    }
}

impl Drop for OwnWire {
    fn drop(&mut self) {
        drop(self.0.borrow_mut().take());
    }
}

/// Drives an active connection and handles the signals of the guard.
async fn drive<F>(mut active: Pin<Box<F>>, wire: &RefCell<ClientWire>, watch: &Watch) -> Turn
where
    F: Future<Output = LastExchange>,
{
    let mut grace = None;
    loop {
        let next = poll_fn(|context| match active.as_mut().poll(context) {
            Poll::Ready(last) => Poll::Ready(Step::Ended(last)),
            Poll::Pending if watch.is_closing() && poll_grace(&mut grace, wire, watch, context).is_ready() => {
                Poll::Ready(Step::GraceOver)
            }
            Poll::Pending => watch.poll_signal(context).map(Step::Signal),
        });
        match next.await {
            Step::Ended(LastExchange::Closed) => return Turn::Ended(ConnectionEnd::Closed),
            Step::Ended(LastExchange::Switched) => return Turn::Switched,
            Step::GraceOver => return Turn::Closes(ConnectionEnd::Closed),
            Step::Signal(GuardSignal::Rest) => {
                if watch.may_rest() && wire.borrow_mut().rest() {
                    return Turn::AtRest;
                }
            }
            Step::Signal(GuardSignal::Drain) => watch.close_after_answer(),
            Step::Signal(GuardSignal::Cut) => return Turn::Ended(ConnectionEnd::Closed),
            Step::Signal(GuardSignal::Overdue(TimeoutKind::Idle)) => {
                return Turn::Closes(ConnectionEnd::Overdue(TimeoutKind::Idle));
            }
            Step::Signal(GuardSignal::Overdue(overdue)) => return Turn::Ended(ConnectionEnd::Overdue(overdue)),
        }
    }
}

/// Ready when a draining connection has waited long enough for its next request. That one is announced as the last.
fn poll_grace(
    grace: &mut Option<Pin<Box<Sleep>>>,
    wire: &RefCell<ClientWire>,
    watch: &Watch,
    context: &mut Context<'_>,
) -> Poll<()> {
    if !watch.awaits_request() || !wire.borrow().is_between_requests() {
        *grace = None;
        return Poll::Pending;
    }
    let duration = if watch.awaits_first_request() { FIRST_REQUEST_GRACE } else { REQUEST_GRACE };
    grace.get_or_insert_with(|| Box::pin(sleep(duration))).as_mut().poll(context)
}

/// A tunnel ends by itself, after a timeout, or at the drain timeout. Its protocol has no graceful close that the
/// gateway could send, so neither its age nor the beginning of the drain ends it.
async fn run_tunnel(tunnel: Box<Tunnel>, stream: ClientStream, early: Bytes, watch: &Rc<Watch>) -> ConnectionEnd {
    let _exchange = ExchangeGuard::begin(watch);
    let mut running = pin!(tunnel.run(stream, early));
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

#[cfg(test)]
mod tests;
