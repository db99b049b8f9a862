//! One attempt to send a request to one server, over HTTP/1.1 or HTTP/2.
//!
//! An idle connection that had ended before anything was written is not a failed attempt: the next one is used. Nor is,
//! once, a request that an HTTP/2 server has not processed.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use tokio::time::{Instant, timeout_at};

use super::balancing::balancer::TriedServers;
use super::body::request_body::RequestBody;
use super::body::upload_progress::UploadProgress;
use super::connect::target::DialTarget;
use super::connection_binding::ConnectionBinding;
use super::fault::UpstreamFault;
use super::http1::connection::{Http1Connection, connect};
use super::http1::exchange::{ExchangeFailure, Http1Exchange};
use super::http1::reusable_deadline::DeadlinePassed;
use super::http2::exchange::{self, StreamFailure};
use super::http2::pool::Http2Pool;
use super::http2::upload::StreamUpload;
use super::lease::{ConnectionFate, HeldResponse};
use super::protocol::UpstreamProtocol;
use super::replay::{IDLE_FOR, is_replayable};
use super::request::{HeadCopy, UpstreamRequest};
use super::response_head::http1_head;
use super::server_set::{RequestSlot, ServerSet};
use super::service::Upstream;
use crate::oauth::caller::Digest;

/// A request and what is left of its time, retries and servers.
pub(super) struct UpstreamExchange<'u> {
    pub(super) upstream: &'u Upstream,
    /// Without its body once that is being sent. `None` once it is sent over HTTP/2. A field, because as an argument it
    /// would be moved through every function.
    pub(super) request: Option<UpstreamRequest>,
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
    /// The request may be sent again once it was sent.
    is_replayable: bool,
    /// Of a replayable request that was sent over HTTP/2.
    copy: Option<HeadCopy>,
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

