//! The accept loop: takes connections, hands on those whose place is with another worker, gives each of the others a task, and lets
//! none be lost when it ends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::drain::{Drain, Stage};
use super::places::{Place, Places};

/// A connection as the kernel gives it, with its place.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) place: Place,
}

/// A connection on its way to its worker.
#[derive(Debug)]
pub(crate) struct HandedOn {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    place: Place,
}

/// One worker's doors to the others that listen on an address, and its own to it.
#[derive(Debug)]
pub(crate) struct Doors {
    worker: usize,
    all: Arc<[mpsc::Sender<HandedOn>]>,
    own: mpsc::Receiver<HandedOn>,
}

/// For each worker, on one address.
pub(crate) fn doors(workers: usize) -> Vec<Doors> {
    let (all, owns): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(HANDED_ON)).unzip();
    let all: Arc<[_]> = all.into();
    owns.into_iter().enumerate().map(|(worker, own)| Doors { worker, all: Arc::clone(&all), own }).collect()
}

/// Connections between two workers; where one does not take them on, it gets no more.
const HANDED_ON: usize = 64;

/// When descriptors or memory have run out: long enough to let some go, short enough to be back soon.
const BACK_OFF: Duration = Duration::from_millis(100);

const SAY_EVERY: Duration = Duration::from_secs(1);
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// Accepts until the drain begins, takes what the kernel has queued by then, and ends when every connection has, or at the cut.
pub(crate) async fn run<F, Fut>(
    listener: TcpListener,
    mut doors: Doors,
    places: Arc<Places>,
    mut drain: Drain,
    serve: F,
) where
    F: Fn(Accepted) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let mut connections = JoinSet::new();
    let begin = |connections: &mut JoinSet<()>, accepted: Option<Accepted>| {
        accepted.into_iter().for_each(|accepted| {
            connections.spawn_local(serve(accepted));
        });
    };
    loop {
        tokio::select! {
            biased;
            () = drain.reached(Stage::Draining) => break,
            Some(handed_on) = doors.own.recv() => begin(&mut connections, handed_on.taken_on()),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => begin(&mut connections, admit(stream, peer, &places, &doors)),
                Err(error) => if let Some(pause) = retry_after(&error, &places) {
                    tokio::time::sleep(pause).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
        // While there is always one more to accept, nobody comes to hear of those that have ended.
        while connections.try_join_next().is_some() {}
    }
    // Who hands on now finds the door closed, and keeps what it has.
    doors.own.close();
    while let Some(handed_on) = doors.own.recv().await {
        begin(&mut connections, handed_on.taken_on());
    }
    for (stream, peer) in queued(listener) {
        begin(&mut connections, admit(stream, peer, &places, &doors));
    }
    tokio::select! {
        () = all(&mut connections) => {}
        () = cut(drain) => {}
    }
}

async fn all(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// A moment after the cut, for the connections that end by themselves then.
async fn cut(mut drain: Drain) {
    drain.reached(Stage::Cut).await;
    tokio::time::sleep(LAST_MOMENT).await;
}

/// `None` where it is refused, or another worker's by now.
fn admit(stream: TcpStream, peer: SocketAddr, places: &Arc<Places>, doors: &Doors) -> Option<Accepted> {
    let Some(place) = places.take(peer.ip(), doors.worker) else {
        debug!(client.address = %peer.ip(), "too many connections: refused one");
        return None;
    };
    // Answers are written whole; waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let peer = SocketAddr::new(canonical(peer.ip()), peer.port());
    if place.worker() == doors.worker {
        Some(Accepted { stream, peer, place })
    } else {
        doors.hand_on(stream, peer, place)
    }
}

impl Doors {
    /// Gives back what can't be handed on.
    fn hand_on(&self, stream: TcpStream, peer: SocketAddr, place: Place) -> Option<Accepted> {
        let door = self.all.get(place.worker())?;
        let stream = stream.into_std().ok()?;
        let kept = door.try_send(HandedOn { stream, peer, place }).err()?;
        let mut kept = kept.into_inner();
        kept.place.stay_with(self.worker);
        kept.taken_on()
    }
}

impl HandedOn {
    fn taken_on(self) -> Option<Accepted> {
        let Self { stream, peer, place } = self;
        Some(Accepted { stream: TcpStream::from_std(stream).ok()?, peer, place })
    }
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Connections that the kernel has already accepted for us would be reset when the socket closes.
fn queued(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let accept = || {
        let (stream, peer) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    std::iter::from_fn(accept).collect()
}

/// A connection that failed by itself costs nothing; a shortage of ours needs a pause.
fn retry_after(error: &io::Error, places: &Places) -> Option<Duration> {
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
