//! One request of a connection and its answer, as the connection guard sees them.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper_util::rt::TokioIo;

use super::answering::Answering;
use super::output_backlog::BacklogMark;
use super::tunnel::Tunnel;
use super::watch::Watch;

/// Counts a request in flight until it is dropped.
#[derive(Debug)]
pub(crate) struct ExchangeGuard(Rc<Watch>);

impl ExchangeGuard {
    /// Records that a request head has been read whole.
    pub(super) fn begin(watch: &Rc<Watch>) -> Self {
        watch.begin_request();
        Self(Rc::clone(watch))
    }

    /// The connection, or the HTTP/2 stream, becomes a tunnel.
    pub(crate) fn start_tunnel(&self, mut tunnel: Box<Tunnel>) {
        let Some(stream) = tunnel.stream.take() else {
            self.0.put_tunnel(tunnel);
            return;
        };
        // While the tunnel lasts, its connection is not idle.
        let exchange = Self::begin(&self.0);
        tokio::task::spawn_local(async move {
            // It fails if the client has gone or received another answer.
            if let Ok(stream) = stream.await {
                tunnel.run(TokioIo::new(stream), Bytes::new()).await;
            }
            drop(exchange);
        });
    }

    /// A mark behind all output that an HTTP/2 connection has been given so far. Wakes the connection, which is another
    /// task than the caller. `None` for HTTP/1.1, which writes everything before it ends.
    pub(crate) fn output_mark(&self) -> Option<BacklogMark> {
        self.0.is_multiplexed().then(|| {
            self.0.wake();
            self.0.unwritten.output_mark()
        })
    }

    /// Ready once everything before the mark has been written.
    pub(crate) fn poll_written(&self, output_mark: BacklogMark, context: &mut Context<'_>) -> Poll<()> {
        self.0.unwritten.poll(output_mark, context)
    }

    /// Records that an answer begins. `None` for HTTP/1.1, where the socket shows whether the client reads.
    pub(crate) fn answer(&self) -> Option<Rc<Answering>> {
        self.0.is_multiplexed().then(|| self.0.begin_answer())
    }
}

impl Drop for ExchangeGuard {
    fn drop(&mut self) {
        self.0.end_request();
    }
}
