//! Copies of requests, sent to a second upstream to test it.
//!
//! A copy is sent once the request's body has been forwarded, and no request waits for it: its answer is read up to a
//! bound and discarded. There is no copy where too many are in flight, or where the body is too large to be kept.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::HashMap;
use http::HeaderValue;
use http::header::UPGRADE;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::time::timeout;

use crate::pipeline::request::headers::X_MIRRORED;
use crate::pipeline::request::sampling;
use crate::pipeline::routing::mirror_rule::MirrorRule;
use crate::upstream::body::request_body::RequestBody;
use crate::upstream::connection_binding::ConnectionBinding;
use crate::upstream::exchange::Deadlines;
use crate::upstream::host::RequestHost;
use crate::upstream::pools::Pools;
use crate::upstream::request::{HeadCopy, UpstreamRequest};
use crate::upstream::service::Upstream;

/// The copies of one worker.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    under_way: Cell<usize>,
    outcomes: RefCell<HashMap<String, [u64; MirrorOutcome::ALL.len()]>>,
}

/// A copy in flight, or one whose body is still arriving.
struct MirrorSlot(Rc<Mirrors>);

/// The outcome of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MirrorOutcome {
    Answered,
    Failed,
    /// Too many were in flight.
    NoRoom,
    /// The body is too large to be kept, its length is unknown, or the request is bound to its connection.
    Unsuitable,
}

/// At once, for each worker.
const MAX_UNDER_WAY: usize = 64;
/// Larger bodies are not kept.
const MAX_BODY: u64 = 64 * 1024;
/// The bound on the answer. Past it, its connection is closed.
const MAX_ANSWER: usize = 1024 * 1024;

/// Sends a copy of this request, for the percentage of requests that the rule names. The request is as its own upstream
/// gets it, with this binding; the copy gets this host.
pub(crate) fn copy(
    rule: &MirrorRule,
    (pools, mirrors): (&Rc<Pools>, &Rc<Mirrors>),
    request: &mut UpstreamRequest,
    (binding, host): (&ConnectionBinding<'_>, RequestHost),
) {
    if sampling::draw(100) >= rule.percent.into() {
        return;
    }
    let length = request.body.size_hint().exact().filter(|length| *length <= MAX_BODY);
    let Some(length) = length.filter(|_| !request.headers.contains_key(UPGRADE) && !binding.is_exclusive()) else {
        return mirrors.count(&rule.upstream.name, MirrorOutcome::Unsuitable);
    };
    let Some(slot) = MirrorSlot::take(mirrors) else {
        return mirrors.count(&rule.upstream.name, MirrorOutcome::NoRoom);
    };
    let mut copy = HeadCopy::of(request);
    copy.host = host;
    copy.headers.insert(X_MIRRORED, HeaderValue::from_static("1"));
    let (pools, upstream, timeout) = (Rc::clone(pools), Arc::clone(&rule.upstream), rule.timeout);
    let send = move |body: Bytes| slot.send(pools, upstream, timeout, copy, body);
    match usize::try_from(length) {
        Ok(length) if length > 0 => request.body.copy(length, send),
        Ok(_) | Err(_) => send(Bytes::new()),
    }
}

impl Mirrors {
    /// Counts the outcome of a copy.
    fn count(&self, upstream: &str, outcome: MirrorOutcome) {
        let mut outcomes = self.outcomes.borrow_mut();
        match outcomes.get_mut(upstream) {
            Some(counts) => counts[outcome as usize] += 1,
            None => outcomes.entry(upstream.to_owned()).or_default()[outcome as usize] += 1,
        }
    }

    /// How many copies for each upstream had each outcome.
    pub(crate) fn counts(&self) -> Vec<(String, &'static str, u64)> {
        let outcomes = self.outcomes.borrow();
        let counted = outcomes.iter().flat_map(|(upstream, counts)| {
            MirrorOutcome::ALL.iter().zip(counts).map(|(outcome, count)| (upstream.clone(), outcome.as_str(), *count))
        });
        counted.collect()
    }
}

impl MirrorSlot {
    fn take(mirrors: &Rc<Mirrors>) -> Option<Self> {
        let taken = mirrors.under_way.get();
        if taken >= MAX_UNDER_WAY {
            return None;
        }
        mirrors.under_way.set(taken + 1);
        Some(Self(Rc::clone(mirrors)))
    }

    fn send(self, pools: Rc<Pools>, upstream: Arc<Upstream>, limit: Duration, head: HeadCopy, body: Bytes) {
        tokio::task::spawn_local(async move {
            let answered = timeout(limit, exchange(&pools, &upstream, limit, head, body)).await;
            let outcome = if answered.unwrap_or_default() { MirrorOutcome::Answered } else { MirrorOutcome::Failed };
            self.0.count(&upstream.name, outcome);
        });
    }
}

impl Drop for MirrorSlot {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}

/// Whether the upstream answered.
async fn exchange(pools: &Pools, upstream: &Upstream, limit: Duration, head: HeadCopy, body: Bytes) -> bool {
    let (body, progress) = RequestBody::whole(body);
    let deadlines = Deadlines { response: limit, body_idle: Some(limit) };
    let credentials = (!upstream.settings.replaces_authorization()).then_some(&head.headers);
    let bond = ConnectionBinding::new(credentials, None);
    let Ok(answer) = pools.send(upstream, head.with(body), progress, deadlines, None, bond).await else {
        return false;
    };
    let (mut body, mut read) = (answer.into_body(), 0);
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_ANSWER {
            break;
        }
    }
    true
}

impl MirrorOutcome {
    const ALL: [Self; 4] = [Self::Answered, Self::Failed, Self::NoRoom, Self::Unsuitable];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::NoRoom => "no_room",
            Self::Unsuitable => "unsuitable",
        }
    }
}
