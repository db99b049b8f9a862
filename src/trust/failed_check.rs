//! A check that a token does not pass: the reason, and the values that it found and wanted.
//!
//! The audit log and `token inspect` show the same texts, which are made here. They contain of a token only what the
//! check is about. The caller gets none of them.

use std::time::Duration;

use super::caller_claims::CallerFault;
use super::claimed_caller::ClaimedCaller;
use super::failed_proof::{FailedProof, ProofError};
use super::issuer::TrustedIssuer;
use super::revocation::{AppliedRevocation, RevokedTokens};
use super::token_origin::NoEntry;
use crate::clock::UnixTime;
use crate::jose::claims::{Claims, ClaimsFault};
use crate::jose::header::{Header, KeyReference};
use crate::jose::jwk::VerifyingKey;
use crate::jose::jwk::certificate::CertificateReference;
use crate::jose::token::TokenFault;
use crate::oauth::bound::TokenBinding;
use crate::oauth::caller::IssuerName;
use crate::oauth::confirmation::{Confirmation, Thumbprint};
use crate::oauth::discrepancy::{Discrepancy, one_of, short};
use crate::oauth::identity::Identity;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FailedCheck {
    pub(crate) reason: TokenError,
    pub(crate) values: Box<Discrepancy>,
}

/// A refused token: the failed check, and the claimed caller, which is not verified.
#[derive(Debug)]
pub(crate) struct RefusedToken {
    pub(crate) reason: TokenError,
    pub(crate) values: Box<Discrepancy>,
    /// `None` if the token could not be parsed. Boxed, as the values are, to keep all results small.
    pub(crate) claimed: Option<Box<ClaimedCaller>>,
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
    /// The issuer cannot be asked about the token now; it may be valid.
    IntrospectionUnavailable,
    /// A shared store has facts about it that cannot be read now. It may be valid.
    StoreUnavailable,
    /// The issuer says that the token is not active: unknown, expired or revoked.
    Inactive,
    Revoked,
    /// An own token whose client is not configured.
    UnknownClient,
    /// A token that is bound to a key, without a good DPoP proof of it.
    Proof(ProofError),
    /// A token that is bound to a certificate, which the connection does not have.
    NotProven,
    /// A token that is not bound as the route demands, or that came by the scheme of tokens of another binding.
    NotBound,
    /// A static token past its end.
    StaticTokenEnded,
    /// Neither a JWT nor a static token.
    UnknownStaticToken,
}

impl TokenError {
    /// True if the token could not be judged: it may be valid, so the request is answered 503.
    pub(crate) fn is_outage(self) -> bool {
        matches!(self, Self::KeysUnavailable | Self::IntrospectionUnavailable | Self::StoreUnavailable)
    }
}

impl FailedCheck {
    pub(crate) fn new(reason: TokenError, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { reason, values: Box::new(Discrepancy::new(found, wanted)) }
    }

    pub(crate) fn of(self, claimed: Option<ClaimedCaller>) -> RefusedToken {
        RefusedToken { reason: self.reason, values: self.values, claimed: claimed.map(Box::new) }
    }

    pub(crate) fn missing(claim: &str) -> Self {
        Self::new(TokenError::MissingClaim, format!("no {claim}"), claim)
    }

    pub(super) fn issuer_not_allowed(found: &IssuerName, allowed: &[IssuerName]) -> Self {
        let wanted = one_of("issuer", allowed.iter().map(IssuerName::as_str));
        Self::new(TokenError::IssuerNotAllowed, format!("issuer={}", found.as_str()), wanted)
    }

    /// A token that is a credential of a client, in the place of an access token.
    pub(super) fn federation_only(issuer: &TrustedIssuer) -> Self {
        let name = issuer.settings.name.as_str();
        let wanted = "a token of an issuer with `audiences`";
        Self::new(TokenError::IssuerNotAllowed, format!("issuer={name}, which is for federation only"), wanted)
    }

