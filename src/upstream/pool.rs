//! One worker's connections to upstreams: the one used last is used next, so that the others may idle away.
//!
//! A connection comes back only after a whole exchange, both bodies included; anything else ends it. A request is sent a
//! second time only if nothing of it was written the first time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::body::{Progress, RequestBody, ResponseBody};
use super::connect::{Sender, connect};
use super::fault::{BodyFault, UpstreamFault};
use super::service::Upstream;

/// The pools of all upstreams.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    by_name: RefCell<HashMap<Arc<str>, Rc<Pool>>>,
}

#[derive(Debug)]
pub(super) struct Pool {
    idle: RefCell<VecDeque<Idle>>,
    sweeps: Cell<u32>,
    /// The worker's own copy: cloning a shared one is traffic between cores.
    authority: HeaderValue,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    /// The sweep that it was put back before.
    sweep: u32,
}

/// A connection in use, to be given back.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Rc<Pool>,
    sender: Sender,
    progress: Rc<Progress>,
    /// Nothing more is to come of the answer that was had, not even by mistake.
    quiet: bool,
}

/// 15 s: below what common servers allow, so that we rarely send into a connection that is just being closed.
const IDLE_SWEEPS: u32 = 3;
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const MAX_IDLE: usize = 256;

/// How long a response may take, in its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// To the first byte of the answer.
    pub(crate) response: Duration,
    /// Between two pieces of its body.
    pub(crate) body_idle: Option<Duration>,
}

impl Pools {
    /// Sends a request and gives the answer's head, with its body still to come.
    pub(crate) async fn send(
        &self,
        upstream: &Upstream,
        mut request: Request<RequestBody>,
        progress: Rc<Progress>,
        deadlines: Deadlines,
    ) -> Result<Response<ResponseBody>, UpstreamFault> {
        let pool = self.pool(upstream);
        request.headers_mut().insert(HOST, pool.authority.clone());
        let for_head = request.method() == Method::HEAD;
        let patience = deadlines.response;
        let mut deadline = Instant::now() + patience;
        loop {
            let (mut sender, reused) = match pool.take() {
                Some(sender) => (sender, true),
                None => (connect(upstream).await?, false),
            };
            let fault = |error| UpstreamFault::of(error, progress.fault.get());
            // A connection that is just ending its last exchange is ready at once or not at all.
            if let Err(error) = timeout_at(deadline, sender.ready()).await.map_err(|_| UpstreamFault::Timeout)? {
                if reused {
                    continue;
                }
                return Err(fault(error));
            }
            let sent = {
                let mut sending = pin!(sender.try_send_request(request));
                loop {
                    match timeout_at(deadline, sending.as_mut()).await {
                        Ok(sent) => break sent,
                        // The time runs from the end of the request: an upload that moves on is not late.
                        Err(_) if progress.has_moved() => deadline = Instant::now() + patience,
                        Err(_) => return Err(UpstreamFault::Timeout),
                    }
                }
            };
            match sent {
                Ok(response) => {
                    let quiet = !announces_what_may_not_come(for_head, &response);
                    let response = passable(response)?;
                    let lease = Lease { pool, sender, progress, quiet };
                    return Ok(response.map(|body| ResponseBody::new(body, deadlines.body_idle, lease)));
                }
                Err(mut error) => match error.take_message() {
                    // The connection had ended before anything was written.
                    Some(unsent) if reused => request = unsent,
                    Some(_) | None => return Err(fault(error.into_error())),
                },
            }
        }
    }

    /// Ends connections that have idled for too long; runs beside the requests of its worker.
    pub(crate) async fn sweep(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.by_name.borrow().values().for_each(|pool| pool.prune());
        }
    }

    pub(crate) fn idle(&self) -> usize {
        self.by_name.borrow().values().map(|pool| pool.idle.borrow().len()).sum()
    }

    fn pool(&self, upstream: &Upstream) -> Rc<Pool> {
        if let Some(pool) = self.by_name.borrow().get(&upstream.name) {
            return Rc::clone(pool);
        }
        let authority = HeaderValue::from_bytes(upstream.server.authority.as_bytes());
        let authority = authority.unwrap_or_else(|_| upstream.server.authority.clone());
        let pool = Rc::new(Pool { idle: RefCell::default(), sweeps: Cell::new(0), authority });
        self.by_name.borrow_mut().insert(Arc::clone(&upstream.name), Rc::clone(&pool));
        pool
    }
}

/// A length or a coding where no body may follow (RFC 9112 §6.3). Services that send it all the same are not rare, and over a
/// connection that was used again it would be taken for the answer to the next request.
fn announces_what_may_not_come(for_head: bool, response: &Response<Incoming>) -> bool {
    let without_body = for_head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let headers = response.headers();
    let some_length = || headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0");
    without_body && (headers.contains_key(TRANSFER_ENCODING) || some_length())
}

/// Refuses what hyper lets pass and we can't pass on, and leaves one opinion about the body's length (RFC 9112 §6.3).
fn passable(mut response: Response<Incoming>) -> Result<Response<Incoming>, UpstreamFault> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamFault::Unasked("a protocol"));
    }
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
            return Err(UpstreamFault::Unasked("a transfer coding"));
        }
        response.headers_mut().remove(CONTENT_LENGTH);
    } else if response.status() == StatusCode::NO_CONTENT {
        // It may not have one (RFC 9110 §8.6), and over HTTP/2 clients would wait for it or reset.
        response.headers_mut().remove(CONTENT_LENGTH);
    } else if response.headers().contains_key(CONTENT_LENGTH) {
        // hyper looks at it only where it expects a body, which after HEAD and with 304 it does not.
        let length = one_length(response.headers()).ok_or(UpstreamFault::Length)?;
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    Ok(response)
}

/// What all lengths say, if they are numbers and agree (RFC 9112 §6.3).
fn one_length(headers: &HeaderMap) -> Option<u64> {
    let said = headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut lengths = said.map(|text| {
        let text = text.trim_ascii();
        let digits = text.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(text).ok().filter(|_| digits)?.parse::<u64>().ok()
    });
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

impl Pool {
    fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop_back()).map(|idle| idle.sender).find(|sender| !sender.is_closed())
    }

    fn put(&self, sender: Sender) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { sender, sweep: self.sweeps.get() });
    }

    fn prune(&self) {
        let sweep = self.sweeps.get().wrapping_add(1);
        self.sweeps.set(sweep);
        let fresh = |idle: &Idle| sweep.wrapping_sub(idle.sweep) <= IDLE_SWEEPS;
        self.idle.borrow_mut().retain(|idle| !idle.sender.is_closed() && fresh(idle));
    }
}

impl Lease {
    /// What became of the request's body, if it could not be passed on to its end.
    pub(super) fn request_fault(&self) -> Option<BodyFault> {
        self.progress.fault.get()
    }

    pub(super) fn give_back(self) {
        let whole = self.progress.finished.get() && self.progress.fault.get().is_none();
        if whole && self.quiet && !self.sender.is_closed() {
            self.pool.put(self.sender);
        }
    }
}
