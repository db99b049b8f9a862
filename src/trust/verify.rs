//! Verifies a token, and finds its caller.
//!
//! Checks that need no cryptography come first, the cheapest first. The signature is checked last. The entry of the
//! issuer is [chosen](super::entry_choice) by the exact `iss`, the key by (entry, key id, algorithm): the token selects
//! among what the issuer publishes, and nothing else.

pub(crate) mod checks;
mod introspected;
mod revalidation;
mod signature;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::caller_claims::caller;
use super::claimed_caller::ClaimedCaller;
use super::entry_choice::choose;
use super::failed_check::{FailedCheck, RefusedToken};
use super::introspection::places::Asker;
use super::issuer::{Profile, TrustedIssuer};
use super::known_proof::KnownProof;
use super::passed_check::{self, report};
use super::published_revocations::PublishedRevocations;
use super::static_tokens::{StaticToken, StaticTokens};
use super::token_client::{ClientEntry, TokenClient};
use super::token_fields::TokenFields;
use crate::clock::UnixTime;
use crate::http1::field_block::FieldBlock;
use crate::jose::claims::Claims;
use crate::jose::jwk::VerifyingKey;
use crate::jose::token::{Unverified, unverified_claims};
use crate::oauth::caller::{Caller, IssuerName};
use crate::oauth::confirmation::Confirmation;
use crate::oauth::observer::Observer;
use checks::{check_claims, check_static};
use signature::signing_key;

/// All issuers that we trust.
#[derive(Debug)]
pub(crate) struct Trust {
    issuers: Vec<Arc<TrustedIssuer>>,
    static_tokens: StaticTokens,
    /// Whether one of the issuers is asked about its tokens.
    introspects: bool,
    /// Those of the issuers and of the static tokens.
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

/// A caller whose credential is valid, with all data that later decisions need.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) caller: Caller,
    pub(crate) proof: Proof,
    /// Its part of audit lines, written at first use.
    pub(crate) audit_part: OnceCell<Box<[u8]>>,
    /// The header fields that describe the caller to upstreams, rendered at first use.
    pub(crate) identity_fields: OnceCell<Rc<FieldBlock>>,
}

/// The credential that proves who the caller is.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are tokens, and a box would cost each of them an access")]
pub(crate) enum Proof {
    Token(VerifiedToken),
    Static(Arc<StaticToken>),
}

/// A valid token of an issuer.
#[derive(Debug)]
pub(crate) struct VerifiedToken {
    pub(crate) claims: Claims,
    pub(crate) evidence: TokenEvidence,
    pub(crate) issuer: Arc<TrustedIssuer>,
    pub(super) revocations: Arc<PublishedRevocations>,
    /// The version of the revocations that it was last found to pass.
    pub(super) passed: Cell<u64>,
    /// For an own token: the position at which its client was last found.
    pub(crate) client_entry: Cell<Option<ClientEntry>>,
    /// For an own token whose client is in the database.
    pub(crate) stored_client: RefCell<Option<Arc<TokenClient>>>,
    /// For a token that is bound to a key.
    pub(crate) known_proof: RefCell<Option<Rc<KnownProof>>>,
}

/// The facts of a token that its issuer has signed and that is not revoked.
pub(super) struct SignedToken {
    pub(super) caller: Caller,
    key: Arc<VerifyingKey>,
    /// The version of the revocations that it passes.
    version: u64,
}

/// The evidence that a token is genuine.
#[derive(Debug)]
pub(crate) enum TokenEvidence {
    /// The issuer's key that signed it.
    Signature(Arc<VerifyingKey>),
    /// The issuer has said so. It has to be asked again from this time on.
    Introspection(Instant),
}

impl Trust {
    pub(crate) fn new(issuers: Vec<Arc<TrustedIssuer>>, revocations: Arc<PublishedRevocations>) -> Self {
        let token_fields = TokenFields::new(issuers.iter().filter_map(|issuer| issuer.settings.token_field.as_ref()));
        let introspects = issuers.iter().any(|issuer| issuer.introspection.is_some());
        Self { issuers, introspects, static_tokens: StaticTokens::default(), token_fields, revocations }
    }

    /// The same, with static tokens beside the issuers.
    pub(crate) fn with_static_tokens(self, static_tokens: StaticTokens) -> Self {
        let of_issuers = self.issuers.iter().filter_map(|issuer| issuer.settings.token_field.as_ref());
        let token_fields = TokenFields::new(of_issuers.chain(static_tokens.fields()));
        Self { static_tokens, token_fields, ..self }
    }

    pub(crate) fn static_tokens(&self) -> &StaticTokens {
        &self.static_tokens
    }

    pub(crate) fn revocations(&self) -> &PublishedRevocations {
        &self.revocations
    }

    pub(crate) fn issuers(&self) -> &[Arc<TrustedIssuer>] {
        &self.issuers
    }

    /// True if an external issuer has this `iss`.
    pub(crate) fn has_external(&self, iss: &str) -> bool {
        let external = self.issuers.iter().filter(|issuer| issuer.settings.profile == Profile::External);
        external.map(|issuer| issuer.settings.issuer.as_str()).any(|known| known == iss)
    }

    pub(crate) fn token_fields(&self) -> &TokenFields {
        &self.token_fields
    }

    /// True if the credential of this caller belongs to the current configuration.
    pub(crate) fn knows(&self, verified: &Verified) -> bool {
        match &verified.proof {
            Proof::Token(token) => self.holds(&token.issuer),
            Proof::Static(token) => self.static_tokens.holds(token),
        }
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
        self.verify_of((token, None), expected, now, observer).await
    }