    pub(super) fn type_not_allowed(issuer: &TrustedIssuer, header: &Header) -> Self {
        let types = &issuer.settings.types;
        let mut wanted = one_of("typ", types.named.iter().map(String::as_str));
        if types.absent && !types.named.is_empty() {
            wanted.push_str(", or no typ");
        }
        Self::new(TokenError::TypeNotAllowed, one_of("typ", header.token_type.as_deref()), wanted)
    }

    pub(super) fn alg_not_allowed(issuer: &TrustedIssuer, header: &Header) -> Self {
        let wanted = one_of("alg", issuer.settings.algorithms.iter().map(|algorithm| algorithm.as_str()));
        Self::new(TokenError::AlgNotAllowed, format!("alg={}", header.algorithm), wanted)
    }

    pub(super) fn bad_audience(issuer: &TrustedIssuer, claims: &Claims, accepted: &[String]) -> Self {
        let claim = issuer.settings.audiences.claim_of(claims);
        let found = one_of(claim, claims.audiences.iter().map(String::as_str));
        Self::new(TokenError::BadAudience, found, one_of(claim, accepted.iter().map(String::as_str)))
    }

    pub(super) fn expired(claims: &Claims, skew: Duration, now: UnixTime) -> Self {
        let ago = now.seconds().saturating_sub(claims.expires_at);
        let found = format!("exp={}, {ago}s ago", time(claims.expires_at));
        Self::new(TokenError::Expired, found, format!("exp in the future, or less than {}s ago", skew.as_secs()))
    }

    /// `begins` is the time of the claim `name`.
    pub(super) fn not_yet_valid(name: &str, begins: u64, skew: Duration, now: UnixTime) -> Self {
        let ahead = begins.saturating_sub(now.seconds());
        let wanted =
            format!("{name} at most {}s ahead; the clock of the issuer or of this machine is wrong", skew.as_secs());
        Self::new(TokenError::NotYetValid, format!("{name}={}, {ahead}s ahead", time(begins)), wanted)
    }

    pub(super) fn unknown_key(issuer: &TrustedIssuer, header: &Header) -> Self {
        let keys = issuer.keys.keys();
        let known: Vec<String> = keys.keys().take(MAX_SHOWN_KEYS).map(key_text).collect();
        let (known, algorithm) = (one_of("kid", known.iter().map(String::as_str)), header.algorithm);
        let (found, wanted) = match header.key() {
            KeyReference::Id(key_id) => (format!("kid={}, alg={algorithm}", short(key_id)), known),
            KeyReference::Certificate(CertificateReference { sha1, sha256 }) => {
                let named = [("x5t", sha1), ("x5t#S256", sha256)];
                let named = named.into_iter().filter_map(|(name, value)| Some(format!("{name}={}, ", short(value?))));
                let wanted = format!("exactly one key for {algorithm} with this certificate; the issuer has {known}");
                (format!("no kid, {}alg={algorithm}", named.collect::<String>()), wanted)
            }
            KeyReference::Unnamed => {
                let wanted = format!("exactly one key for {algorithm}, or a kid; the issuer has {known}");
                (format!("no kid, alg={algorithm}"), wanted)
            }
        };
        Self::new(TokenError::UnknownKid, found, wanted)
    }

    /// The key that verified a cached token is gone.
    pub(super) fn removed_key(issuer: &TrustedIssuer, key: &VerifyingKey) -> Self {
        let keys = issuer.keys.keys();
        let known: Vec<String> = keys.keys().take(MAX_SHOWN_KEYS).map(key_text).collect();
        let found = format!("kid={}, which the issuer no longer publishes", key_text(key));
        Self::new(TokenError::UnknownKid, found, one_of("kid", known.iter().map(String::as_str)))
    }

