//! Connecting to a server: by TCP, TLS or a Unix socket, and what is spoken over it.

use std::io;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::body::RequestBody;
use super::fault::UpstreamFault;
use super::pool::Target;
use super::service::{Place, Server};
use super::stream::{ListenToTheEnd, Stream};

pub(super) type Sender = http1::SendRequest<RequestBody>;

/// Larger heads of answers are refused.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Connects, within the upstream's deadline, and leaves the connection's driver to the worker.
pub(super) async fn connect(target: &Target) -> Result<Sender, UpstreamFault> {
    let connecting = timeout(target.connect_timeout, open(&target.server));
    let opened =
        connecting.await.map_err(|_| UpstreamFault::Timeout).and_then(|opened| opened.map_err(UpstreamFault::Connect));
    let stream = opened.inspect_err(|fault| target.warn(fault))?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES).max_header_size(MAX_HEAD_BYTES);
    let handshake = builder.handshake(TokioIo::new(ListenToTheEnd::new(stream))).await;
    let (sender, connection) = handshake.map_err(|error| UpstreamFault::Reset(error.into()))?;
    tokio::task::spawn_local(async move {
        // Whoever sent the request hears of its failure; an idle connection may end as it likes.
        let _ = connection.await;
    });
    Ok(sender)
}

/// A stream to the server, TLS included, on any runtime. The deadline is the caller's.
pub(crate) async fn open(server: &Server) -> io::Result<Stream> {
    let stream = match &server.place {
        Place::Address(address) => TcpStream::connect(address).await?,
        Place::Name(name, port) => by_name(name, *port).await?,
        Place::Socket(path) => return UnixStream::connect(path).await.map(Stream::Unix),
    };
    let _ = stream.set_nodelay(true);
    match &server.tls {
        None => Ok(Stream::Tcp(stream)),
        Some(tls) => tls.connect(stream, server.protocol).await.map(|stream| Stream::Tls(Box::new(stream))),
    }
}

async fn by_name(name: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((name, port)).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
