//! The use of an assertion that counts once.
//!
//! It is recorded last, after everything else that the request may be refused for: a client that is asked to try again,
//! such as with a nonce in its proof, may send the same assertion.

use super::claim::{AssertionCause, RefusedAssertion};
use crate::clock::UnixTime;
use crate::trust::replay::{Replay, ReplayUnavailable};

/// A use that is not recorded yet.
#[derive(Clone, Debug)]
pub(crate) struct SingleUse {
    /// The client or the platform that has made the assertion.
    by: String,
    token_id: String,
    /// Seconds since 1970: from then on the assertion is refused in any case.
    expires_at: u64,
}

/// Why the use does not count.
#[derive(Debug)]
pub(super) enum UnrecordedUse {
    Repeated(RefusedAssertion),
    Unavailable,
}

impl SingleUse {
    pub(super) fn by_client(id: &str, token_id: &str, expires_at: u64) -> Self {
        Self { by: id.to_owned(), token_id: token_id.to_owned(), expires_at }
    }

    /// `iss` is that of the token.
    pub(super) fn by_platform(iss: &str, token_id: &str, expires_at: u64) -> Self {
        // No client has this id.
        Self { by: format!("\nissuer {iss}"), token_id: token_id.to_owned(), expires_at }
    }

    /// The use is on the disk if this is the first one.
    pub(super) async fn record(&self, replay: &Replay, now: UnixTime) -> Result<(), UnrecordedUse> {
        match replay.use_once(&self.by, &self.token_id, self.expires_at, now).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let (found, wanted) = ("a jti that was used before", "a new jti for each request");
                Err(UnrecordedUse::Repeated(RefusedAssertion::new(AssertionCause::Replayed, found, wanted)))
            }
            Err(ReplayUnavailable) => Err(UnrecordedUse::Unavailable),
        }
    }
}
