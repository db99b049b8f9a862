//! One request and its answer: which server and connection it goes to, how long it may take, and when it may go to another.
//!
//! A request is sent a second time only if nothing of it was written the first time, or if it can't have had an effect and has no
//! body; and then only as far as the upstream's budget goes. A connection that had ended before anything was written costs no
//! retry: it is as if it had not been in the pool. So does, once, what a server of HTTP/2 has not looked at.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::header::HOST;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::oauth::caller::Digest;
use crate::upstream::balancing::ejection::ServerOutcome;
use crate::upstream::balancing::retry_budget::{RESTED, ReplayableHead};
use crate::upstream::body::incoming_response::Answered;
use crate::upstream::body::request_body::{RequestBody, ResponseBody};
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::fault::UpstreamFault;
use crate::upstream::http1::connection::{Sender, connect};
use crate::upstream::http2::exchange::{self, StreamFailure};
use crate::upstream::http2::pool::Multiplexed;
use crate::upstream::http2::upload::Outgoing;
use crate::upstream::pinned::{ConnectionBinding, ConnectionFate, room};
use crate::upstream::pool::{HeldConnection, Lease, Pools};
use crate::upstream::response_head::{announces_what_may_not_come, make_passable};
use crate::upstream::server_set::{RequestSlot, ServerSet, TriedServers};
use crate::upstream::service::{Upstream, UpstreamProtocol};

/// How long a response may take, in its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// To the first byte of the answer, whatever is tried.
    pub(crate) response: Duration,
    /// Between two pieces of its body.
    pub(crate) body_idle: Option<Duration>,
}

/// A request on its way.
struct UpstreamExchange<'u> {
    upstream: &'u Upstream,
    /// Until it is sent. Here, because it would be moved through every step of the way otherwise.
    request: Option<Request<RequestBody>>,
    /// One that has come back from a server which has not looked at it.
    refused: Option<Box<Request<Outgoing>>>,
    /// The one time that costs no retry is over.
    was_refused: bool,
    crew: Rc<ServerSet>,
    progress: Rc<UploadProgress>,
    key: Option<Digest>,
    bond: ConnectionBinding<'u>,
    began: Instant,
    /// The same in the upstream's time.
    now: u64,
    patience: Duration,
    deadline: Instant,
    tried: TriedServers,
    retries_left: u32,
    /// What can be sent again.
    copy: Option<ReplayableHead>,
}

/// How one try failed.
enum AttemptFailure {
    /// Nothing of it was sent.
    Unsent(UpstreamFault),
    /// The server has said that it did not look at it.
    Refused(UpstreamFault),
    /// The server may have as many connections or streams as it has.
    NoRoom,
    /// It may have been read. Another try may follow if `again`.
    Sent { fault: UpstreamFault, again: bool },
}

/// An answer's head, and the connection or stream that its body comes by.
type AnswerAndHold = (Response<Answered>, HeldConnection);

