//! Upstream connections that are pinned to a client connection, because they carry its caller's identity.
//!
//! A server that authenticates connections (`connection_auth`) takes every later request on a connection for the same
//! caller's. So such a connection never returns to the idle ones: it is pinned to one client connection, route and
//! server. It ends with the client's connection, after the pool's idle timeout, or when another request needs its
//! connection slot.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::time::Instant;

use super::http1::connection::Http1Connection;
use super::pool::Pool;
use super::server_set::RequestSlot;

/// The upstream connections that belong to one client connection. They end when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct PinnedConnections(RefCell<Vec<PinnedConnection>>);

/// Refers to a connection that its server's pool keeps for this pin only.
#[derive(Debug)]
struct PinnedConnection {
    route: Box<str>,
    /// Its number.
    upstream: u64,
    server: usize,
    pool: Rc<Pool>,
    id: u64,
}

/// The pin of a connection after its exchange.
#[derive(Debug)]
pub(super) struct PinTarget {
    pub(super) pins: Rc<PinnedConnections>,
    pub(super) route: Box<str>,
    /// Its number.
    pub(super) upstream: u64,
}

impl PinnedConnections {
    /// The number of the upstream that a connection is pinned to for this route.
    pub(crate) fn upstream_of(&self, route: &str) -> Option<u64> {
        let pins = self.0.borrow();
        pins.iter().find(|pin| *pin.route == *route && pin.pool.has_pinned(pin.id)).map(|pin| pin.upstream)
    }

    /// The index of the server that a connection is pinned to for this route and upstream.
    pub(super) fn server_of(&self, route: &str, upstream: u64) -> Option<usize> {
        let pins = self.0.borrow();
        let pin = pins.iter().find(|pin| pin.is_for(route, upstream))?;
        pin.pool.has_pinned(pin.id).then_some(pin.server)
    }

    /// The pinned connection, with the time of its last request.
    pub(super) fn take(&self, route: &str, upstream: u64, server: usize) -> Option<(Box<Http1Connection>, Instant)> {
        let mut pins = self.0.borrow_mut();
        let position = pins.iter().position(|pin| pin.is_for(route, upstream) && pin.server == server)?;
        let pin = pins.swap_remove(position);
        pin.pool.take_pinned(pin.id)
    }
}

impl PinTarget {
    pub(super) fn pin(self, slot: &RequestSlot, connection: Box<Http1Connection>, last_used: Instant) {
        let Some(id) = slot.pool().pin(connection, last_used) else {
            return;
        };
        let Self { pins, route, upstream } = self;
        let mut pins = pins.0.borrow_mut();
        // One for each route; those that have ended are removed.
        pins.retain(|pin| *pin.route != *route && pin.pool.has_pinned(pin.id));
        pins.push(PinnedConnection { route, upstream, server: slot.index, pool: Rc::clone(slot.pool()), id });
    }
}

impl PinnedConnection {
    fn is_for(&self, route: &str, upstream: u64) -> bool {
        *self.route == *route && self.upstream == upstream
    }
}

impl Drop for PinnedConnection {
    fn drop(&mut self) {
        // `None` if it was taken or closed.
        drop(self.pool.take_pinned(self.id));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _};
    use std::net::TcpListener;
    use std::time::Duration;

    use tokio::task::LocalSet;

    use super::super::http1::connection::connect;
    use super::super::pools::Pools;
    use super::super::protocol::UpstreamProtocol;
    use super::super::server::{Server, ServerOrigin};
    use super::super::service::Upstream;
    use super::super::settings::UpstreamSettings;
    use super::*;

    fn upstream_at(listener: &TcpListener) -> Upstream {
        let origin = ServerOrigin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = Server::tcp(origin, None, UpstreamProtocol::Http1);
        Upstream::new("legacy", vec![server], UpstreamSettings::new(Duration::from_secs(9), Duration::from_secs(9)))
    }

    /// Waits until the peer has closed by a reset. On another thread, so that the tasks of this one go on.
    async fn is_reset(mut stream: std::net::TcpStream) {
        let read = tokio::task::spawn_blocking(move || stream.read(&mut [0])).await.unwrap();
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_pinned_connection_ends_with_its_client_or_a_sweep() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (pools, upstream) = (Pools::default(), upstream_at(&listener));
        let test = async {
            for by_sweep in [true, false] {
                let slot = pools.server_set(&upstream).acquire_slot_at(&upstream, 0).unwrap();
                let connection = connect(&slot.pool().target, None).await.unwrap();
                let (stream, _) = listener.accept().unwrap();
                let pins = Rc::<PinnedConnections>::default();
                let target = PinTarget { pins: Rc::clone(&pins), route: "all".into(), upstream: upstream.number };
                target.pin(&slot, connection, Instant::now());
                let begun = Instant::now();
                slot.pool().sweep(begun + Duration::from_secs(14));
                assert_eq!(pins.upstream_of("all"), Some(upstream.number), "it was not idle for long");
                assert_eq!(pins.server_of("all", upstream.number), Some(0));
                assert!(slot.pool().take(Instant::now()).is_none(), "no other request can take it");
                if by_sweep {
                    slot.pool().sweep(begun + Duration::from_secs(16));
                    assert!(pins.upstream_of("all").is_none() && pins.take("all", upstream.number, 0).is_none());
                } else {
                    drop(pins);
                }
                is_reset(stream).await;
            }
        };
        LocalSet::new().run_until(test).await;
    }
}
