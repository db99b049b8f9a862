use std::sync::Arc;

use serde_json::json;

use super::super::audiences::AcceptedAudiences;
use super::super::caller_claims::caller;
use super::super::example::{claims, settings};
use super::super::issuer::IssuerSettings;
use super::super::key_cache::KeyCache;
use super::super::near_miss::unknown_issuer;
use super::*;
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::jose::signing::SigningKey;
use crate::oauth::bound::TokenBinding;
use crate::oauth::confirmation::{Confirmation, Thumbprint};

const ALL: [TokenError; 22] = [
    TokenError::Malformed,
    TokenError::TooManyScopes,
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
    TokenError::IntrospectionUnavailable,
    TokenError::Inactive,
    TokenError::Revoked,
    TokenError::UnknownClient,
    TokenError::Proof(ProofError::Invalid),
    TokenError::NotProven,
    TokenError::NotBound,
    TokenError::StaticTokenEnded,
    TokenError::UnknownStaticToken,
];

/// The failed check of this reason, where everything that a token or a configuration gives is `value`.
fn failed(reason: TokenError, value: &str) -> FailedCheck {
    let key = Arc::new(SigningKey::generate(Algorithm::Es256).unwrap().0.verifying_key().unwrap());
    let mut settings = settings();
    settings.name = IssuerName::new(value);
    settings.types.named = vec![value.to_owned()];
    let keys = Arc::new(KeyCache::own(KeySet::from_keys(vec![Arc::clone(&key)])));
    let issuer = TrustedIssuer { settings, keys, introspection: None };
    let mut header = Header::parse(br#"{"alg":"ES256"}"#).unwrap();
    (header.key_id, header.token_type) = (Some(value.to_owned()), Some(value.to_owned()));
    let mut claims = Claims::parse(claims().to_string().as_bytes()).unwrap();
    claims.audiences = vec![value.to_owned()];
    let (skew, now) = (Duration::from_secs(30), UnixTime::from_seconds(2_000_000_000));
    let accepted = vec![value.to_owned(); 1000];
    match reason {
        TokenError::Malformed => ClaimsFault::wrong_type(value, &json!(7), value).into(),
        TokenError::TooManyScopes => {
            let scopes: Vec<String> = (0..1000).map(|n| format!("s{n}")).collect();
            claims.all.insert("scope".to_owned(), scopes.into());
            caller(&issuer.settings, &claims).unwrap_err().into()
        }
        TokenError::UnknownIssuer => {
            NoEntry::UnknownIssuer(Box::new(unknown_issuer(value, [&issuer.settings].into_iter()))).into()
        }
        TokenError::IssuerNotAllowed => {
            FailedCheck::issuer_not_allowed(&issuer.settings.name, &[IssuerName::new(value)])
        }
        TokenError::TypeNotAllowed => FailedCheck::type_not_allowed(&issuer, &header),
        TokenError::AlgNotAllowed => FailedCheck::alg_not_allowed(&issuer, &header),
        TokenError::MissingClaim => FailedCheck::missing(value),
        TokenError::BadAudience => FailedCheck::bad_audience(&issuer, &claims, &accepted),
        TokenError::Expired => FailedCheck::expired(&claims, skew, now),
        TokenError::NotYetValid => FailedCheck::not_yet_valid("nbf", u64::MAX, skew, now),
        TokenError::UnknownKid => FailedCheck::unknown_key(&issuer, &header),
        TokenError::KeysUnavailable => FailedCheck::keys_unavailable(&issuer, true),
        TokenError::BadSignature => FailedCheck::bad_signature(&issuer, &key),
        TokenError::IntrospectionUnavailable => FailedCheck::introspection_unavailable(&issuer.settings.name, value),
        TokenError::Inactive => FailedCheck::inactive(&issuer.settings.name),
        TokenError::Revoked => {
            let tokens = RevokedTokens::OfClient(value);
            FailedCheck::revoked(&AppliedRevocation { tokens, issued_before: Some(2_000_000_000) })
        }
        TokenError::UnknownClient => FailedCheck::unknown_client(Identity::parse(value).ok().as_ref()),
        TokenError::Proof(reason) => FailedProof::new(reason, format!("htu={value}"), format!("htu={value}")).into(),
        TokenError::NotProven => FailedCheck::no_certificate(None, Thumbprint([0; 32])),
        TokenError::NotBound => {
            let both = Some(Thumbprint([0; 32]));
            FailedCheck::not_bound(Confirmation { key: both, certificate: both }, TokenBinding::Either)
        }
        TokenError::StaticTokenEnded => FailedCheck::static_token_ended(UnixTime::from_seconds(1), now),
        TokenError::StoreUnavailable => FailedCheck::revocations_unknown(),
        TokenError::UnknownStaticToken => FailedCheck::unknown_static_token(),
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
fn an_unknown_key_is_named_as_the_header_names_it() {
    let key = Arc::new(SigningKey::generate(Algorithm::Es256).unwrap().0.verifying_key().unwrap());
    let known = format!("kid={} (ES256)", key.key_id.as_deref().unwrap());
    let keys = Arc::new(KeyCache::own(KeySet::from_keys(vec![key])));
    let issuer = TrustedIssuer { settings: settings(), keys, introspection: None };
    for (header, found, wanted) in [
        (r#"{"alg":"ES256","kid":"a","x5t":"b"}"#, "kid=a, alg=ES256", known.clone()),
        (
            r#"{"alg":"ES256"}"#,
            "no kid, alg=ES256",
            format!("exactly one key for ES256, or a kid; the issuer has {known}"),
        ),
        (
            r#"{"alg":"ES256","x5t":"b","x5t#S256":"c"}"#,
            "no kid, x5t=b, x5t#S256=c, alg=ES256",
            format!("exactly one key for ES256 with this certificate; the issuer has {known}"),
        ),
    ] {
        let check = FailedCheck::unknown_key(&issuer, &Header::parse(header.as_bytes()).unwrap());
        assert_eq!(check, FailedCheck::new(TokenError::UnknownKid, found, wanted), "{header}");
    }
}

#[test]
fn a_wrong_audience_is_named_by_its_claim() {
    let instead_of_aud = Some("client_id".to_owned());
    let audiences = AcceptedAudiences::Listed { accepted: vec!["app".to_owned()], instead_of_aud };
    let issuer = IssuerSettings { audiences, ..settings() };
    let issuer = TrustedIssuer { settings: issuer, keys: Arc::new(KeyCache::remote()), introspection: None };
    for (changes, found, wanted) in [
        (json!({"aud": "x"}), "aud=x", "aud=app"),
        (json!({"aud": [], "client_id": "y"}), "client_id=y", "client_id=app"),
    ] {
        let mut all = claims();
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let mut claims = Claims::parse(all.to_string().as_bytes()).unwrap();
        issuer.settings.audiences.complete(&mut claims).unwrap();
        let check = FailedCheck::bad_audience(&issuer, &claims, &["app".to_owned()]);
        assert_eq!(check, FailedCheck::new(TokenError::BadAudience, found, wanted), "{changes}");
    }
}

#[test]
fn a_near_miss_of_an_issuer_is_named() {
    let settings = settings();
    let unknown = |iss| unknown_issuer(iss, [&settings].into_iter());
    let near = unknown("https://login.example.com/");
    let found = "iss=https://login.example.com/, which differs by a trailing slash from issuer `corp`";
    assert_eq!((&*near.found, &*near.wanted), (found, "iss=https://login.example.com"));
    let other = unknown("https://evil.example");
    assert_eq!((&*other.found, &*other.wanted), ("iss=https://evil.example", "issuer=corp"));
}
