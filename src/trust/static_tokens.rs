//! Static tokens: hand-made tokens that count until a date, as the callers `static/NAME`.
//!
//! Takes the value of a header field. Gives the token that it is. Only the SHA-256 digest of a value is known here, and a
//! value is looked up by its digest. A value in the form of a JWT, or one that is too short, is no static token.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use foldhash::HashMap;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::claimed_caller::{ClaimedCaller, ClaimedIssuer};
use crate::clock::UnixTime;
use crate::jose::BASE64URL;
use crate::oauth::caller::{Caller, IssuerName};
use crate::oauth::identity::Identity;
use crate::oauth::scope::ScopeSet;

/// A shorter value could be guessed.
pub(crate) const MIN_STATIC_CHARACTERS: usize = 20;

/// A static token as configured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StaticTokenSettings {
    pub(crate) name: Identity,
    pub(crate) hash: TokenHash,
    pub(crate) scopes: ScopeSet,
    /// It counts before this time only.
    pub(crate) until: UnixTime,
    /// The field whose whole value it is. `None`: `Authorization`, with the scheme `Bearer`.
    pub(crate) field: Option<HeaderName>,
}

/// The SHA-256 digest of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash([u8; 32]);

/// A static token in use.
#[derive(Debug)]
pub(crate) struct StaticToken {
    pub(crate) settings: StaticTokenSettings,
    pub(super) caller: Caller,
    /// Seconds since 1970; 0 before the first use. Entries of later configurations for the same value share it.
    last_used: Arc<AtomicU64>,
}

/// All static tokens of a configuration.
#[derive(Debug, Default)]
pub(crate) struct StaticTokens {
    all: Vec<Arc<StaticToken>>,
    by_hash: HashMap<TokenHash, usize>,
}

/// The use of a static token, for reports and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StaticTokenUse<'t> {
    pub(crate) name: &'t str,
    pub(crate) until: UnixTime,
    /// `None`: never since the start.
    pub(crate) last_used: Option<UnixTime>,
}

impl StaticTokens {
    /// Of several entries with one hash, which the configuration refuses, the last one counts. Entries of the tokens
    /// `before` that are the same go on.
    pub(crate) fn new(settings: Vec<StaticTokenSettings>, before: Option<&Self>) -> Self {
        let known = |hash: &TokenHash| before.and_then(|before| before.with_hash(hash)).map(|(_, token)| token);
        let token = |settings: StaticTokenSettings| match known(&settings.hash) {
            Some(same) if same.settings == settings => Some(Arc::clone(same)),
            earlier => StaticToken::new(settings, earlier.map(|earlier| &earlier.last_used)).map(Arc::new),
        };
        let all: Vec<Arc<StaticToken>> = settings.into_iter().filter_map(token).collect();
        let by_hash = all.iter().enumerate().map(|(place, token)| (token.settings.hash, place)).collect();
        Self { all, by_hash }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The token with this value, and its place.
    pub(crate) fn find(&self, value: &[u8]) -> Option<(usize, &Arc<StaticToken>)> {
        if self.is_empty() || !may_be_static(value) {
            return None;
        }
        self.with_hash(&TokenHash::of(value))
    }

    pub(crate) fn settings(&self) -> impl Iterator<Item = &StaticTokenSettings> {
        self.all.iter().map(|token| &token.settings)
    }

    pub(crate) fn with_name(&self, name: &str) -> Option<&Arc<StaticToken>> {
        self.all.iter().find(|token| token.settings.name.as_str() == name)
    }

    fn with_hash(&self, hash: &TokenHash) -> Option<(usize, &Arc<StaticToken>)> {
        let place = *self.by_hash.get(hash)?;
        Some((place, self.all.get(place)?))
    }

    /// True if one of them comes in this field. `None`: `Authorization`.
    pub(crate) fn come_in(&self, field: Option<&HeaderName>) -> bool {
        self.all.iter().any(|token| token.settings.field.as_ref() == field)
    }

    /// Their fields besides `Authorization`.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &HeaderName> {
        self.all.iter().filter_map(|token| token.settings.field.as_ref())
    }

