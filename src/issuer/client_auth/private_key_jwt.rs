//! `private_key_jwt`: a client signs an assertion about itself with a key of its own (RFC 7523 §2.2, §3).
//!
//! Takes an assertion and the keys of the client that it names. The checks that need no cryptography come first, and
//! are the same for every client. An assertion of an unknown client is verified with keys that cannot have signed it.
//! Verifying takes less than 0.1 ms with the usual algorithms, so it is done by the worker itself.

use std::sync::Arc;
use std::time::Duration;

use super::assertion::PresentedAssertion;
use super::claim::{AssertionCause, Claim, RefusedAssertion, Standing};
use super::client_keys::{ClientKeys, FetchFailed};
use super::single_use::SingleUse;
use super::stand_in_keys::StandInKeys;
use crate::clock::UnixTime;
use crate::jose::claims::Claims;
use crate::jose::header::Header;
use crate::jose::jwk::VerifyingKey;
use crate::oauth::discrepancy::{Discrepancy, one_of};
use crate::oauth::observer::Unobserved;
use crate::trust::failed_check::{FailedCheck, TokenError};
use crate::trust::issuer::TokenTypes;
use crate::trust::verify::checks::check_time;

/// Verifies the assertions of clients.
#[derive(Debug)]
pub(super) struct AssertionVerifier {
    stand_ins: StandInKeys,
    types: TokenTypes,
}

/// An assertion that a key of the client has signed.
#[derive(Debug)]
pub(super) struct SignedAssertion {
    pub(super) key: Arc<VerifyingKey>,
    pub(super) once: SingleUse,
}

/// Why an assertion does not authenticate its client.
#[derive(Debug)]
pub(super) enum AssertionFault {
    Refused(RefusedAssertion),
    /// The keys of the client cannot be fetched now.
    KeysUnavailable(Box<Discrepancy>),
}

/// The clock of a client may be ahead or behind.
const CLOCK_SKEW: Duration = Duration::from_secs(30);
/// An assertion is made for one request, and each is kept until it has expired.
const LONGEST_LIFETIME: Duration = Duration::from_secs(300);

impl AssertionVerifier {
    pub(super) fn new() -> Self {
        // Some servers of the type of access tokens accept assertions of any type; then one can pass for the other.
        let named = ["jwt", "client-authentication+jwt"].map(str::to_owned).to_vec();
        Self { stand_ins: StandInKeys::new(), types: TokenTypes { named, absent: true } }
    }

    /// The assertion with the key of the client that made it. Its use is not recorded.
    pub(super) async fn matching(
        &self,
        claim: Claim<'_, &ClientKeys>,
        presented: &PresentedAssertion,
        audiences: &[String],
        now: UnixTime,
    ) -> Result<SignedAssertion, AssertionFault> {
        let (header, claims) = (&presented.token.header, &presented.token.claims);
        let token_id = self.check(header, claims, audiences, now)?;
        let mut keys = claim.kept.fitting(header.key(), header.algorithm);
        // Nothing is fetched for an unknown client.
        if keys.is_empty() && claim.standing != Standing::Unknown {
            keys = self.fetched(claim.kept, header).await?;
        }
        let mut found = self.signer(&keys, presented, claim.standing);
        if found.is_none() && claim.standing != Standing::Unknown {
            let replacements = claim.kept.replacements(header.key(), header.algorithm, &keys).await;
            found = replacements.into_iter().find(|key| presented.token.is_signed_by(key));
        }
        match (claim.standing, found) {
            (Standing::Unknown, _) => Err(unknown_client().into()),
            (Standing::Good | Standing::Elsewhere, None) => Err(not_signed(claim.kept, &keys, header).into()),
            (Standing::Good | Standing::Elsewhere, Some(key)) => {
                let end = claims.expires_at.saturating_add(CLOCK_SKEW.as_secs());
                Ok(SignedAssertion { key, once: SingleUse::by_client(claim.id, token_id, end) })
            }
        }
    }

