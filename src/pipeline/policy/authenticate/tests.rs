use super::*;

fn token(values: &[&str]) -> Result<String, AuthenticateError> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let presented = of_authorization(&headers, 16)?;
    legal(presented.token).map(str::to_owned)
}

#[test]
fn the_scheme_is_read_without_case() {
    for value in ["Bearer abc", "bearer abc", "BEARER abc"] {
        assert_eq!(token(&[value]).unwrap(), "abc");
    }
}

#[test]
fn a_token_comes_by_one_of_two_schemes() {
    for (value, expected) in
        [("Bearer abc", TokenScheme::Bearer), ("DPoP abc", TokenScheme::Dpop), ("dpop  abc", TokenScheme::Dpop)]
    {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
        let presented = of_authorization(&headers, 16).unwrap();
        assert_eq!((presented.token, presented.scheme), (&b"abc"[..], expected), "{value}");
    }
}

#[test]
fn several_spaces_may_follow_the_scheme() {
    for value in ["Bearer  abc", "Bearer                                abc"] {
        assert_eq!(token(&[value]).unwrap(), "abc");
    }
}

fn found(headers: &[(&'static str, &'static str)]) -> Result<(String, Option<String>), &'static str> {
    let fields = TokenFields::new(&["x-one", "x-two"].map(HeaderName::from_static));
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    match only_token(&fields, &map, 16) {
        Ok(Presented { token, field, .. }) => {
            let token = String::from_utf8(token.to_vec()).unwrap();
            Ok((token, field.map(|name| name.as_str().to_owned())))
        }
        Err(AuthenticateError::Missing { .. }) => Err("missing"),
        Err(AuthenticateError::Ambiguous(_)) => Err("ambiguous"),
        Err(AuthenticateError::Refused(refused)) if refused.reason == TokenError::Malformed => Err("malformed"),
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn a_token_comes_in_one_field_only() {
    let in_field = |name: Option<&str>| Ok(("a".to_owned(), name.map(str::to_owned)));
    assert_eq!(found(&[]), Err("missing"));
    assert_eq!(found(&[("authorization", "Bearer a")]), in_field(None));
    assert_eq!(found(&[("x-one", "a")]), in_field(Some("x-one")));
    assert_eq!(found(&[("x-two", "a"), ("authorization", "Basic YTpi")]), in_field(Some("x-two")));
    for both in ["Bearer a", "bearer b", "Bearer", "Bearer ä"] {
        assert_eq!(found(&[("x-one", "a"), ("authorization", both)]), Err("ambiguous"), "{both}");
    }
    assert_eq!(found(&[("x-one", "a"), ("x-two", "a")]), Err("ambiguous"));
    assert_eq!(found(&[("x-one", "a"), ("x-one", "a")]), Err("ambiguous"));
    let two = [("authorization", "Basic a"), ("authorization", "Basic a"), ("x-one", "a")];
    assert_eq!(found(&two), Err("ambiguous"));
    for bad in ["", "aaaaaaaaaaaaaaaaa"] {
        assert_eq!(found(&[("x-one", bad)]), Err("malformed"), "{bad}");
    }
}

#[test]
fn no_header_and_other_schemes_are_missing_credentials() {
    for (values, expected) in [
        (&[][..], "no Authorization"),
        (&["Basic YTpi"], "Authorization of the scheme Basic"),
        (&["eyJhbGci.e30.c2ln"], "Authorization of another scheme, or of none"),
    ] {
        assert!(
            matches!(token(values), Err(AuthenticateError::Missing { found, .. }) if found == expected),
            "{values:?}"
        );
    }
}

#[test]
fn two_headers_are_ambiguous() {
    assert!(matches!(token(&["Bearer a", "Bearer b"]), Err(AuthenticateError::Ambiguous(_))));
}

#[test]
fn malformed_tokens_are_malformed() {
    for value in [
        "Bearer",
        "Bearer ",
        "Bearer   ",
        "Bearer \ta",
        "Bearer  \ta",
        "Bearer a b",
        "Bearer a,",
        "Bearer \"a\"",
        "Bearer a\tb",
        "Bearer ä",
        "Bearer aaaaaaaaaaaaaaaaa",
    ] {
        let refused = token(&[value]);
        assert!(
            matches!(refused, Err(AuthenticateError::Refused(RefusedToken { reason: TokenError::Malformed, .. }))),
            "{value}"
        );
    }
}
