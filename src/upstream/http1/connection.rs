//! Connecting to a server: by TCP, TLS or a Unix socket, and what is spoken over it.

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::upstream::body::request_body::RequestBody;
use crate::upstream::connect::stream::{ListenToTheEnd, Stream};
use crate::upstream::connect::write_progress::WriteProgress;
use crate::upstream::fault::UpstreamFault;
use crate::upstream::http1::reusable_deadline::ReusableDeadline;
use crate::upstream::pinned::PinPermit;
use crate::upstream::pool::DialTarget;
use crate::upstream::server_set::ConnectionSlot;
use crate::upstream::service::{Server, ServerAddress};

/// A connection that takes one request after the other.
#[derive(Debug)]
pub(in crate::upstream) struct Sender {
    pub(in crate::upstream) requests: http1::SendRequest<RequestBody>,
    pub(in crate::upstream) alarm: ReusableDeadline,
    pub(in crate::upstream) intake: Arc<WriteProgress>,
    /// Moves its bytes.
    pub(in crate::upstream) driver: AbortHandle,
    /// Of the server, where that has one.
    pub(in crate::upstream) address: Option<IpAddr>,
    /// How often the server had moved when this was opened.
    pub(in crate::upstream) moves: u32,
    /// While it is pinned, in use or not.
    pub(in crate::upstream) pinned: Option<Box<PinPermit>>,
}

/// Larger heads of answers are refused.
pub(in crate::upstream) const MAX_HEAD_BYTES: usize = 64 * 1024;
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects, within the upstream's deadline, and leaves the connection's driver to the worker. The connection has its room, where
/// there is only so much, until its end.
pub(in crate::upstream) async fn connect(
    target: &DialTarget,
    room: Option<Rc<ConnectionSlot>>,
) -> Result<Sender, UpstreamFault> {
    let moves = target.moves.get();
    let connecting = timeout(target.connect_timeout, open(&target.server));
    let opened =
        connecting.await.map_err(|_| UpstreamFault::Timeout).and_then(|opened| opened.map_err(UpstreamFault::Connect));
    let (stream, address) = opened.inspect_err(|fault| target.warn(fault))?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES).max_header_size(MAX_HEAD_BYTES);
    let intake = Arc::new(WriteProgress::default());
    let stream = ListenToTheEnd::new(stream, Arc::clone(&intake));
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (requests, connection) = handshake.map_err(|error| UpstreamFault::Reset(error.into()))?;
    let driver = tokio::task::spawn_local(async move {
        // Whoever sent the request hears of its failure; an idle connection may end as it likes.
        let _ = connection.with_upgrades().await;
        drop(room);
    });
    let driver = driver.abort_handle();
    Ok(Sender { requests, alarm: ReusableDeadline::new(), intake, driver, address, moves, pinned: None })
}

/// A stream to the server, TLS included, on any runtime, and the address that it leads to. The deadline is the caller's.
pub(crate) async fn open(server: &Server) -> io::Result<(Stream, Option<IpAddr>)> {
    let stream = match &server.place {
        ServerAddress::Address(address) => TcpStream::connect(address).await?,
        ServerAddress::Name(name, port) => {
            let addresses = name.addresses().await?;
            first_of(addresses.into_iter().map(|address| SocketAddr::new(address, *port))).await?
        }
        ServerAddress::Socket(path) => {
            return UnixStream::connect(path).await.map(|stream| (Stream::Unix(stream), None));
        }
    };
    let _ = stream.set_nodelay(true);
    let address = stream.peer_addr().ok().map(|address| address.ip().to_canonical());
    let stream = match &server.tls {
        None => Stream::Tcp(stream),
        Some(tls) => Stream::Tls(Box::new(tls.connect(stream, server.protocol).await?)),
    };
    Ok((stream, address))
}

/// The first of several addresses that takes a connection. Each has a start before the next, unless it fails (RFC 8305 §5).
async fn first_of(mut addresses: impl ExactSizeIterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match addresses.next() {
            Some(only) if addresses.len() == 0 && attempts.is_empty() => return TcpStream::connect(only).await,
            Some(next) => {
                attempts.spawn(TcpStream::connect(next));
            }
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        let start_is_over = async {
            if addresses.len() == 0 {
                return pending().await;
            }
            sleep(HEAD_START).await;
        };
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(died) => last = io::Error::other(died),
            },
            () = start_is_over => {}
        }
    }
}