    /// All checks without cryptography. Gives the `jti`.
    fn check<'a>(
        &self,
        header: &Header,
        claims: &'a Claims,
        audiences: &[String],
        now: UnixTime,
    ) -> Result<&'a str, RefusedAssertion> {
        if !self.types.accept(header.token_type.as_deref()) {
            let wanted = format!("{}, or no typ", one_of("typ", self.types.named.iter().map(String::as_str)));
            let found = one_of("typ", header.token_type.as_deref());
            return Err(FailedCheck::new(TokenError::TypeNotAllowed, found, wanted).into());
        }
        check_audience(claims, audiences)?;
        check_time(claims, CLOCK_SKEW, now, &mut Unobserved)?;
        let ahead = claims.expires_at.saturating_sub(now.seconds());
        if ahead > (LONGEST_LIFETIME + CLOCK_SKEW).as_secs() {
            let wanted = format!("exp at most {}s ahead", LONGEST_LIFETIME.as_secs());
            return Err(RefusedAssertion::new(AssertionCause::LivesTooLong, format!("exp {ahead}s ahead"), wanted));
        }
        let missing = || FailedCheck::new(TokenError::MissingClaim, "no jti", "jti").into();
        claims.token_id.as_deref().ok_or_else(missing)
    }

    async fn fetched(&self, kept: &ClientKeys, header: &Header) -> Result<Vec<Arc<VerifyingKey>>, AssertionFault> {
        kept.fitting_after_fetch(header.key(), header.algorithm).await.map_err(|FetchFailed| {
            let values = Discrepancy::new("no current key set with this key", "the JWK Set of the client's `jwks_uri`");
            AssertionFault::KeysUnavailable(Box::new(values))
        })
    }

    /// The first of the keys that made the signature. Only for a client that may be served, the others are not tried.
    fn signer(
        &self,
        keys: &[Arc<VerifyingKey>],
        presented: &PresentedAssertion,
        standing: Standing,
    ) -> Option<Arc<VerifyingKey>> {
        if keys.is_empty() {
            let stand_in = self.stand_ins.of(presented.token.header.algorithm);
            // Takes the time of a verification. The private key was thrown away.
            let _ = stand_in.is_some_and(|key| presented.token.is_signed_by(key));
            return None;
        }
        let mut found = None;
        for key in keys.iter().filter(|key| presented.token.is_signed_by(key)) {
            found = found.or(Some(Arc::clone(key)));
            if standing == Standing::Good {
                break;
            }
        }
        found
    }
}

/// One value, so that an assertion for another server does not count here, nor one for the gateway there (RFC 7523 §3;
/// a sole audience is the rule of draft-ietf-oauth-rfc7523bis).
fn check_audience(claims: &Claims, audiences: &[String]) -> Result<(), RefusedAssertion> {
    if matches!(&claims.audiences[..], [only] if audiences.contains(only)) {
        return Ok(());
    }
    let found = one_of("aud", claims.audiences.iter().map(String::as_str));
    let wanted = format!("one value: {}", one_of("aud", audiences.iter().map(String::as_str)));
    Err(FailedCheck::new(TokenError::BadAudience, found, wanted).into())
}

fn unknown_client() -> RefusedAssertion {
    RefusedAssertion::new(AssertionCause::UnknownClient, "a client id that no client has", "a client of oauth.clients")
}

fn not_signed(kept: &ClientKeys, tried: &[Arc<VerifyingKey>], header: &Header) -> RefusedAssertion {
    let algorithm = header.algorithm;
    if kept.is_empty() {
        return RefusedAssertion::new(
            AssertionCause::UnknownClient,
            "an assertion of a client without `keys`",
            "another authentication method of this client",
        );
    }
    if tried.is_empty() {
        let key_id = header.key_id.as_deref();
        let found = format!("{}, alg={algorithm}", one_of("kid", key_id));
        return FailedCheck::new(TokenError::UnknownKid, found, "a key of the client for this algorithm").into();
    }
    let ids = tried.iter().map(|key| key.key_id.as_deref().unwrap_or("without kid"));
    let wanted = format!("a signature by a key of the client for {algorithm}: {}", one_of("kid", ids));
    let found = "a signature by another key, or of other content";
    FailedCheck::new(TokenError::BadSignature, found, wanted).into()
}

impl From<RefusedAssertion> for AssertionFault {
    fn from(refused: RefusedAssertion) -> Self {
        Self::Refused(refused)
    }
}

#[cfg(test)]
mod tests;
