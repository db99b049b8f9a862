//! Counts a request against rate limits, records the counts, and refuses it at the first exceeded limit.

use super::rejection::Rejection;
use crate::oauth::identity::Identity;
use crate::pipeline::policy::limits::{self, ExceededLimit, LimitPhase};
use crate::pipeline::record::open_request::OpenRequest;
use crate::pipeline::request::peer::Peer;
use crate::pipeline::routing::rate_limit::RateLimit;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::verify::Verified;

/// The limits of the rule that the request matched.
pub(crate) fn count_rule(
    limits: &[RateLimit],
    snapshot: &Snapshot,
    phase: LimitPhase<'_>,
    peer: &Peer,
    open: &mut OpenRequest,
) -> Result<(), Rejection> {
    let store = &snapshot.limit_store;
    refuse_beyond(limits::count(limits, store, phase, peer.address, |index, count| open.counted(index, count)))
}

/// The limits of the caller itself, if it is one of our own clients.
pub(crate) fn count_caller(
    snapshot: &Snapshot,
    caller: Option<&Verified>,
    open: &mut OpenRequest,
) -> Result<(), Rejection> {
    match caller.filter(|caller| caller.is_own()).and_then(|caller| caller.caller.client.as_ref()) {
        Some(client) => count_client(snapshot, client, open),
        None => Ok(()),
    }
}

/// The limits of one of our own clients.
pub(crate) fn count_client(snapshot: &Snapshot, client: &Identity, open: &mut OpenRequest) -> Result<(), Rejection> {
    let (limits, store) = (snapshot.limits_of_client(client), &snapshot.limit_store);
    refuse_beyond(limits::count_client(limits, store, |index, count| open.counted_for(client, index, count)))
}

fn refuse_beyond(exceeded: Option<ExceededLimit>) -> Result<(), Rejection> {
    exceeded.map_or(Ok(()), |limit| Err(Rejection::RateLimited(limit)))
}