    /// Removes their fields, and the values of `Authorization` that are one of them, whatever its field is.
    pub(crate) fn remove_from(&self, headers: &mut HeaderMap) {
        for field in self.fields() {
            headers.remove(field);
        }
        // In every spelling that a service may take.
        let is_static = |value: &HeaderValue| {
            let (whole, is_space) = (value.as_bytes(), |byte: &u8| b" \t".contains(byte));
            let after_scheme = whole.splitn(2, is_space).nth(1).unwrap_or_default().trim_ascii_start();
            let words = whole.split(|byte| b" \t,".contains(byte));
            [whole, after_scheme].into_iter().chain(words).any(|word| self.find(word).is_some())
        };
        let values: Vec<HeaderValue> = headers.get_all(AUTHORIZATION).iter().cloned().collect();
        if values.iter().any(is_static) {
            headers.remove(AUTHORIZATION);
            for value in values.into_iter().filter(|value| !is_static(value)) {
                headers.append(AUTHORIZATION, value);
            }
        }
    }

    /// True if this is a token of the current configuration.
    pub(super) fn holds(&self, token: &Arc<StaticToken>) -> bool {
        self.with_hash(&token.settings.hash).is_some_and(|(_, known)| Arc::ptr_eq(known, token))
    }

    /// When each ends, and when it was last used, in the order of the configuration.
    pub(crate) fn uses(&self) -> impl Iterator<Item = StaticTokenUse<'_>> {
        self.all.iter().map(|token| {
            let last = token.last_used.load(Ordering::Relaxed);
            StaticTokenUse {
                name: token.settings.name.as_str(),
                until: token.settings.until,
                last_used: (last > 0).then(|| UnixTime::from_seconds(last)),
            }
        })
    }
}

impl StaticToken {
    fn new(settings: StaticTokenSettings, last_used: Option<&Arc<AtomicU64>>) -> Option<Self> {
        // No issuer has this `iss`: the configuration refuses it.
        let iss = Identity::parse(IssuerName::STATIC).ok()?;
        let name = Some(settings.name.clone());
        let caller = Caller::new(IssuerName::of_static(), &iss, name.clone(), name, settings.scopes.clone())?;
        Some(Self { settings, caller, last_used: last_used.cloned().unwrap_or_default() })
    }

    /// Records a use. Most requests find the second of an earlier one, and write nothing that other cores read.
    pub(crate) fn used(&self, now: UnixTime) {
        if self.last_used.load(Ordering::Relaxed) < now.seconds() {
            self.last_used.fetch_max(now.seconds(), Ordering::Relaxed);
        }
    }

    pub(super) fn claimed(&self) -> ClaimedCaller {
        let issuer = ClaimedIssuer::Configured(self.caller.issuer.clone());
        ClaimedCaller { issuer: Some(issuer), client: self.caller.client.clone() }
    }
}

impl TokenHash {
    const PREFIX: &str = "sha256:";

    pub(crate) fn of(value: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, value).as_ref());
        Self(hash)
    }

    /// Parses `sha256:` and 43 characters of unpadded base64url.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64URL.decode(text.strip_prefix(Self::PREFIX)?).ok()?;
        bytes.try_into().map(Self).ok()
    }

    /// As it is written in the configuration.
    pub(crate) fn to_config(self) -> String {
        format!("{}{}", Self::PREFIX, BASE64URL.encode(self.0))
    }
}

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// True for a value that is long enough and has not the form of a JWT.
pub(crate) fn may_be_static(value: &[u8]) -> bool {
    value.len() >= MIN_STATIC_CHARACTERS && !is_jwt_form(value)
}

/// True for three parts of base64url, and for the beginning of a JSON object in base64 (RFC 7519 §3).
pub(crate) fn is_jwt_form(value: &[u8]) -> bool {
    let is_encoded = |part: &[u8]| {
        !part.is_empty() && part.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let mut parts = value.split(|byte| *byte == b'.');
    let three = [parts.next(), parts.next(), parts.next()];
    value.starts_with(b"eyJ") || (parts.next().is_none() && three.into_iter().all(|part| part.is_some_and(is_encoded)))
}

#[cfg(test)]
mod tests;
