//! Requests that ask to leave HTTP for another protocol: what counts as asking, and what as being answered yes.
//!
//! Over HTTP/1.1 that is `Upgrade` (RFC 9110 §7.8), with a handshake of its own for WebSocket (RFC 6455 §4); over HTTP/2 an extended
//! CONNECT (RFC 8441). Where a route has not opted in, none of it is asking: `Upgrade` is hop-by-hop and stays behind.
//! An upstream's yes counts only if it is one to what was asked, in every part: a tunnel carries what nobody looks at any more.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};
use hyper::ext::Protocol;

/// The protocols that a route opens tunnels for, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upgrades(Vec<Box<str>>);

/// What a request asks for, of what its route opens.
#[derive(Debug)]
pub(crate) struct RequestedUpgrade {
    protocol: Box<str>,
    /// Others are named beside it.
    is_ambiguous: bool,
    over_http2: bool,
}

/// What must come back.
#[derive(Debug)]
pub(crate) struct UpgradeHandshake {
    protocol: Box<str>,
    web_socket: Option<WebSocket>,
}

#[derive(Debug)]
struct WebSocket {
    key: HeaderValue,
    protocols: Vec<HeaderValue>,
    extensions: Vec<HeaderValue>,
}

/// Why a request that asks for another protocol is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpgradeFault {
    #[error("the request asks for several protocols at once")]
    Several,
    #[error("this protocol is not asked for by this method")]
    Method,
    #[error("a request for another protocol has no body")]
    Body,
    #[error("the request has no WebSocket key, or one that is none")]
    Key,
    #[error("WebSocket is spoken here in version 13")]
    Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidUpgrade {
    #[error("a protocol is a token in lower case, such as `tcp`")]
    Token,
    #[error("for WebSocket write `websocket: true`")]
    WebSocket,
    #[error("this protocol is never passed on: requests in it would go unseen")]
    Never,
}

pub(crate) const WEBSOCKET: &str = "websocket";
/// RFC 6455 §1.3.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;
pub(crate) const VERSION: HeaderValue = HeaderValue::from_static("13");

impl Upgrades {
    pub(crate) fn new(websocket: bool, others: impl IntoIterator<Item = Box<str>>) -> Self {
        Self(websocket.then(|| WEBSOCKET.into()).into_iter().chain(others).collect())
    }

