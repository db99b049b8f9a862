//! The accept loop: takes connections while there is room for them, hands on those whose place is with another worker, gives each of the
//! others a task, and lets none be lost when it ends.
//!
//! While there is no place for a connection or for its handshake, nothing is accepted: the kernel's queue holds the crowd in order. A
//! connection of an address that has enough is reset before anything is done for it.

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
use tracing::{debug, warn};

use super::connection_limiter::{ConnectionLimitReached, ConnectionLimiter, ConnectionPermit};
use super::drain::{Drain, Stage};
use super::handshakes::{HandshakePermit, Handshakes};
use super::listener::BACKLOG;

/// A connection as the kernel gives it, with its place.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) place: ConnectionPermit,
    pub(crate) handshake: HandshakePermit,
}

/// Where one worker's connections to one address come from.
#[derive(Debug)]
pub(crate) struct WorkerListener {
    listener: TcpListener,
    doors: HandoffChannels,
    places: Arc<ConnectionLimiter>,
    handshakes: Rc<Handshakes>,
    /// Accepted when another worker took the last place.
    held: Option<(TcpStream, SocketAddr)>,
}

/// A connection that has its place.
type AcceptedStream = (TcpStream, SocketAddr, ConnectionPermit);

/// A connection on its way to its worker.
#[derive(Debug)]
pub(crate) struct Handoff {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    place: ConnectionPermit,
}

/// One worker's doors to the others that listen on an address, and its own to it.
#[derive(Debug)]
pub(crate) struct HandoffChannels {
    worker: usize,
    all: Arc<[mpsc::Sender<Handoff>]>,
    own: mpsc::Receiver<Handoff>,
}

/// For each worker, on one address.
pub(crate) fn doors(workers: usize) -> Vec<HandoffChannels> {
    let (all, owns): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(HANDED_ON)).unzip();
    let all: Arc<[_]> = all.into();
    owns.into_iter().enumerate().map(|(worker, own)| HandoffChannels { worker, all: Arc::clone(&all), own }).collect()
}

/// Connections between two workers. A worker that does not take them on gets no more: the others keep theirs.
const HANDED_ON: usize = 64;

/// When descriptors or memory have run out: long enough to let some go, short enough to be back soon.
const BACK_OFF: Duration = Duration::from_millis(100);

const SAY_EVERY: Duration = Duration::from_secs(1);
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// Accepts until the drain begins, takes what the kernel has queued by then, and ends when every connection has, or at the cut.
pub(crate) async fn run<F, Fut>(mut intake: WorkerListener, mut drain: Drain, serve: F)
where
    F: Fn(Accepted) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = drain.reached(Stage::Draining) => break,
            accepted = intake.next() => {
                connections.spawn_local(serve(accepted));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
        // While there is always one more to accept, nobody comes to hear of those that have ended.
        while connections.try_join_next().is_some() {}
    }
    let finish = async {
        let mut rest = intake.close().await;
        while let Some(accepted) = rest.next().await {
            connections.spawn_local(serve(accepted));
            while connections.try_join_next().is_some() {}
        }
        while connections.join_next().await.is_some() {}
    };
    tokio::select! {
        () = finish => {}
        () = cut(drain) => {}
    }
}

/// A moment after the cut, for the connections that end by themselves then.
async fn cut(mut drain: Drain) {
    drain.reached(Stage::Cut).await;
    tokio::time::sleep(LAST_MOMENT).await;
}

impl WorkerListener {
    pub(crate) fn new(
        listener: TcpListener,
        doors: HandoffChannels,
        places: Arc<ConnectionLimiter>,
        handshakes: Rc<Handshakes>,
    ) -> Self {
        Self { listener, doors, places, handshakes, held: None }
    }

    /// Waits for the next connection. Nothing is lost where this is dropped.
    async fn next(&mut self) -> Accepted {
        loop {
            self.handshakes.room().await;
            let Self { listener, doors, places, held, .. } = self;
            let HandoffChannels { worker, all, own } = doors;
            let placed = tokio::select! {
                biased;
                Some(handed_on) = own.recv() => handed_on.taken_on(),
                placed = accept(listener, places, held, |peer| places.take(peer.ip(), *worker)) => {
                    placed.and_then(|placed| hand_on(all, *worker, placed))
                }
            };
            if let Some((stream, peer, place)) = placed {
                return Accepted { stream, peer, place, handshake: self.handshakes.begin() };
            }
        }
    }