impl Pools {
    /// Sends a request and gives the answer's head, with its body still to come. Requests of one `key` go to one server where the
    /// upstream is balanced so.
    pub(crate) async fn send(
        &self,
        upstream: &Upstream,
        request: Request<RequestBody>,
        progress: Rc<UploadProgress>,
        deadlines: Deadlines,
        key: Option<Digest>,
        bond: ConnectionBinding<'_>,
    ) -> Result<Response<ResponseBody>, UpstreamFault> {
        let mut exchange =
            UpstreamExchange::begin(self.crew(upstream), upstream, request, progress, deadlines, key, bond);
        // Until there is an outcome.
        let _trial = match &upstream.breaker {
            None => None,
            Some(breaker) => Some(breaker.lets_through(exchange.now).ok_or(UpstreamFault::Open)?),
        };
        let mut seat = exchange.seat().ok_or(UpstreamFault::Full)?;
        loop {
            let index = seat.index;
            let failure = match exchange.attempt(&seat).await {
                Ok((response, mut held)) => {
                    exchange.observe(&seat, ServerOutcome::of(response.status()));
                    let again = upstream.settings.retries.statuses.contains(&response.status());
                    if let Some(next) = exchange.copy.is_some().then(|| exchange.next(index, again, true)).flatten() {
                        seat = next;
                        exchange.repeat()?;
                        continue;
                    }
                    let head = (response.status(), response.headers());
                    exchange.bond.settle(head, &mut held, upstream, &self.pin_limit, &seat);
                    let lease = Lease::new(seat, exchange.progress, held);
                    return Ok(response.map(|body| ResponseBody::new(body, deadlines.body_idle, lease)));
                }
                Err(failure) => failure,
            };
            if failure.is_the_servers() {
                exchange.observe(&seat, ServerOutcome::Bad);
            }
            // Its place is free for the next try.
            drop(seat);
            seat = match failure {
                AttemptFailure::Unsent(fault) => {
                    let again = upstream.settings.retries.connect;
                    exchange.next(index, again, false).ok_or(fault)?
                }
                AttemptFailure::Refused(fault) => {
                    let again = upstream.settings.retries.connect;
                    exchange.next(index, again, true).ok_or(fault)?
                }
                AttemptFailure::NoRoom => {
                    exchange.tried.add(index);
                    let in_time = Instant::now() < exchange.deadline;
                    in_time.then(|| exchange.seat()).flatten().ok_or(UpstreamFault::Full)?
                }
                AttemptFailure::Sent { fault, again } => {
                    let again = again && exchange.copy.is_some();
                    let next = exchange.next(index, again, true).ok_or(fault)?;
                    exchange.repeat()?;
                    next
                }
            };
        }
    }
}

impl<'u> UpstreamExchange<'u> {
    fn begin(
        crew: Rc<ServerSet>,
        upstream: &'u Upstream,
        request: Request<RequestBody>,
        progress: Rc<UploadProgress>,
        deadlines: Deadlines,
        key: Option<Digest>,
        bond: ConnectionBinding<'u>,
    ) -> Self {
        let began = Instant::now();
        let now = upstream.millis(began);
        crew.budget.request(now);
        Self {
            upstream,
            request: Some(request),
            refused: None,
            // It would show its credentials twice.
            was_refused: bond.needs_own_connection(),
            crew,
            progress,
            key,
            began,
            now,
            patience: deadlines.response,
            deadline: began + deadlines.response,
            tried: TriedServers::default(),
            // None where the request counts for its connection.
            retries_left: if bond.is_exclusive() { 0 } else { upstream.settings.retries.attempts },
            bond,
            copy: None,
        }
    }

    fn seat(&self) -> Option<RequestSlot> {
        match self.bond.server(self.upstream) {
            Some(server) => self.crew.seat_at(self.upstream, server),
            None => self.crew.seat(self.upstream, self.key, self.tried, self.now),
        }
    }

    async fn attempt(&mut self, seat: &RequestSlot) -> Result<AnswerAndHold, AttemptFailure> {
        match seat.pool().target.server.protocol {
            UpstreamProtocol::Http1 => self.over_connections(seat).await,
            // Boxed, so that no other request has room for it.
            UpstreamProtocol::Http2 => Box::pin(self.over_stream(seat)).await,
        }
    }

