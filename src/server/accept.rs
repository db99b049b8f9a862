//! The accept loop of a worker. Accepts connections while the limits have room, hands off those that belong to another
//! worker, and runs one task for each of the others. At the drain, no accepted connection is lost.
//!
//! While a limit on connections or handshakes is reached, nothing is accepted: connections wait in the kernel's queue.
//! A connection over the limit of its address is reset at once. The limiter counts it, and the control plane logs the
//! count.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use super::connection_limiter::{ConnectionLimitReached, ConnectionLimiter, ConnectionPermit};
use super::drain::{Drain, Stage};
use super::handshakes::{HandshakePermit, Handshakes};
use super::inherited_sockets::QueueOwner;
use super::listener::BACKLOG;

/// An accepted connection with its permits.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) permit: ConnectionPermit,
    pub(crate) handshake: HandshakePermit,
}

/// One worker's source of connections to one listen address.
#[derive(Debug)]
pub(crate) struct WorkerListener {
    listener: TcpListener,
    queue: QueueOwner,
    handoff_channels: HandoffChannels,
    limiter: Arc<ConnectionLimiter>,
    handshakes: Rc<Handshakes>,
    /// Accepted, but another worker took the last permit in between.
    pending: Option<(TcpStream, SocketAddr)>,
}

/// A connection with its permit.
type AcceptedStream = (TcpStream, SocketAddr, ConnectionPermit);

/// A connection that one worker hands to another.
#[derive(Debug)]
pub(crate) struct Handoff {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    permit: ConnectionPermit,
}

/// One worker's channels to all workers that listen on an address, and its own receiver.
#[derive(Debug)]
pub(crate) struct HandoffChannels {
    worker: usize,
    all: Arc<[mpsc::Sender<Handoff>]>,
    own: mpsc::Receiver<Handoff>,
}

/// The channels of each worker, for one listen address.
pub(crate) fn handoff_channels(workers: usize) -> Vec<HandoffChannels> {
    let (all, owns): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(HANDOFF_CAPACITY)).unzip();
    let all: Arc<[_]> = all.into();
    owns.into_iter().enumerate().map(|(worker, own)| HandoffChannels { worker, all: Arc::clone(&all), own }).collect()
}

/// The number of connections that may wait for a worker. If its channel is full, the accepting worker keeps the
/// connection.
const HANDOFF_CAPACITY: usize = 64;

/// The pause after the kernel ran out of file descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

const LOG_INTERVAL: Duration = Duration::from_secs(1);
const CUT_GRACE: Duration = Duration::from_millis(200);

/// Accepts until the drain begins, then accepts what the kernel has queued by then. Ends when all connections have
/// ended, or after the drain timeout.
pub(crate) async fn run<F, Fut>(mut worker_listener: WorkerListener, mut drain: Drain, serve: F)
where
    F: Fn(Accepted) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = drain.reached(Stage::Draining) => break,
            accepted = worker_listener.next() => {
                connections.spawn_local(serve(accepted));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
        // If there is always one more connection to accept, the branch above never runs.
        while connections.try_join_next().is_some() {}
    }
    let finish = async {
        let mut rest = worker_listener.close().await;
        while let Some(accepted) = rest.next().await {
            connections.spawn_local(serve(accepted));
            while connections.try_join_next().is_some() {}
        }
        while connections.join_next().await.is_some() {}
    };
    tokio::select! {
        () = finish => {}
        () = after_cut(drain) => {}
    }
}

/// Ends a short time after the drain timeout: connections end by themselves then.
async fn after_cut(mut drain: Drain) {
    drain.reached(Stage::Cut).await;
    tokio::time::sleep(CUT_GRACE).await;
}

impl WorkerListener {
    pub(crate) fn new(
        (listener, queue): (TcpListener, QueueOwner),
        handoff_channels: HandoffChannels,
        limiter: Arc<ConnectionLimiter>,
        handshakes: Rc<Handshakes>,
    ) -> Self {
        Self { listener, queue, handoff_channels, limiter, handshakes, pending: None }
    }

    /// Waits for the next connection. Cancel-safe.
    async fn next(&mut self) -> Accepted {
        loop {
            self.handshakes.wait_for_room().await;
            let Self { listener, handoff_channels, limiter, pending, .. } = self;
            let HandoffChannels { worker, all, own } = handoff_channels;
            let admitted = tokio::select! {
                biased;
                Some(handed_off) = own.recv() => handed_off.into_accepted(),
                admitted = accept(listener, limiter, pending, |peer| limiter.take(peer.ip(), *worker)) => {
                    admitted.and_then(|admitted| hand_off(all, *worker, admitted))
                }
            };
            if let Some((stream, peer, permit)) = admitted {
                return Accepted { stream, peer, permit, handshake: self.handshakes.begin() };
            }
        }
    }

