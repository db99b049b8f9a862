//! One HTTP/2 connection from the end of its handshake to its last byte: timeouts and drain.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::time::timeout;

use super::connection_end::{CLOSE_TIMEOUT, ConnectionEnd};
use super::watch::{GuardSignal, TimeoutKind, Watch};

/// Drives a connection and handles the signals of the guard. Requests that the client sends before it receives GOAWAY
/// are answered.
pub(super) async fn drive<C>(
    mut connection: Pin<Box<C>>,
    shut_down: impl Fn(Pin<&mut C>),
    watch: &Watch,
) -> ConnectionEnd
where
    C: Future<Output = hyper::Result<()>>,
{
    loop {
        let next = poll_fn(|context| match connection.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Err(ended(&done))),
            Poll::Pending => {
                watch.polled();
                watch.poll_signal(context).map(Ok)
            }
        });
        match next.await {
            Err(ended) => return ended,
            // HTTP/2 frames need no request.
            Ok(GuardSignal::Rest) => {}
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

fn ended(done: &hyper::Result<()>) -> ConnectionEnd {
    match done {
        Err(error) if error.is_parse_too_large() => ConnectionEnd::TooLarge,
        Err(error) if error.is_parse() => ConnectionEnd::Malformed,
        Ok(()) | Err(_) => ConnectionEnd::Closed,
    }
}