    /// A protocol other than WebSocket. HTTP in any of its forms would carry requests past every rule, and TLS would hide them.
    pub(crate) fn parse(text: &str) -> Result<Box<str>, InvalidUpgrade> {
        let token =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_' | b'+' | b'/');
        if text.is_empty() || !text.bytes().all(token) {
            return Err(InvalidUpgrade::Token);
        }
        match text {
            WEBSOCKET => Err(InvalidUpgrade::WebSocket),
            "h2" | "h2c" | "h3" => Err(InvalidUpgrade::Never),
            _ if ["http", "tls", "spdy", "connect-"].iter().any(|never| text.starts_with(never)) => {
                Err(InvalidUpgrade::Never)
            }
            _ => Ok(text.into()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn has_websocket(&self) -> bool {
        self.0.iter().any(|protocol| **protocol == *WEBSOCKET)
    }

    /// `None` for an ordinary request; one that asks for nothing but other protocols is one too.
    pub(crate) fn asked(&self, head: &Parts) -> Option<RequestedUpgrade> {
        if is_extended_connect(head) {
            return Some(RequestedUpgrade { protocol: WEBSOCKET.into(), is_ambiguous: false, over_http2: true });
        }
        // HTTP/1.0 knows no upgrade (RFC 9110 §7.8).
        if head.version != Version::HTTP_11 || !tokens(&head.headers, CONNECTION).any(|token| is(token, "upgrade")) {
            return None;
        }
        let opened = |token: &[u8]| self.0.iter().find(|protocol| is(token, protocol)).cloned();
        let protocol = tokens(&head.headers, UPGRADE).find_map(opened)?;
        let is_ambiguous = tokens(&head.headers, UPGRADE).count() != 1;
        Some(RequestedUpgrade { protocol, is_ambiguous, over_http2: false })
    }
}

/// A WebSocket asked for over HTTP/2.
pub(crate) fn is_extended_connect(head: &Parts) -> bool {
    let protocol = || head.extensions.get::<Protocol>();
    head.method == Method::CONNECT && protocol().is_some_and(|protocol| protocol.as_str() == WEBSOCKET)
}

impl RequestedUpgrade {
    /// Whether it is asked for as it should be; gives what must come back.
    pub(crate) fn judge(self, head: &Parts, has_body: bool) -> Result<UpgradeHandshake, UpgradeFault> {
        let is_websocket = *self.protocol == *WEBSOCKET;
        if self.is_ambiguous {
            return Err(UpgradeFault::Several);
        }
        if has_body {
            return Err(UpgradeFault::Body);
        }
        let fits = |method: &Method| match is_websocket {
            true => *method == Method::GET || self.over_http2,
            false => *method != Method::HEAD,
        };
        if !fits(&head.method) {
            return Err(UpgradeFault::Method);
        }
        let web_socket = match is_websocket {
            true => Some(WebSocket::asked(&head.headers, self.over_http2)?),
            false => None,
        };
        Ok(UpgradeHandshake { protocol: self.protocol, web_socket })
    }
}

impl WebSocket {
    fn asked(headers: &HeaderMap, over_http2: bool) -> Result<Self, UpgradeFault> {
        if only(headers, SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
            return Err(UpgradeFault::Version);
        }
        let key = match over_http2 {
            true => new_key()?,
            false => only(headers, SEC_WEBSOCKET_KEY).filter(|key| is_key(key)).ok_or(UpgradeFault::Key)?.clone(),
        };
        Ok(Self { key, protocols: Vec::new(), extensions: Vec::new() })
    }

    /// RFC 6455 §4.1: what fails the connection must fail it here already.
    fn is_answered_by(&self, headers: &HeaderMap) -> bool {
        let accept = accept(self.key.as_bytes());
        if only(headers, SEC_WEBSOCKET_ACCEPT).is_none_or(|value| value.as_bytes() != accept.as_bytes()) {
            return false;
        }
        let offered = |name: &[u8]| values(&self.protocols).any(|protocol| protocol == name);
        let protocol = match only(headers, SEC_WEBSOCKET_PROTOCOL) {
            Some(chosen) => offered(chosen.as_bytes()),
            None => !headers.contains_key(SEC_WEBSOCKET_PROTOCOL),
        };
        let mut chosen = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().flat_map(extensions);
        protocol && chosen.all(|name| self.extensions.iter().flat_map(extensions).any(|offer| offer == name))
    }
}

impl UpgradeHandshake {
    /// Adds to a request what asks the upstream, and remembers what it is offered.
    pub(crate) fn ask(&mut self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Ok(protocol) = HeaderValue::try_from(&*self.protocol) {
            headers.insert(UPGRADE, protocol);
        }
        if let Some(web_socket) = &mut self.web_socket {
            headers.insert(SEC_WEBSOCKET_KEY, web_socket.key.clone());
            headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
            web_socket.protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().cloned().collect();
            web_socket.extensions = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().cloned().collect();
        }
    }

    /// Whether this 101 is the answer to what was asked.
    pub(crate) fn is_answered_by(&self, headers: &HeaderMap) -> bool {
        let mut upgrade = tokens(headers, UPGRADE);
        let protocol = upgrade.next().is_some_and(|token| is(token, &self.protocol)) && upgrade.next().is_none();
        protocol
            && tokens(headers, CONNECTION).any(|token| is(token, "upgrade"))
            && self.web_socket.as_ref().is_none_or(|web_socket| web_socket.is_answered_by(headers))
    }

    /// Adds to an answer what tells an HTTP/1.1 client that it is a yes.
    pub(crate) fn agree(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Ok(protocol) = HeaderValue::try_from(&*self.protocol) {
            headers.insert(UPGRADE, protocol);
        }
    }
}

fn is(token: &[u8], name: &str) -> bool {
    token.eq_ignore_ascii_case(name.as_bytes())
}

/// The field's value where there is one field of that name.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut fields = headers.get_all(name).iter();
    fields.next().filter(|_| fields.next().is_none())
}

/// The parts of a list that goes over one field or several.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    values(headers.get_all(name)).filter(|token| !token.is_empty())
}

fn values<'h>(fields: impl IntoIterator<Item = &'h HeaderValue>) -> impl Iterator<Item = &'h [u8]> {
    fields.into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The names of extensions (RFC 6455 §9.1). Commas in quotes part nothing.
