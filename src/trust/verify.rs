//! Verifies a token, and finds its caller.
//!
//! Checks that need no cryptography come first, the cheapest first. The signature is checked last. The entry of the
//! issuer is [chosen](super::entry_choice) by the exact `iss`, the key by (entry, key id, algorithm): the token selects
//! among what the issuer publishes, and nothing else.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::audiences::AcceptedAudiences;
use super::caller_claims::{CallerFault, caller, claimed_client};
use super::entry_choice::choose;
use super::issuer::{Profile, TrustedIssuer};
use super::key_cache::{KeyCache, KeyLookup};
use super::revocation::PublishedRevocations;
use super::token_fields::TokenFields;
use super::token_origin::NoEntry;
use crate::clock::UnixTime;
use crate::http1::field_block::FieldBlock;
use crate::jose::claims::{Claims, ClaimsFault};
use crate::jose::header::Header;
use crate::jose::jwk::VerifyingKey;
use crate::jose::numeric_date::NumericDate;
use crate::jose::token::{TokenFault, Unverified};
use crate::oauth::caller::{Caller, IssuerName};
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::identity::Identity;

/// All issuers that we trust.
#[derive(Debug)]
pub(crate) struct Trust {
    issuers: Vec<Arc<TrustedIssuer>>,
    token_fields: TokenFields,
    revocations: Arc<PublishedRevocations>,
}

/// The requirements of a route. No field is optional, so that no check can be forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expectations<'r> {
    pub(crate) issuers: AllowedIssuers<'r>,
    pub(crate) audiences: AllowedAudiences<'r>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AllowedIssuers<'r> {
    All,
    Only(&'r [IssuerName]),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AllowedAudiences<'r> {
    /// For a command that checks a token without a route.
    Any,
    /// The issuer's own list.
    OfIssuer,
    Only(&'r [String]),
}

impl Expectations<'_> {
    /// The minimum that every route requires. The requirements of a route are checked afterwards.
    pub(crate) fn any_route() -> Self {
        Self { issuers: AllowedIssuers::All, audiences: AllowedAudiences::Any }
    }
}

/// A valid token, with all data that later decisions need.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) caller: Caller,
    pub(crate) claims: Claims,
    pub(crate) key: Arc<VerifyingKey>,
    pub(crate) issuer: Arc<TrustedIssuer>,
    /// Its part of audit lines, written at first use.
    pub(crate) audit_part: OnceCell<Box<[u8]>>,
    /// The header fields that describe the caller to upstreams, rendered at first use.
    pub(crate) identity_fields: OnceCell<Rc<FieldBlock>>,
    pub(super) revocations: Arc<PublishedRevocations>,
    /// The version of the revocations that it was last found to pass.
    pub(super) passed: Cell<u64>,
    /// For an own token: the position at which its client was last found.
    pub(crate) client_entry: Cell<Option<ClientEntry>>,
}

/// The place of a client in a table of clients, so that a token's client is looked up once and not at every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientEntry {
    /// The table that the index is of: another table has another number.
    pub(crate) table: u64,
    pub(crate) index: usize,
}

/// The reason why a token is refused, and its claimed caller, which is not verified.
#[derive(Debug)]
pub(crate) struct RefusedToken {
    pub(crate) reason: TokenError,
    /// The values that the failed check found and wanted.
    pub(crate) values: Option<Box<Discrepancy>>,
    pub(crate) issuer: Option<IssuerName>,
    pub(crate) client: Option<Identity>,
}

/// A check that a token does not pass: the reason, and the values that it found and wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FailedCheck {
    pub(crate) reason: TokenError,
    pub(crate) values: Option<Box<Discrepancy>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    Malformed,
    /// More than a token may have.
    TooManyScopes,
    UnknownIssuer,
    IssuerNotAllowed,
    TypeNotAllowed,
    AlgNotAllowed,
    MissingClaim,
    BadAudience,
    Expired,
    NotYetValid,
    UnknownKid,
    /// The token cannot be verified now; it may be valid.
    KeysUnavailable,
    BadSignature,
    Revoked,
    /// An own token whose client is not configured.
    UnknownClient,
}

impl Trust {
    pub(crate) fn new(issuers: Vec<Arc<TrustedIssuer>>, revocations: Arc<PublishedRevocations>) -> Self {
        let token_fields = TokenFields::new(issuers.iter().filter_map(|issuer| issuer.settings.token_field.as_ref()));
        Self { issuers, token_fields, revocations }
    }

    pub(crate) fn revocations(&self) -> &PublishedRevocations {
        &self.revocations
    }

    pub(crate) fn issuers(&self) -> &[Arc<TrustedIssuer>] {
        &self.issuers
    }

    pub(crate) fn token_fields(&self) -> &TokenFields {
        &self.token_fields
    }

    /// True if this is a trusted issuer of the current configuration.
    pub(crate) fn holds(&self, issuer: &Arc<TrustedIssuer>) -> bool {
        self.issuers.iter().any(|known| Arc::ptr_eq(known, issuer))
    }

