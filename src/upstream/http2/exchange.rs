//! One request and its answer over a stream of HTTP/2.
//!
//! It comes back, to be sent again, only where the peer has said that it did not look at it: by refusing the stream, or by going
//! away with a last stream before this one (RFC 9113 §8.7).

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

use crate::upstream::body::incoming_response::{Answered, Streamed};
use crate::upstream::body::request_body::has_payload;
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::fault::UpstreamFault;
use crate::upstream::http2::pool::StreamSlot;
use crate::upstream::http2::upload::{Outgoing, Uploading};
use crate::upstream::pool::{DialTarget, HeldConnection, Pool};
use crate::upstream::response_head::make_passable;

/// A stream that was begun.
struct StartedStream {
    answer: ResponseFuture,
    upload: Option<SendStream<Bytes>>,
}

pub(in crate::upstream) enum StreamFailure {
    /// The peer has not looked at the request, which can be sent again.
    Unprocessed(UpstreamFault, Box<Request<Outgoing>>),
    For(UpstreamFault),
}

enum StreamBroken {
    /// The peer has not looked at the request.
    Unprocessed(UpstreamFault),
    For(UpstreamFault),
}

/// Sends a request and gives the answer's head, with its body still to come. `patience` is for the answer.
pub(in crate::upstream) async fn send(
    pool: &Pool,
    slot: StreamSlot,
    request: Request<Outgoing>,
    progress: &UploadProgress,
    patience: Duration,
) -> Result<(Response<Answered>, HeldConnection), StreamFailure> {
    let (parts, mut outgoing) = request.into_parts();
    let head = head(Request::from_parts(parts, ()), &pool.target, outgoing.length())?;
    match exchange(&slot, head.clone(), &mut outgoing, progress, patience).await {
        Ok((mut answer, upload)) => {
            let uploading = Uploading::beside_answer(outgoing, upload);
            make_passable(&mut answer)?;
            let length = answer.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            let answer = answer.map(|stream| Answered::Http2(Streamed::new(stream, length)));
            Ok((answer, HeldConnection::Stream(slot, uploading)))
        }
        Err(StreamBroken::Unprocessed(fault)) if outgoing.rewind() => {
            Err(StreamFailure::Unprocessed(fault, Box::new(head.map(|()| outgoing))))
        }
        Err(StreamBroken::Unprocessed(fault)) => Err(StreamFailure::For(fault)),
        Err(StreamBroken::For(fault)) => {
            if matches!(fault, UpstreamFault::Timeout) {
                // Whether it is slow or dead can't be told: let others not wait for it too.
                pool.multiplexed.retire(&slot);
            }
            Err(StreamFailure::For(fault))
        }
    }
}

impl From<UpstreamFault> for StreamFailure {
    fn from(fault: UpstreamFault) -> Self {
        Self::For(fault)
    }
}

/// The head as HTTP/2 has it: an absolute target for `Host`, and no word about the connection (RFC 9113 §8.2.2, §8.3.1).
fn head(mut request: Request<()>, target: &DialTarget, length: Option<u64>) -> Result<Request<()>, UpstreamFault> {
    let scheme = if target.server.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(scheme).authority(target.server.authority.as_bytes()).path_and_query(path);
    *request.uri_mut() = uri.build().map_err(|error| UpstreamFault::Protocol(error.into()))?;
    *request.version_mut() = Version::HTTP_2;
    let said_by_framing = length.filter(|length| *length > 0 || has_payload(request.method()));
    let headers = request.headers_mut();
    headers.remove(HOST);
    headers.remove(TRANSFER_ENCODING);
    if let Some(length) = said_by_framing {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok(request)
}

async fn exchange(
    slot: &StreamSlot,
    head: Request<()>,
    outgoing: &mut Outgoing,
    progress: &UploadProgress,
    patience: Duration,
) -> Result<(Response<RecvStream>, Option<SendStream<Bytes>>), StreamBroken> {
    let mut deadline = Instant::now() + patience;
    let is_all = outgoing.is_empty();
    // It was ready a moment ago: what is wrong now is the request.
    let (answer, upload) =
        slot.begin(head, is_all).map_err(|error| StreamBroken::For(UpstreamFault::Protocol(error.into())))?;
    progress.goes_over(slot.intake());
    let mut begun = StartedStream { answer, upload: (!is_all).then_some(upload) };
    loop {
        let answered = poll_fn(|context| {
            let answered = begun.poll(outgoing, progress, context);
            // A server that its caller keeps waiting owes no word.
            slot.asks(progress.awaits_caller().is_none());
            answered
        });
        match timeout_at(deadline, answered).await {
            Ok(answered) => return answered.map(|answer| (answer, begun.upload)),
            Err(_) => match progress.renewed(patience) {
                Some(later) => deadline = later,
                None => return Err(StreamBroken::For(progress.timeout())),
            },
        }
    }
}

impl StartedStream {
    fn poll(
        &mut self,
        outgoing: &mut Outgoing,
        progress: &UploadProgress,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<RecvStream>, StreamBroken>> {
        if let Some(upload) = &mut self.upload
            && outgoing.poll_send(upload, context).is_ready()
        {
            // Where the body broke off the stream was reset, which the answer tells next.
            self.upload = None;
        }
        match Pin::new(&mut self.answer).poll(context) {
            Poll::Ready(Ok(answer)) => Poll::Ready(Ok(answer)),
            Poll::Ready(Err(error)) if was_unprocessed(&error) => {
                Poll::Ready(Err(StreamBroken::Unprocessed(UpstreamFault::Reset(error.into()))))
            }
            Poll::Ready(Err(_)) if progress.was_never_taken() => {
                Poll::Ready(Err(StreamBroken::For(UpstreamFault::Timeout)))
            }
            Poll::Ready(Err(error)) => {
                Poll::Ready(Err(StreamBroken::For(UpstreamFault::of_http2(error, progress.fault.get()))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

fn was_unprocessed(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || (error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)))
}