    /// `is_usable` is true if the known set may still be used, and lacks the key.
    pub(super) fn keys_unavailable(issuer: &TrustedIssuer, is_usable: bool) -> Self {
        let name = issuer.settings.name.as_str();
        let found = match issuer.keys.times() {
            None => "no key set, since no fetch has succeeded".to_owned(),
            Some(_) if is_usable => "a key set that lacks the key, and could not be fetched again".to_owned(),
            Some(_) => "a key set older than max_stale".to_owned(),
        };
        Self::new(TokenError::KeysUnavailable, found, format!("a current key set of issuer `{name}`"))
    }

    pub(super) fn revocations_unknown() -> Self {
        let found = "no copy of the revocations, and Redis was not read since the start";
        Self::new(TokenError::StoreUnavailable, found, "the revocations of all replicas")
    }

    pub(super) fn bad_signature(issuer: &TrustedIssuer, key: &VerifyingKey) -> Self {
        let (name, key) = (issuer.settings.name.as_str(), key_text(key));
        let wanted = format!("a signature by key {key} of issuer `{name}`");
        Self::new(TokenError::BadSignature, "a signature by another key, or of other content", wanted)
    }

    pub(super) fn revoked(revocation: &AppliedRevocation<'_>) -> Self {
        let mut found = match revocation.tokens {
            RevokedTokens::All => "a revocation of all tokens of the issuer".to_owned(),
            RevokedTokens::OfSubject(subject) => format!("a revocation of subject `{}`", short(subject)),
            RevokedTokens::OfClient(client) => format!("a revocation of client `{}`", short(client)),
            RevokedTokens::WithId(_) => "a revocation of this token, by its jti".to_owned(),
        };
        let wanted = match revocation.issued_before {
            None => "no revocation".to_owned(),
            Some(before) => {
                found.push_str(&format!(", for tokens issued before {}", time(before)));
                format!("iat={} or later", time(before))
            }
        };
        Self::new(TokenError::Revoked, found, wanted)
    }

    /// A token that is bound to a key, without a proof.
    pub(crate) fn no_proof(found: &'static str) -> Self {
        FailedProof::new(ProofError::Missing, found, "a DPoP proof of its key, and the scheme DPoP").into()
    }

    /// A token that is bound to a certificate, without a connection that has it.
    pub(crate) fn no_certificate(presented: Option<Thumbprint>, bound: Thumbprint) -> Self {
        let found = presented.map(|presented| format!("the client certificate x5t#S256={presented:?}"));
        let found = found.unwrap_or_else(|| "no client certificate".to_owned());
        Self::new(TokenError::NotProven, found, format!("the client certificate x5t#S256={bound:?}"))
    }

    /// A bound token as the credential of a client, which takes no proof.
    pub(super) fn bound_credential() -> Self {
        Self::new(
            TokenError::NotProven,
            "a credential with cnf, without proof of possession",
            "a credential without cnf",
        )
    }

    /// A token that is bound to no DPoP key, with the scheme of those that are.
    pub(crate) fn not_for_dpop() -> Self {
        let found = "a token that is bound to no DPoP key, by the scheme DPoP";
        Self::new(TokenError::NotBound, found, "the scheme Bearer, or a token that is bound to a DPoP key")
    }

    /// A token without the binding that the route demands.
    pub(crate) fn not_bound(confirmation: Confirmation, bound: TokenBinding) -> Self {
        let found = match (confirmation.key, confirmation.certificate) {
            (None, None) => match bound {
                TokenBinding::Dpop | TokenBinding::None => "a token that is bound to no key",
                TokenBinding::Mtls => "a token that is bound to no certificate",
                TokenBinding::Either => "a token that is bound to no key and to no certificate",
            },
            (Some(_), None) => "a token that is bound to a DPoP key",
            (None, Some(_)) => "a token that is bound to a client certificate",
            (Some(_), Some(_)) => "a token that is bound to a DPoP key and to a client certificate",
        };
        Self::new(TokenError::NotBound, found, format!("a token {bound}"))
    }

