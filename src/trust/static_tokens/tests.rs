use proptest::prelude::*;

use super::*;

const VALUE: &str = "legacy-report-job-2019";

fn settings(name: &str, value: &str) -> StaticTokenSettings {
    StaticTokenSettings {
        name: Identity::parse(name).unwrap(),
        hash: TokenHash::of(value.as_bytes()),
        scopes: ScopeSet::parse("reports:read").unwrap(),
        until: UnixTime::from_seconds(1000),
        field: None,
    }
}

fn tokens() -> StaticTokens {
    let in_field = |name, value, field| StaticTokenSettings {
        field: Some(HeaderName::from_static(field)),
        ..settings(name, value)
    };
    let all = vec![settings("reports", VALUE), in_field("cron", "legacy-cron-job-of-2017", "x-api-key")];
    StaticTokens::new(all, None)
}

fn found(tokens: &StaticTokens, value: &str) -> Option<String> {
    tokens.find(value.as_bytes()).map(|(_, token)| token.settings.name.as_str().to_owned())
}

#[test]
fn a_value_is_found_only_as_a_whole() {
    let tokens = tokens();
    assert_eq!(found(&tokens, VALUE), Some("reports".to_owned()));
    let hash = TokenHash::of(VALUE.as_bytes()).to_config();
    for bad in ["", &VALUE[1..], &VALUE[..21], &format!("{VALUE} "), &format!("{VALUE}x"), &VALUE.to_uppercase(), &hash]
    {
        assert_eq!(found(&tokens, bad), None, "{bad}");
    }
}

#[test]
fn a_short_value_and_a_jwt_are_no_static_tokens() {
    let short = "nineteen-characters";
    let jwts = ["eyJhbGciOiJub25lIn0", "abcdefg.hijklmn.opqrstu", "eyJhbGciOiJub25lIn0.e30.c2ln"];
    let all = jwts.into_iter().chain([short]).map(|value| settings(value, value));
    let tokens = StaticTokens::new(all.collect(), None);
    assert!(!tokens.is_empty());
    for value in jwts.into_iter().chain([short]) {
        assert_eq!(found(&tokens, value), None, "{value}");
    }
}

#[test]
fn the_form_of_a_jwt_is_three_parts_of_base64url() {
    for jwt in ["a.b.c", "eyJ", "eyJhbGciOiJSUzI1NiJ9", "A-_9.Z.0", "eyJ a b"] {
        assert!(is_jwt_form(jwt.as_bytes()), "{jwt}");
    }
    for other in ["", "a", "a.b", "a.b.c.d", "a..c", ".b.c", "a.b.", "a.b.c=", "a.b c.d", "EYJhbGci", "a.b.ü"] {
        assert!(!is_jwt_form(other.as_bytes()), "{other}");
    }
}

#[test]
fn an_unchanged_token_goes_on_and_a_changed_one_is_another() {
    let before = tokens();
    let (_, token) = before.find(VALUE.as_bytes()).unwrap();
    token.used(UnixTime::from_seconds(70));
    let same =
        StaticTokens::new(vec![settings("other", "0123456789abcdef0123"), settings("reports", VALUE)], Some(&before));
    assert!(same.holds(token));
    let changed = StaticTokenSettings { until: UnixTime::from_seconds(500), ..settings("reports", VALUE) };
    let changed = StaticTokens::new(vec![changed], Some(&before));
    assert!(!changed.holds(token) && !StaticTokens::new(Vec::new(), Some(&before)).holds(token));
    // A request of the earlier configuration ends later.
    token.used(UnixTime::from_seconds(90));
    token.used(UnixTime::from_seconds(80));
    let last = Some(UnixTime::from_seconds(90));
    let expected = StaticTokenUse { name: "reports", until: UnixTime::from_seconds(500), last_used: last };
    assert_eq!(changed.uses().collect::<Vec<_>>(), [expected]);
    assert_eq!(same.uses().map(|of| of.last_used).collect::<Vec<_>>(), [None, last]);
}

#[test]
fn tokens_are_removed_from_the_fields_of_a_request() {
    let header = |values: &[(&'static str, String)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, value.parse().unwrap());
        }
        tokens().remove_from(&mut headers);
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect::<Vec<_>>()
    };
    for ours in ["Bearer ", "bearer   ", "BEARER "] {
        assert_eq!(header(&[("authorization", format!("{ours}{VALUE}"))]), [""; 0]);
    }
    let basic = || ("authorization", "Basic YTpi".to_owned());
    let of_service = || ("authorization", "Bearer token-of-the-service-itself".to_owned());
    let left = header(&[basic(), ("authorization", format!("Bearer {VALUE}")), of_service()]);
    assert_eq!(left, ["authorization: Basic YTpi", "authorization: Bearer token-of-the-service-itself"]);
    assert_eq!(header(&[("x-api-key", "anything".to_owned()), ("x-other", "b".to_owned())]), ["x-other: b"]);
    // It is a secret in the wrong field too.
    assert_eq!(header(&[("authorization", "Bearer legacy-cron-job-of-2017".to_owned())]), [""; 0]);
}

#[test]
fn nothing_of_a_token_can_be_printed() {
    let tokens = tokens();
    let printed = format!("{tokens:?}");
    let hash = TokenHash::of(VALUE.as_bytes()).to_config();
    assert!(!printed.contains(VALUE) && !printed.contains(&hash[7..]), "{printed}");
}

#[test]
fn a_hash_is_read_as_it_is_written() {
    let hash = TokenHash::of(b"a");
    assert_eq!(TokenHash::parse(&hash.to_config()), Some(hash));
    for bad in ["", "sha256:", "sha256:AAAA", "md5:AAAA", &hash.to_config()[7..], &format!("{}=", hash.to_config())] {
        assert_eq!(TokenHash::parse(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn no_other_value_is_a_static_token(value in "\\PC{0,60}") {
        prop_assume!(value != VALUE && value != "legacy-cron-job-of-2017");
        prop_assert_eq!(found(&tokens(), &value), None);
    }

    #[test]
    fn every_compact_jws_has_the_form_of_a_jwt(parts in prop::collection::vec("[A-Za-z0-9_-]{1,30}", 3)) {
        prop_assert!(is_jwt_form(parts.join(".").as_bytes()));
    }
}
