use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::headers::X_FORWARDED_FOR;
use super::super::origin_part::ProxyStatement;
use super::*;
use crate::network::Network;

const ALL: BelievedParts = BelievedParts { scheme: true, host: true, port: true, client_certificate: false };

/// The fields of a proxy in the order `Forwarded`, proto, host, port; an empty one is not sent.
fn read(fields: [&str; 4], believed: BelievedParts) -> Result<Option<Box<StatedOrigin>>, OriginFault> {
    let trusted = [Network::parse("10.0.0.0/8").unwrap()].into_iter().collect();
    let names = [FORWARDED, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PORT];
    let mut headers = HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_static("1.1.1.1"))]);
    for (name, value) in names.into_iter().zip(fields).filter(|(_, value)| !value.is_empty()) {
        headers.append(name, value.parse().unwrap());
    }
    StatedOrigin::read(&headers, believed, &trusted, "http")
}

/// Of a request for `Inner.example:8080` in clear text: scheme, host, port and authority.
fn seen(fields: [&str; 4], believed: BelievedParts) -> String {
    let stated = match read(fields, believed) {
        Ok(stated) => stated,
        Err(fault) => return fault.to_string(),
    };
    let authority = Authority::parse(b"Inner.example:8080", "http").unwrap();
    let origin = PublicOrigin::new("http", &authority, stated.as_deref());
    let mut text = format!("{} {} {}", origin.scheme, origin.host, origin.port);
    write!(text, " {}", origin.authority().unwrap().to_str().unwrap()).unwrap();
    text
}

#[track_caller]
fn all(fields: [&str; 4], expected: &str) {
    assert_eq!(seen(fields, ALL), expected, "{fields:?}");
}

#[test]
fn a_request_without_statements_is_described_as_it_came() {
    all([""; 4], "http inner.example 8080 Inner.example:8080");
    let forged = ["for=1.1.1.1;host=a;proto=https", "gopher", "a, b", "x"];
    assert_eq!(seen(forged, BelievedParts::default()), "http inner.example 8080 Inner.example:8080");
}

#[test]
fn each_part_is_stated_by_either_field() {
    all(["", "https", "", ""], "https inner.example 8080 Inner.example:8080");
    all(["", "", "api.example", ""], "http api.example 80 api.example");
    all(["", "", "", "8443"], "http inner.example 8443 inner.example:8443");
    all(["", "HTTPS", "API.example", ""], "https api.example 443 API.example");
    all(["", "https", "api.example", "8443"], "https api.example 8443 api.example:8443");
    all(["", "https", "api.example:8443", "8443"], "https api.example 8443 api.example:8443");
    all(["", "https", "", "443"], "https inner.example 443 inner.example");
    all(["", "https", "[2001:db8::1]:444", ""], "https [2001:db8::1] 444 [2001:db8::1]:444");
    all(["for=1.1.1.1;proto=https;host=\"api.example:444\"", "", "", ""], "https api.example 444 api.example:444");
    all(["for=1.1.1.1;proto=https;host=a, for=10.0.0.1;proto=http;host=b", "", "", ""], "https a 443 a");
    all(["", "wss", "", "443"], "https inner.example 443 inner.example");
}

#[test]
fn a_part_that_is_not_believed_is_not_read() {
    let fields = ["for=1.1.1.1;proto=https;host=\"api.example:444\"", "", "", ""];
    let only = |part| {
        let mut believed = BelievedParts::default();
        believed.add(ProxyStatement::Origin(part));
        believed
    };
    assert_eq!(seen(fields, only(OriginPart::Scheme)), "https inner.example 8080 Inner.example:8080");
    assert_eq!(seen(fields, only(OriginPart::Host)), "http api.example 444 api.example:444");
    assert_eq!(seen(fields, only(OriginPart::Port)), "http inner.example 444 inner.example:444");
    let wrong = ["", "gopher", "a b", "x"];
    for (part, fault) in [
        (OriginPart::Scheme, "a forwarding field does not name one valid scheme"),
        (OriginPart::Host, "a forwarding field does not name one valid host"),
        (OriginPart::Port, "a forwarding field does not name one valid port"),
    ] {
        assert_eq!(seen(wrong, only(part)), fault);
    }
}

#[test]
fn fields_that_disagree_are_a_fault_and_equal_ones_are_not() {
    let standard = "for=1.1.1.1;proto=https;host=api.example";
    all([standard, "https", "API.example:443", "443"], "https api.example 443 API.example:443");
    all([standard, "http", "", ""], "the forwarding fields name different schemes");
    all([standard, "", "other.example", ""], "the forwarding fields name different hosts");
    all([standard, "", "api.example:8443", ""], "the forwarding fields name different hosts");
    all(["", "https", "api.example:8443", "443"], "the forwarding fields name different ports");
    all(["for=1.1.1.1;host=\"api.example:8443\"", "", "", "443"], "the forwarding fields name different ports");
}

#[test]
fn only_one_valid_value_is_a_statement() {
    for (index, part, wrong) in [
        (1, "scheme", &["https, http", "https,", "gopher", "https://", "\"https\""][..]),
        (2, "host", &["a, b", "a/b", "a:b", "a:99999", "[::1", "a..b", "http://a"]),
        (3, "port", &["443, 80", "0", "65536", "+80", "-1", "0x50", "https"]),
    ] {
        for value in wrong {
            let mut fields = [""; 4];
            fields[index] = value;
            all(fields, &format!("a forwarding field does not name one valid {part}"));
        }
    }
    for name in [X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PORT] {
        for values in [&["443", "443"][..], &["http", "http"], &[""]] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, HeaderValue::from_static(value));
            }
            let read = StatedOrigin::read(&headers, ALL, &Networks::default(), "http");
            assert!(matches!(read, Err(OriginFault::Invalid(_))), "{name}: {values:?}");
        }
    }
}

proptest! {
    /// A statement is refused, or it gives a value that can be sent on.
    #[test]
    fn every_accepted_origin_is_a_valid_authority(
        standard in "(for=1\\.1\\.1\\.1;)?[ -~]{0,30}", proto in "[a-z,]{0,6}|https?", host in "[ -~]{0,12}", port in "[0-9+]{0,6}",
    ) {
        if let Ok(stated) = read([&standard, &proto, &host, &port], ALL) {
            let authority = Authority::parse(b"inner", "http").unwrap();
            let origin = PublicOrigin::new("http", &authority, stated.as_deref());
            let sent = origin.authority().unwrap();
            let again = Authority::parse(sent.as_bytes(), origin.scheme).unwrap();
            prop_assert_eq!(again.host(), origin.host);
            prop_assert_eq!(again.port().unwrap_or(default_port(origin.scheme)), origin.port);
            prop_assert!(matches!(origin.scheme, "http" | "https"));
        }
    }
}
