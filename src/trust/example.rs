//! An issuer and the claims of a valid token of it, for tests.

use std::time::Duration;

use serde_json::{Value, json};

use super::audiences::AcceptedAudiences;
use super::issuer::{IssuerSettings, Profile, TokenTypes};
use super::scope_claim::ScopeClaim;
use super::token_origin::TokenOrigin;
use crate::jose::algorithm::Algorithm;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;

pub(super) const NOW: u64 = 1_800_000_000;

/// An issuer with the most permissive configuration that is allowed. Every other issuer refuses at least as much.
pub(super) fn settings() -> IssuerSettings {
    IssuerSettings {
        name: IssuerName::new("corp"),
        issuer: Identity::parse("https://login.example.com").unwrap(),
        origin: TokenOrigin::Issuer,
        token_field: None,
        subject_claims: vec!["sub".to_owned()],
        audiences: AcceptedAudiences::listed(vec!["https://api.example.com".to_owned()]),
        algorithms: Algorithm::ALL.to_vec(),
        types: TokenTypes { named: vec!["at+jwt".to_owned(), "jwt".to_owned()], absent: true },
        clock_skew: Duration::from_secs(120),
        scope_claim: ScopeClaim::Auto,
        allow_scopes: None,
        profile: Profile::External,
    }
}

pub(super) fn claims() -> Value {
    json!({
        "iss": "https://login.example.com", "sub": "someone", "aud": "https://api.example.com", "azp": "app",
        "exp": NOW + 600, "iat": NOW, "nbf": NOW, "jti": "id-1", "scope": "read:data",
    })
}
