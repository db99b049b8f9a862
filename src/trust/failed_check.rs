//! A check that a token does not pass: the reason, and the values that it found and wanted.
//!
//! The audit log and `token inspect` show the same texts, which are made here. They contain of a token only what the
//! check is about. The caller gets none of them.

use std::time::Duration;

use serde_json::Value;

use super::issuer::TrustedIssuer;
use super::near_miss::difference;
use super::revocation::{AppliedRevocation, RevokedTokens};
use super::scope_claim::MalformedScopeClaim;
use crate::clock::UnixTime;
use crate::jose::claims::{Claims, json_type};
use crate::jose::header::Header;
use crate::jose::jwk::VerifyingKey;
use crate::jose::token::TokenFault;
use crate::oauth::caller::IssuerName;
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

/// The caller that a token claims to be of, which is not verified.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClaimedCaller {
    pub(crate) issuer: Option<ClaimedIssuer>,
    pub(crate) client: Option<Identity>,
}

#[derive(Clone, Debug)]
pub(crate) enum ClaimedIssuer {
    Configured(IssuerName),
    /// The `iss` of a token whose issuer is not configured.
    Unknown(Identity),
}

impl FailedCheck {
    pub(crate) fn new(reason: TokenError, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { reason, values: Box::new(Discrepancy::new(found, wanted)) }
    }

    pub(crate) fn of(self, claimed: Option<ClaimedCaller>) -> RefusedToken {
        RefusedToken { reason: self.reason, values: self.values, claimed: claimed.map(Box::new) }
    }

    pub(super) fn missing(claim: &str) -> Self {
        Self::new(TokenError::MissingClaim, format!("no {claim}"), claim)
    }

