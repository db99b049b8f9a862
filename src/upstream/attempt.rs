//! One attempt to send a request to one server, over HTTP/1.1 or HTTP/2.
//!
//! An idle connection that had ended before anything was written is not a failed attempt: the next one is used. Nor is,
//! once, a request that an HTTP/2 server has not processed.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::header::HOST;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::balancing::balancer::TriedServers;
use super::body::expect_continue::ContinueSender;
use super::body::incoming_response::IncomingResponse;
use super::body::request_body::RequestBody;
use super::body::upload_progress::UploadProgress;
use super::connection_binding::ConnectionBinding;
use super::fault::UpstreamFault;
use super::http1::connection::{Http1Connection, connect};
use super::http2::exchange::{self, StreamFailure};
use super::http2::pool::Http2Pool;
use super::http2::upload::StreamUpload;
use super::lease::{ConnectionFate, HeldConnection};
use super::protocol::UpstreamProtocol;
use super::replay::{IDLE_FOR, is_replayable};
use super::request::{HeadCopy, UpstreamRequest};
use super::response_head::{announces_forbidden_body, normalize};
use super::server_set::{RequestSlot, ServerSet};
use super::service::Upstream;
use crate::oauth::caller::Digest;

/// A request and what is left of its time, retries and servers.
pub(super) struct UpstreamExchange<'u> {
    pub(super) upstream: &'u Upstream,
    /// `None` while it is sent. A field, because as an argument it would be moved through every function.
    request: Option<UpstreamRequest>,
    /// Of a request whose body is requested from the client on `100 Continue`.
    pub(super) continue_sender: Option<ContinueSender>,
    /// A request that an HTTP/2 server has not processed.
    unprocessed: Option<Box<Request<StreamUpload>>>,
    /// The one repetition that is not a retry is used up.
    was_unprocessed: bool,
    pub(super) servers: Rc<ServerSet>,
    pub(super) progress: Rc<UploadProgress>,
    /// The key of hash balancing.
    pub(super) key: Option<Digest>,
    pub(super) binding: ConnectionBinding<'u>,
    began: Instant,
    /// The same in the upstream's time.
    pub(super) now: u64,
    response_timeout: Duration,
    pub(super) deadline: Instant,
    pub(super) tried: TriedServers,
    pub(super) retries_left: u32,
    /// If the request can be sent again.
    pub(super) copy: Option<HeadCopy>,
}

pub(super) enum AttemptFailure {
    /// Nothing of the request was sent.
    Unsent(UpstreamFault),
    /// The server has said that it did not process the request.
    Unprocessed(UpstreamFault),
    /// The server is at its limit of connections or streams.
    Full,
    /// The server may have read the request. Another attempt may follow if `may_retry`.
    Sent { fault: UpstreamFault, may_retry: bool },
}

/// A response without its body, and the connection or stream by which the body arrives.
pub(super) type HeadAndConnection = (Response<IncomingResponse>, HeldConnection);

impl<'u> UpstreamExchange<'u> {
    pub(super) fn new(
        servers: Rc<ServerSet>,
        upstream: &'u Upstream,
        request: UpstreamRequest,
        progress: Rc<UploadProgress>,
        response_timeout: Duration,
        key: Option<Digest>,
        binding: ConnectionBinding<'u>,
    ) -> Self {
        let began = Instant::now();
        Self {
            upstream,
            request: Some(request),
            continue_sender: None,
            unprocessed: None,
            // A repetition would send the credentials for a connection over another one.
            was_unprocessed: binding.needs_own_connection(),
            servers,
            progress,
            key,
            began,
            now: upstream.millis(began),
            response_timeout,
            deadline: began + response_timeout,
            tried: TriedServers::default(),
            retries_left: if binding.is_exclusive() { 0 } else { upstream.settings.retries.attempts },
            binding,
            copy: None,
        }
    }

    pub(super) async fn attempt(&mut self, slot: &RequestSlot) -> Result<HeadAndConnection, AttemptFailure> {
        match slot.pool().target.server.protocol {
            UpstreamProtocol::Http1 => self.attempt_http1(slot).await,
            // Boxed to keep the future of HTTP/1.1 requests small.
            UpstreamProtocol::Http2 => Box::pin(self.attempt_http2(slot)).await,
        }
    }

    /// Prepares the request for another attempt, from its copy.
    pub(super) fn restore(&mut self) -> Result<(), UpstreamFault> {
        let copy = self.copy.take().ok_or(UpstreamFault::Timeout)?;
        self.request = Some(copy.with(RequestBody::none(Rc::clone(&self.progress))));
        Ok(())
    }

