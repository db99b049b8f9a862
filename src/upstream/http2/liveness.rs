//! Whether anybody is still there at the other end of a connection that many requests share.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How a peer has kept silent since it was asked for something.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Liveness {
    /// How often it has said anything.
    heard: Cell<u64>,
    /// When it was first asked after that.
    since: Cell<Option<Instant>>,
}

/// A stream whose peer is listened for.
pub(in crate::upstream) struct ActivityTracked<S> {
    pub(in crate::upstream) stream: S,
    pub(in crate::upstream) silence: Rc<Liveness>,
}

/// A server that is there has said something by then, as a rule. Where it has not, a new connection costs little.
const SUSPICIOUS: Duration = Duration::from_secs(5);

impl Liveness {
    /// Something is asked. Gives what tells later whether anything was said since.
    pub(in crate::upstream) fn asked(&self) -> u64 {
        if self.since.get().is_none() {
            self.since.set(Some(Instant::now()));
        }
        self.heard.get()
    }

    /// Nothing was said since that question, nor for so long that there may be nobody.
    pub(in crate::upstream) fn is_suspicious(&self, asked: u64) -> bool {
        self.heard.get() == asked && self.since.get().is_some_and(|since| since.elapsed() > SUSPICIOUS)
    }

    fn is_broken(&self) {
        self.heard.set(self.heard.get().wrapping_add(1));
        self.since.set(None);
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
            self.silence.is_broken();
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
    async fn a_peer_is_suspicious_that_says_nothing_for_long_after_it_was_asked() {
        let silence = Liveness::default();
        advance(2 * SUSPICIOUS).await;
        let first = silence.asked();
        assert!(!silence.is_suspicious(first), "nobody had asked it anything");
        advance(SUSPICIOUS).await;
        let second = silence.asked();
        assert!(!silence.is_suspicious(first));
        advance(Duration::from_millis(1)).await;
        assert!(silence.is_suspicious(first));
        assert!(silence.is_suspicious(second), "callers that each give up early find it out together");
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_is_read_breaks_the_silence() {
        let (mut peer, stream) = duplex(64);
        let silence = Rc::new(Liveness::default());
        let mut stream = ActivityTracked { stream, silence: Rc::clone(&silence) };
        let before = silence.asked();
        peer.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap();
        let after = silence.asked();
        advance(2 * SUSPICIOUS).await;
        assert!(!silence.is_suspicious(before));
        assert!(silence.is_suspicious(after));
    }
}
