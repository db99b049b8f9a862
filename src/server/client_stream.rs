//! The stream of a connection: a socket, or TLS over one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::socket::Socket;

#[derive(Debug)]
pub(crate) enum ClientStream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
    /// The connection has ended. Every read and write fails.
    Closed,
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

impl ClientStream {
    /// Leaves a closed stream behind.
    pub(super) fn close(&mut self) -> Self {
        std::mem::replace(self, Self::Closed)
    }

    /// The socket, below TLS. `None` after the end.
    fn socket(&mut self) -> Option<&mut Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(stream) => Some(stream.get_mut().0),
            Self::Closed => None,
            #[cfg(test)]
            Self::Memory(_) => None,
        }
    }

    /// Makes the kernel reset the connection when the stream is dropped. A client takes that for an error, even where
    /// the end of the connection would be the end of a body.
    pub(super) fn reset_when_dropped(&mut self) {
        if let Some(socket) = self.socket() {
            let _ = socket2::SockRef::from(&socket.0).set_linger(Some(Duration::ZERO));
        }
    }

    /// Ends the output of the socket without a close message of TLS: the client finds its input truncated.
    pub(super) fn poll_truncate(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket() {
            Some(socket) => Pin::new(socket).poll_shutdown(context),
            None => Pin::new(self).poll_shutdown(context),
        }
    }

    /// Reads from the socket, below TLS, what nothing will use.
    pub(super) fn poll_discard(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.socket() {
            Some(socket) => Pin::new(socket).poll_read(context, buffer),
            None => Pin::new(self).poll_read(context, buffer),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(context, slices),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Closed => false,
            #[cfg(test)]
            Self::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
            Self::Closed => Poll::Ready(Ok(())),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
