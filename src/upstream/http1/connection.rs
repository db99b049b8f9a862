//! An HTTP/1.1 connection to a server: a plain value, owned by the pool while it is idle and by the exchange that uses
//! it. It has no task of its own.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite as _, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::time::timeout;

use super::super::connect::open::open;
use super::super::connect::stream::WriteTolerantStream;
use super::super::connect::target::DialTarget;
use super::super::connect::write_progress::WriteProgress;
use super::super::fault::UpstreamFault;
use super::super::pin_limit::PinPermit;
use super::connection_slot::ConnectionSlot;
use super::output_buffer::OutputBuffer;
use super::reusable_deadline::ReusableDeadline;

#[derive(Debug)]
pub(crate) struct Http1Connection {
    stream: WriteTolerantStream,
    /// Received, and not yet read as a part of a message.
    pub(super) input: BytesMut,
    /// The bytes that the next read asks for.
    read_size: usize,
    pub(super) output: OutputBuffer,
    /// TLS may not have written yet what it has taken.
    pub(super) is_unflushed: bool,
    /// A byte of the present request was written.
    has_written: bool,
    pub(super) deadline: ReusableDeadline,
    pub(crate) write_progress: Rc<WriteProgress>,
    /// Of the server, if it has one.
    pub(crate) address: Option<IpAddr>,
    /// How often the server's addresses had changed when the connection was opened.
    pub(crate) address_changes: u32,
    /// Requests so far.
    pub(crate) requests: u32,
    /// How long the connection may be idle, if the server has said how long it waits.
    pub(crate) announced_idle: Option<Duration>,
    /// Held while it is pinned, in use or not.
    pub(crate) pin_permit: Option<Box<PinPermit>>,
    /// Held until the connection has ended.
    slot: Option<ConnectionSlot>,
}

const MIN_READ: usize = 8 * 1024;
const MAX_READ: usize = 64 * 1024;
/// A connection is not used in the last second that the server has announced: a request could meet the server's end of
/// the connection on its way.
const IDLE_MARGIN: Duration = Duration::from_secs(1);

/// Connects, within the upstream's timeout. The connection holds `slot` until its end.
pub(crate) async fn connect(
    target: &DialTarget,
    slot: Option<ConnectionSlot>,
) -> Result<Box<Http1Connection>, UpstreamFault> {
    let address_changes = target.address_changes.get();
    let opening = timeout(target.connect_timeout, open(&target.server));
    let opened =
        opening.await.map_err(|_| UpstreamFault::Timeout).and_then(|opened| opened.map_err(UpstreamFault::Connect));
    let (stream, address) = opened.inspect_err(|fault| target.warn(fault))?;
    let write_progress = Rc::new(WriteProgress::default());
    // Until it is idle.
    write_progress.close_by_reset(true);
    Ok(Box::new(Http1Connection {
        stream: WriteTolerantStream::new(stream, Rc::clone(&write_progress)),
        input: BytesMut::new(),
        read_size: MIN_READ,
        output: OutputBuffer::default(),
        is_unflushed: false,
        has_written: false,
        deadline: ReusableDeadline::new(),
        write_progress,
        address,
        address_changes,
        requests: 0,
        announced_idle: None,
        pin_permit: None,
        slot,
    }))
}

impl Http1Connection {
    /// False if the peer has ended an idle connection, or has sent bytes that no request has asked for. TLS messages
    /// without content, such as session tickets, are read. Does not wait.
    pub(crate) fn is_usable(&mut self) -> bool {
        is_silent(&mut self.stream)
    }

    /// An idle connection needs no buffers.
    pub(crate) fn release_buffers(&mut self) {
        (self.input, self.output) = (BytesMut::new(), OutputBuffer::default());
    }

    /// The stream, the bytes that were read from it beyond the last message, and its slot.
    pub(crate) fn into_stream(self) -> (WriteTolerantStream, Bytes, Option<ConnectionSlot>) {
        // A tunnel delivers all that was written to it.
        self.write_progress.close_by_reset(false);
        (self.stream, self.input.freeze(), self.slot)
    }

    /// The server keeps the connection for this time without a request.
    pub(super) fn note_announced_idle(&mut self, seconds: u64) {
        self.announced_idle = Some(Duration::from_secs(seconds).saturating_sub(IDLE_MARGIN));
    }

    pub(super) fn begin_request(&mut self) {
        self.requests = self.requests.saturating_add(1);
        self.has_written = false;
        self.read_size = MIN_READ;
    }

    /// True if the server may have seen a part of the present request.
    pub(super) fn has_written(&self) -> bool {
        self.has_written
    }

    /// True if nothing is left of the exchange that has ended.
    pub(super) fn is_at_rest(&self) -> bool {
        self.input.is_empty() && self.has_sent_all() && !self.stream.discards_writes()
    }

    /// True if no part of the request is left in a buffer, TLS's own included.
    pub(super) fn has_sent_all(&self) -> bool {
        self.output.is_empty() && !self.is_unflushed
    }

    /// Reads once into `input`. `Ok(0)`: the peer has ended the stream.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < self.read_size / 2 {
            self.input.reserve(self.read_size);
        }
        let spare = self.input.capacity() - self.input.len();
        let count = ready!(pin!(self.stream.read_buf(&mut self.input)).poll(context))?;
        if count == spare {
            self.read_size = (self.read_size * 2).min(MAX_READ);
        }
        Poll::Ready(Ok(count))
    }

    /// Ready when all of the output is written.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            ready!(self.output.poll_write(&mut self.stream, context))?;
            self.has_written |= !self.stream.discards_writes();
            self.is_unflushed = true;
        }
        if self.is_unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// True if the stream has neither content nor an end to read now. Does not wait.
fn is_silent(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    // A task that has used up its budget would read nothing, also from a connection that has ended.
    let read = pin!(unconstrained(poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut buffer))));
    read.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    #[tokio::test]
    async fn an_ended_connection_is_found_after_a_used_up_budget() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        assert!(is_silent(&mut near));
        drop(far);
        near.readable().await.unwrap();
        let found = poll_fn(|context| {
            while has_budget_remaining() {
                assert!(pin!(consume_budget()).poll(context).is_ready());
            }
            Poll::Ready(!is_silent(&mut near))
        });
        assert!(found.await);
    }
}
