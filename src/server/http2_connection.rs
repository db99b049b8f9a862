//! One HTTP/2 connection from the end of its handshake to its last byte: timeouts and drain.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Sleep, sleep, timeout};

use super::connection_end::{CLOSE_TIMEOUT, ConnectionEnd};
use super::watch::{FIRST_REQUEST_GRACE, GuardSignal, TimeoutKind, Watch};

/// Drives a connection and handles the signals of the guard. Requests that the client sends before it receives GOAWAY
/// are answered. GOAWAY waits a short time for the first request of a new connection: a client that receives it sooner
/// must not send a request.
pub(super) async fn drive<C>(
    mut connection: Pin<Box<C>>,
    shut_down: impl Fn(Pin<&mut C>),
    watch: &Watch,
) -> ConnectionEnd
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut grace = None;
    loop {
        let next = poll_fn(|context| match connection.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Err(ended(&done))),
            Poll::Pending => {
                watch.polled();
                if is_over(&mut grace, watch, context) {
                    return Poll::Ready(Ok(GuardSignal::Drain));
                }
                watch.poll_signal(context).map(Ok)
            }
        });
        match next.await {
            Err(ended) => return ended,
            // HTTP/2 frames need no request.
            Ok(GuardSignal::Rest) => {}
            Ok(GuardSignal::Drain) if grace.take().is_none() && watch.awaits_first_request() => {
                grace = Some(Box::pin(sleep(FIRST_REQUEST_GRACE)));
            }
            Ok(GuardSignal::Drain) => shut_down(connection.as_mut()),
            Ok(GuardSignal::Cut) => return ConnectionEnd::Closed,
            Ok(GuardSignal::Overdue(overdue)) => {
                shut_down(connection.as_mut());
                if overdue == TimeoutKind::Idle {
                    let _ = timeout(CLOSE_TIMEOUT, connection).await;
                }
                return ConnectionEnd::Overdue(overdue);
            }
        }
    }
}

/// Whether GOAWAY waits no longer: the first request has come, or its time is over.
fn is_over(grace: &mut Option<Pin<Box<Sleep>>>, watch: &Watch, context: &mut Context<'_>) -> bool {
    let ends = |grace: &mut Pin<Box<Sleep>>| !watch.awaits_first_request() || grace.as_mut().poll(context).is_ready();
    grace.as_mut().is_some_and(ends)
}

fn ended(done: &hyper::Result<()>) -> ConnectionEnd {
    match done {
        Err(error) if error.is_parse_too_large() => ConnectionEnd::TooLarge,
        Err(error) if error.is_parse() => ConnectionEnd::Malformed,
        Ok(()) | Err(_) => ConnectionEnd::Closed,
    }
}
