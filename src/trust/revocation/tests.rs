use serde::Serialize;
use serde_json::json;

use super::super::audiences::AcceptedAudiences;
use super::super::issuer::TokenTypes;
use super::super::scope_claim::ScopeClaim;
use super::super::token_origin::{SpiffeOrigin, TenantTemplate, Tenants, TokenOrigin};
use super::*;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::oauth::scope::ScopeSet;
use crate::oauth::spiffe_id::TrustDomain;

const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);
const HOUR: u64 = 3600;

fn issuer(iss: &str, profile: Profile) -> IssuerSettings {
    IssuerSettings {
        name: IssuerName::new("corp"),
        issuer: Identity::parse(iss).unwrap(),
        origin: TokenOrigin::Issuer,
        token_field: None,
        subject_claims: vec!["sub".to_owned()],
        audiences: AcceptedAudiences::listed(Vec::new()),
        algorithms: Vec::new(),
        types: TokenTypes { named: Vec::new(), absent: true },
        clock_skew: Duration::from_secs(30),
        scope_claim: ScopeClaim::Auto,
        allow_scopes: None,
        profile,
    }
}

fn corp() -> IssuerSettings {
    issuer("https://corp.example", Profile::External)
}

/// Token `t1` of `app` for `someone`.
fn claims(issued_at: impl Serialize) -> Claims {
    let claims =
        json!({"iss": "i", "sub": "s", "aud": "a", "exp": NOW.seconds() + HOUR, "jti": "t1", "iat": issued_at});
    Claims::parse(claims.to_string().as_bytes()).unwrap()
}

fn applies_to(entry: &RevocationEntry, issuer: &IssuerSettings, issued_at: impl Serialize) -> bool {
    let identity = |text| Identity::parse(text).unwrap();
    let client = Some(identity("app"));
    let subject = Some(identity("someone"));
    let caller = Caller::new(issuer.name.clone(), &issuer.issuer, client, subject, ScopeSet::default()).unwrap();
    let mut revocations = Revocations::default();
    revocations.add(entry);
    revocations.applying_to(issuer, &caller, &claims(issued_at)).is_some()
}

fn lasting(target: RevocationTarget, issued_before: Option<UnixTime>) -> RevocationEntry {
    RevocationEntry::lasting(&corp(), target, issued_before, NOW)
}

#[test]
fn each_target_applies_to_its_own_tokens_only() {
    let iat = Some(NOW.seconds());
    for good in [
        RevocationTarget::token("t1"),
        RevocationTarget::Client("app".into()),
        RevocationTarget::Subject("someone".into()),
        RevocationTarget::Issuer,
    ] {
        let entry = lasting(good, None);
        assert!(applies_to(&entry, &corp(), iat), "{entry:?}");
        assert!(!applies_to(&entry, &issuer("https://other.example", Profile::External), iat), "{entry:?}");
    }
    for other in [
        RevocationTarget::token("t2"),
        RevocationTarget::Client("someone".into()),
        RevocationTarget::Subject("app".into()),
    ] {
        assert!(!applies_to(&lasting(other.clone(), None), &corp(), iat), "{other:?}");
    }
}

#[test]
fn tokens_issued_before_and_tokens_without_iat_are_revoked() {
    let entry = lasting(RevocationTarget::Client("app".into()), Some(NOW));
    assert!(applies_to(&entry, &corp(), Some(NOW.seconds() - 1)));
    assert!(!applies_to(&entry, &corp(), Some(NOW.seconds())));
    assert!(applies_to(&entry, &corp(), ()));
}

#[test]
fn a_fraction_of_iat_is_rounded_down() {
    let entry = lasting(RevocationTarget::Issuer, Some(NOW));
    let whole = 1_800_000_000.0;
    assert!(applies_to(&entry, &corp(), whole - 0.5));
    assert!(!applies_to(&entry, &corp(), whole + 0.5));
    let later = lasting(RevocationTarget::Issuer, Some(NOW.plus(Duration::from_secs(1))));
    assert!(applies_to(&later, &corp(), whole + 0.5));
}

