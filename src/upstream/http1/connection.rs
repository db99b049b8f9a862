//! An HTTP/1.1 connection to a server.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::super::body::request_body::RequestBody;
use super::super::connect::open::open;
use super::super::connect::stream::WriteTolerantStream;
use super::super::connect::target::DialTarget;
use super::super::connect::write_progress::WriteProgress;
use super::super::fault::UpstreamFault;
use super::super::pin_limit::PinPermit;
use super::super::response_head::MAX_HEAD_BYTES;
use super::connection_slot::ConnectionSlot;
use super::reusable_deadline::ReusableDeadline;

#[derive(Debug)]
pub(crate) struct Http1Connection {
    pub(crate) requests: http1::SendRequest<RequestBody>,
    pub(crate) deadline: ReusableDeadline,
    pub(crate) write_progress: Arc<WriteProgress>,
    /// The task that moves its bytes.
    pub(crate) driver: AbortHandle,
    /// Of the server, if it has one.
    pub(crate) address: Option<IpAddr>,
    /// How often the server's addresses had changed when the connection was opened.
    pub(crate) address_changes: u32,
    /// Held while it is pinned, in use or not.
    pub(crate) pin_permit: Option<Box<PinPermit>>,
}

/// Connects, within the upstream's timeout. The connection's driver becomes a task of the worker, which holds `slot`
/// until the end of the connection.
pub(crate) async fn connect(
    target: &DialTarget,
    slot: Option<Rc<ConnectionSlot>>,
) -> Result<Http1Connection, UpstreamFault> {
    let address_changes = target.address_changes.get();
    let opening = timeout(target.connect_timeout, open(&target.server));
    let opened =
        opening.await.map_err(|_| UpstreamFault::Timeout).and_then(|opened| opened.map_err(UpstreamFault::Connect));
    let (stream, address) = opened.inspect_err(|fault| target.warn(fault))?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES).max_header_size(MAX_HEAD_BYTES);
    let write_progress = Arc::new(WriteProgress::default());
    // Until it is idle.
    write_progress.close_by_reset(true);
    let stream = WriteTolerantStream::new(stream, Arc::clone(&write_progress));
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (requests, connection) = handshake.map_err(|error| UpstreamFault::Reset(error.into()))?;
    let driver = tokio::task::spawn_local(async move {
        // The sender of a request gets its error; an idle connection may end in any way.
        let _ = connection.with_upgrades().await;
        drop(slot);
    });
    let driver = driver.abort_handle();
    let deadline = ReusableDeadline::new();
    Ok(Http1Connection { requests, deadline, write_progress, driver, address, address_changes, pin_permit: None })
}
