//! One request and its response on an HTTP/2 stream.
//!
//! The request is returned, to be sent again, only if the peer has said that it did not process it: by refusing the
//! stream, or by a GOAWAY with a last stream before this one (RFC 9113 §8.7).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use tokio::time::{Instant, timeout_at};

use super::super::body::request_body::has_payload;
use super::super::body::upload_progress::UploadProgress;
use super::super::connect::target::DialTarget;
use super::super::fault::UpstreamFault;
use super::super::response_head::normalize;
use super::pool::StreamSlot;
use super::response::Http2Body;
use super::upload::{StreamUpload, UploadHandle};
use crate::http1::fault::WireFault;

/// A stream on which the request's head was sent.
struct StartedStream {
    response: ResponseFuture,
    /// `None` once the body is sent.
    send_stream: Option<SendStream<Bytes>>,
}

pub(crate) enum StreamFailure {
    /// The peer has not processed the request, which can be sent again.
    Unprocessed(UpstreamFault, Box<Request<StreamUpload>>),
    Failed(UpstreamFault),
}

enum StreamError {
    /// The peer has not processed the request.
    Unprocessed(UpstreamFault),
    Failed(UpstreamFault),
}

/// Sends a request and gives the response, whose body is still to arrive, with its stream and the rest of the upload.
pub(crate) async fn send(
    target: &DialTarget,
    slot: StreamSlot,
    request: Request<StreamUpload>,
    progress: &UploadProgress,
    response_timeout: Duration,
) -> Result<(Response<Http2Body>, StreamSlot, Option<UploadHandle>), StreamFailure> {
    let (parts, mut upload) = request.into_parts();
    let head = http2_head(Request::from_parts(parts, ()), target, upload.length())?;
    match exchange(&slot, head.clone(), &mut upload, progress, response_timeout).await {
        Ok((mut response, send_stream)) => {
            let upload = UploadHandle::beside_response(upload, send_stream);
            normalize(&mut response)?;
            let max_fields = target.head_limits.fields;
            if response.headers().len() > max_fields {
                return Err(UpstreamFault::Protocol(WireFault::TooManyFields.into()).into());
            }
            let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            let response = response.map(|stream| Http2Body::new(stream, length, max_fields));
            Ok((response, slot, upload))
        }
        Err(StreamError::Unprocessed(fault)) if upload.rewind() => {
            Err(StreamFailure::Unprocessed(fault, Box::new(head.map(|()| upload))))
        }
        Err(StreamError::Unprocessed(fault)) => Err(StreamFailure::Failed(fault)),
        Err(StreamError::Failed(fault)) => {
            if matches!(fault, UpstreamFault::Timeout) {
                // The connection is slow or dead: other requests must not wait for it too.
                slot.retire_connection();
            }
            Err(StreamFailure::Failed(fault))
        }
    }
}

impl From<UpstreamFault> for StreamFailure {
    fn from(fault: UpstreamFault) -> Self {
        Self::Failed(fault)
    }
}

/// The head in HTTP/2: an absolute target instead of `Host`, and no connection-specific fields (RFC 9113 §8.2.2,
/// §8.3.1).
fn http2_head(
    mut request: Request<()>,
    target: &DialTarget,
    length: Option<u64>,
) -> Result<Request<()>, UpstreamFault> {
    let scheme = if target.server.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(scheme).authority(target.server.authority.as_bytes()).path_and_query(path);
    *request.uri_mut() = uri.build().map_err(|error| UpstreamFault::Protocol(error.into()))?;
    *request.version_mut() = Version::HTTP_2;
    let announced = length.filter(|length| *length > 0 || has_payload(request.method()));
    let headers = request.headers_mut();
    headers.remove(HOST);
    headers.remove(TRANSFER_ENCODING);
    if let Some(length) = announced {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok(request)
}

async fn exchange(
    slot: &StreamSlot,
    head: Request<()>,
    upload: &mut StreamUpload,
    progress: &UploadProgress,
    response_timeout: Duration,
) -> Result<(Response<RecvStream>, Option<SendStream<Bytes>>), StreamError> {
    let mut deadline = Instant::now() + response_timeout;
    let is_complete = upload.is_empty();
    // The connection was ready a moment ago, so an error is about the request.
    let (response, send_stream) = slot
        .send_head(head, is_complete)
        .map_err(|error| StreamError::Failed(UpstreamFault::Protocol(error.into())))?;
    progress.use_connection(slot.write_progress());
    let mut stream = StartedStream { response, send_stream: (!is_complete).then_some(send_stream) };
    loop {
        let response = poll_fn(|context| {
            let response = stream.poll(upload, progress, context);
            // While the caller keeps the server waiting, no response is due.
            slot.set_awaiting_response(progress.awaits_caller().is_none());
            response
        });
        match timeout_at(deadline, response).await {
            Ok(response) => return response.map(|response| (response, stream.send_stream)),
            Err(_) => match progress.extended_deadline(response_timeout) {
                Some(later) => deadline = later,
                None => return Err(StreamError::Failed(progress.timeout())),
            },
        }
    }
}

impl StartedStream {
    fn poll(
        &mut self,
        upload: &mut StreamUpload,
        progress: &UploadProgress,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<RecvStream>, StreamError>> {
        if let Some(send_stream) = &mut self.send_stream
            && upload.poll_send(send_stream, context).is_ready()
        {
            // An incomplete body has reset the stream, and the response is an error next.
            self.send_stream = None;
        }
        match Pin::new(&mut self.response).poll(context) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(error)) if was_unprocessed(&error) => {
                Poll::Ready(Err(StreamError::Unprocessed(UpstreamFault::Reset(error.into()))))
            }
            Poll::Ready(Err(_)) if progress.has_given_up() => {
                Poll::Ready(Err(StreamError::Failed(UpstreamFault::Timeout)))
            }
            Poll::Ready(Err(error)) => {
                Poll::Ready(Err(StreamError::Failed(UpstreamFault::of_http2(error, progress.fault.get()))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

fn was_unprocessed(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || (error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)))
}
