//! HTTP/1.1, written byte by byte: for upstreams and clients that send what no library would send.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

use super::gateway::PATIENCE;
use super::upstream::listen;

/// One end of a connection.
pub(crate) struct Wire<T> {
    pub(crate) stream: T,
    unread: Vec<u8>,
}

/// An answer as it was received.
#[derive(Debug)]
pub(crate) struct Spoken {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// Waits, with a timeout.
#[track_caller]
pub(crate) fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        let done = tokio::time::timeout(PATIENCE, future).await;
        done.unwrap_or_else(|_| panic!("timed out at {place}"))
    }
}

impl<T: AsyncWrite + Unpin> Wire<T> {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A disconnect is found by reading.
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }
}

impl Wire<TcpStream> {
    /// Closes the connection, and waits until the peer's kernel knows it, which takes a moment on a busy machine.
    pub(crate) async fn close(mut self) {
        const FIN_WAIT_2: &str = "05";
        let ends = [self.stream.local_addr().unwrap(), self.stream.peer_addr().unwrap()];
        self.stream.shutdown().await.unwrap();
        within(async {
            while tcp_state(ends).is_some_and(|state| state != FIN_WAIT_2) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// As Linux writes it. `None` if there is no such connection now.
fn tcp_state([local, remote]: [SocketAddr; 2]) -> Option<String> {
    let written = |end: SocketAddr| match end {
        SocketAddr::V4(end) => format!("{:08X}:{:04X}", u32::from_ne_bytes(end.ip().octets()), end.port()),
        SocketAddr::V6(_) => unreachable!("the servers of tests listen at 127.0.0.1"),
    };
    let ends = format!("{} {} ", written(local), written(remote));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.split_once(&ends).map(|(_, rest)| rest[..2].to_owned())
}

impl<T: AsyncRead + Unpin> Wire<T> {
    pub(crate) fn new(stream: T) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// A request or response head, with its empty line. `None` if the other end has closed.
    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            self.more().await?;
        }
    }

    /// This number of bytes, or fewer if the connection ends.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count && self.more().await.is_some() {}
        let count = count.min(self.unread.len());
        self.unread.drain(..count).collect()
    }

    /// All bytes until the other end closes, in any way.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while within(self.more()).await.is_some() {}
        std::mem::take(&mut self.unread)
    }

    /// One answer with a `content-length` or without a body. `None` if the other end has closed.
    pub(crate) async fn answer(&mut self) -> Option<Spoken> {
        let head = within(self.head()).await?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = field(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let body = within(self.take(length)).await;
        Some(Spoken { status, head, body })
    }

    async fn more(&mut self) -> Option<()> {
        let count = self.stream.read_buf(&mut self.unread).await.ok()?;
        (count > 0).then_some(())
    }
}

impl Spoken {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

/// The value of a field in a head.
pub(crate) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.trim())
}

/// A service that writes raw bytes. Counts its connections, and keeps the heads that it received.
#[derive(Clone)]
pub(crate) struct RawUpstream {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

/// Handles a connection of such a service after its first head.
pub(crate) type Talk = Pin<Box<dyn Future<Output = ()> + Send>>;

impl RawUpstream {
    /// Reads a head on every connection, then calls `talk`.
    pub(crate) async fn start(talk: impl Fn(Wire<TcpStream>, String) -> Talk + Send + Sync + 'static) -> Self {
        let (accepted, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, log, talk) = (Arc::clone(&accepted), Arc::clone(&heads), Arc::new(talk));
        let address = listen(move |stream| {
            count.fetch_add(1, Ordering::SeqCst);
            let (log, talk) = (Arc::clone(&log), Arc::clone(&talk));
            async move {
                let mut wire = Wire::new(stream);
                if let Some(head) = wire.head().await {
                    log.lock().unwrap().push(head.clone());
                    talk(wire, head).await;
                }
            }
        })
        .await;
        Self { address, accepted, heads }
    }

    /// Answers every request with these bytes, and closes.
    pub(crate) async fn saying(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::start(move |mut wire, _| {
            let bytes = bytes.clone();
            Box::pin(async move { wire.send(bytes).await })
        })
        .await
    }

    /// Answers every request with these bytes, and keeps the connection open until the other end closes it.
    pub(crate) async fn saying_and_staying(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::start(move |mut wire, _| {
            let bytes = bytes.clone();
            Box::pin(async move {
                wire.send(bytes).await;
                wire.rest().await;
            })
        })
        .await
    }

    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// An event that happens once. It can be waited for before and after it has happened.
#[derive(Clone, Default)]
pub(crate) struct Signal(Arc<Notify>);

impl Signal {
    pub(crate) fn give(&self) {
        self.0.notify_one();
    }

    #[track_caller]
    pub(crate) fn wait(&self) -> impl Future<Output = ()> {
        let notify = Arc::clone(&self.0);
        within(async move { notify.notified().await })
    }
}

/// A body that is sent in pieces, and ends when the sender is dropped.
pub(crate) struct Piped(mpsc::Receiver<Bytes>);

impl Piped {
    pub(crate) fn new() -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Self(receiver))
    }
}

impl Body for Piped {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A whole body with trailers.
pub(crate) struct Trailed {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Trailed {
    pub(crate) fn new(data: &'static [u8], trailers: &[(&'static str, &'static str)]) -> Self {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let data = (!data.is_empty()).then(|| Bytes::from_static(data));
        Self { data, trailers: Some(trailers.iter().map(field).collect()) }
    }
}

impl Body for Trailed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }
}