    /// `known` are all configured issuers. A near miss is named: it is the most frequent mistake in a configuration.
    pub(super) fn unknown_issuer<'i>(iss: &str, known: impl Iterator<Item = &'i TrustedIssuer> + Clone) -> Self {
        let near = known.clone().find_map(|issuer| Some((issuer, difference(iss, issuer.settings.issuer.as_str())?)));
        let Some((issuer, difference)) = near else {
            let names = known.map(|issuer| issuer.settings.name.as_str());
            return Self::new(TokenError::UnknownIssuer, format!("iss={}", short(iss)), one_of("issuer", names));
        };
        let (name, wanted) = (issuer.settings.name.as_str(), issuer.settings.issuer.as_str());
        let found = format!("iss={}, which differs by {difference} from issuer `{name}`", short(iss));
        Self::new(TokenError::UnknownIssuer, found, format!("iss={wanted}"))
    }

    pub(super) fn issuer_not_allowed(found: &IssuerName, allowed: &[IssuerName]) -> Self {
        let wanted = one_of("issuer", allowed.iter().map(IssuerName::as_str));
        Self::new(TokenError::IssuerNotAllowed, format!("issuer={}", found.as_str()), wanted)
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

    pub(super) fn bad_audience(claims: &Claims, accepted: &[String]) -> Self {
        let found = one_of("aud", claims.audiences.iter().map(String::as_str));
        Self::new(TokenError::BadAudience, found, one_of("aud", accepted.iter().map(String::as_str)))
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

    pub(super) fn wrong_type(claim: &str, value: &Value) -> Self {
        let found = format!("{claim} is {}", json_type(value));
        Self::new(TokenError::Malformed, found, format!("{claim} is a string"))
    }

    pub(super) fn wrong_form(claim: &str, value: &str) -> Self {
        let found = match value.len() {
            length if value.chars().any(char::is_control) => {
                format!("{claim} of {length} bytes with a control character")
            }
            length => format!("{claim} of {length} bytes"),
        };
        let wanted = format!("{claim} of 1 to {} bytes without control characters", Identity::MAX_BYTES);
        Self::new(TokenError::Malformed, found, wanted)
    }

    pub(super) fn unknown_key(issuer: &TrustedIssuer, header: &Header) -> Self {
        let keys = issuer.keys.keys();
        let known: Vec<String> = keys.keys().take(MAX_SHOWN_KEYS).map(key_text).collect();
        let known = one_of("kid", known.iter().map(String::as_str));
        let (found, wanted) = match &header.key_id {
            Some(key_id) => (format!("kid={}, alg={}", short(key_id), header.algorithm), known),
            None => {
                let wanted = format!("exactly one key for {}, or a kid; the issuer has {known}", header.algorithm);
                (format!("no kid, alg={}", header.algorithm), wanted)
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

    /// For an own token.
    pub(crate) fn unknown_client(client: Option<&Identity>) -> Self {
        let found =
            client.map_or_else(|| "no client".to_owned(), |client| format!("client {}", short(client.as_str())));
        Self::new(TokenError::UnknownClient, found, "a client of oauth.clients")
    }
}

/// An issuer may have far more keys than a line shows.
const MAX_SHOWN_KEYS: usize = 16;

fn key_text(key: &VerifyingKey) -> String {
    format!("{} ({})", key.key_id.as_deref().unwrap_or("without kid"), key.algorithm)
}

fn time(seconds: u64) -> String {
    UnixTime::from_seconds(seconds).to_the_second()
}

impl From<MalformedScopeClaim> for FailedCheck {
    fn from(MalformedScopeClaim(values): MalformedScopeClaim) -> Self {
        Self { reason: TokenError::Malformed, values }
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
mod tests {
    use std::sync::Arc;

    use super::super::example::{claims, settings};
    use super::super::key_cache::KeyCache;
    use super::*;
    use crate::jose::algorithm::Algorithm;
    use crate::jose::key_set::KeySet;
    use crate::jose::signing::SigningKey;

    const ALL: [TokenError; 14] = [
        TokenError::Malformed,
        TokenError::UnknownIssuer,
        TokenError::IssuerNotAllowed,
        TokenError::TypeNotAllowed,
        TokenError::AlgNotAllowed,
        TokenError::MissingClaim,
        TokenError::BadAudience,
        TokenError::Expired,
        TokenError::NotYetValid,
        TokenError::UnknownKid,
        TokenError::KeysUnavailable,
        TokenError::BadSignature,
        TokenError::Revoked,
        TokenError::UnknownClient,
    ];

    /// The failed check of this reason, where everything that a token or a configuration gives is `value`.
    fn failed(reason: TokenError, value: &str) -> FailedCheck {
        let key = Arc::new(SigningKey::generate(Algorithm::Es256).unwrap().0.verifying_key().unwrap());
        let mut settings = settings();
        settings.name = IssuerName::new(value);
        settings.types.named = vec![value.to_owned()];
        let keys = Arc::new(KeyCache::own(KeySet::from_keys(vec![Arc::clone(&key)])));
        let issuer = TrustedIssuer { settings, keys };
        let mut header = Header::parse(br#"{"alg":"ES256"}"#).unwrap();
        (header.key_id, header.token_type) = (Some(value.to_owned()), Some(value.to_owned()));
        let mut claims = Claims::parse(claims().to_string().as_bytes()).unwrap();
        claims.audiences = vec![value.to_owned()];
        let (skew, now) = (Duration::from_secs(30), UnixTime::from_seconds(2_000_000_000));
        let accepted = vec![value.to_owned(); 1000];
        match reason {
            TokenError::Malformed => FailedCheck::wrong_form("sub", value),
            TokenError::UnknownIssuer => FailedCheck::unknown_issuer(value, [&issuer].into_iter()),
            TokenError::IssuerNotAllowed => {
                FailedCheck::issuer_not_allowed(&issuer.settings.name, &[IssuerName::new(value)])
            }
            TokenError::TypeNotAllowed => FailedCheck::type_not_allowed(&issuer, &header),
            TokenError::AlgNotAllowed => FailedCheck::alg_not_allowed(&issuer, &header),
            TokenError::MissingClaim => FailedCheck::missing(value),
            TokenError::BadAudience => FailedCheck::bad_audience(&claims, &accepted),
            TokenError::Expired => FailedCheck::expired(&claims, skew, now),
            TokenError::NotYetValid => FailedCheck::not_yet_valid("nbf", u64::MAX, skew, now),
            TokenError::UnknownKid => FailedCheck::unknown_key(&issuer, &header),
            TokenError::KeysUnavailable => FailedCheck::keys_unavailable(&issuer, true),
            TokenError::BadSignature => FailedCheck::bad_signature(&issuer, &key),
            TokenError::Revoked => {
                let tokens = RevokedTokens::OfClient(value);
                FailedCheck::revoked(&AppliedRevocation { tokens, issued_before: Some(2_000_000_000) })
            }
            TokenError::UnknownClient => FailedCheck::unknown_client(Identity::parse(value).ok().as_ref()),
        }
    }

    #[test]
    fn every_reason_has_bounded_texts_of_what_was_found_and_wanted() {
        for value in ["x", "", &"\u{e4}".repeat(4000)] {
            for reason in ALL {
                let FailedCheck { reason: of_check, values } = failed(reason, value);
                assert_eq!(of_check, reason);
                for text in [&values.found, &values.wanted] {
                    let length = text.chars().count();
                    assert!(length <= 201 && (length > 0 || value.is_empty()), "{reason:?}: {text}");
                }
            }
        }
    }

    #[test]
    fn a_near_miss_of_an_issuer_is_named() {
        let keys = Arc::new(KeyCache::remote());
        let issuer = TrustedIssuer { settings: settings(), keys };
        let unknown = |iss| *FailedCheck::unknown_issuer(iss, [&issuer].into_iter()).values;
        let near = unknown("https://login.example.com/");
        let found = "iss=https://login.example.com/, which differs by a trailing slash from issuer `corp`";
        assert_eq!((&*near.found, &*near.wanted), (found, "iss=https://login.example.com"));
        let other = unknown("https://evil.example");
        assert_eq!((&*other.found, &*other.wanted), ("iss=https://evil.example", "issuer=corp"));
    }
}
