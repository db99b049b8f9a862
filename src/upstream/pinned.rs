//! PinnedConnections connections that carry a caller's identity to the connection that the caller came by.
//!
//! A server that authenticates connections (`connection_auth`) takes every later request on one for the same caller's. Decides
//! what becomes of such a connection after an exchange: pinned, for this client connection, route and server alone, or closed.
//! It never returns to the pool. A pinned connection ends with the client's, after the pool's idle time, or when another request
//! needs its room.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, timeout_at};

use crate::upstream::connection_auth::{ConnectionAuthSign, RequestCredentials};
use crate::upstream::http1::connection::Sender;
use crate::upstream::pool::{HeldConnection, Pool};
use crate::upstream::server_set::{ConnectionSlot, RequestSlot};
use crate::upstream::service::Upstream;

/// The upstream connections that belong to one client connection. Dropped with it, they end.
#[derive(Debug, Default)]
pub(crate) struct PinnedConnections(RefCell<Vec<PinnedConnection>>);

/// Refers to a connection that lies in its server's pool, out of reach of all others.
#[derive(Debug)]
struct PinnedConnection {
    route: Box<str>,
    /// By its number.
    upstream: u64,
    server: usize,
    pool: Rc<Pool>,
    id: u64,
}

/// How a request may be tied to the connection that it came by.
#[derive(Debug)]
pub(crate) struct ConnectionBinding<'r> {
    credentials: RequestCredentials,
    tie: Option<PinScope<'r>>,
}

/// What a connection is pinned to. Only for a client that speaks for itself alone on a connection of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PinScope<'r> {
    pub(crate) pins: &'r Rc<PinnedConnections>,
    pub(crate) route: &'r str,
    /// That pinned connections are counted by.
    pub(crate) address: IpAddr,
}

/// What becomes of a connection after its exchange.
#[derive(Debug)]
pub(super) enum ConnectionFate {
    /// Another request may use it.
    Shared,
    Closed,
    Pinned(Box<PinTarget>),
}

/// Where a connection is pinned after its exchange.
#[derive(Debug)]
pub(super) struct PinTarget {
    pins: Rc<PinnedConnections>,
    route: Box<str>,
    upstream: u64,
}

/// How many connections are pinned for each address, in the whole process. Touched only where something is pinned.
#[derive(Debug, Default)]
pub(crate) struct PinLimit(Mutex<HashMap<IpAddr, usize>>);

/// The right to have one connection pinned; free again when dropped.
#[derive(Debug)]
pub(super) struct PinPermit {
    limit: Arc<PinLimit>,
    address: IpAddr,
}

const MOST_PER_ADDRESS: usize = 8;
/// TLS sends `close_notify` first.
const CLOSES_WITHIN: Duration = Duration::from_secs(5);

impl<'r> ConnectionBinding<'r> {
    /// `shown` is the header that the upstream gets, where that may hold credentials of the caller's. Without a tie the
    /// connection is never pinned.
    pub(crate) fn new(shown: Option<&HeaderMap>, tie: Option<PinScope<'r>>) -> Self {
        Self { credentials: shown.map_or(RequestCredentials::None, RequestCredentials::of), tie }
    }

    /// The request counts for its connection, now or already: it is not sent twice, nor to another upstream.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.credentials == RequestCredentials::ForConnection
            || self.tie.is_some_and(|tie| tie.pins.upstream_of(tie.route).is_some())
    }

    /// It needs a connection that no other request is on.
    pub(super) fn needs_own_connection(&self) -> bool {
        self.credentials == RequestCredentials::ForConnection
    }

    /// The server that it must go to.
    pub(super) fn server(&self, upstream: &Upstream) -> Option<usize> {
        let tie = self.tie?;
        let pins = tie.pins.0.borrow();
        let pin = pins.iter().find(|pin| pin.is_for(tie.route, upstream.number))?;
        pin.pool.has_pinned(pin.id).then_some(pin.server)
    }

    /// The connection that is pinned for it, with the time when it was last used.
    pub(super) fn take(&self, upstream: &Upstream, server: usize) -> Option<(Sender, Instant)> {
        let tie = self.tie?;
        let mut pins = tie.pins.0.borrow_mut();
        let place = pins.iter().position(|pin| pin.is_for(tie.route, upstream.number) && pin.server == server)?;
        let pin = pins.swap_remove(place);
        pin.pool.take_pinned(pin.id)
    }

    /// Decides what becomes of a connection by which an answer with this head has come.
    pub(super) fn settle(
        &self,
        (status, headers): (StatusCode, &HeaderMap),
        held: &mut HeldConnection,
        upstream: &Upstream,
        limit: &Arc<PinLimit>,
        seat: &RequestSlot,
    ) {
        let sign = self.credentials.answered(status, headers);
        match held {
            HeldConnection::Whole { sender, afterwards, .. } => {
                *afterwards = self.afterwards(sign, sender, upstream, limit)
            }
            // An offer leaves nothing on the connection: credentials for one go over another.
            HeldConnection::Stream(slot, _) if sign == ConnectionAuthSign::Handshake => {
                seat.pool().multiplexed.retire(slot)
            }
            HeldConnection::Stream(..) => {}
        }
    }

    fn afterwards(
        &self,
        sign: ConnectionAuthSign,
        sender: &mut Sender,
        upstream: &Upstream,
        limit: &Arc<PinLimit>,
    ) -> ConnectionFate {
        if sign == ConnectionAuthSign::None && sender.pinned.is_none() {
            return ConnectionFate::Shared;
        }
        let Some(tie) = self.tie else {
            return ConnectionFate::Closed;
        };
        if sender.pinned.is_none() {
            sender.pinned = limit.take(tie.address).map(Box::new);
        }
        if sender.pinned.is_none() {
            return ConnectionFate::Closed;
        }
        ConnectionFate::Pinned(Box::new(PinTarget {
            pins: Rc::clone(tie.pins),
            route: tie.route.into(),
            upstream: upstream.number,
        }))
    }
}