    /// One try, over as many kept connections as turn out to have ended.
    async fn over_connections(&mut self, seat: &RequestSlot) -> Result<AnswerAndHold, AttemptFailure> {
        let for_head = self.request.as_ref().is_some_and(|request| request.method() == Method::HEAD);
        if let Some(request) = &mut self.request {
            request.headers_mut().insert(HOST, seat.pool().target.server.authority.clone());
        }
        loop {
            let kept = self.bond.take(self.upstream, seat.index).or_else(|| seat.pool().take());
            let (mut sender, used) = match kept {
                Some((sender, used)) => (sender, Some(used)),
                // Boxed too: a handshake is large, and rare.
                None => match Box::pin(self.connect(seat)).await {
                    Some(Ok(sender)) => (sender, None),
                    Some(Err(fault)) => return Err(AttemptFailure::Unsent(fault)),
                    None => return Err(AttemptFailure::NoRoom),
                },
            };
            // A connection that is just ending its last exchange is ready at once or not at all.
            if !sender.requests.is_ready() {
                match timeout_at(self.deadline, sender.requests.ready()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) if used.is_some() => continue,
                    Ok(Err(error)) => return Err(AttemptFailure::Unsent(self.fault(error))),
                    Err(_) => return Err(AttemptFailure::Unsent(UpstreamFault::Timeout)),
                }
            }
            self.keep(used);
            match self.answer(&mut sender).await? {
                Ok(mut response) => {
                    let quiet = !announces_what_may_not_come(for_head, &response);
                    make_passable(&mut response).map_err(AttemptFailure::last)?;
                    let held =
                        HeldConnection::Whole { sender, used: self.began, quiet, afterwards: ConnectionFate::Closed };
                    return Ok((response.map(Answered::Http1), held));
                }
                // The connection had ended before anything was written.
                Err(_) if used.is_some() => {}
                Err(error) => return Err(AttemptFailure::Unsent(self.fault(error))),
            }
        }
    }

    /// One try by HTTP/2, or two where the server has not looked at the first.
    async fn over_stream(&mut self, seat: &RequestSlot) -> Result<AnswerAndHold, AttemptFailure> {
        let pool = seat.pool();
        loop {
            let slot = match self.bond.needs_own_connection() {
                false => Multiplexed::room(pool, self.deadline).await,
                true => Multiplexed::own(pool, self.deadline).await,
            };
            let slot = slot.map_err(|fault| match fault {
                UpstreamFault::Full => AttemptFailure::NoRoom,
                fault => AttemptFailure::Unsent(fault),
            })?;
            self.keep(None);
            let try_deadline = self.try_deadline();
            let patience = try_deadline.unwrap_or(self.deadline).saturating_duration_since(Instant::now());
            let request = self.outgoing().ok_or(UpstreamFault::Timeout).map_err(AttemptFailure::last)?;
            match exchange::send(pool, slot, request, &self.progress, patience).await {
                Ok(head) => return Ok(head),
                Err(StreamFailure::Unprocessed(fault, request)) => {
                    self.refused = Some(request);
                    let renewed = self.progress.renewed(self.patience);
                    self.deadline = renewed.map_or(self.deadline, |later| later.max(self.deadline));
                    if std::mem::replace(&mut self.was_refused, true) {
                        return Err(AttemptFailure::Refused(fault));
                    }
                }
                Err(StreamFailure::For(fault)) => {
                    let again = match fault {
                        UpstreamFault::Timeout => try_deadline.is_some(),
                        UpstreamFault::Reset(_) => self.upstream.settings.retries.reset,
                        _ => false,
                    };
                    return Err(AttemptFailure::Sent { fault, again });
                }
            }
        }
    }

    /// The request as a stream takes it, from its beginning.
    fn outgoing(&mut self) -> Option<Request<Outgoing>> {
        match self.refused.take() {
            Some(refused) => Some(*refused),
            None => self.request.take().map(|request| request.map(Outgoing::new)),
        }
    }

    /// The answer's head; or why nothing of the request was sent, which is back then.
    async fn answer(
        &mut self,
        sender: &mut Sender,
    ) -> Result<Result<Response<Incoming>, hyper::Error>, AttemptFailure> {
        let try_deadline = self.try_deadline();
        let request = self.request.take().ok_or(UpstreamFault::Timeout).map_err(AttemptFailure::last)?;
        self.progress.goes_over(&sender.intake);
        let mut sending = pin!(sender.requests.try_send_request(request));
        let sent = loop {
            let deadline = try_deadline.unwrap_or(self.deadline);
            match sender.alarm.before(deadline, sending.as_mut()).await {
                Ok(sent) => break sent,
                Err(_) => match self.progress.renewed(self.patience) {
                    Some(deadline) => self.deadline = deadline,
                    None => {
                        let again = try_deadline.is_some();
                        return Err(AttemptFailure::Sent { fault: self.progress.timeout(), again });
                    }
                },
            }
        };
        let mut error = match sent {
            Ok(response) => return Ok(Ok(response)),
            Err(error) => error,
        };
        if let Some(unsent) = error.take_message() {
            self.request = Some(unsent);
            return Ok(Err(error.into_error()));
        }
        let fault = self.fault(error.into_error());
        let again = self.upstream.settings.retries.reset && matches!(fault, UpstreamFault::Reset(_));
        Err(AttemptFailure::Sent { fault, again })
    }

    /// `None` where the server has as many connections as it may.
    async fn connect(&self, seat: &RequestSlot) -> Option<Result<Sender, UpstreamFault>> {
        let room = room(seat, self.upstream, self.deadline).await.ok()?;
        let connecting = connect(&seat.pool().target, room);
        Some(timeout_at(self.deadline, connecting).await.unwrap_or(Err(UpstreamFault::Timeout)))
    }

    /// Copies what may have to be sent again. `used` is when its connection was, if it has been.
    fn keep(&mut self, used: Option<Instant>) {
        let rules = &self.upstream.settings.retries;
        let rested = || used.is_some_and(|used| self.began.saturating_duration_since(used) >= RESTED);
        if self.copy.is_none() && self.retries_left > 0 && (rules.keep_all || rested()) {
            self.copy = self.request.as_ref().filter(|request| rules.covers(request)).map(ReplayableHead::of);
        }
    }

    /// The request once more, from its copy.
    fn repeat(&mut self) -> Result<(), UpstreamFault> {
        let copy = self.copy.take().ok_or(UpstreamFault::Timeout)?;
        self.request = Some(copy.with(RequestBody::none(Rc::clone(&self.progress))));
        Ok(())
    }

    /// A try that can be followed by another has a time of its own; the last has all that is left.
    fn try_deadline(&self) -> Option<Instant> {
        let patience = self.upstream.settings.retries.per_try_timeout.filter(|_| self.copy.is_some())?;
        let deadline = Instant::now() + patience;
        (deadline < self.deadline).then_some(deadline)
    }

    /// Where to try again, if at all. `same` says that it may be the same server, if there is no other.
    fn next(&mut self, index: usize, again: bool, same: bool) -> Option<RequestSlot> {
        let now = Instant::now();
        if !again || self.retries_left == 0 || now >= self.deadline {
            return None;
        }
        self.tried.add(index);
        let other = self.seat();
        let seat = other.or_else(|| same.then(|| self.crew.seat_at(self.upstream, index)).flatten())?;
        if !self.crew.budget.retry(self.upstream.millis(now)) {
            return None;
        }
        self.retries_left -= 1;
        self.crew.retries.set(self.crew.retries.get() + 1);
        Some(seat)
    }

    /// A failure while the caller keeps the server waiting may be its answer to that.
    fn observe(&self, seat: &RequestSlot, outcome: ServerOutcome) {
        if outcome == ServerOutcome::Bad && self.progress.is_stalled_by_caller() {
            return;
        }
        if self.upstream.servers.len() > 1 || self.upstream.breaker.is_some() {
            seat.observe(self.upstream, outcome, self.upstream.millis(Instant::now()));
        }
    }

    fn fault(&self, error: hyper::Error) -> UpstreamFault {
        if self.progress.was_never_taken() {
            return UpstreamFault::Timeout;
        }
        UpstreamFault::of(error, self.progress.fault.get())
    }
}

impl AttemptFailure {
    fn last(fault: UpstreamFault) -> Self {
        Self::Sent { fault, again: false }
    }

    /// A client that breaks off says nothing about the server.
    fn is_the_servers(&self) -> bool {
        match self {
            Self::Unsent(fault) | Self::Refused(fault) | Self::Sent { fault, .. } => {
                !matches!(fault, UpstreamFault::RequestBody(_))
            }
            Self::NoRoom => false,
        }
    }
}
