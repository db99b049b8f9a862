//! The requirements for an issuer's tokens. They come from the configuration. A token cannot change them.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::audiences::AcceptedAudiences;
use super::key_cache::KeyCache;
use super::scope_claim::ScopeClaim;
use super::token_origin::TokenOrigin;
use crate::jose::algorithm::Algorithm;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::oauth::scope::ScopeSet;

/// An issuer as configured. Every field that a check needs is required.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IssuerSettings {
    pub(crate) name: IssuerName,
    /// The `iss`, compared exactly. With tenants, the template with `{tenant}`. Of a trust domain without `iss`, its
    /// SPIFFE ID. Revocations refer to the issuer by it.
    pub(crate) issuer: Identity,
    pub(crate) origin: TokenOrigin,
    /// The header field whose whole value is the token. `None`: `Authorization`, with the scheme `Bearer`.
    pub(crate) token_field: Option<HeaderName>,
    /// The claims that may have the subject. The first one that is present and not empty has it.
    pub(crate) subject_claims: Vec<String>,
    /// Unless the route has its own. Without any, its tokens are credentials of clients only.
    pub(crate) audiences: AcceptedAudiences,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) types: TokenTypes,
    pub(crate) clock_skew: Duration,
    pub(crate) scope_claim: ScopeClaim,
    /// The scopes that the issuer may grant here. `None` allows all.
    pub(crate) allow_scopes: Option<ScopeSet>,
    pub(crate) profile: Profile,
}

/// The claims that a token must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Those of access tokens (RFC 9068 §2.2): `iss sub client_id aud exp iat jti`.
    Own,
    /// `iss exp`, a client or a subject, and `aud` unless the settings say otherwise.
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

impl IssuerSettings {
    /// False if its tokens are credentials of clients only.
    pub(crate) fn authenticates_requests(&self) -> bool {
        match self.audiences {
            AcceptedAudiences::FederationOnly => false,
            AcceptedAudiences::Unlimited | AcceptedAudiences::Listed { .. } => true,
        }
    }

    /// The issuer whose metadata leads to the keys. Tenants share their keys, so that the metadata of the first one is
    /// sufficient.
    pub(crate) fn metadata_issuer(&self) -> &str {
        match &self.origin {
            TokenOrigin::Issuer | TokenOrigin::Spiffe(_) => self.issuer.as_str(),
            TokenOrigin::Tenants(tenants) => tenants.first().as_str(),
        }
    }
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