#[test]
fn no_revoked_subject_concerns_a_caller_without_one() {
    let identity = |text| Identity::parse(text).unwrap();
    let (name, iss) = (IssuerName::new("corp"), corp().issuer);
    let caller = Caller::new(name, &iss, Some(identity("app")), None, ScopeSet::default()).unwrap();
    for (target, expected) in
        [(RevocationTarget::Client("app".into()), true), (RevocationTarget::Subject("app".into()), false)]
    {
        let mut revocations = Revocations::default();
        revocations.add(&lasting(target.clone(), None));
        assert_eq!(revocations.applying_to(&corp(), &caller, &claims(NOW.seconds())).is_some(), expected, "{target:?}");
    }
}

/// Whether this entry, made before the configuration was changed, applies to a JWT-SVID of a trust domain that is now
/// configured without `iss`.
fn applies_to_svid(entry: &RevocationEntry, iss: &str) -> bool {
    let domain = TrustDomain::parse("example.org").unwrap();
    let origin = SpiffeOrigin::new(domain, None).unwrap();
    let id = origin.id.clone();
    let settings = IssuerSettings { origin: TokenOrigin::Spiffe(origin), ..issuer(id.as_str(), Profile::External) };
    let claims = json!({"iss": iss, "sub": "spiffe://example.org/a", "exp": NOW.seconds() + HOUR});
    let claims = Claims::parse(claims.to_string().as_bytes()).unwrap();
    let subject = Identity::parse("spiffe://example.org/a").ok();
    let caller = Caller::new(settings.name.clone(), &id, None, subject, ScopeSet::default()).unwrap();
    let mut revocations = Revocations::default();
    revocations.add(entry);
    revocations.applying_to(&settings, &caller, &claims).is_some()
}

#[test]
fn a_revoked_issuer_counts_after_it_left_a_trust_domain() {
    for target in [RevocationTarget::Issuer, RevocationTarget::Subject("spiffe://example.org/a".into())] {
        let entry = lasting(target, None);
        assert!(applies_to_svid(&entry, "https://corp.example"), "{entry:?}");
        assert!(!applies_to_svid(&entry, "https://other.example"), "{entry:?}");
    }
}

#[test]
fn a_revoked_subject_is_also_the_sub_of_the_token() {
    // Another entry of the issuer, or an earlier configuration, takes it from `sub`.
    let entry = lasting(RevocationTarget::Subject("s".into()), None);
    assert!(applies_to(&entry, &corp(), NOW.seconds()));
}

#[test]
fn now_leaves_out_nothing_that_was_issued_until_now() {
    let half_past = NOW.plus(Duration::from_millis(500));
    let own = issuer("https://self.example", Profile::Own);
    assert_eq!(after_all_issued_by(&own, half_past).seconds(), NOW.seconds() + 1);
    assert_eq!(after_all_issued_by(&corp(), half_past).seconds(), NOW.seconds() + 31);
    assert_eq!(lasting(RevocationTarget::Issuer, Some(half_past)).issued_before, Some(NOW.seconds() + 1));
}

#[test]
fn an_entry_lasts_as_long_as_the_tokens_that_it_applies_to() {
    let own = issuer("https://self.example", Profile::Own);
    let token = RevocationEntry::token(&own, &claims(()), NOW).unwrap();
    assert_eq!(token.expires_at, Some(NOW.seconds() + HOUR + 30));
    let rule = RevocationEntry::lasting(&own, RevocationTarget::Issuer, Some(NOW), NOW);
    assert_eq!(rule.expires_at, Some(NOW.seconds() + 24 * HOUR + 30));
    let future = UnixTime::from_seconds(NOW.seconds() + HOUR);
    let rule = RevocationEntry::lasting(&own, RevocationTarget::Issuer, Some(future), NOW);
    assert_eq!(rule.expires_at, Some(NOW.seconds() + 25 * HOUR + 30));
    assert_eq!(lasting(RevocationTarget::Issuer, Some(NOW)).expires_at, Some(NOW.seconds() + 30 * 24 * HOUR + 30));
}

#[test]
fn expired_entries_are_removed_and_configured_ones_never() {
    let mut revocations = Revocations::default();
    revocations.add(&lasting(RevocationTarget::Issuer, Some(NOW)));
    revocations.add(&RevocationEntry { expires_at: None, ..lasting(RevocationTarget::token("t1"), None) });
    let later = NOW.plus(FOREIGN_TOKENS_LIVE).plus(Duration::from_secs(30));
    revocations.forget_expired(UnixTime::from_seconds(later.seconds() - 1));
    assert!(revocations.len() == 2 && revocations.has_expired(later));
    revocations.forget_expired(later);
    assert!(revocations.len() == 1 && !revocations.has_expired(later));
}

