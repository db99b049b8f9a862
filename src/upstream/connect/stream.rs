//! A byte stream to a server: TCP, TLS over TCP, or a Unix socket.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};
use tokio_rustls::client::TlsStream;

use super::super::fault::is_disconnect;
use super::super::tls_fault::TlsFault;
use super::write_progress::WriteProgress;

/// How long an upstream may take no byte of a request.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    /// Boxed because it is a kilobyte larger than the others.
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// A stream on which a failed write does not end reading.
///
/// An upstream that refuses an upload responds and closes. The rest of the upload then fails to be written. It is
/// discarded, and the response is read.
///
/// When it is dropped, the connection is closed as [`WriteProgress::close_by_reset`] says.
#[derive(Debug)]
pub(crate) struct WriteTolerantStream {
    stream: Stream,
    /// The peer has closed its side: writes are discarded.
    discards_writes: bool,
    /// Set while a write is blocked: an upstream that has stopped reading must not keep its connection, and the
    /// requests on it, after their callers have left.
    write_timer: Option<Pin<Box<Sleep>>>,
    progress: Rc<WriteProgress>,
}

/// The same call on the stream inside, of any kind.
macro_rules! on_inner {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Tls($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_inner!(self.get_mut(), stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_inner!(self.get_mut(), stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_inner!(self.get_mut(), stream => match slices {
            // A plain write is the cheaper call.
            [only] => Pin::new(stream).poll_write(context, only),
            _ => Pin::new(stream).poll_write_vectored(context, slices),
        })
    }

    fn is_write_vectored(&self) -> bool {
        on_inner!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_inner!(self.get_mut(), stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_inner!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(context))
    }
}

impl Stream {
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Unix(_) => None,
        }
    }
}

/// Whether closing the connection resets it.
pub(super) fn set_reset_on_close(stream: &TcpStream, is_reset: bool) {
    let _ = SockRef::from(stream).set_linger(is_reset.then_some(Duration::ZERO));
}

impl WriteTolerantStream {
    pub(crate) fn new(stream: Stream, progress: Rc<WriteProgress>) -> Self {
        Self { stream, discards_writes: false, write_timer: None, progress }
    }

    /// The peer has closed its side before all was written.
    pub(crate) fn discards_writes(&self) -> bool {
        self.discards_writes
    }

    /// `discarded` is the result if the peer has closed its side.
    fn after_write<T>(
        &mut self,
        result: Poll<io::Result<T>>,
        discarded: T,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(Err(error)) if is_disconnect(&error) => {
                self.discards_writes = true;
                Poll::Ready(Ok(discarded))
            }
            Poll::Pending => {
                self.progress.block();
                let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
                ready!(timer.as_mut().poll(context));
                self.progress.give_up();
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(done) => {
                if self.write_timer.take().is_some() {
                    self.progress.unblock();
                }
                Poll::Ready(done)
            }
        }
    }
}

impl AsyncRead for WriteTolerantStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer).map_err(TlsFault::of_read)
    }
}

impl AsyncWrite for WriteTolerantStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.discards_writes {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.after_write(result, bytes.len(), context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.discards_writes {
            return Poll::Ready(Ok(length));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.after_write(result, length, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// TLS may not have written yet what it has taken.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.discards_writes {
            return Poll::Ready(Ok(()));
        }
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.after_write(result, (), context)
    }

    /// A connection that is to be reset must not end regularly before.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.discards_writes || self.progress.closes_by_reset() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Drop for WriteTolerantStream {
    fn drop(&mut self) {
        if self.progress.closes_by_reset() {
            if let Some(stream) = self.stream.tcp() {
                set_reset_on_close(stream, true);
            }
        } else if let Stream::Tls(stream) = &mut self.stream {
            // An idle connection has room for `close_notify`. If it has none, the connection ends without.
            let _ = Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_reset_or_ends_regularly_after_its_output() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for is_reset in [true, false] {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut peer, _) = listener.accept().await.unwrap();
            let progress = Rc::new(WriteProgress::default());
            let mut stream = WriteTolerantStream::new(Stream::Tcp(stream), Rc::clone(&progress));
            progress.close_by_reset(true);
            progress.close_by_reset(is_reset);
            stream.write_all(b"x").await.unwrap();
            stream.shutdown().await.unwrap();
            drop(stream);
            let end = peer.read_to_end(&mut Vec::new()).await.map_err(|error| error.kind());
            assert_eq!(end, if is_reset { Err(io::ErrorKind::ConnectionReset) } else { Ok(1) });
        }
    }
}
