//! A connection to an upstream.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Sleep, sleep, timeout};

use super::body::RequestBody;
use super::fault::{UpstreamFault, is_gone};
use super::service::{Server, ServerHost, Upstream};

pub(super) type Sender = http1::SendRequest<RequestBody>;

/// Larger heads of answers are refused.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long an upstream may take no byte of a request.
const WRITE_STALL: Duration = Duration::from_secs(30);

/// Connects, within the upstream's deadline, and leaves the connection's driver to the worker.
pub(super) async fn connect(upstream: &Upstream) -> Result<Sender, UpstreamFault> {
    let connecting = timeout(upstream.connect_timeout, open(&upstream.server));
    let stream = connecting.await.map_err(|_| UpstreamFault::Timeout)?.map_err(UpstreamFault::Connect)?;
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES).max_header_size(MAX_HEAD_BYTES);
    let handshake = builder.handshake(TokioIo::new(ListenToTheEnd { stream, deaf: false, stalled: None })).await;
    let (sender, connection) = handshake.map_err(UpstreamFault::Reset)?;
    tokio::task::spawn_local(async move {
        // Whoever sent the request hears of its failure; an idle connection may end as it likes.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

async fn open(server: &Server) -> io::Result<TcpStream> {
    match &server.host {
        ServerHost::Address(address) => TcpStream::connect(SocketAddr::new(*address, server.port)).await,
        ServerHost::Name(name) => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in lookup_host((name.as_str(), server.port)).await? {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

/// A stream on which a failed write does not end reading.
///
/// An upstream that refuses an upload answers and closes; the rest of the upload then fails to be written, and hyper would
/// drop the answer for it. The answer is what matters: what can't be written is thrown away, and the answer read.
struct ListenToTheEnd {
    stream: TcpStream,
    /// The peer takes nothing any more.
    deaf: bool,
    /// Set while a write can't go on: an upstream that has stopped reading must not keep its connection, and what is on it,
    /// when everybody else has left.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl ListenToTheEnd {
    fn outcome(
        &mut self,
        result: Poll<io::Result<usize>>,
        offered: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Err(error)) if is_gone(&error) => {
                self.deaf = true;
                Poll::Ready(Ok(offered))
            }
            Poll::Pending => {
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
                stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(done) => {
                self.stalled = None;
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

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
