//! A request as the server has read it, over either version of HTTP.

use std::error::Error;
use std::pin::Pin;

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, Request, Version};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::http1::fault::WireFault;
use crate::http1::target::{OriginForm, RequestTarget};

/// A request, or the rule that its head breaks. After a fault no further request is read from the connection.
pub(crate) type Received = Result<ReceivedRequest, WireFault>;

/// A request whose head has been read.
pub(crate) struct ReceivedRequest {
    pub(crate) head: ReceivedHead,
    /// `None` if the head says that there is none.
    pub(crate) body: Option<ReceivedBody>,
}

#[derive(Debug)]
pub(crate) struct ReceivedHead {
    pub(crate) method: Method,
    pub(crate) target: RequestTarget,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// The protocol that an HTTP/2 request asks for, and the stream to speak it over (RFC 8441).
    pub(crate) extensions: Extensions,
}

/// A request's body as it arrives.
pub(crate) type ReceivedBody = Pin<Box<dyn Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>>>>;

impl ReceivedRequest {
    /// Converts a request that hyper has read.
    pub(super) fn from_hyper(request: Request<Incoming>) -> Result<Self, WireFault> {
        let (head, body) = request.into_parts();
        let body = (!body.is_end_stream()).then(|| Box::pin(body.map_err(Into::into)) as ReceivedBody);
        Ok(Self { head: ReceivedHead::from_hyper(head)?, body })
    }
}

impl ReceivedHead {
    /// Converts a head that hyper has read.
    pub(crate) fn from_hyper(head: http::request::Parts) -> Result<Self, WireFault> {
        let http::request::Parts { method, uri, version, headers, extensions, .. } = head;
        let uri = uri.into_parts();
        let target = match (uri.scheme, uri.authority, uri.path_and_query) {
            (None, None, Some(path)) if path.as_str() == "*" => RequestTarget::Asterisk,
            (None, None, Some(path)) => RequestTarget::Origin(origin_form(path.as_str())?),
            (Some(_), Some(_), Some(path)) if path.as_str() == "*" => RequestTarget::Asterisk,
            (Some(scheme), Some(authority), Some(path)) => RequestTarget::Absolute {
                scheme: Bytes::copy_from_slice(scheme.as_str().as_bytes()),
                authority: Bytes::copy_from_slice(authority.as_str().as_bytes()),
                path: origin_form(path.as_str())?,
            },
            (None, Some(authority), None) => {
                RequestTarget::Authority(Bytes::copy_from_slice(authority.as_str().as_bytes()))
            }
            (..) => return Err(WireFault::Target),
        };
        Ok(Self { method, target, version, headers, extensions })
    }
}

fn origin_form(text: &str) -> Result<OriginForm, WireFault> {
    OriginForm::from_bytes(Bytes::copy_from_slice(text.as_bytes()))
}
