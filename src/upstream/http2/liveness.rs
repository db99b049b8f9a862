//! Whether the peer of a shared connection still responds.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::super::tls_fault::TlsFault;

/// How long a peer has sent nothing while a response was awaited.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// How often it has sent anything.
    reads: Cell<u64>,
    /// Since when a response is awaited, without anything sent.
    silent_since: Cell<Option<Instant>>,
    /// Why the server has refused the handshake, where it says so only when it is read from.
    tls_fault: RefCell<Option<TlsFault>>,
}

/// A stream that records the activity of its peer.
pub(super) struct ActivityTracked<S> {
    pub(super) stream: S,
    pub(super) liveness: Rc<Liveness>,
}

/// A live server has usually sent something within this time. If it is only slow, a new connection costs little.
const MAX_SILENCE: Duration = Duration::from_secs(5);

impl Liveness {
    /// A response is awaited. Gives a mark for [`is_silent_since`](Self::is_silent_since).
    pub(super) fn await_response(&self) -> u64 {
        if self.silent_since.get().is_none() {
            self.silent_since.set(Some(Instant::now()));
        }
        self.reads.get()
    }

    /// The peer has sent nothing since the mark, and nothing for so long that the connection may be dead.
    pub(super) fn is_silent_since(&self, mark: u64) -> bool {
        self.reads.get() == mark && self.silent_since.get().is_some_and(|since| since.elapsed() > MAX_SILENCE)
    }

    pub(super) fn tls_fault(&self) -> Option<TlsFault> {
        self.tls_fault.borrow().clone()
    }

    fn record_read(&self) {
        self.reads.set(self.reads.get().wrapping_add(1));
        self.silent_since.set(None);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ActivityTracked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.liveness.record_read();
        }
        if let Poll::Ready(Err(error)) = &read {
            // The library keeps only the text of the error.
            *self.liveness.tls_fault.borrow_mut() = TlsFault::within(error).cloned();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ActivityTracked<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_nothing_while_awaited_is_silent() {
        let liveness = Liveness::default();
        advance(2 * MAX_SILENCE).await;
        let first = liveness.await_response();
        assert!(!liveness.is_silent_since(first), "no response was awaited");
        advance(MAX_SILENCE).await;
        let second = liveness.await_response();
        assert!(!liveness.is_silent_since(first));
        advance(Duration::from_millis(1)).await;
        assert!(liveness.is_silent_since(first));
        assert!(liveness.is_silent_since(second), "the time counts for callers that each give up early, together");
    }

    #[tokio::test(start_paused = true)]
    async fn any_read_ends_the_silence() {
        let (mut peer, stream) = duplex(64);
        let liveness = Rc::new(Liveness::default());
        let mut stream = ActivityTracked { stream, liveness: Rc::clone(&liveness) };
        let before = liveness.await_response();
        peer.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap();
        let after = liveness.await_response();
        advance(2 * MAX_SILENCE).await;
        assert!(!liveness.is_silent_since(before));
        assert!(liveness.is_silent_since(after));
    }
}