    /// Verifies a token that is not in the cache.
    pub(crate) async fn verify(
        &self,
        token: &str,
        expected: Expectations<'_>,
        now: UnixTime,
    ) -> Result<Verified, RefusedToken> {
        let mut token = Unverified::parse(token).map_err(|fault| FailedCheck::from(fault).of(None, None))?;
        let issuer = choose(&self.issuers, |issuer| &issuer.settings, &token.claims)
            .map_err(|fault| FailedCheck::from(fault).of(None, claimed_client(&token.claims)))?;
        let completed = issuer.settings.audiences.complete(&mut token.claims);
        let fail = |check: FailedCheck| check.of(Some(&issuer.settings.name), claimed_client(&token.claims));
        let refused = |reason: TokenError| fail(reason.into());
        completed.map_err(|fault| fail(fault.into()))?;
        check_claims(issuer, &token.header, &token.claims, expected, now).map_err(fail)?;
        let caller = caller(&issuer.settings, &token.claims).map_err(|fault| fail(fault.into()))?;
        let key = signing_key(&issuer.keys, &token).await.map_err(refused)?;
        let version = self.revocations.version();
        if self.revocations.current().applies_to(&issuer.settings, &caller, &token.claims) {
            return Err(refused(TokenError::Revoked));
        }
        Ok(Verified {
            caller,
            claims: token.claims,
            key,
            issuer: Arc::clone(issuer),
            audit_part: OnceCell::new(),
            identity_fields: OnceCell::new(),
            revocations: Arc::clone(&self.revocations),
            passed: Cell::new(version),
            client_entry: Cell::new(None),
        })
    }
}

impl Verified {
    /// The refusal of this token, which was valid before.
    pub(crate) fn refused(&self, check: FailedCheck) -> RefusedToken {
        check.of(Some(&self.issuer.settings.name), self.caller.client.clone())
    }

    /// True if the own authorization server issued the token.
    pub(crate) fn is_own(&self) -> bool {
        self.issuer.settings.profile == Profile::Own
    }

    /// Checks at every use what may have changed: the time, the route, the keys of the issuer, the revocations.
    pub(crate) fn revalidate(
        &self,
        expected: Expectations<'_>,
        now: UnixTime,
        instant: Instant,
    ) -> Result<(), FailedCheck> {
        check_issuer(&self.issuer, expected)?;
        check_audience(&self.issuer, &self.claims, expected)?;
        check_time(&self.claims, self.issuer.settings.clock_skew, now)?;
        if !self.issuer.keys.is_current(&self.key, instant) {
            let usable = self.issuer.keys.is_usable(instant);
            return Err(if usable { TokenError::UnknownKid } else { TokenError::KeysUnavailable }.into());
        }
        self.check_revocation()
    }

    /// One load and one comparison, unless something has been revoked since.
    fn check_revocation(&self) -> Result<(), FailedCheck> {
        let version = self.revocations.version();
        if version == self.passed.get() {
            return Ok(());
        }
        if self.revocations.current().applies_to(&self.issuer.settings, &self.caller, &self.claims) {
            return Err(TokenError::Revoked.into());
        }
        self.passed.set(version);
        Ok(())
    }
}

/// The issuer's key that signed the token.
async fn signing_key(keys: &KeyCache, token: &Unverified<'_>) -> Result<Arc<VerifyingKey>, TokenError> {
    let (named, algorithm) = (token.header.key(), token.header.algorithm);
    let key = match keys.find(named, algorithm).await {
        KeyLookup::Found(key) => key,
        KeyLookup::Unknown => return Err(TokenError::UnknownKid),
        KeyLookup::Unavailable => return Err(TokenError::KeysUnavailable),
    };
    if token.is_signed_by(&key) {
        return Ok(key);
    }
    // The issuer may have replaced the key and kept its id.
    let replacement = keys.find_replacement(named, algorithm, &key).await;
    replacement.filter(|key| token.is_signed_by(key)).ok_or(TokenError::BadSignature)
}

/// All checks without cryptography, the cheapest first.
fn check_claims(
    issuer: &TrustedIssuer,
    header: &Header,
    claims: &Claims,
    expected: Expectations<'_>,
    now: UnixTime,
) -> Result<(), FailedCheck> {
    check_issuer(issuer, expected)?;
    if !issuer.settings.types.accept(header.token_type.as_deref()) {
        return Err(TokenError::TypeNotAllowed.into());
    }
    if !issuer.settings.algorithms.contains(&header.algorithm) {
        return Err(TokenError::AlgNotAllowed.into());
    }
    check_audience(issuer, claims, expected)?;
    check_time(claims, issuer.settings.clock_skew, now)?;
    match issuer.settings.profile {
        Profile::Own if claims.issued_at.is_none() => Err(ClaimsFault::missing("iat").into()),
        Profile::Own if claims.token_id.is_none() => Err(ClaimsFault::missing("jti").into()),
        Profile::Own | Profile::External => Ok(()),
    }
}

