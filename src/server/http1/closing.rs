//! The end of a connection: what is written before it, and what is read and discarded behind it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use super::super::client_stream::ClientStream;
use super::super::connection_end::CLOSE_TIMEOUT;
use super::client_wire::ClientWire;

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// The client has all that it was to get.
    Graceful,
    /// The last answer is incomplete: the client must see that.
    Truncated,
    /// The same, and the end of the connection would be the end of the answer.
    Reset,
}

/// Bytes that are read and discarded after the last answer. The kernel resets a connection that is closed with unread
/// input, and a reset may destroy the answer on its way.
const MAX_DISCARDED: usize = 1024 * 1024;

/// Writes what is left of the output, and closes the connection.
pub(super) async fn close(wire: &RefCell<ClientWire>, closing: Closing) {
    if poll_fn(|context| wire.borrow_mut().poll_output(context)).await.is_err() {
        return;
    }
    // All of the last answer is written, unless it is broken.
    wire.borrow_mut().is_open_ended &= closing != Closing::Graceful;
    let has_unread_input = wire.borrow().has_unread_input();
    let (mut stream, _) = wire.borrow_mut().take();
    let ending = async {
        let ended = match closing {
            Closing::Graceful => stream.shutdown().await,
            Closing::Truncated => poll_fn(|context| stream.poll_truncate(context)).await,
            Closing::Reset => return stream.reset_when_dropped(),
        };
        if ended.is_ok() && has_unread_input {
            discard_input(&mut stream).await;
        }
    };
    let _ = timeout(CLOSE_TIMEOUT, ending).await;
}

/// Ends at the end of the input, or after a number of bytes.
async fn discard_input(stream: &mut ClientStream) {
    let mut discarded = 0;
    poll_fn(|context| poll_discard(stream, &mut discarded, context)).await;
}

fn poll_discard(stream: &mut ClientStream, discarded: &mut usize, context: &mut Context<'_>) -> Poll<()> {
    let mut scratch = [0; 4096];
    while *discarded < MAX_DISCARDED {
        let mut buffer = ReadBuf::new(&mut scratch);
        let read = ready!(stream.poll_discard(context, &mut buffer));
        let count = buffer.filled().len();
        if read.is_err() || count == 0 {
            break;
        }
        *discarded += count;
    }
    Poll::Ready(())
}
