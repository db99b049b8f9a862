//! An HTTP/2 connection for one request, because its credentials hold for the whole connection.
//!
//! It counts towards the limit on connections. It ends with its stream, as only the stream's slot holds it.

use std::rc::Rc;

use tokio::time::{Instant, timeout_at};

use super::super::fault::UpstreamFault;
use super::connection::{Connection, OpenConnections};
use super::pool::{Http2Pool, StreamSlot};

/// A connection that is being opened; it counts as open.
struct OpeningConnection<'m>(&'m OpenConnections);

impl Http2Pool {
    /// A stream on a connection that no other request uses.
    pub(crate) async fn acquire_dedicated(pool: &Rc<Self>, deadline: Instant) -> Result<StreamSlot, UpstreamFault> {
        let (target, open) = (&pool.target, &pool.open);
        let count = open.count.get() + usize::from(pool.is_opening.get());
        if target.max_connections.is_some_and(|max| count >= max) {
            return Err(UpstreamFault::Full);
        }
        let connection = {
            let _opening = OpeningConnection::begin(open);
            let deadline = deadline.min(Instant::now() + target.connect_timeout);
            let opening = Connection::open(target, open);
            let opened = timeout_at(deadline, opening).await.map_err(|_| UpstreamFault::Timeout);
            let opened = opened.and_then(|opened| opened.map_err(UpstreamFault::Connect));
            opened.inspect_err(|fault| target.warn(fault))?
        };
        Ok(StreamSlot::new(Rc::clone(pool), connection))
    }
}

impl<'m> OpeningConnection<'m> {
    fn begin(open: &'m OpenConnections) -> Self {
        open.count.update(|count| count + 1);
        Self(open)
    }
}

impl Drop for OpeningConnection<'_> {
    fn drop(&mut self) {
        self.0.count.update(|count| count - 1);
        // Another request may wait for a connection.
        self.0.changed.notify_waiters();
    }
}