    /// `found` is what there is instead of an answer.
    pub(super) fn introspection_unavailable(issuer: &IssuerName, found: &str) -> Self {
        let wanted = format!("an answer of the introspection endpoint of issuer `{}`", issuer.as_str());
        Self::new(TokenError::IntrospectionUnavailable, found, wanted)
    }

    /// `found` is what there is instead of an answer of the store.
    pub(crate) fn store_unavailable(found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::new(TokenError::StoreUnavailable, found, wanted)
    }

    pub(super) fn inactive(issuer: &IssuerName) -> Self {
        let found = format!("active=false, by issuer `{}`", issuer.as_str());
        Self::new(TokenError::Inactive, found, "active=true")
    }

    /// The answer of an introspection endpoint is about a token of another issuer.
    pub(super) fn answer_of_issuer(issuer: &TrustedIssuer, found: &str) -> Self {
        Self::new(TokenError::UnknownIssuer, format!("iss={}", short(found)), format!("iss={}", issuer.settings.issuer))
    }

    /// The answer of an introspection endpoint is about a token of another kind, by the member `name`.
    pub(super) fn other_kind(name: &str, found: &str, wanted: &str) -> Self {
        Self::new(TokenError::TypeNotAllowed, format!("{name}={}", short(found)), format!("{name}={wanted}"))
    }

    pub(super) fn static_token_ended(until: UnixTime, now: UnixTime) -> Self {
        let ago = now.since(until).as_secs();
        let found = format!("until={}, {ago}s ago", until.to_the_second());
        Self::new(TokenError::StaticTokenEnded, found, "a static token before its `until`, or a token of an issuer")
    }

    pub(super) fn static_token_without_audience(accepted: &[String]) -> Self {
        let wanted = one_of("aud", accepted.iter().map(String::as_str));
        Self::new(TokenError::BadAudience, "a static token, which has no aud", wanted)
    }

    pub(crate) fn unknown_static_token() -> Self {
        let wanted = "a token of an issuer, or one of static_tokens";
        Self::new(TokenError::UnknownStaticToken, "a value that is neither a JWT nor a static token", wanted)
    }

    /// For an own token.
    pub(crate) fn unknown_client(client: Option<&Identity>) -> Self {
        let found =
            client.map_or_else(|| "no client".to_owned(), |client| format!("client {}", short(client.as_str())));
        Self::new(TokenError::UnknownClient, found, "a client of oauth.clients")
    }
}

/// An issuer may have far more keys than a line shows.
const MAX_SHOWN_KEYS: usize = 16;

pub(super) fn key_text(key: &VerifyingKey) -> String {
    format!("{} ({})", key.key_id.as_deref().unwrap_or("without kid"), key.algorithm)
}

pub(super) fn time(seconds: u64) -> String {
    UnixTime::from_seconds(seconds).to_the_second()
}

impl From<FailedProof> for FailedCheck {
    fn from(FailedProof { reason, values }: FailedProof) -> Self {
        Self { reason: TokenError::Proof(reason), values }
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
            CallerFault::TooManyScopes(values) => Self { reason: TokenError::TooManyScopes, values },
        }
    }
}

impl From<NoEntry> for FailedCheck {
    fn from(fault: NoEntry) -> Self {
        let (reason, values) = match fault {
            NoEntry::MissingIssuer(values) => (TokenError::MissingClaim, values),
            NoEntry::UnknownIssuer(values) => (TokenError::UnknownIssuer, values),
            NoEntry::BadAudience(values) => (TokenError::BadAudience, values),
            NoEntry::Malformed(values) => (TokenError::Malformed, values),
        };
        Self { reason, values }
    }
}

impl From<TokenFault> for FailedCheck {
    fn from(fault: TokenFault) -> Self {
        let (reason, values) = match fault {
            TokenFault::Malformed(values) => (TokenError::Malformed, values),
            TokenFault::Algorithm(values) => (TokenError::AlgNotAllowed, values),
            TokenFault::MissingClaim(values) => (TokenError::MissingClaim, values),
        };
        Self { reason, values }
    }
}

#[cfg(test)]
mod tests;
