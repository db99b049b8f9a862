//! A connection by HTTP/2 for one request, which no other shares: what it shows the server counts for the connection.
//!
//! Counts with the shared ones, and is bounded by them and by the requests that are under way. Ends with its stream, since only the stream's slot holds it.

use std::cell::Cell;
use std::rc::Rc;

use tokio::time::{Instant, timeout_at};

use super::{Multiplexed, StreamSlot, connect};
use crate::upstream::fault::UpstreamFault;
use crate::upstream::pool::Pool;

/// A connection for one request that is being opened; it counts as open.
struct OpeningConnection<'m>(&'m Multiplexed);

impl Multiplexed {
    /// A connection for one request, which ends with it.
    pub(in crate::upstream) async fn own(pool: &Rc<Pool>, deadline: Instant) -> Result<StreamSlot, UpstreamFault> {
        let all = &pool.multiplexed;
        if pool.target.most_connections.is_some_and(|most| all.open.get() + usize::from(all.is_opening.get()) >= most) {
            return Err(UpstreamFault::Full);
        }
        let connection = {
            let _opening = OpeningConnection::begin(all);
            let deadline = deadline.min(Instant::now() + pool.target.connect_timeout);
            let opened = timeout_at(deadline, connect(pool)).await.map_err(|_| UpstreamFault::Timeout);
            let opened = opened.and_then(|opened| opened.map_err(UpstreamFault::Connect));
            opened.inspect_err(|fault| pool.target.warn(fault))?
        };
        connection.state.streams.set(1);
        Ok(StreamSlot { all: Rc::clone(all), connection, asked: Cell::default() })
    }
}

impl<'m> OpeningConnection<'m> {
    fn begin(all: &'m Multiplexed) -> Self {
        all.open.update(|open| open + 1);
        Self(all)
    }
}

impl Drop for OpeningConnection<'_> {
    fn drop(&mut self) {
        self.0.open.update(|open| open - 1);
        // Others may wait for its room.
        self.0.news.notify_waiters();
    }
}
