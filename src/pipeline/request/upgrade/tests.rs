use super::*;
use http::Request;
use proptest::prelude::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn head(method: &str, fields: &[(&str, &str)]) -> ReceivedHead {
    let mut request = Request::builder().method(method).version(Version::HTTP_11);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    ReceivedHead::from_hyper(request.body(()).unwrap().into_parts().0).unwrap()
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    head("GET", fields).headers
}

fn opened() -> Upgrades {
    Upgrades::new(true, [Upgrades::parse("tcp").unwrap()])
}

const FIELDS: [(&str, &str); 4] = [
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "WebSocket"),
    ("sec-websocket-key", KEY),
    ("sec-websocket-version", "13"),
];

/// The fields of a valid handshake. This field replaces the one of the same name, or removes it if its value is empty.
fn fields<'f>(name: &'f str, value: &'f str) -> Vec<(&'f str, &'f str)> {
    let others = FIELDS.into_iter().filter(|(known, _)| *known != name);
    others.chain((!value.is_empty()).then_some((name, value))).collect()
}

fn checked(method: &str, fields: &[(&str, &str)]) -> Option<Result<UpgradeHandshake, UpgradeFault>> {
    let head = head(method, fields);
    opened().requested(&head).map(|requested| requested.check(&head, false))
}

fn fault(method: &str, fields: &[(&str, &str)]) -> UpgradeFault {
    checked(method, fields).unwrap().unwrap_err()
}

#[test]
fn the_example_of_the_rfc_is_answered_as_there() {
    assert_eq!(accept(KEY.as_bytes()), ACCEPT);
}

#[test]
fn a_request_without_upgrade_is_an_ordinary_request() {
    assert!(checked("GET", &FIELDS).unwrap().is_ok());
    assert!(checked("GET", &fields("connection", "keep-alive")).is_none());
    assert!(checked("GET", &fields("connection", "")).is_none());
    assert!(checked("GET", &fields("upgrade", "h2c")).is_none());
    assert!(checked("GET", &fields("upgrade", "websockets")).is_none());
    assert!(checked("GET", &fields("upgrade", "")).is_none());
    let mut old = head("GET", &FIELDS);
    old.version = Version::HTTP_10;
    assert!(opened().requested(&old).is_none());
    assert!(Upgrades::default().requested(&head("GET", &FIELDS)).is_none());
}

#[test]
fn malformed_revocation_requests_are_refused() {
    assert_eq!(fault("GET", &fields("upgrade", "websocket, h2c")), UpgradeFault::Several);
    assert_eq!(fault("GET", &fields("upgrade", "h2c, websocket")), UpgradeFault::Several);
    assert_eq!(fault("GET", &fields("upgrade", "websocket, websocket")), UpgradeFault::Several);
    assert_eq!(fault("GET", &[&FIELDS[..], &[("upgrade", "tcp")]].concat()), UpgradeFault::Several);
    assert_eq!(fault("POST", &FIELDS), UpgradeFault::Method);
    assert_eq!(fault("HEAD", &fields("upgrade", "tcp")), UpgradeFault::Method);
    for key in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZTE=", "dGhl", "=", "not base64 at all!"] {
        assert_eq!(fault("GET", &fields("sec-websocket-key", key)), UpgradeFault::Key, "{key}");
    }
    assert_eq!(fault("GET", &[&FIELDS[..], &[("sec-websocket-key", KEY)]].concat()), UpgradeFault::Key);
    for version in ["", "8", "13, 8", "013"] {
        assert_eq!(fault("GET", &fields("sec-websocket-version", version)), UpgradeFault::Version, "{version}");
    }
    let head = head("GET", &FIELDS);
    assert_eq!(opened().requested(&head).unwrap().check(&head, true).unwrap_err(), UpgradeFault::Body);
}

#[test]
fn only_a_requested_protocol_counts_as_agreement() {
    let requested = [
        &FIELDS[..],
        &[("sec-websocket-protocol", "chat, mqtt"), ("sec-websocket-extensions", "permessage-deflate; a=\"x, y\"; b")],
    ]
    .concat();
    let mut handshake = checked("GET", &requested).unwrap().unwrap();
    handshake.add_request_fields(&mut map(&requested));
    let yes = [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", ACCEPT)];
    let answered = |more: &[(&str, &str)]| handshake.matches(&map(&[&yes[..], more].concat()));
    assert!(answered(&[]));
    assert!(answered(&[("sec-websocket-protocol", "mqtt"), ("sec-websocket-extensions", "permessage-deflate; c")]));
    for more in [
        ("sec-websocket-protocol", "Chat"),
        ("sec-websocket-protocol", "chat, mqtt"),
        ("sec-websocket-protocol", "other"),
        ("sec-websocket-protocol", ""),
        ("sec-websocket-extensions", "y\"; b"),
        ("sec-websocket-extensions", "x-other"),
        ("sec-websocket-extensions", "permessage-deflate, x-other"),
        ("upgrade", "h2c"),
        ("sec-websocket-accept", ACCEPT),
    ] {
        assert!(!answered(&[more]), "{more:?}");
    }
    for without in 0..yes.len() {
        let left: Vec<_> = yes.iter().enumerate().filter(|(at, _)| *at != without).map(|(_, field)| *field).collect();
        assert!(!handshake.matches(&map(&left)), "{left:?}");
    }
    let wrong =
        [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", "x3pPLMBiTxaQ9kYGzzhZRbK+xOo=")];
    assert!(!handshake.matches(&map(&wrong)));
}

#[test]
fn no_form_of_http_or_tls_can_be_opted_in() {
    for never in ["h2", "h2c", "h3", "http/2.0", "http2", "https", "tls", "tls/1.3", "spdy/3.1", "connect-udp"] {
        assert_eq!(Upgrades::parse(never), Err(InvalidUpgrade::Never), "{never}");
    }
    for none in ["", "TCP", "a b", "a,b", "a;b"] {
        assert_eq!(Upgrades::parse(none), Err(InvalidUpgrade::Token), "{none}");
    }
    assert_eq!(Upgrades::parse("websocket"), Err(InvalidUpgrade::WebSocket));
}

proptest! {
    /// An accept value is valid for one key only.
    #[test]
    fn no_other_answer_counts(key in prop::array::uniform16(any::<u8>()), other in "[ -~]{0,40}") {
        let key = STANDARD.encode(key);
        let mut handshake = checked("GET", &fields("sec-websocket-key", &key)).unwrap().unwrap();
        handshake.add_request_fields(&mut HeaderMap::new());
        let answered = |accept: &str| handshake.matches(&map(&[
            ("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", accept),
        ]));
        prop_assert!(answered(&accept(key.as_bytes())));
        prop_assert!(!answered(&other));
    }
}
