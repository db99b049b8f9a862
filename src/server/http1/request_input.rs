//! The body of a request, read from its connection as it is polled.

use std::cell::RefCell;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::client_wire::ClientWire;

/// Any task may poll it. If it is dropped before its end, the connection reads no further request.
pub(super) struct RequestInput {
    wire: Rc<RefCell<ClientWire>>,
    /// The wire belongs to later requests.
    has_ended: bool,
}

impl RequestInput {
    /// The body that is open in `wire`.
    pub(super) fn new(wire: &Rc<RefCell<ClientWire>>) -> Self {
        Self { wire: Rc::clone(wire), has_ended: false }
    }
}

impl Body for RequestInput {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let mut wire = self.wire.borrow_mut();
        let polled = wire.poll_upload(context);
        let has_ended = !wire.is_upload_open();
        drop(wire);
        self.has_ended = has_ended;
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        if self.has_ended { SizeHint::with_exact(0) } else { self.wire.borrow().size_hint() }
    }
}

impl Drop for RequestInput {
    fn drop(&mut self) {
        if !self.has_ended {
            self.wire.borrow_mut().abandon_upload();
        }
    }
}
