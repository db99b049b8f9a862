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
use super::passed_check::{self, report};
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
use crate::oauth::observer::{Observer, Unobserved};

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

impl<'r> AllowedIssuers<'r> {
    /// `None`: all.
    fn names(self) -> Option<&'r [IssuerName]> {
        match self {
            Self::All => None,
            Self::Only(names) => Some(names),
        }
    }
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
        observer: &mut impl Observer,
    ) -> Result<Verified, RefusedToken> {
        let parsed = Unverified::parse(token).map_err(FailedCheck::from);
        let parsed = report(observer, "token", parsed, |_| passed_check::form());
        let mut token = parsed.map_err(|check| check.of(None))?;
        let chosen = choose(&self.issuers, |issuer| &issuer.settings, &token.claims).map_err(FailedCheck::from);
        let issuer = match report(observer, "iss", chosen, |issuer| passed_check::entry(issuer, &token.claims)) {
            Ok(issuer) => issuer,
            Err(check) => return Err(check.of(Some(ClaimedCaller::of(&token.claims.all, &self.issuers)))),
        };
        let completed = issuer.settings.audiences.complete(&mut token.claims);
        let claimed = || ClaimedCaller::of_entry(&issuer.settings.name, &token.claims.all);
        let fail = |check: FailedCheck| check.of(Some(claimed()));
        completed.map_err(|fault| fail(fault.into()))?;
        check_claims(issuer, &token.header, &token.claims, expected, now, observer).map_err(fail)?;
        let caller = caller(&issuer.settings, &token.claims).map_err(FailedCheck::from);
        let caller = report(observer, "caller", caller, passed_check::caller).map_err(fail)?;
        let key = signing_key(issuer, &token, observer).await.map_err(fail)?;
        let version = self.revocations.version();
        let current = self.revocations.current();
        let revocation = current.applying_to(&issuer.settings, &caller, &token.claims);
        let revoked = revocation.map_or(Ok(()), |revocation| Err(FailedCheck::revoked(&revocation)));
        report(observer, "revocations", revoked, |()| passed_check::revocations()).map_err(fail)?;
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
        check_issuer(&self.issuer, expected)?;
        check_audience(&self.issuer, &self.claims, expected)?;
        check_time(&self.claims, self.issuer.settings.clock_skew, now, &mut Unobserved)?;
        if !self.issuer.keys.is_current(&self.key, instant) {
            return Err(match self.issuer.keys.is_usable(instant) {
                true => FailedCheck::removed_key(&self.issuer, &self.key),
                false => FailedCheck::keys_unavailable(&self.issuer, false),
            });
        }
        self.check_revocation()
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
async fn signing_key(
    issuer: &TrustedIssuer,
    token: &Unverified<'_>,
    observer: &mut impl Observer,
) -> Result<Arc<VerifyingKey>, FailedCheck> {
    let (named, algorithm) = (token.header.key(), token.header.algorithm);
    let found = match issuer.keys.find(named, algorithm).await {
        KeyLookup::Found(key) => Ok(key),
        KeyLookup::Unknown => Err(FailedCheck::unknown_key(issuer, &token.header)),
        KeyLookup::Unavailable => {
            let is_usable = issuer.keys.is_usable(Instant::now());
            Err(FailedCheck::keys_unavailable(issuer, is_usable))
        }
    };
    let mut key = report(observer, "key", found, |key| passed_check::key(key))?;
    let mut is_signed = token.is_signed_by(&key);
    if !is_signed {
        // The issuer may have replaced the key and kept its id.
        let replacement = issuer.keys.find_replacement(named, algorithm, &key).await;
        if let Some(replacement) = replacement.filter(|key| token.is_signed_by(key)) {
            (key, is_signed) = (replacement, true);
        }
    }
    let signed = if is_signed { Ok(()) } else { Err(FailedCheck::bad_signature(issuer, &key)) };
    report(observer, "signature", signed, |()| passed_check::key(&key))?;
    Ok(key)
}

/// All checks without cryptography, the cheapest first.
fn check_claims(
    issuer: &TrustedIssuer,
    header: &Header,
    claims: &Claims,
    expected: Expectations<'_>,
    now: UnixTime,
    observer: &mut impl Observer,
) -> Result<(), FailedCheck> {
    let allowed = check_issuer(issuer, expected);
    report(observer, "issuers of the route", allowed, |()| passed_check::issuers(issuer, expected.issuers.names()))?;
    let settings = &issuer.settings;
    let is_type = settings.types.accept(header.token_type.as_deref());
    let checked = if is_type { Ok(()) } else { Err(FailedCheck::type_not_allowed(issuer, header)) };
    report(observer, "typ", checked, |()| *FailedCheck::type_not_allowed(issuer, header).values)?;
    let is_algorithm = settings.algorithms.contains(&header.algorithm);
    let checked = if is_algorithm { Ok(()) } else { Err(FailedCheck::alg_not_allowed(issuer, header)) };
    report(observer, "alg", checked, |()| *FailedCheck::alg_not_allowed(issuer, header).values)?;
    let checked = check_audience(issuer, claims, expected);
    report(observer, "aud", checked, |accepted| passed_check::audience(issuer, claims, *accepted))?;
    check_time(claims, settings.clock_skew, now, observer)?;
    let required = match (settings.profile, claims.issued_at, &claims.token_id) {
        (Profile::External, ..) => return Ok(()),
        (Profile::Own, None, _) => Err(FailedCheck::missing("iat")),
        (Profile::Own, Some(_), None) => Err(FailedCheck::missing("jti")),
        (Profile::Own, Some(_), Some(_)) => Ok(()),
    };
    report(observer, "iat and jti", required, |()| passed_check::required())
}

fn check_issuer(issuer: &TrustedIssuer, expected: Expectations<'_>) -> Result<(), FailedCheck> {
    match expected.issuers {
        AllowedIssuers::Only(names) if !names.contains(&issuer.settings.name) => {
            Err(FailedCheck::issuer_not_allowed(&issuer.settings.name, names))
        }
        AllowedIssuers::All | AllowedIssuers::Only(_) => Ok(()),
    }
}

/// Gives the audiences that the token was compared with. `None`: any would do.
fn check_audience<'a>(
    issuer: &'a TrustedIssuer,
    claims: &Claims,
    expected: Expectations<'a>,
) -> Result<Option<&'a [String]>, FailedCheck> {
    let of_issuer = &issuer.settings.audiences;
    let accepted = match (expected.audiences, of_issuer) {
        (AllowedAudiences::Only(audiences), _) => audiences,
        (AllowedAudiences::Any | AllowedAudiences::OfIssuer, AcceptedAudiences::Unlimited) => return Ok(None),
        (AllowedAudiences::Any, AcceptedAudiences::Listed { .. }) if !claims.audiences.is_empty() => return Ok(None),
        (AllowedAudiences::Any | AllowedAudiences::OfIssuer, AcceptedAudiences::Listed { accepted, .. }) => accepted,
    };
    if claims.audiences.iter().any(|audience| accepted.contains(audience)) {
        return Ok(Some(accepted));
    }
    if claims.audiences.is_empty() {
        return Err(of_issuer.missing().into());
    }
    Err(FailedCheck::bad_audience(issuer, claims, accepted))
}

fn check_time(claims: &Claims, skew: Duration, now: UnixTime, observer: &mut impl Observer) -> Result<(), FailedCheck> {
    let seconds = skew.as_secs();
    let is_past = now.seconds() >= claims.expires_at.saturating_add(seconds);
    let checked = if is_past { Err(FailedCheck::expired(claims, skew, now)) } else { Ok(()) };
    report(observer, "exp", checked, |()| passed_check::expiry(claims, skew, now))?;
    // A token from the future comes from a wrong clock, or is forged.
    let begins = [("nbf", claims.not_before), ("iat", claims.issued_at.map(NumericDate::rounded_up))];
    for (name, begins) in begins {
        let Some(begins) = begins else { continue };
        let is_ahead = begins > now.seconds().saturating_add(seconds);
        let checked = if is_ahead { Err(FailedCheck::not_yet_valid(name, begins, skew, now)) } else { Ok(()) };
        report(observer, name, checked, |()| passed_check::beginning(name, begins, skew))?;
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
