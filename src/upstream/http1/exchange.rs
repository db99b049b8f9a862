//! A request on an HTTP/1.1 connection, until the head of its response.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::header::{CONNECTION, EXPECT, HOST};
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;

use super::super::body::expect_continue::ContinueSender;
use super::super::body::request_body::RequestBody;
use super::super::body::upload_progress::UploadProgress;
use super::super::connect::target::DialTarget;
use super::super::fault::UpstreamFault;
use super::super::request::UpstreamRequest;
use super::super::service_credential::ServiceCredential;
use super::connection::Http1Connection;
use super::response::Http1Response;
use super::reusable_deadline::DeadlinePassed;
use super::upload::{RequestUpload, announced_length};
use crate::http1::body_reader::TrailerLimits;
use crate::http1::fault::WireFault;
use crate::http1::framing::BodyLength;
use crate::http1::head_scan::HeadScan;
use crate::http1::head_writer::write_request_head;
use crate::http1::request_head::HeadLimits;
use crate::http1::response_head::{ResponseHead, read_response};

/// Owns the connection. If it is dropped, the connection is reset.
#[derive(Debug)]
pub(crate) struct Http1Exchange {
    connection: Box<Http1Connection>,
    upload: RequestUpload,
    progress: Rc<UploadProgress>,
    method: Method,
    limits: HeadLimits,
    scan: HeadScan,
    interim_responses: u8,
    has_begun: bool,
    /// The request had a body, which cannot be taken a second time.
    has_taken_body: bool,
    /// The request asks for another protocol.
    may_switch: bool,
}

#[derive(Debug)]
pub(crate) enum ExchangeFailure {
    /// The connection had ended before anything was sent, or the server has read nothing. The request is as it was.
    Unsent(UpstreamFault),
    Sent(UpstreamFault),
}

impl ExchangeFailure {
    /// Logs that the server has refused the handshake of TLS after its end.
    pub(crate) fn log(&self, target: &DialTarget) {
        let (Self::Unsent(fault) | Self::Sent(fault)) = self;
        if fault.tls_fault().is_some() {
            target.warn(fault);
        }
    }
}

impl From<ExchangeFailure> for UpstreamFault {
    fn from(failure: ExchangeFailure) -> Self {
        match failure {
            ExchangeFailure::Unsent(fault) | ExchangeFailure::Sent(fault) => fault,
        }
    }
}

