//! When a request may be sent a second time, and how often that may happen.
//!
//! Safe are two cases: nothing of the request was sent; or it cannot have had an effect, which is what a method promises that is
//! safe (RFC 9110 §9.2.1), and it has no body. PUT and DELETE are idempotent and yet not safe: whoever else has
//! written in between would be overwritten.

use std::cell::Cell;
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, Uri};

use crate::upstream::body::request_body::RequestBody;

/// An upstream's rules. Off where there are no attempts.
#[derive(Clone, Debug)]
pub(crate) struct Retries {
    /// After the first.
    pub(crate) attempts: u32,
    pub(crate) connect: bool,
    pub(crate) reset: bool,
    /// Answers that are tried again.
    pub(crate) statuses: Vec<StatusCode>,
    /// How long a try may take that can be followed by another.
    pub(crate) per_try_timeout: Option<Duration>,
    /// Keep a copy of every request that could be sent again. Otherwise only of those that go over a connection which has rested,
    /// and which the upstream may be closing at this moment: a busy single server costs nobody a copy.
    pub(crate) keep_all: bool,
}

/// What is needed to send a request without a body again.
#[derive(Debug)]
pub(in crate::upstream) struct ReplayableHead {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

/// What one worker may still try again: a part of its requests to an upstream, and a few for those that have few.
#[derive(Debug)]
pub(in crate::upstream) struct Budget {
    began: Cell<u64>,
    /// Of the window before and of this one.
    requests: [Cell<u32>; 2],
    retries: [Cell<u32>; 2],
}

/// What is sent again, in a hundred.
const SHARE: u64 = 20;
/// In a window, whatever the requests.
const FLOOR: u64 = 30;
/// Milliseconds.
const WINDOW: u64 = 10_000;
/// Since its last request; upstreams that close idle connections wait for longer.
pub(in crate::upstream) const RESTED: Duration = Duration::from_millis(500);

impl Retries {
    pub(crate) const NONE: Self = Self {
        attempts: 0,
        connect: false,
        reset: false,
        statuses: Vec::new(),
        per_try_timeout: None,
        keep_all: false,
    };

    /// Whether a request can be sent again once it was sent.
    pub(in crate::upstream) fn covers(&self, request: &Request<RequestBody>) -> bool {
        let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        safe && self.attempts > 0 && hyper::body::Body::is_end_stream(request.body())
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 1, connect: true, reset: true, ..Self::NONE }
    }
}

impl ReplayableHead {
    pub(in crate::upstream) fn of(request: &Request<RequestBody>) -> Self {
        Self { method: request.method().clone(), uri: request.uri().clone(), headers: request.headers().clone() }
    }

    pub(in crate::upstream) fn with(self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
}

impl Budget {
    pub(in crate::upstream) fn new() -> Self {
        Self { began: Cell::new(0), requests: Default::default(), retries: Default::default() }
    }

    /// Counts a request.
    pub(in crate::upstream) fn request(&self, now: u64) {
        self.turn(now);
        self.requests[1].set(self.requests[1].get().saturating_add(1));
    }

    /// Whether one more may be tried again; if so it is counted.
    pub(in crate::upstream) fn retry(&self, now: u64) -> bool {
        self.turn(now);
        let sum = |counts: &[Cell<u32>; 2]| counts.iter().map(|count| u64::from(count.get())).sum::<u64>();
        // Over both windows: what was allowed a while ago is not allowed once more.
        let allowed = (sum(&self.requests) * SHARE / 100).max(FLOOR);
        let within = sum(&self.retries) < allowed;
        if within {
            self.retries[1].set(self.retries[1].get() + 1);
        }
        within
    }

    fn turn(&self, now: u64) {
        let age = now.saturating_sub(self.began.get());
        if age < WINDOW {
            return;
        }
        for counts in [&self.requests, &self.retries] {
            counts[0].set(if age < 2 * WINDOW { counts[1].get() } else { 0 });
            counts[1].set(0);
        }
        self.began.set(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_is_tried_again_and_never_more() {
        let budget = Budget::new();
        let mut retried = 0;
        for number in 0..100_000_u64 {
            let now = 20_000 + number;
            budget.request(now);
            retried += u64::from(budget.retry(now));
        }
        assert!((19_000..=20_000 + 2 * FLOOR).contains(&retried), "{retried}");
    }

    #[test]
    fn an_upstream_with_few_requests_has_a_few_retries() {
        let budget = Budget::new();
        assert_eq!((0..100).filter(|_| budget.retry(50_000)).count() as u64, FLOOR);
        assert!(!budget.retry(50_000 + WINDOW), "the window before counts too");
        assert!(budget.retry(50_000 + 4 * WINDOW));
    }
}
