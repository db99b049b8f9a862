//! Counts a request against rate limits, records the counts, and refuses it at the first exceeded limit.

use super::rejection::Rejection;
use crate::network::counted_network;
use crate::oauth::discrepancy::short;
use crate::oauth::identity::Identity;
use crate::oauth::observer::{Observation, Observer, Room};
use crate::pipeline::policy::limits::{Counting, CountingKeys, LimitPhase};
use crate::pipeline::record::open_request::OpenRequest;
use crate::pipeline::request::peer::Peer;
use crate::pipeline::routing::rate_limit::{LimitCount, RateLimit};
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::request_key::RequestKey;
use crate::trust::verify::Verified;

/// The limits of the rule that the request matched.
pub(crate) async fn count_rule(
    limits: &[RateLimit],
    snapshot: &Snapshot,
    phase: LimitPhase<'_>,
    peer: &Peer,
    open: &mut OpenRequest,
    observer: &mut impl Observer,
) -> Result<(), Rejection> {
    let counting = Counting { limits, store: &snapshot.limit_store, keys: CountingKeys::OfPhase(phase, peer.address) };
    let counted = |index, count: LimitCount| {
        open.counted(index, count);
        observer.observe(|| observed(limits, index, count, |per| key_text(per, phase, peer)));
    };
    count_all(counting, counted).await
}

/// The limits of the caller itself, if it is one of our own clients.
pub(crate) async fn count_caller(
    snapshot: &Snapshot,
    caller: Option<&Verified>,
    open: &mut OpenRequest,
    observer: &mut impl Observer,
) -> Result<(), Rejection> {
    match caller.filter(|caller| caller.is_own()).and_then(|caller| caller.caller.client.as_ref()) {
        Some(client) => count_client(snapshot, client, open, observer).await,
        None => Ok(()),
    }
}

/// The limits of one of our own clients.
pub(crate) async fn count_client(
    snapshot: &Snapshot,
    client: &Identity,
    open: &mut OpenRequest,
    observer: &mut impl Observer,
) -> Result<(), Rejection> {
    let limits = snapshot.limits_of_client(client);
    let counting = Counting { limits, store: &snapshot.limit_store, keys: CountingKeys::OfClient };
    let counted = |index, count: LimitCount| {
        open.counted_for(client, index, count);
        observer.observe(|| observed(limits, index, count, |_| format!("client {}", client.as_str())));
    };
    count_all(counting, counted).await
}

async fn count_all(counting: Counting<'_>, mut counted: impl FnMut(usize, LimitCount)) -> Result<(), Rejection> {
    match counting.now(&mut counted) {
        Ok(None) => Ok(()),
        // Boxed to keep the common future small.
        Ok(Some(from)) => Box::pin(counting.rest(from, counted)).await.map_err(Rejection::RateLimited),
        Err(exceeded) => Err(Rejection::RateLimited(exceeded)),
    }
}

/// A limit that a request was counted against, and the key that it is counted by.
fn observed(
    limits: &[RateLimit],
    index: usize,
    count: LimitCount,
    key: impl FnOnce(&RequestKey) -> String,
) -> Observation {
    let (name, wanted, key) = match limits.get(index) {
        Some(limit) => (short(&limit.name), limit.rate.to_string(), key(&limit.per)),
        None => Default::default(),
    };
    Observation::checked(Room::Limits, format!("limit {name}"), count.allowed, format!("counted for {key}"), wanted)
}

/// The key by which a request is counted. The values of fields and claims are not shown.
fn key_text(per: &RequestKey, phase: LimitPhase<'_>, peer: &Peer) -> String {
    let caller = match phase {
        LimitPhase::Address => None,
        LimitPhase::Caller { caller, .. } => caller.map(|verified| &verified.caller),
    };
    let identity = |identity: Option<&Identity>| identity.map_or("none", |identity| identity.as_str()).to_owned();
    match per {
        RequestKey::Address => format!("address {}", counted_network(peer.address)),
        RequestKey::Client => {
            let named = caller.and_then(|caller| caller.client.as_ref().or(caller.subject.as_ref()));
            format!("client {}", identity(named))
        }
        RequestKey::Subject => {
            let named = caller.and_then(|caller| caller.subject.as_ref().or(caller.client.as_ref()));
            format!("subject {}", identity(named))
        }
        RequestKey::Route => "all requests of the route".to_owned(),
        RequestKey::Claim(_) | RequestKey::Header(_) => format!("the value of {per}"),
    }
}
