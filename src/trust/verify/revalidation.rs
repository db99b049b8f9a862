//! The checks of a token that was verified before: what may have changed since.

use tokio::time::Instant;

use super::checks::{check_audience, check_issuer, check_time};
use super::{Expectations, TokenEvidence, VerifiedToken};
use crate::clock::UnixTime;
use crate::oauth::caller::Caller;
use crate::oauth::observer::Unobserved;
use crate::trust::failed_check::FailedCheck;

impl VerifiedToken {
    pub(super) fn revalidate(
        &self,
        caller: &Caller,
        expected: Expectations<'_>,
        now: UnixTime,
        instant: Instant,
    ) -> Result<(), FailedCheck> {
        self.check_route(expected)?;
        check_time(&self.claims, self.issuer.settings.clock_skew, now, &mut Unobserved)?;
        self.check_evidence(instant)?;
        self.check_revocation(caller)
    }

    /// The part that counts for a tunnel, whose token is not sent again: an introspected token is valid until its end,
    /// or that of its answer if it has none.
    pub(super) fn continues(&self, caller: &Caller, now: UnixTime, instant: Instant) -> Result<(), FailedCheck> {
        check_time(&self.claims, self.issuer.settings.clock_skew, now, &mut Unobserved)?;
        match &self.evidence {
            TokenEvidence::Signature(_) => self.check_evidence(instant)?,
            TokenEvidence::Introspection(_) => {}
        }
        self.check_revocation(caller)
    }

    fn check_evidence(&self, instant: Instant) -> Result<(), FailedCheck> {
        let keys = &self.issuer.keys;
        match &self.evidence {
            TokenEvidence::Signature(key) if keys.is_current(key, instant) => Ok(()),
            TokenEvidence::Signature(key) if keys.is_usable(instant) => {
                Err(FailedCheck::removed_key(&self.issuer, key))
            }
            TokenEvidence::Signature(_) => Err(FailedCheck::keys_unavailable(&self.issuer, false)),
            TokenEvidence::Introspection(until) if instant < *until => Ok(()),
            TokenEvidence::Introspection(_) => {
                Err(FailedCheck::introspection_unavailable(&self.issuer.settings.name, "an answer that is too old"))
            }
        }
    }

    /// The id of the key that signed it. `None` without such a key or id.
    pub(crate) fn key_id(&self) -> Option<&str> {
        match &self.evidence {
            TokenEvidence::Signature(key) => key.key_id.as_deref(),
            TokenEvidence::Introspection(_) => None,
        }
    }

    pub(super) fn check_route(&self, expected: Expectations<'_>) -> Result<(), FailedCheck> {
        check_issuer(&self.issuer.settings.name, expected)?;
        check_audience(&self.issuer, &self.claims, expected).map(drop)
    }

    /// One load and one comparison, unless something has been revoked since.
    pub(super) fn check_revocation(&self, caller: &Caller) -> Result<(), FailedCheck> {
        let version = self.revocations.version();
        if version == self.passed.get() {
            return Ok(());
        }
        let current = self.revocations.current();
        if let Some(revocation) = current.applying_to(&self.issuer.settings, caller, &self.claims) {
            return Err(FailedCheck::revoked(&revocation));
        }
        self.passed.set(version);
        Ok(())
    }
}
