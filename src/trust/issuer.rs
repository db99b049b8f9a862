//! The requirements for an issuer's tokens. They come from the configuration. A token cannot change them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use url::Url;

use super::fetch::ClearText;
use super::key_cache::KeyCache;
use super::scope_claim::ScopeClaim;
use crate::jose::algorithm::Algorithm;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::oauth::scope::ScopeSet;

/// An issuer as configured. Every field that a check needs is required.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IssuerSettings {
    pub(crate) name: IssuerName,
    /// `iss`, compared exactly.
    pub(crate) issuer: Identity,
    /// A token must have one of these audiences, unless its route has its own.
    pub(crate) audiences: Vec<String>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) types: TokenTypes,
    pub(crate) clock_skew: Duration,
    pub(crate) scope_claim: ScopeClaim,
    /// The scopes that the issuer may grant here. `None` allows all.
    pub(crate) allow_scopes: Option<ScopeSet>,
    pub(crate) profile: Profile,
}

/// The source of an external issuer's keys.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeySource {
    /// `None`: discovered through the issuer's metadata.
    pub(crate) jwks_uri: Option<Url>,
    /// `None`: the system's roots.
    pub(crate) ca: Option<IssuerCa>,
    /// How long the last known good set may be used after its time to live.
    pub(crate) max_stale: Duration,
    pub(crate) clear_text: ClearText,
}

impl KeySource {
    /// Whether the keys come from the same place, whatever else has changed.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        self.jwks_uri == other.jwks_uri
    }
}

/// The certificates that verify an issuer's server. Their content can be replaced while the gateway runs; copies share
/// it.
#[derive(Clone, Debug)]
pub(crate) struct IssuerCa {
    path: PathBuf,
    pem: Arc<ArcSwap<Vec<u8>>>,
}

/// By the path and the present content.
impl PartialEq for IssuerCa {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.pem.load().as_slice() == other.pem.load().as_slice()
    }
}

impl IssuerCa {
    pub(crate) fn new(path: PathBuf, pem: Vec<u8>) -> Self {
        Self { path, pem: Arc::new(ArcSwap::from_pointee(pem)) }
    }

    /// Whether both share their content.
    pub(crate) fn is_copy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pem, &other.pem)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn pem(&self) -> Arc<Vec<u8>> {
        self.pem.load_full()
    }

    pub(crate) fn replace(&self, pem: Vec<u8>) {
        self.pem.store(Arc::new(pem));
    }
}

/// The claims that a token must have in addition to `iss sub aud exp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The gateway's own tokens also need `client_id iat jti` (RFC 9068 §2.2).
    Own,
    External,
}

/// The accepted `typ` values, compared case-insensitively and without `application/` (RFC 7515 §4.1.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenTypes {
    /// Lower case, without `application/`.
    pub(crate) named: Vec<String>,
    pub(crate) absent: bool,
}

/// An issuer with its keys.
#[derive(Debug)]
pub(crate) struct TrustedIssuer {
    pub(crate) settings: IssuerSettings,
    pub(crate) keys: Arc<KeyCache>,
}

impl TokenTypes {
    pub(crate) fn accept(&self, token_type: Option<&str>) -> bool {
        let Some(token_type) = token_type else {
            return self.absent;
        };
        let lower = token_type.to_ascii_lowercase();
        let short = lower.strip_prefix("application/").unwrap_or(&lower);
        self.named.iter().any(|named| named == short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_compare_without_case_and_media_type_prefix() {
        let types = TokenTypes { named: vec!["at+jwt".to_owned()], absent: false };
        for good in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
            assert!(types.accept(Some(good)), "{good}");
        }
        for bad in ["JWT", "logout+jwt", "at+jwt ", "", "application/application/at+jwt"] {
            assert!(!types.accept(Some(bad)), "{bad}");
        }
        assert!(!types.accept(None));
    }
}