    /// The same, for a request of this network.
    pub(crate) async fn verify_of(
        &self,
        (token, asker): (&str, Option<Asker>),
        expected: Expectations<'_>,
        now: UnixTime,
        observer: &mut impl Observer,
    ) -> Result<Verified, RefusedToken> {
        if let Some(introspecting) = self.introspecting(token, expected) {
            // Boxed to keep the common future small.
            return Box::pin(self.verify_introspected(introspecting, (token, asker), expected, now, observer)).await;
        }
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
        let signed = self.signed(issuer, &token, observer).await.map_err(fail)?;
        let SignedToken { caller, key, version } = signed;
        Ok(self.accepted(issuer, token.claims, caller, TokenEvidence::Signature(key), version))
    }

    /// The checks behind those of the claims: the caller, the signature and the revocations.
    pub(super) async fn signed(
        &self,
        issuer: &TrustedIssuer,
        token: &Unverified<'_>,
        observer: &mut impl Observer,
    ) -> Result<SignedToken, FailedCheck> {
        let caller = caller(&issuer.settings, &token.claims).map_err(FailedCheck::from);
        let caller = report(observer, "caller", caller, passed_check::caller)?;
        let key = signing_key(issuer, token, observer).await?;
        let version = self.check_revocations(issuer, &caller, &token.claims, observer)?;
        Ok(SignedToken { caller, key, version })
    }

    /// Gives the version of the revocations that do not apply to the token.
    fn check_revocations(
        &self,
        issuer: &TrustedIssuer,
        caller: &Caller,
        claims: &Claims,
        observer: &mut impl Observer,
    ) -> Result<u64, FailedCheck> {
        if !self.revocations.are_complete() {
            return Err(FailedCheck::revocations_unknown());
        }
        let version = self.revocations.version();
        let current = self.revocations.current();
        let revocation = current.applying_to(&issuer.settings, caller, claims);
        let revoked = revocation.map_or(Ok(()), |revocation| Err(FailedCheck::revoked(&revocation)));
        report(observer, "revocations", revoked, |()| passed_check::revocations())?;
        Ok(version)
    }

    fn accepted(
        &self,
        issuer: &Arc<TrustedIssuer>,
        claims: Claims,
        caller: Caller,
        evidence: TokenEvidence,
        version: u64,
    ) -> Verified {
        let token = VerifiedToken {
            claims,
            evidence,
            issuer: Arc::clone(issuer),
            revocations: Arc::clone(&self.revocations),
            passed: Cell::new(version),
            client_entry: Cell::new(None),
            stored_client: RefCell::default(),
            known_proof: RefCell::default(),
        };
        Verified::new(caller, Proof::Token(token))
    }
}

impl Verified {
    pub(super) fn new(caller: Caller, proof: Proof) -> Self {
        Self { caller, proof, audit_part: OnceCell::new(), identity_fields: OnceCell::new() }
    }

    pub(crate) fn of_static(token: &Arc<StaticToken>) -> Self {
        Self::new(token.caller.clone(), Proof::Static(Arc::clone(token)))
    }

    /// `None` for a static token, which has no claims, no key and no issuer.
    pub(crate) fn token(&self) -> Option<&VerifiedToken> {
        match &self.proof {
            Proof::Token(token) => Some(token),
            Proof::Static(_) => None,
        }
    }

    /// The keys that the token is bound to: none for a bearer token, and for a static token.
    pub(crate) fn confirmation(&self) -> Confirmation {
        self.token().map(|token| token.claims.confirmation).unwrap_or_default()
    }

    /// All claims. `None` for a static token.
    pub(crate) fn claims(&self) -> Option<&Map<String, Value>> {
        self.token().map(|token| &token.claims.all)
    }

    /// The refusal of this credential, which was valid before.
    pub(crate) fn refused(&self, check: FailedCheck) -> RefusedToken {
        check.of(Some(match &self.proof {
            Proof::Token(token) => ClaimedCaller::of_entry(&token.issuer.settings.name, &token.claims.all),
            Proof::Static(token) => token.claimed(),
        }))
    }

    /// True if the own authorization server issued the token.
    pub(crate) fn is_own(&self) -> bool {
        self.token().is_some_and(|token| token.issuer.settings.profile == Profile::Own)
    }

    /// True if the issuer has to be asked about the token again.
    pub(crate) fn must_be_asked_about(&self, instant: Instant) -> bool {
        matches!(self.token(), Some(VerifiedToken { evidence: TokenEvidence::Introspection(until), .. }) if instant >= *until)
    }

    /// Checks at every use what may have changed: the time, the route, the keys of the issuer, the revocations.
    pub(crate) fn revalidate(
        &self,
        expected: Expectations<'_>,
        now: UnixTime,
        instant: Instant,
    ) -> Result<(), FailedCheck> {
        match &self.proof {
            Proof::Token(token) => token.revalidate(&self.caller, expected, now, instant),
            Proof::Static(token) => check_static(token, expected, now),
        }
    }

    /// Checks at intervals whether a tunnel may continue that was opened with this credential. Its route was checked.
    pub(crate) fn check_tunnel(&self, now: UnixTime, instant: Instant) -> Result<(), FailedCheck> {
        match &self.proof {
            Proof::Token(token) => token.continues(&self.caller, now, instant),
            Proof::Static(token) => check_static(token, Expectations::any_route(), now),
        }
    }

    /// The part of [`revalidate`](Self::revalidate) that time alone does not change: the route and the revocations.
    pub(crate) fn recheck(&self, expected: Expectations<'_>) -> Result<(), FailedCheck> {
        match &self.proof {
            Proof::Token(token) => {
                token.check_route(expected)?;
                token.check_revocation(&self.caller)
            }
            // At a time at which it had not ended.
            Proof::Static(token) => check_static(token, expected, UnixTime::from_seconds(0)),
        }
    }
}

#[cfg(test)]
mod tests;