/// A response's head, and what its body arrives by.
pub(super) type HeadAndBody = (Response<()>, HeldResponse);

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
            is_replayable: false,
            copy: None,
        }
    }

    pub(super) async fn attempt(&mut self, slot: &RequestSlot) -> Result<HeadAndBody, AttemptFailure> {
        match slot.pool().target.server.protocol {
            UpstreamProtocol::Http1 => self.attempt_http1(slot).await,
            // Boxed to keep the future of HTTP/1.1 requests small.
            UpstreamProtocol::Http2 => Box::pin(self.attempt_http2(slot)).await,
        }
    }

    /// True if the request that was sent can be sent again.
    pub(super) fn can_restore(&self) -> bool {
        self.is_replayable
    }

    /// Prepares the request for another attempt.
    pub(super) fn restore(&mut self) -> Result<(), UpstreamFault> {
        self.is_replayable = false;
        if self.request.is_none() {
            let copy = self.copy.take().ok_or(UpstreamFault::Timeout)?;
            self.request = Some(copy.with(RequestBody::none(Rc::clone(&self.progress))));
        }
        Ok(())
    }

    async fn attempt_http1(&mut self, slot: &RequestSlot) -> Result<HeadAndBody, AttemptFailure> {
        loop {
            self.progress.begin_attempt();
            // Credentials for a connection use up none of the idle ones, unless there can be no other.
            let uses_idle = !self.binding.needs_own_connection() || slot.pool().is_full();
            let pinned = self.binding.take(self.upstream, slot.index);
            let kept = pinned.or_else(|| if uses_idle { slot.pool().take(self.now_of_attempt()) } else { None });
            let (connection, last_used) = match kept {
                Some((connection, last_used)) => (connection, Some(last_used)),
                // Boxed because opening a connection is a large future, and rare.
                None => (Box::pin(self.connect(slot)).await?, None),
            };
            self.note_replayable(last_used);
            match self.send_http1(connection, slot).await {
                // The connection had ended before anything was written.
                Err(AttemptFailure::Unsent(_)) if last_used.is_some() => {}
                ended => return ended,
            }
        }
    }

    /// The time at which an attempt begins: for the first, that of the exchange.
    fn now_of_attempt(&self) -> Instant {
        if self.tried.is_empty() { self.began } else { Instant::now() }
    }

    async fn connect(&self, slot: &RequestSlot) -> Result<Box<Http1Connection>, AttemptFailure> {
        let connection_slot = slot.pool().connection_slot().map_err(|_| AttemptFailure::Full)?;
        let connecting = connect(&slot.pool().target, connection_slot);
        let connected = timeout_at(self.deadline, connecting).await.unwrap_or(Err(UpstreamFault::Timeout));
        connected.map_err(AttemptFailure::Unsent)
    }

    /// If nothing was sent, the request is as it was.
    async fn send_http1(
        &mut self,
        connection: Box<Http1Connection>,
        slot: &RequestSlot,
    ) -> Result<HeadAndBody, AttemptFailure> {
        let attempt_deadline = self.attempt_deadline();
        let request = self.request.as_mut().ok_or(AttemptFailure::last(UpstreamFault::Timeout))?;
        let mut exchange = Http1Exchange::new(connection, &slot.pool().target, request, &self.progress);
        let continue_sender = request.continue_sender.as_ref();
        let answered = loop {
            let deadline = attempt_deadline.unwrap_or(self.deadline);
            match poll_fn(|context| exchange.poll_head_until(deadline, continue_sender, context)).await {
                Ok(answered) => break answered,
                Err(DeadlinePassed) => match self.progress.extended_deadline(self.response_timeout) {
                    Some(deadline) => self.deadline = deadline,
                    None => {
                        let may_retry = attempt_deadline.is_some();
                        return Err(AttemptFailure::Sent { fault: self.progress.timeout(), may_retry });
                    }
                },
            }
        };
        let head =
            answered.inspect_err(|failure| failure.log(&slot.pool().target)).map_err(|failure| match failure {
                ExchangeFailure::Unsent(fault) => AttemptFailure::Unsent(fault),
                ExchangeFailure::Sent(fault) => {
                    let may_retry = self.upstream.settings.retries.reset && matches!(fault, UpstreamFault::Reset(_));
                    AttemptFailure::Sent { fault, may_retry }
                }
            })?;
        let response = exchange.into_response(&head);
        let head = http1_head(head).map_err(AttemptFailure::last)?;
        Ok((head, HeldResponse::Http1 { response, last_used: self.began, fate: ConnectionFate::Closed }))
    }

    /// Sends the request once, or twice if the server has not processed it the first time.
    async fn attempt_http2(&mut self, slot: &RequestSlot) -> Result<HeadAndBody, AttemptFailure> {
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
            self.note_replayable(None);
            if self.is_replayable && self.copy.is_none() {
                self.copy = self.request.as_ref().map(HeadCopy::of);
            }
            let attempt_deadline = self.attempt_deadline();
            let timeout = attempt_deadline.unwrap_or(self.deadline).saturating_duration_since(Instant::now());
            let request = self.take_upload(&slot.pool().target).map_err(AttemptFailure::last)?;
            match exchange::send(&slot.pool().target, stream, request, &self.progress, timeout).await {
                Ok((response, slot, upload)) => {
                    let (head, body) = response.into_parts();
                    return Ok((Response::from_parts(head, ()), HeldResponse::Http2 { body, slot, upload }));
                }
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
    fn take_upload(&mut self, target: &DialTarget) -> Result<Request<StreamUpload>, UpstreamFault> {
        match self.unprocessed.take() {
            Some(unprocessed) => Ok(*unprocessed),
            None => {
                let request = self.request.take().ok_or(UpstreamFault::Timeout)?.into_http(target)?;
                let credential = target.credential.as_ref().map(|credential| credential.name().clone());
                Ok(request.map(|body| StreamUpload::new(body, credential)))
            }
        }
    }

    /// Notes whether the request may have to be sent again. `last_used` is the last use of its connection, if it is not
    /// a new one.
    fn note_replayable(&mut self, last_used: Option<Instant>) {
        let rules = &self.upstream.settings.retries;
        let was_idle = || last_used.is_some_and(|used| self.began.saturating_duration_since(used) >= IDLE_FOR);
        if self.retries_left > 0 && (rules.keep_all || was_idle()) {
            let request = self.request.as_ref();
            self.is_replayable |= request.is_some_and(|request| is_replayable(request, rules));
        }
    }

    /// The deadline of an attempt that can be followed by another. The last attempt has all the time that is left.
    fn attempt_deadline(&self) -> Option<Instant> {
        let timeout = self.upstream.settings.retries.per_try_timeout.filter(|_| self.is_replayable)?;
        let deadline = Instant::now() + timeout;
        (deadline < self.deadline).then_some(deadline)
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