    /// Stops listening. Connections that the kernel or other workers hold for this worker are still served. Those in the
    /// queue of an inherited socket stay there for the next process.
    async fn close(self) -> OpenAtDrain {
        let Self { listener, queue, mut handoff_channels, limiter, handshakes, pending } = self;
        // From here on, other workers find the channel closed and keep their connections.
        handoff_channels.own.close();
        let mut handed_off = VecDeque::new();
        while let Some(one) = handoff_channels.own.recv().await {
            handed_off.push_back(one);
        }
        let queued = match queue {
            QueueOwner::Worker => queued(listener),
            QueueOwner::ServiceManager => Vec::new(),
        };
        let queued = pending.into_iter().chain(queued).collect();
        OpenAtDrain { handed_off, queued, worker: handoff_channels.worker, limiter, handshakes }
    }
}

/// `None` if accepting failed, or if the connection was refused or has to wait for a permit.
async fn accept(
    listener: &TcpListener,
    limiter: &ConnectionLimiter,
    pending: &mut Option<(TcpStream, SocketAddr)>,
    take: impl Fn(SocketAddr) -> Result<ConnectionPermit, ConnectionLimitReached>,
) -> Option<AcceptedStream> {
    limiter.wait_for_room().await;
    let (stream, peer) = match pending.take() {
        Some(pending) => pending,
        None => match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(pause) = retry_after(&error, limiter) {
                    tokio::time::sleep(pause).await;
                }
                return None;
            }
        },
    };
    match take(peer) {
        Ok(permit) => Some(begin(stream, peer, permit)),
        Err(ConnectionLimitReached::Full) => {
            *pending = Some((stream, peer));
            None
        }
        Err(ConnectionLimitReached::Address) => {
            refuse(stream);
            None
        }
    }
}

fn begin(stream: TcpStream, peer: SocketAddr, permit: ConnectionPermit) -> AcceptedStream {
    // Responses are written in whole pieces, so Nagle's algorithm would only delay them.
    let _ = stream.set_nodelay(true);
    (stream, SocketAddr::new(canonical(peer.ip()), peer.port()), permit)
}

/// Closes by a reset, which leaves no state in the kernel (no TIME_WAIT).
fn refuse(stream: TcpStream) {
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// Returns the connection if it belongs to this worker or cannot be handed off.
fn hand_off(all: &[mpsc::Sender<Handoff>], worker: usize, admitted: AcceptedStream) -> Option<AcceptedStream> {
    let (stream, peer, permit) = admitted;
    if permit.worker() == worker {
        return Some((stream, peer, permit));
    }
    let channel = all.get(permit.worker())?;
    let stream = stream.into_std().ok()?;
    let mut kept = channel.try_send(Handoff { stream, peer, permit }).err()?.into_inner();
    kept.permit.move_to_worker(worker);
    kept.into_accepted()
}

impl Handoff {
    fn into_accepted(self) -> Option<AcceptedStream> {
        let Self { stream, peer, permit } = self;
        Some((TcpStream::from_std(stream).ok()?, peer, permit))
    }
}

/// Connections that existed when the drain began.
struct OpenAtDrain {
    handed_off: VecDeque<Handoff>,
    queued: VecDeque<(TcpStream, SocketAddr)>,
    worker: usize,
    limiter: Arc<ConnectionLimiter>,
    handshakes: Rc<Handshakes>,
}

impl OpenAtDrain {
    /// `None` after the last one.
    async fn next(&mut self) -> Option<Accepted> {
        loop {
            self.handshakes.wait_for_room().await;
            let (stream, peer, mut permit) = match self.handed_off.pop_front() {
                Some(handed_off) => match handed_off.into_accepted() {
                    Some(admitted) => admitted,
                    None => continue,
                },
                None => match self.take().await? {
                    Some(admitted) => admitted,
                    None => continue,
                },
            };
            permit.move_to_worker(self.worker);
            return Some(Accepted { stream, peer, permit, handshake: self.handshakes.begin_late() });
        }
    }

    /// The next connection of the queue. `Some(None)` if it is over the limit of its address.
    async fn take(&mut self) -> Option<Option<AcceptedStream>> {
        let (stream, peer) = self.queued.pop_front()?;
        loop {
            self.limiter.wait_for_room().await;
            match self.limiter.take(peer.ip(), self.worker) {
                Ok(permit) => return Some(Some(begin(stream, peer, permit))),
                Err(ConnectionLimitReached::Full) => {}
                Err(ConnectionLimitReached::Address) => {
                    refuse(stream);
                    return Some(None);
                }
            }
        }
    }
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The connections in the kernel's queue: closing the socket would reset them. New ones keep arriving, so at most as
/// many as the queue holds are taken.
fn queued(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let accept = || {
        let (stream, peer) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    std::iter::from_fn(accept).take(BACKLOG.unsigned_abs() as usize + 1).collect()
}

/// No pause after a connection that failed by itself; a pause after a shortage of resources.
fn retry_after(error: &io::Error, limiter: &ConnectionLimiter) -> Option<Duration> {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => None,
        _ => {
            if let Some(times) = limiter.record_shortage(Instant::now(), LOG_INTERVAL) {
                warn!(%error, times, "cannot accept connections: they wait in the queue of the kernel until it succeeds; raise the open file limit or the memory");
            }
            Some(BACK_OFF)
        }
    }
}