/// Writes the head of a request to this server, and gives the announced length of its body.
#[inline]
pub(in crate::upstream) fn write_head(
    out: &mut Vec<u8>,
    target: &DialTarget,
    request: &mut UpstreamRequest,
) -> BodyLength {
    // The host that the client has named.
    request.headers.remove(HOST);
    if let Some(credential) = &target.credential {
        credential.remove_from(&mut request.headers);
    }
    if request.continue_sender.is_some() {
        request.headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    let UpstreamRequest { method, target: path, host, headers, added, received_by, body, .. } = request;
    let length = announced_length(method, body);
    let mut blocks = [target.host(host).block(); 7];
    let mut count = 1;
    let added = added.iter().flatten().map(|block| &**block).chain(target.via_of(*received_by));
    // A request to switch protocols has a `Connection` of its own.
    let keep_alive = (!headers.contains_key(CONNECTION)).then_some(&target.keep_alive_field);
    for block in added.chain(target.credential.as_ref().map(ServiceCredential::block)).chain(keep_alive) {
        blocks[count] = block;
        count += 1;
    }
    write_request_head(out, method, path, headers, &blocks[..count], length);
    length
}

/// Interim responses (RFC 9110 §15.2) before the final one.
const MAX_INTERIM: u8 = 16;
/// Of a status line.
const START: &[u8] = b"HTTP/";

impl Http1Exchange {
    /// Takes the body of the request, if it has one. The request is sent as the exchange is polled.
    pub(crate) fn new(
        mut connection: Box<Http1Connection>,
        target: &DialTarget,
        request: &mut UpstreamRequest,
        progress: &Rc<UploadProgress>,
    ) -> Self {
        connection.begin_request();
        let length = write_head(connection.output.bytes(), target, request);
        let UpstreamRequest { method, body, .. } = request;
        let has_taken_body = !body.is_end_stream();
        let upload = if has_taken_body {
            let body = std::mem::replace(body, RequestBody::none(Rc::clone(progress)));
            RequestUpload::new(body, length)
        } else {
            RequestUpload::none()
        };
        progress.use_connection(&connection.write_progress);
        Self {
            connection,
            upload,
            progress: Rc::clone(progress),
            method: method.clone(),
            limits: target.head_limits,
            scan: HeadScan::default(),
            interim_responses: 0,
            has_begun: false,
            has_taken_body,
            may_switch: false,
        }
    }

    /// The response may switch to another protocol.
    pub(crate) fn with_switch(self) -> Self {
        Self { may_switch: true, ..self }
    }

    /// The head of the final response.
    pub(crate) fn poll_head(
        &mut self,
        continue_sender: Option<&ContinueSender>,
        context: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, ExchangeFailure>> {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        if is_first && let Poll::Ready(Err(error)) = self.upload.poll_send(&mut self.connection, context) {
            return Poll::Ready(Err(self.failure(UpstreamFault::Reset(error))));
        }
        // Read before more is sent: a response that has come counts more than a failure to send.
        match self.poll_read_head(continue_sender, context) {
            Poll::Ready(Ok(head)) => return Poll::Ready(Ok(head)),
            Poll::Ready(Err(fault)) => return Poll::Ready(Err(self.failure(fault))),
            Poll::Pending => {}
        }
        if !is_first && let Poll::Ready(Err(error)) = self.upload.poll_send(&mut self.connection, context) {
            return Poll::Ready(Err(self.failure(UpstreamFault::Reset(error))));
        }
        Poll::Pending
    }

    /// The head of the final response, if it comes by `deadline`.
    pub(crate) fn poll_head_until(
        &mut self,
        deadline: Instant,
        continue_sender: Option<&ContinueSender>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Result<ResponseHead, ExchangeFailure>, DeadlinePassed>> {
        match self.poll_head(continue_sender, context) {
            Poll::Ready(head) => Poll::Ready(Ok(head)),
            Poll::Pending => self.connection.deadline.poll(deadline, context).map(Err),
        }
    }

    /// The connection, with a response of this head.
    pub(crate) fn into_response(mut self, head: &ResponseHead) -> Http1Response {
        if let Some(seconds) = head.announced_idle {
            self.connection.note_announced_idle(seconds);
        }
        let trailer_limits = TrailerLimits { bytes: self.limits.bytes, fields: self.limits.fields };
        let is_sending = self.upload.has_body() || !self.connection.has_sent_all();
        Http1Response::new(self.connection, is_sending.then_some(self.upload), head, trailer_limits)
    }

    /// The connection, which now speaks another protocol.
    pub(crate) fn into_connection(self) -> Http1Connection {
        *self.connection
    }

    fn poll_read_head(
        &mut self,
        continue_sender: Option<&ContinueSender>,
        context: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, UpstreamFault>> {
        loop {
            if !self.connection.input.is_empty() {
                let input = &mut self.connection.input;
                let head = read_response(&mut self.scan, input, &self.limits, &self.method);
                match head.map_err(|fault| UpstreamFault::Protocol(fault.into()))? {
                    Some(head) if self.is_final(&head, continue_sender)? => return Poll::Ready(Ok(head)),
                    Some(_) => continue,
                    None if !may_be_http(&self.connection.input) => {
                        return Poll::Ready(Err(UpstreamFault::Protocol(WireFault::StatusLine.into())));
                    }
                    None => {}
                }
            }
            match self.connection.poll_read(context) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(UpstreamFault::of_read(io::ErrorKind::UnexpectedEof.into())));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(UpstreamFault::of_read(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether no other head follows for this request.
    fn is_final(
        &mut self,
        head: &ResponseHead,
        continue_sender: Option<&ContinueSender>,
    ) -> Result<bool, UpstreamFault> {
        match head.status {
            StatusCode::SWITCHING_PROTOCOLS if self.may_switch => return Ok(true),
            StatusCode::SWITCHING_PROTOCOLS => return Err(UpstreamFault::Unasked("a protocol switch")),
            StatusCode::CONTINUE => continue_sender.into_iter().for_each(ContinueSender::continued),
            status if !status.is_informational() => return Ok(true),
            _ => {}
        }
        self.interim_responses += 1;
        if self.interim_responses > MAX_INTERIM {
            return Err(UpstreamFault::Protocol(WireFault::TooManyInterim.into()));
        }
        Ok(false)
    }

    /// Attributes a failure to the side that has caused it.
    fn failure(&self, fault: UpstreamFault) -> ExchangeFailure {
        if self.progress.has_given_up() {
            return ExchangeFailure::Sent(UpstreamFault::Timeout);
        }
        if let Some(fault) = self.progress.fault.get() {
            return ExchangeFailure::Sent(UpstreamFault::RequestBody(fault));
        }
        let is_unread = is_unread(&fault, self.connection.requests, self.connection.has_written());
        let is_unsent = is_unread && !self.has_taken_body;
        if is_unsent { ExchangeFailure::Unsent(fault) } else { ExchangeFailure::Sent(fault) }
    }
}

/// A server that refuses the handshake has not read the first request, which was sent behind it. It may have processed
/// later ones. `requests` counts those of the connection.
fn is_unread(fault: &UpstreamFault, requests: u32, has_written: bool) -> bool {
    let is_refused = matches!(fault, UpstreamFault::Connect(_)) && requests <= 1;
    is_refused || !has_written
}

/// False if the beginning of a head belongs to another protocol, whose peer may now wait for us.
fn may_be_http(head: &[u8]) -> bool {
    let length = head.len().min(START.len());
    head[..length] == START[..length]
}

#[cfg(test)]
mod tests;