    /// Stops listening. What the kernel and the other workers have for us by now is still to be served.
    async fn close(self) -> OpenAtDrain {
        let Self { listener, mut doors, places, handshakes, held } = self;
        // A worker that hands on finds the door closed now, and keeps what it has.
        doors.own.close();
        let mut handed_on = VecDeque::new();
        while let Some(one) = doors.own.recv().await {
            handed_on.push_back(one);
        }
        let queued = held.into_iter().chain(queued(listener)).collect();
        OpenAtDrain { handed_on, queued, worker: doors.worker, places, handshakes }
    }
}

/// `None` where it failed, was refused, or has to wait for a place.
async fn accept(
    listener: &TcpListener,
    places: &ConnectionLimiter,
    held: &mut Option<(TcpStream, SocketAddr)>,
    take: impl Fn(SocketAddr) -> Result<ConnectionPermit, ConnectionLimitReached>,
) -> Option<AcceptedStream> {
    places.room().await;
    let (stream, peer) = match held.take() {
        Some(held) => held,
        None => match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(pause) = retry_after(&error, places) {
                    tokio::time::sleep(pause).await;
                }
                return None;
            }
        },
    };
    match take(peer) {
        Ok(place) => Some(begin(stream, peer, place)),
        Err(ConnectionLimitReached::Full) => {
            *held = Some((stream, peer));
            None
        }
        Err(ConnectionLimitReached::Address) => {
            refuse(stream, peer);
            None
        }
    }
}

fn begin(stream: TcpStream, peer: SocketAddr, place: ConnectionPermit) -> AcceptedStream {
    // Answers are written whole; waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    (stream, SocketAddr::new(canonical(peer.ip()), peer.port()), place)
}

/// A reset leaves nothing behind, neither here nor in the kernel.
fn refuse(stream: TcpStream, peer: SocketAddr) {
    debug!(client.address = %peer.ip(), "too many connections: refused one");
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// Gives back what stays here, or can't be handed on.
fn hand_on(all: &[mpsc::Sender<Handoff>], worker: usize, placed: AcceptedStream) -> Option<AcceptedStream> {
    let (stream, peer, place) = placed;
    if place.worker() == worker {
        return Some((stream, peer, place));
    }
    let door = all.get(place.worker())?;
    let stream = stream.into_std().ok()?;
    let mut kept = door.try_send(Handoff { stream, peer, place }).err()?.into_inner();
    kept.place.stay_with(worker);
    kept.taken_on()
}

impl Handoff {
    fn taken_on(self) -> Option<AcceptedStream> {
        let Self { stream, peer, place } = self;
        Some((TcpStream::from_std(stream).ok()?, peer, place))
    }
}

/// Connections that were there when the drain began.
struct OpenAtDrain {
    handed_on: VecDeque<Handoff>,
    queued: VecDeque<(TcpStream, SocketAddr)>,
    worker: usize,
    places: Arc<ConnectionLimiter>,
    handshakes: Rc<Handshakes>,
}

impl OpenAtDrain {
    /// `None` after the last.
    async fn next(&mut self) -> Option<Accepted> {
        loop {
            self.handshakes.room().await;
            let (stream, peer, mut place) = match self.handed_on.pop_front() {
                Some(handed_on) => match handed_on.taken_on() {
                    Some(placed) => placed,
                    None => continue,
                },
                None => match self.take().await? {
                    Some(placed) => placed,
                    None => continue,
                },
            };
            place.stay_with(self.worker);
            return Some(Accepted { stream, peer, place, handshake: self.handshakes.begin_late() });
        }
    }

    /// Of the queue. `Some(None)` where its address has enough.
    async fn take(&mut self) -> Option<Option<AcceptedStream>> {
        let (stream, peer) = self.queued.pop_front()?;
        loop {
            self.places.room().await;
            match self.places.take(peer.ip(), self.worker) {
                Ok(place) => return Some(Some(begin(stream, peer, place))),
                Err(ConnectionLimitReached::Full) => {}
                Err(ConnectionLimitReached::Address) => {
                    refuse(stream, peer);
                    return Some(None);
                }
            }
        }
    }
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Connections that the kernel has already accepted for us would be reset when the socket closes. Others come all the time: no more are
/// taken than the queue can hold.
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

/// A connection that failed by itself costs nothing; a shortage of ours needs a pause.
fn retry_after(error: &io::Error, places: &ConnectionLimiter) -> Option<Duration> {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => None,
        _ => {
            if let Some(times) = places.shortage(Instant::now(), SAY_EVERY) {
                warn!(%error, times, "cannot accept connections; trying again");
            }
            Some(BACK_OFF)
        }
    }
}