#[test]
fn of_two_entries_about_the_same_the_wider_holds() {
    let target = || RevocationTarget::Client("app".into());
    let (narrow, wide) = (lasting(target(), Some(UnixTime::from_seconds(5))), lasting(target(), Some(NOW)));
    let mut revocations = Revocations::default();
    revocations.add(&wide);
    assert!(revocations.cover(&narrow) && revocations.cover(&wide));
    assert!(!revocations.cover(&lasting(target(), None)));
    revocations.add(&narrow);
    assert!(revocations.len() == 1 && revocations.cover(&wide));
}

#[test]
fn a_full_revocation_list_keeps_known_entries_and_takes_clients() {
    let mut revocations = Revocations::default();
    let token = |number: usize| lasting(RevocationTarget::token(&number.to_string()), None);
    (0..MAX_WITH_TOKENS).for_each(|number| revocations.add(&token(number)));
    assert_eq!(revocations.full_for(&token(MAX_WITH_TOKENS)), Some(RevocationsFull::Full));
    assert_eq!(revocations.full_for(&lasting(RevocationTarget::Client("thief".to_owned()), None)), None);
    assert_eq!(revocations.full_for(&token(7)), None);
}

#[test]
fn a_client_is_limited_to_a_tenth_of_the_entries_operators_not() {
    let of = |client: Option<&str>, number: usize, expires_at| RevocationEntry {
        revoked_by: client.map(str::to_owned),
        expires_at: Some(expires_at),
        ..lasting(RevocationTarget::token(&number.to_string()), None)
    };
    let (soon, late) = (NOW.seconds() + 1, NOW.seconds() + HOUR);
    let mut revocations = Revocations::default();
    (0..MAX_OF_CLIENT).for_each(|number| revocations.add(&of(Some("greedy"), number, soon + (number > 0) as u64)));
    // A known entry does not count a second time.
    (0..MAX_OF_CLIENT).for_each(|number| revocations.add(&of(Some("greedy"), number, soon)));
    assert_eq!(revocations.full_for(&of(Some("greedy"), MAX_OF_CLIENT, late)), Some(RevocationsFull::Share));
    assert_eq!(revocations.full_for(&of(Some("greedy"), 7, late)), None, "one that has its place");
    for other in [Some("other"), None] {
        assert_eq!(revocations.full_for(&of(other, MAX_OF_CLIENT, late)), None, "{other:?}");
    }
    revocations.forget_expired(UnixTime::from_seconds(soon));
    assert_eq!(revocations.full_for(&of(Some("greedy"), MAX_OF_CLIENT, late)), None, "one has expired");
    revocations.add(&of(Some("greedy"), MAX_OF_CLIENT, late));
    assert_eq!(revocations.full_for(&of(Some("greedy"), 0, late)), Some(RevocationsFull::Share));
}

#[test]
fn a_revocation_counts_for_all_tenants_or_for_one() {
    let template = "https://login.example/{tenant}";
    let tenants = Tenants::new(TenantTemplate::parse(template).unwrap(), &["a", "b"]).unwrap().unwrap();
    let entry = IssuerSettings { origin: TokenOrigin::Tenants(tenants), ..issuer(template, Profile::External) };
    let of = |tenant: &str| {
        let claims = json!({"iss": format!("https://login.example/{tenant}"), "sub": "s", "aud": "a", "exp": 1_900_000_000_u64, "jti": "1"});
        Claims::parse(claims.to_string().as_bytes()).unwrap()
    };
    let caller =
        Caller::new(entry.name.clone(), &entry.issuer, None, Identity::parse("s").ok(), ScopeSet::default()).unwrap();
    let revoked = |revocation: &RevocationEntry| {
        let mut all = Revocations::default();
        all.add(revocation);
        ["a", "b"].map(|tenant| all.applying_to(&entry, &caller, &of(tenant)).is_some())
    };
    assert_eq!(revoked(&RevocationEntry::lasting(&entry, RevocationTarget::Issuer, None, NOW)), [true, true]);
    assert_eq!(revoked(&RevocationEntry::token(&entry, &of("b"), NOW).unwrap()), [false, true]);
    let single = issuer("https://login.example/a", Profile::External);
    assert_eq!(revoked(&RevocationEntry::lasting(&single, RevocationTarget::Issuer, None, NOW)), [true, false]);
}
