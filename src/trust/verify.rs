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
use super::caller_claims::caller;
use super::claimed_caller::ClaimedCaller;
use super::entry_choice::choose;
use super::failed_check::{FailedCheck, RefusedToken};
use super::issuer::{Profile, TrustedIssuer};
use super::key_cache::KeyLookup;
use super::revocation::PublishedRevocations;
use super::token_fields::TokenFields;
use crate::clock::UnixTime;
use crate::http1::field_block::FieldBlock;
use crate::jose::claims::Claims;
use crate::jose::header::Header;
use crate::jose::jwk::VerifyingKey;
use crate::jose::numeric_date::NumericDate;
use crate::jose::token::{Unverified, unverified_claims};
use crate::oauth::caller::{Caller, IssuerName};

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

    /// The caller that a token names, which is not verified. `None` if its claims cannot be read.
    pub(crate) fn claimed_by(&self, token: &str) -> Option<ClaimedCaller> {
        Some(ClaimedCaller::of(&unverified_claims(token)?, &self.issuers))
    }

    /// Verifies a token that is not in the cache.
    pub(crate) async fn verify(
        &self,
        token: &str,
        expected: Expectations<'_>,
        now: UnixTime,
    ) -> Result<Verified, RefusedToken> {
        let mut token = Unverified::parse(token).map_err(|fault| FailedCheck::from(fault).of(None))?;
        let issuer = match choose(&self.issuers, |issuer| &issuer.settings, &token.claims) {
            Ok(issuer) => issuer,
            Err(fault) => {
                return Err(FailedCheck::from(fault).of(Some(ClaimedCaller::of(&token.claims.all, &self.issuers))));
            }
        };
        let completed = issuer.settings.audiences.complete(&mut token.claims);
        let claimed = || ClaimedCaller::of_entry(&issuer.settings.name, &token.claims.all);
        let fail = |check: FailedCheck| check.of(Some(claimed()));
        completed.map_err(|fault| fail(fault.into()))?;
        check_claims(issuer, &token.header, &token.claims, expected, now).map_err(fail)?;
        let caller = caller(&issuer.settings, &token.claims).map_err(|fault| fail(fault.into()))?;
        let key = signing_key(issuer, &token).await.map_err(fail)?;
        let version = self.revocations.version();
        if let Some(revocation) = self.revocations.current().applying_to(&issuer.settings, &caller, &token.claims) {
            return Err(fail(FailedCheck::revoked(&revocation)));
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
        check.of(Some(ClaimedCaller::of_entry(&self.issuer.settings.name, &self.claims.all)))
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
        self.check_route(expected)?;
        check_time(&self.claims, self.issuer.settings.clock_skew, now)?;
        if !self.issuer.keys.is_current(&self.key, instant) {
            return Err(match self.issuer.keys.is_usable(instant) {
                true => FailedCheck::removed_key(&self.issuer, &self.key),
                false => FailedCheck::keys_unavailable(&self.issuer, false),
            });
        }
        self.check_revocation()
    }

    /// The part of [`revalidate`](Self::revalidate) that time alone does not change: the route and the revocations.
    pub(crate) fn recheck(&self, expected: Expectations<'_>) -> Result<(), FailedCheck> {
        self.check_route(expected)?;
        self.check_revocation()
    }

    fn check_route(&self, expected: Expectations<'_>) -> Result<(), FailedCheck> {
        check_issuer(&self.issuer, expected)?;
        check_audience(&self.issuer, &self.claims, expected)
    }

    /// One load and one comparison, unless something has been revoked since.
    fn check_revocation(&self) -> Result<(), FailedCheck> {
        let version = self.revocations.version();
        if version == self.passed.get() {
            return Ok(());
        }
        let current = self.revocations.current();
        if let Some(revocation) = current.applying_to(&self.issuer.settings, &self.caller, &self.claims) {
            return Err(FailedCheck::revoked(&revocation));
        }
        self.passed.set(version);
        Ok(())
    }
}

/// The issuer's key that signed the token.
async fn signing_key(issuer: &TrustedIssuer, token: &Unverified<'_>) -> Result<Arc<VerifyingKey>, FailedCheck> {
    let (named, algorithm) = (token.header.key(), token.header.algorithm);
    let key = match issuer.keys.find(named, algorithm).await {
        KeyLookup::Found(key) => key,
        KeyLookup::Unknown => return Err(FailedCheck::unknown_key(issuer, &token.header)),
        KeyLookup::Unavailable => {
            let is_usable = issuer.keys.is_usable(Instant::now());
            return Err(FailedCheck::keys_unavailable(issuer, is_usable));
        }
    };
    if token.is_signed_by(&key) {
        return Ok(key);
    }
    // The issuer may have replaced the key and kept its id.
    let replacement = issuer.keys.find_replacement(named, algorithm, &key).await;
    replacement.filter(|key| token.is_signed_by(key)).ok_or_else(|| FailedCheck::bad_signature(issuer, &key))
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
        return Err(FailedCheck::type_not_allowed(issuer, header));
    }
    if !issuer.settings.algorithms.contains(&header.algorithm) {
        return Err(FailedCheck::alg_not_allowed(issuer, header));
    }
    check_audience(issuer, claims, expected)?;
    check_time(claims, issuer.settings.clock_skew, now)?;
    match issuer.settings.profile {
        Profile::Own if claims.issued_at.is_none() => Err(FailedCheck::missing("iat")),
        Profile::Own if claims.token_id.is_none() => Err(FailedCheck::missing("jti")),
        Profile::Own | Profile::External => Ok(()),
    }
}

fn check_issuer(issuer: &TrustedIssuer, expected: Expectations<'_>) -> Result<(), FailedCheck> {
    match expected.issuers {
        AllowedIssuers::Only(names) if !names.contains(&issuer.settings.name) => {
            Err(FailedCheck::issuer_not_allowed(&issuer.settings.name, names))
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
    Err(FailedCheck::bad_audience(issuer, claims, accepted))
}

fn check_time(claims: &Claims, skew: Duration, now: UnixTime) -> Result<(), FailedCheck> {
    let seconds = skew.as_secs();
    if now.seconds() >= claims.expires_at.saturating_add(seconds) {
        return Err(FailedCheck::expired(claims, skew, now));
    }
    // A token from the future comes from a wrong clock, or is forged.
    let begins = [("nbf", claims.not_before), ("iat", claims.issued_at.map(NumericDate::rounded_up))];
    for (name, begins) in begins {
        if let Some(begins) = begins.filter(|begins| *begins > now.seconds().saturating_add(seconds)) {
            return Err(FailedCheck::not_yet_valid(name, begins, skew, now));
        }
    }
    Ok(())
}

#[cfg(test)]
impl Verified {
    /// An own token that was issued to this client.
    pub(crate) fn own(client: &str) -> Self {
        use super::example::{claims, settings};
        use super::issuer::IssuerSettings;
        use super::key_cache::KeyCache;
        use crate::jose::algorithm::Algorithm;
        use crate::jose::signing::SigningKey;
        use crate::oauth::identity::Identity;
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
