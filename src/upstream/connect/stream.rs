//! A stream to a server, of whichever kind: TCP, TLS over it, or a Unix socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};
use tokio_rustls::client::TlsStream;

use crate::upstream::connect::write_progress::WriteProgress;
use crate::upstream::fault::is_gone;

/// How long an upstream may take no byte of a request.
pub(in crate::upstream) const WRITE_STALL: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    /// Boxed: it is a kilobyte larger than the others.
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// A stream on which a failed write does not end reading.
///
/// An upstream that refuses an upload answers and closes; the rest of the upload then fails to be written, and hyper would
/// drop the answer for it. The answer is what matters: what can't be written is thrown away, and the answer read.
pub(in crate::upstream) struct ListenToTheEnd {
    stream: Stream,
    /// The peer takes nothing any more.
    deaf: bool,
    /// Set while a write can't go on: an upstream that has stopped reading must not keep its connection, and what is on it,
    /// when everybody else has left.
    stalled: Option<Pin<Box<Sleep>>>,
    intake: Arc<WriteProgress>,
}

/// The same call on whatever the stream is.
macro_rules! whichever {
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
        whichever!(self.get_mut(), stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        whichever!(self.get_mut(), stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        whichever!(self.get_mut(), stream => match slices {
            // A plain send is the cheaper call.
            [only] => Pin::new(stream).poll_write(context, only),
            _ => Pin::new(stream).poll_write_vectored(context, slices),
        })
    }

    fn is_write_vectored(&self) -> bool {
        whichever!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(self.get_mut(), stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(context))
    }
}

impl ListenToTheEnd {
    pub(in crate::upstream) fn new(stream: Stream, intake: Arc<WriteProgress>) -> Self {
        Self { stream, deaf: false, stalled: None, intake }
    }

    /// `offered` stands for what a peer that takes nothing any more has not taken.
    fn outcome<T>(
        &mut self,
        result: Poll<io::Result<T>>,
        offered: T,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(Err(error)) if is_gone(&error) => {
                self.deaf = true;
                Poll::Ready(Ok(offered))
            }
            Poll::Pending => {
                self.intake.block();
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
                ready!(stalled.as_mut().poll(context));
                self.intake.give_up();
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(done) => {
                if self.stalled.take().is_some() {
                    self.intake.free();
                }
                Poll::Ready(done)
            }
        }
    }
}

impl AsyncRead for ListenToTheEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ListenToTheEnd {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.outcome(result, bytes.len(), context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = slices.iter().map(|slice| slice.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(offered));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.outcome(result, offered, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// What TLS has taken it may not have written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.outcome(result, (), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
