//! The callers of static tokens: a worker's own, and the failures to present one.
//!
//! Takes the value that a request presents. Gives the token that it is, or says that it is none. Failures are counted
//! by address, exact per process; a right value is never counted and never refused for them.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::clock::UnixTime;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::failed_check::FailedCheck;
use crate::trust::request_key::RequestKey;
use crate::trust::static_tokens::{StaticToken, StaticTokens, may_be_static};
use crate::trust::verify::{Expectations, Proof, Verified};

/// One worker's callers, by the places of their tokens: as many as the configuration has, at most.
#[derive(Debug, Default)]
pub(crate) struct StaticCallers(RefCell<Vec<Option<Rc<Verified>>>>);

/// The value of a request, seen as a static token.
#[derive(Debug)]
pub(crate) enum PresentedStatic<'t> {
    /// With its place.
    Token(usize, &'t Arc<StaticToken>),
    /// It could have been one.
    Unknown,
    /// A token of an issuer, or nothing of either kind.
    Other,
}

impl StaticCallers {
    /// The caller of the token at this place. Requests of two snapshots may be in flight, so that a place may have
    /// another token than before.
    pub(crate) fn get(&self, place: usize, token: &Arc<StaticToken>) -> Rc<Verified> {
        let mut callers = self.0.borrow_mut();
        if let Some(Some(known)) = callers.get(place)
            && matches!(&known.proof, Proof::Static(of) if Arc::ptr_eq(of, token))
        {
            return Rc::clone(known);
        }
        let caller = Rc::new(Verified::of_static(token));
        if callers.len() <= place {
            callers.resize(place + 1, None);
        }
        if let Some(entry) = callers.get_mut(place) {
            *entry = Some(Rc::clone(&caller));
        }
        caller
    }
}

impl<'t> PresentedStatic<'t> {
    /// A known value counts as known in any field, so that a wrong field is refused as such. An unknown one is an
    /// attempt only in a field in which static tokens come.
    pub(crate) fn of(tokens: &'t StaticTokens, value: &[u8], field: Option<&HeaderName>) -> Self {
        match tokens.find(value) {
            Some((place, token)) => Self::Token(place, token),
            None if may_be_static(value) && tokens.come_in(field) => Self::Unknown,
            None => Self::Other,
        }
    }
}

pub(crate) fn check_static(
    verified: &Verified,
    field: Option<&HeaderName>,
    expected: Expectations<'_>,
    now: UnixTime,
) -> Result<(), FailedCheck> {
    verified.check_field(field)?;
    verified.revalidate(expected, now, tokio::time::Instant::now())
}

/// Counts a failure. The error is the time until the next one of this address gets another answer.
pub(crate) fn count_failure(snapshot: &Snapshot, address: IpAddr) -> Result<(), Duration> {
    let Some(limit) = &snapshot.static_token_failures else { return Ok(()) };
    let count = snapshot.limit_store.count_in_process(limit, RequestKey::by_address(address));
    if count.allowed { Ok(()) } else { Err(count.wait) }
}
