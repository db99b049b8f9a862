//! The accept loop: takes connections, gives each a task, and lets none be lost when it ends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
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

/// When descriptors or memory have run out: long enough to let some go, short enough to be back soon.
const BACK_OFF: Duration = Duration::from_millis(100);

const SAY_EVERY: Duration = Duration::from_secs(1);
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// Accepts until the drain begins, takes what the kernel has queued by then, and ends when every connection has, or at the cut.
pub(crate) async fn run<F, Fut>(listener: TcpListener, places: Arc<Places>, mut drain: Drain, serve: F)
where
    F: Fn(Accepted) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let mut connections = JoinSet::new();
    let begin = |connections: &mut JoinSet<()>, accepted: io::Result<(TcpStream, SocketAddr)>| match accepted {
        Ok((stream, peer)) => {
            if let Some(accepted) = admit(stream, peer, &places) {
                connections.spawn_local(serve(accepted));
            }
            None
        }
        Err(error) => retry_after(&error, &places),
    };
    loop {
        tokio::select! {
            biased;
            () = drain.reached(Stage::Draining) => break,
            accepted = listener.accept() => {
                if let Some(pause) = begin(&mut connections, accepted) {
                    tokio::time::sleep(pause).await;
                }
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    for accepted in queued(listener) {
        begin(&mut connections, Ok(accepted));
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

fn admit(stream: TcpStream, peer: SocketAddr, places: &Arc<Places>) -> Option<Accepted> {
    let Some(place) = places.take(peer.ip()) else {
        debug!(client.address = %peer.ip(), "too many connections: refused one");
        return None;
    };
    // Answers are written whole; waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let peer = SocketAddr::new(canonical(peer.ip()), peer.port());
    Some(Accepted { stream, peer, place })
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