fn check_issuer(issuer: &TrustedIssuer, expected: Expectations<'_>) -> Result<(), FailedCheck> {
    match expected.issuers {
        AllowedIssuers::Only(names) if !names.contains(&issuer.settings.name) => {
            Err(TokenError::IssuerNotAllowed.into())
        }
        AllowedIssuers::All | AllowedIssuers::Only(_) => Ok(()),
    }
}

fn check_audience(issuer: &TrustedIssuer, claims: &Claims, expected: Expectations<'_>) -> Result<(), FailedCheck> {
    let of_issuer = &issuer.settings.audiences;
    let accepted = match (expected.audiences, of_issuer) {
        (AllowedAudiences::Only(audiences), _) => audiences,
        (AllowedAudiences::Any | AllowedAudiences::OfIssuer, AcceptedAudiences::Unlimited) => return Ok(()),
        (AllowedAudiences::Any, AcceptedAudiences::Listed { .. }) if !claims.audiences.is_empty() => return Ok(()),
        (AllowedAudiences::Any | AllowedAudiences::OfIssuer, AcceptedAudiences::Listed { accepted, .. }) => accepted,
    };
    if claims.audiences.iter().any(|audience| accepted.contains(audience)) {
        return Ok(());
    }
    if claims.audiences.is_empty() {
        return Err(of_issuer.missing().into());
    }
    let (found, wanted) = (claims.audiences.join(", "), accepted.join(" or "));
    let values = Some(Box::new(Discrepancy::new(found, wanted)));
    Err(FailedCheck { reason: TokenError::BadAudience, values })
}

fn check_time(claims: &Claims, skew: Duration, now: UnixTime) -> Result<(), FailedCheck> {
    let (now, skew) = (now.seconds(), skew.as_secs());
    if now >= claims.expires_at.saturating_add(skew) {
        return Err(TokenError::Expired.into());
    }
    // A token from the future comes from a wrong clock, or is forged.
    let begins = claims.not_before.max(claims.issued_at.map(NumericDate::rounded_up)).unwrap_or(0);
    if begins > now.saturating_add(skew) { Err(TokenError::NotYetValid.into()) } else { Ok(()) }
}

impl FailedCheck {
    fn of(self, issuer: Option<&IssuerName>, client: Option<Identity>) -> RefusedToken {
        RefusedToken { reason: self.reason, values: self.values, issuer: issuer.cloned(), client }
    }
}

impl From<TokenError> for FailedCheck {
    fn from(reason: TokenError) -> Self {
        Self { reason, values: None }
    }
}

impl From<ClaimsFault> for FailedCheck {
    fn from(fault: ClaimsFault) -> Self {
        TokenFault::from(fault).into()
    }
}

impl From<CallerFault> for FailedCheck {
    fn from(fault: CallerFault) -> Self {
        match fault {
            CallerFault::Claims(fault) => fault.into(),
            CallerFault::TooManyScopes(values) => Self { reason: TokenError::TooManyScopes, values: Some(values) },
        }
    }
}

impl From<NoEntry> for FailedCheck {
    fn from(fault: NoEntry) -> Self {
        let (reason, values) = match fault {
            NoEntry::MissingIssuer(values) => (TokenError::MissingClaim, Some(values)),
            NoEntry::UnknownIssuer(values) => (TokenError::UnknownIssuer, values),
            NoEntry::BadAudience(values) => (TokenError::BadAudience, Some(values)),
            NoEntry::Malformed(values) => (TokenError::Malformed, Some(values)),
        };
        Self { reason, values }
    }
}

impl From<TokenFault> for FailedCheck {
    fn from(fault: TokenFault) -> Self {
        let (reason, values) = match fault {
            TokenFault::Malformed(values) => (TokenError::Malformed, values),
            TokenFault::Algorithm => (TokenError::AlgNotAllowed, None),
            TokenFault::MissingClaim(values) => (TokenError::MissingClaim, Some(values)),
        };
        Self { reason, values }
    }
}

#[cfg(test)]
impl Verified {
    /// An own token that was issued to this client.
    pub(crate) fn own(client: &str) -> Self {
        use super::example::{claims, settings};
        use super::issuer::IssuerSettings;
        use crate::jose::algorithm::Algorithm;
        use crate::jose::signing::SigningKey;
        let id = Identity::parse(client).unwrap();
        let settings = IssuerSettings { name: IssuerName::own(), profile: Profile::Own, ..settings() };
        let key = SigningKey::generate(Algorithm::EdDsa).unwrap().0.verifying_key().unwrap();
        Self {
            caller: Caller::new(IssuerName::own(), &settings.issuer, Some(id), None, Default::default()).unwrap(),
            claims: Claims::parse(claims().to_string().as_bytes()).unwrap(),
            key: Arc::new(key),
            issuer: Arc::new(TrustedIssuer { settings, keys: Arc::new(KeyCache::remote()) }),
            audit_part: OnceCell::new(),
            identity_fields: OnceCell::new(),
            revocations: Arc::default(),
            passed: Cell::new(0),
            client_entry: Cell::new(None),
        }
    }
}

#[cfg(test)]
mod tests;