fn extensions(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let parted = value.as_bytes().split(move |byte| {
        let part = *byte == b',' && !quoted;
        quoted ^= *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && quoted && !escaped;
        part
    });
    let name = |extension: &'_ [u8]| extension.iter().position(|byte| *byte == b';').unwrap_or(extension.len());
    parted.map(move |extension| extension[..name(extension)].trim_ascii()).filter(|name| !name.is_empty())
}

/// Sixteen bytes in base64 (RFC 6455 §4.2.1).
fn is_key(key: &HeaderValue) -> bool {
    STANDARD.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == KEY_BYTES)
}

fn new_key() -> Result<HeaderValue, UpgradeFault> {
    let mut bytes = [0; KEY_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| UpgradeFault::Key)?;
    HeaderValue::try_from(STANDARD.encode(bytes)).map_err(|_| UpgradeFault::Key)
}

/// What proves that the key was read (RFC 6455 §4.2.2). Nothing here rests on SHA-1 being hard to break.
fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, MAGIC].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn head(method: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).version(Version::HTTP_11);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
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

    /// The fields of a good handshake, with this one instead of its namesake; an empty value leaves it out.
    fn fields<'f>(name: &'f str, value: &'f str) -> Vec<(&'f str, &'f str)> {
        let others = FIELDS.into_iter().filter(|(known, _)| *known != name);
        others.chain((!value.is_empty()).then_some((name, value))).collect()
    }

    fn judged(method: &str, fields: &[(&str, &str)]) -> Option<Result<UpgradeHandshake, UpgradeFault>> {
        let head = head(method, fields);
        opened().asked(&head).map(|asked| asked.judge(&head, false))
    }

    fn fault(method: &str, fields: &[(&str, &str)]) -> UpgradeFault {
        judged(method, fields).unwrap().unwrap_err()
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_there() {
        assert_eq!(accept(KEY.as_bytes()), ACCEPT);
    }

    #[test]
    fn what_does_not_ask_is_an_ordinary_request() {
        assert!(judged("GET", &FIELDS).unwrap().is_ok());
        assert!(judged("GET", &fields("connection", "keep-alive")).is_none());
        assert!(judged("GET", &fields("connection", "")).is_none());
        assert!(judged("GET", &fields("upgrade", "h2c")).is_none());
        assert!(judged("GET", &fields("upgrade", "websockets")).is_none());
        assert!(judged("GET", &fields("upgrade", "")).is_none());
        let mut old = head("GET", &FIELDS);
        old.version = Version::HTTP_10;
        assert!(opened().asked(&old).is_none());
        assert!(Upgrades::default().asked(&head("GET", &FIELDS)).is_none());
    }

    #[test]
    fn what_asks_in_another_way_than_it_should_is_refused() {
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
        assert_eq!(opened().asked(&head).unwrap().judge(&head, true).unwrap_err(), UpgradeFault::Body);
    }

    #[test]
    fn only_a_yes_to_what_was_asked_counts() {
        let asked = [
            &FIELDS[..],
            &[
                ("sec-websocket-protocol", "chat, mqtt"),
                ("sec-websocket-extensions", "permessage-deflate; a=\"x, y\"; b"),
            ],
        ]
        .concat();
        let mut handshake = judged("GET", &asked).unwrap().unwrap();
        handshake.ask(&mut map(&asked));
        let yes = [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", ACCEPT)];
        let answered = |more: &[(&str, &str)]| handshake.is_answered_by(&map(&[&yes[..], more].concat()));
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
            let left: Vec<_> =
                yes.iter().enumerate().filter(|(at, _)| *at != without).map(|(_, field)| *field).collect();
            assert!(!handshake.is_answered_by(&map(&left)), "{left:?}");
        }
        let wrong = [
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-accept", "x3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        assert!(!handshake.is_answered_by(&map(&wrong)));
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
        /// Whatever an upstream makes of it, an accept counts for one key only.
        #[test]
        fn no_other_answer_counts(key in prop::array::uniform16(any::<u8>()), other in "[ -~]{0,40}") {
            let key = STANDARD.encode(key);
            let mut handshake = judged("GET", &fields("sec-websocket-key", &key)).unwrap().unwrap();
            handshake.ask(&mut HeaderMap::new());
            let answered = |accept: &str| handshake.is_answered_by(&map(&[
                ("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", accept),
            ]));
            prop_assert!(answered(&accept(key.as_bytes())));
            prop_assert!(!answered(&other));
        }
    }
}
