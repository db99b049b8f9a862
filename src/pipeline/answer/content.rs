//! The content of an answer, before it becomes a body that carries the record of the request.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body::Body as _;

use crate::pipeline::policy::current_snapshot::CurrentSnapshot;
use crate::pipeline::policy::open_streams::{BegunStream, OpenStreams};
use crate::pipeline::record::open_request::OpenRequest;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::server::tunnel::Tunnel;
use crate::upstream::response_body::ResponseBody;

/// The content of an answer.
#[derive(Debug)]
pub(crate) enum Content {
    /// One of the gateway's own answers: small, and complete. `None` if it is empty or has been sent.
    Whole(Option<Bytes>),
    Streamed(Box<ResponseBody>),
    /// No body: another protocol follows.
    Tunnel(Box<Tunnel>),
}

impl Content {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// The answer to HEAD: the length of the body, and no body. hyper leaves a body out over HTTP/1.1 only, and so do
    /// some upstreams.
    pub(crate) fn without_body(answer: Response<Self>) -> Response<Self> {
        let (mut head, content) = answer.into_parts();
        let content = match content {
            Self::Whole(Some(bytes)) => {
                head.headers.insert(CONTENT_LENGTH, bytes.len().into());
                Self::Whole(None)
            }
            Self::Whole(None) | Self::Streamed(_) => Self::Whole(None),
            Self::Tunnel(tunnel) => Self::Tunnel(tunnel),
        };
        Response::from_parts(head, content)
    }

    /// Whether it may last for hours: a tunnel, or events that come when they happen.
    pub(crate) fn may_last(answer: &Response<Self>, is_grpc: bool) -> bool {
        match answer.body() {
            Self::Whole(_) => false,
            Self::Streamed(_) => is_grpc || answer.headers().get(CONTENT_TYPE).is_some_and(is_event_stream),
            Self::Tunnel(_) => true,
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streamed(body) => body.is_end_stream(),
            Self::Tunnel(_) => true,
        }
    }
}

/// An answer that may last is judged again under each new configuration.
pub(crate) fn keep_if_lasting(
    answer: &Response<Content>,
    open: &mut OpenRequest,
    (streams, current): (&Rc<OpenStreams>, &Rc<CurrentSnapshot>),
    (snapshot, begun): (&Snapshot, BegunStream),
) {
    if Content::may_last(answer, begun.is_grpc) {
        open.keeps_stream(streams, (snapshot, current), begun);
    }
}

fn is_event_stream(media_type: &HeaderValue) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    media_type.as_bytes().get(..EVENTS.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(EVENTS))
}
