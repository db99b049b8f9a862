//! The stream of an HTTP/2 connection: reports its progress to the guard, and fails if the client floods it with
//! frames.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

use super::frame_meter::FrameMeter;
use super::watch::Watch;

pub(super) struct WatchedIo<T> {
    stream: T,
    watch: Rc<Watch>,
    meter: FrameMeter,
}

/// The bytes that a task may write for one unit of its budget, which has 128.
const BYTES_PER_UNIT: usize = 2 * 1024;

/// Charges a large write to the budget of the task. The runtime counts a write of any size as one unit, but a
/// connection with a hundred streams may write megabytes. With this, other tasks run after 256 KiB.
fn charge_write(bytes: usize, context: &mut Context<'_>) {
    for _ in 0..bytes / BYTES_PER_UNIT {
        let Poll::Ready(unit) = coop::poll_proceed(context) else { break };
        unit.made_progress();
    }
}

impl<T> WatchedIo<T> {
    pub(super) fn new(stream: T, watch: Rc<Watch>, meter: FrameMeter) -> Self {
        Self { stream, watch, meter }
    }

    fn wrote(&mut self, result: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.watch.wrote(result.is_pending());
        if let Poll::Ready(Ok(count)) = &result {
            self.meter.wrote(*count);
            charge_write(*count, context);
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WatchedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.watch.read();
            self.meter.read(&buffer.filled()[before..]).map_err(io::Error::other)?;
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WatchedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.watch.wrote(result.is_pending());
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::super::guard::Guard;
    use super::super::limits::Limits;
    use super::*;

    #[tokio::test]
    async fn a_connection_of_many_streams_writes_its_share_per_turn() {
        let watch = Guard::new(&Limits::default()).watch(true, crate::server::listener::ListenerId(0));
        let meter = FrameMeter::new(&Rc::default());
        let (client, _server) = tokio::io::duplex(16 * 1024 * 1024);
        let mut io = WatchedIo::new(client, watch, meter);
        let piece = [0; 64 * 1024];
        for _turn in 0..3 {
            // A turn begins when the runtime polls the task anew.
            tokio::task::yield_now().await;
            let written = poll_fn(|context| {
                let mut written = 0;
                while let Poll::Ready(count) = Pin::new(&mut io).poll_write(context, &piece) {
                    written += count.unwrap();
                }
                Poll::Ready(written)
            });
            assert_eq!(written.await, 256 * 1024);
        }
    }
}