impl PinTarget {
    pub(super) fn keep(self, seat: &RequestSlot, sender: Sender, used: Instant) {
        let Some(id) = seat.pool().pin(sender, used) else {
            return;
        };
        let Self { pins, route, upstream } = self;
        let mut pins = pins.0.borrow_mut();
        // One for each route, and none that has ended.
        pins.retain(|pin| *pin.route != *route && pin.pool.has_pinned(pin.id));
        pins.push(PinnedConnection { route, upstream, server: seat.index, pool: Rc::clone(seat.pool()), id });
    }
}

impl PinnedConnections {
    /// The number of the upstream that a connection is pinned to for this route.
    pub(crate) fn upstream_of(&self, route: &str) -> Option<u64> {
        let pins = self.0.borrow();
        pins.iter().find(|pin| *pin.route == *route && pin.pool.has_pinned(pin.id)).map(|pin| pin.upstream)
    }
}

impl PinnedConnection {
    fn is_for(&self, route: &str, upstream: u64) -> bool {
        *self.route == *route && self.upstream == upstream
    }
}

impl Drop for PinnedConnection {
    fn drop(&mut self) {
        // Taken, or closed.
        drop(self.pool.take_pinned(self.id));
    }
}

impl PinLimit {
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<PinPermit> {
        let mut pinned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = pinned.entry(address).or_insert(0);
        if *here == MOST_PER_ADDRESS {
            return None;
        }
        *here += 1;
        Some(PinPermit { limit: Arc::clone(self), address })
    }
}

impl Drop for PinPermit {
    fn drop(&mut self) {
        let mut pinned = self.limit.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = pinned.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                pinned.remove(&self.address);
            }
        }
    }
}

/// Room for one more connection, for which the oldest pinned one that rests is closed. `Err` where there is none.
pub(super) async fn room(
    seat: &RequestSlot,
    upstream: &Upstream,
    deadline: Instant,
) -> Result<Option<Rc<ConnectionSlot>>, ()> {
    if let Ok(room) = seat.room(upstream) {
        return Ok(room);
    }
    if !seat.pool().close_oldest_pinned() {
        return Err(());
    }
    let deadline = deadline.min(Instant::now() + CLOSES_WITHIN);
    loop {
        // Its driver has to run before the room is free.
        timeout_at(deadline, seat.room_is_free()).await.map_err(|_| ())?;
        if let Ok(room) = seat.room(upstream) {
            return Ok(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use tokio::task::LocalSet;

    use super::*;
    use crate::upstream::http1::connection::connect;
    use crate::upstream::pool::Pools;
    use crate::upstream::service::{Server, ServerOrigin, UpstreamProtocol, UpstreamSettings};

    fn upstream_at(listener: &TcpListener) -> Upstream {
        let origin = ServerOrigin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = Server::tcp(origin, None, UpstreamProtocol::Http1);
        Upstream::new("legacy", vec![server], UpstreamSettings::new(Duration::from_secs(9), Duration::from_secs(9)))
    }

    /// Waits until the other side has closed. Elsewhere, so that this thread's tasks go on.
    async fn is_closed(mut stream: std::net::TcpStream) {
        let read = tokio::task::spawn_blocking(move || stream.read(&mut [0]).unwrap()).await.unwrap();
        assert_eq!(read, 0);
    }

    #[tokio::test]
    async fn a_pinned_connection_ends_with_its_client_or_when_the_pool_has_swept_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (pools, upstream) = (Pools::default(), upstream_at(&listener));
        let test = async {
            for by_sweep in [true, false] {
                let seat = pools.crew(&upstream).seat_at(&upstream, 0).unwrap();
                let sender = connect(&seat.pool().target, None).await.unwrap();
                let (stream, _) = listener.accept().unwrap();
                let pins = Rc::<PinnedConnections>::default();
                let tie = PinScope { pins: &pins, route: "all", address: "10.0.0.1".parse().unwrap() };
                let bond = ConnectionBinding::new(None, Some(tie));
                let berth = PinTarget { pins: Rc::clone(&pins), route: "all".into(), upstream: upstream.number };
                berth.keep(&seat, sender, Instant::now());
                for _ in 0..3 {
                    seat.pool().prune();
                }
                assert!(bond.is_exclusive() && bond.server(&upstream) == Some(0), "it has not rested for long");
                assert!(seat.pool().take().is_none(), "it is not in the pool");
                if by_sweep {
                    seat.pool().prune();
                    assert!(!bond.is_exclusive() && bond.take(&upstream, 0).is_none());
                } else {
                    drop(pins);
                }
                is_closed(stream).await;
            }
        };
        LocalSet::new().run_until(test).await;
    }

    #[test]
    fn an_address_has_so_many_pins_and_no_more_until_one_ends() {
        let limit = Arc::<PinLimit>::default();
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        let mut places: Vec<_> = (0..MOST_PER_ADDRESS).map(|_| limit.take(one).unwrap()).collect();
        assert!(limit.take(one).is_none() && limit.take(other).is_some());
        places.pop();
        assert!(limit.take(one).is_some());
        drop(places);
        assert!(limit.0.lock().unwrap().is_empty(), "an address without pins is forgotten");
    }
}