    async fn attempt_http1(&mut self, slot: &RequestSlot) -> Result<HeadAndConnection, AttemptFailure> {
        let is_head = self.request.as_ref().is_some_and(|request| request.method == Method::HEAD);
        if let Some(request) = &mut self.request {
            request.headers.insert(HOST, slot.pool().target.server.authority.clone());
        }
        loop {
            self.progress.begin_attempt();
            // Credentials for a connection use up none of the idle ones, unless there can be no other.
            let uses_idle = !self.binding.needs_own_connection() || slot.pool().is_full();
            let pinned = self.binding.take(self.upstream, slot.index);
            let kept = pinned.or_else(|| if uses_idle { slot.pool().take() } else { None });
            let (mut connection, last_used) = match kept {
                Some((connection, last_used)) => (connection, Some(last_used)),
                // Boxed because opening a connection is a large future, and rare.
                None => (Box::pin(self.connect(slot)).await?, None),
            };
            // A connection that is still ending its last exchange is ready at once or never.
            if !connection.requests.is_ready() {
                match timeout_at(self.deadline, connection.requests.ready()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) if last_used.is_some() => continue,
                    Ok(Err(error)) => return Err(AttemptFailure::Unsent(self.fault(error))),
                    Err(_) => return Err(AttemptFailure::Unsent(UpstreamFault::Timeout)),
                }
            }
            self.copy_if_replayable(last_used);
            match self.send_http1(&mut connection).await? {
                Ok(mut response) => {
                    let is_reusable = !announces_forbidden_body(is_head, &response);
                    normalize(&mut response).map_err(AttemptFailure::last)?;
                    let (last_used, fate) = (self.began, ConnectionFate::Closed);
                    let held = HeldConnection::Http1 { connection, last_used, is_reusable, fate };
                    return Ok((response.map(IncomingResponse::Http1), held));
                }
                // The connection had ended before anything was written.
                Err(_) if last_used.is_some() => {}
                Err(error) => return Err(AttemptFailure::Unsent(self.fault(error))),
            }
        }
    }

    async fn connect(&self, slot: &RequestSlot) -> Result<Http1Connection, AttemptFailure> {
        let connection_slot = slot.pool().connection_slot(self.deadline).await.map_err(|_| AttemptFailure::Full)?;
        let connecting = connect(&slot.pool().target, connection_slot);
        let connected = timeout_at(self.deadline, connecting).await.unwrap_or(Err(UpstreamFault::Timeout));
        connected.map_err(AttemptFailure::Unsent)
    }

    /// The response's head. The inner error means that nothing was sent; the request is back in its field then.
    async fn send_http1(
        &mut self,
        connection: &mut Http1Connection,
    ) -> Result<Result<Response<Incoming>, hyper::Error>, AttemptFailure> {
        let attempt_deadline = self.attempt_deadline();
        let mut request = self.request.take().ok_or(UpstreamFault::Timeout).map_err(AttemptFailure::last)?;
        self.continue_sender = request.continue_sender.take();
        let mut request = request.into_http().map_err(AttemptFailure::last)?;
        if let Some(sender) = &self.continue_sender {
            sender.ask(&mut request);
        }
        self.progress.use_connection(&connection.write_progress);
        let mut sending = pin!(connection.requests.try_send_request(request));
        let sent = loop {
            let deadline = attempt_deadline.unwrap_or(self.deadline);
            match connection.deadline.run_until(deadline, sending.as_mut()).await {
                Ok(sent) => break sent,
                Err(_) => match self.progress.extended_deadline(self.response_timeout) {
                    Some(deadline) => self.deadline = deadline,
                    None => {
                        let may_retry = attempt_deadline.is_some();
                        return Err(AttemptFailure::Sent { fault: self.progress.timeout(), may_retry });
                    }
                },
            }
        };
        let mut error = match sent {
            Ok(response) => return Ok(Ok(response)),
            Err(error) => error,
        };
        if let Some(unsent) = error.take_message() {
            let (head, body) = unsent.into_parts();
            let target =
                bytes::Bytes::copy_from_slice(head.uri.path_and_query().map_or(b"/", |text| text.as_str().as_bytes()));
            let target = crate::http1::target::OriginForm::from_bytes(target)
                .map_err(|error| AttemptFailure::last(UpstreamFault::Protocol(error.into())))?;
            let mut unsent = UpstreamRequest::new(head.method, target, head.headers, body);
            unsent.continue_sender = self.continue_sender.take();
            self.request = Some(unsent);
            return Ok(Err(error.into_error()));
        }
        let fault = self.fault(error.into_error());
        let may_retry = self.upstream.settings.retries.reset && matches!(fault, UpstreamFault::Reset(_));
        Err(AttemptFailure::Sent { fault, may_retry })
    }

    /// Sends the request once, or twice if the server has not processed it the first time.
    async fn attempt_http2(&mut self, slot: &RequestSlot) -> Result<HeadAndConnection, AttemptFailure> {
        let pool = &slot.pool().http2;
        loop {
            self.progress.begin_attempt();
            let stream = match self.binding.needs_own_connection() {
                false => Http2Pool::acquire(pool, self.deadline).await,
                true => Http2Pool::acquire_dedicated(pool, self.deadline).await,
            };
            let stream = stream.map_err(|fault| match fault {
                UpstreamFault::Full => AttemptFailure::Full,
                fault => AttemptFailure::Unsent(fault),
            })?;
            self.copy_if_replayable(None);
            let attempt_deadline = self.attempt_deadline();
            let timeout = attempt_deadline.unwrap_or(self.deadline).saturating_duration_since(Instant::now());
            let request = self.take_upload().map_err(AttemptFailure::last)?;
            match exchange::send(&slot.pool().target, stream, request, &self.progress, timeout).await {
                Ok((response, stream, upload)) => return Ok((response, HeldConnection::Http2(stream, upload))),
                Err(StreamFailure::Unprocessed(fault, request)) => {
                    self.unprocessed = Some(request);
                    let extended = self.progress.extended_deadline(self.response_timeout);
                    self.deadline = extended.map_or(self.deadline, |later| later.max(self.deadline));
                    if std::mem::replace(&mut self.was_unprocessed, true) {
                        return Err(AttemptFailure::Unprocessed(fault));
                    }
                }
                Err(StreamFailure::Failed(fault)) => {
                    let may_retry = match fault {
                        UpstreamFault::Timeout => attempt_deadline.is_some(),
                        UpstreamFault::Reset(_) => self.upstream.settings.retries.reset,
                        _ => false,
                    };
                    return Err(AttemptFailure::Sent { fault, may_retry });
                }
            }
        }
    }

    /// The request with its body as a stream sends it, from its beginning.
    fn take_upload(&mut self) -> Result<Request<StreamUpload>, UpstreamFault> {
        match self.unprocessed.take() {
            Some(unprocessed) => Ok(*unprocessed),
            None => Ok(self.request.take().ok_or(UpstreamFault::Timeout)?.into_http()?.map(StreamUpload::new)),
        }
    }

    /// Copies a request that may have to be sent again. `last_used` is the last use of its connection, if it is not a
    /// new one.
    fn copy_if_replayable(&mut self, last_used: Option<Instant>) {
        let rules = &self.upstream.settings.retries;
        let was_idle = || last_used.is_some_and(|used| self.began.saturating_duration_since(used) >= IDLE_FOR);
        if self.copy.is_none() && self.retries_left > 0 && (rules.keep_all || was_idle()) {
            let request = self.request.as_ref().filter(|request| is_replayable(request, rules));
            self.copy = request.map(HeadCopy::of);
        }
    }

    /// The deadline of an attempt that can be followed by another. The last attempt has all the time that is left.
    fn attempt_deadline(&self) -> Option<Instant> {
        let timeout = self.upstream.settings.retries.per_try_timeout.filter(|_| self.copy.is_some())?;
        let deadline = Instant::now() + timeout;
        (deadline < self.deadline).then_some(deadline)
    }

    fn fault(&self, error: hyper::Error) -> UpstreamFault {
        if self.progress.has_given_up() {
            return UpstreamFault::Timeout;
        }
        UpstreamFault::of(error, self.progress.fault.get())
    }
}

impl AttemptFailure {
    fn last(fault: UpstreamFault) -> Self {
        Self::Sent { fault, may_retry: false }
    }

    /// False if the client has ended its request, which is no evidence about the server.
    pub(super) fn counts_against_server(&self) -> bool {
        match self {
            Self::Unsent(fault) | Self::Unprocessed(fault) | Self::Sent { fault, .. } => {
                !matches!(fault, UpstreamFault::RequestBody(_))
            }
            Self::Full => false,
        }
    }
}
