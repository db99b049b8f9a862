//! A connection on which the rest of a request is sent while its response is read.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Frame;
use tokio::task::AbortHandle;

use super::super::fault::{BoxError, UpstreamFault};
use super::connection::Http1Connection;
use super::upload::RequestUpload;

/// The side that reads the response. When it is dropped, sending ends, and the connection is reset.
#[derive(Debug)]
pub(super) struct SharedConnection {
    shared: Rc<Shared>,
    sending: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    /// `None` once sending has failed, or once the response has ended.
    connection: RefCell<Option<Box<Http1Connection>>>,
    is_sent: Cell<bool>,
    failure: RefCell<Option<UpstreamFault>>,
    /// Waits for more of the response.
    reader: RefCell<Option<Waker>>,
}

impl SharedConnection {
    pub(super) fn new(connection: Box<Http1Connection>, upload: RequestUpload) -> Self {
        let shared = Rc::new(Shared {
            connection: RefCell::new(Some(connection)),
            is_sent: Cell::new(false),
            failure: RefCell::new(None),
            reader: RefCell::new(None),
        });
        let sending = tokio::task::spawn_local(send(Rc::clone(&shared), upload)).abort_handle();
        Self { shared, sending }
    }

    /// Reads from the connection. If sending has failed, that is the failure of the response.
    pub(super) fn poll_with(
        &self,
        context: &mut Context<'_>,
        read: impl FnOnce(&mut Http1Connection, &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamFault>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamFault>>> {
        match &mut *self.shared.connection.borrow_mut() {
            Some(connection) => {
                let polled = read(connection, context);
                if polled.is_pending() {
                    *self.shared.reader.borrow_mut() = Some(context.waker().clone());
                }
                polled
            }
            None => {
                let failure = self.shared.failure.take();
                let failure = failure.unwrap_or_else(|| failed(io::Error::from(io::ErrorKind::BrokenPipe).into()));
                Poll::Ready(Some(Err(failure)))
            }
        }
    }

    /// The connection, if all of the request is sent.
    pub(super) fn into_connection(self) -> Option<Box<Http1Connection>> {
        if self.shared.is_sent.get() { self.shared.connection.take() } else { None }
    }
}

impl Drop for SharedConnection {
    fn drop(&mut self) {
        self.sending.abort();
        drop(self.shared.connection.take());
    }
}

async fn send(shared: Rc<Shared>, mut upload: RequestUpload) {
    let sent = poll_fn(|context| match &mut *shared.connection.borrow_mut() {
        Some(connection) => upload.poll_send(connection, context),
        None => Poll::Ready(Ok(())),
    });
    match sent.await {
        Ok(()) => shared.is_sent.set(true),
        Err(error) => {
            *shared.failure.borrow_mut() = Some(failed(error));
            drop(shared.connection.take());
            if let Some(reader) = shared.reader.take() {
                reader.wake();
            }
        }
    }
}

fn failed(error: BoxError) -> UpstreamFault {
    UpstreamFault::Reset(error)
}
