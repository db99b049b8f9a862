//! Requests for a protocol other than HTTP: recognises them, and checks whether an answer agrees to the switch.
//!
//! Over HTTP/1.1 that is `Upgrade` (RFC 9110 §7.8), with a handshake of its own for WebSocket (RFC 6455 §4); over
//! HTTP/2 an extended CONNECT (RFC 8441). Where a route has not opted in, `Upgrade` is an ordinary hop-by-hop field and
//! is removed. An upstream agrees only if its answer matches the request in every part: the gateway does not inspect
//! the bytes in a tunnel.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Version};
use hyper::ext::Protocol;

use crate::server::received_request::ReceivedHead;

/// The protocols for which a route opens tunnels, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upgrades(Vec<Box<str>>);

/// The protocol that a request asks for, if its route opens tunnels for it.
#[derive(Debug)]
pub(crate) struct RequestedUpgrade {
    protocol: Box<str>,
    /// The request also names other protocols.
    is_ambiguous: bool,
    over_http2: bool,
}

/// The values that the upstream's answer must contain.
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
    #[error("a request for this protocol must use another method")]
    Method,
    #[error("a request for another protocol has no body")]
    Body,
    #[error("the request has no valid WebSocket key")]
    Key,
    #[error("only version 13 of WebSocket is supported")]
    Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidUpgrade {
    #[error("a protocol is a token in lower case, such as `tcp`")]
    Token,
    #[error("for WebSocket write `websocket: true`")]
    WebSocket,
    #[error("no tunnel is ever opened for this protocol: it could carry requests that the gateway does not check")]
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

    /// A protocol other than WebSocket. HTTP in any form would carry requests that bypass every rule, and TLS would
    /// hide them.
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

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|protocol| &**protocol)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn has_websocket(&self) -> bool {
        self.opens(WEBSOCKET)
    }

    /// Whether a tunnel may be opened for this protocol.
    pub(crate) fn opens(&self, protocol: &str) -> bool {
        self.0.iter().any(|opened| **opened == *protocol)
    }

    /// `None` for an ordinary request, or for one that asks for other protocols only.
    pub(crate) fn requested(&self, head: &ReceivedHead) -> Option<RequestedUpgrade> {
        if is_extended_connect(head) {
            return Some(RequestedUpgrade { protocol: WEBSOCKET.into(), is_ambiguous: false, over_http2: true });
        }
        // HTTP/1.0 has no upgrade (RFC 9110 §7.8).
        if head.version != Version::HTTP_11 || !tokens(&head.headers, CONNECTION).any(|token| is(token, "upgrade")) {
            return None;
        }
        let opened = |token: &[u8]| self.0.iter().find(|protocol| is(token, protocol)).cloned();
        let protocol = tokens(&head.headers, UPGRADE).find_map(opened)?;
        let is_ambiguous = tokens(&head.headers, UPGRADE).count() != 1;
        Some(RequestedUpgrade { protocol, is_ambiguous, over_http2: false })
    }
}

/// A request for a WebSocket over HTTP/2.
pub(crate) fn is_extended_connect(head: &ReceivedHead) -> bool {
    let protocol = || head.extensions.get::<Protocol>();
    head.method == Method::CONNECT && protocol().is_some_and(|protocol| protocol.as_str() == WEBSOCKET)
}

impl UpgradeHandshake {
    pub(crate) fn protocol(&self) -> &str {
        &self.protocol
    }
}

impl RequestedUpgrade {
    /// Checks the form of the request; gives the values that the upstream's answer must contain.
    pub(crate) fn check(self, head: &ReceivedHead, has_body: bool) -> Result<UpgradeHandshake, UpgradeFault> {
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
            true => Some(WebSocket::requested(&head.headers, self.over_http2)?),
            false => None,
        };
        Ok(UpgradeHandshake { protocol: self.protocol, web_socket })
    }
}

impl WebSocket {
    fn requested(headers: &HeaderMap, over_http2: bool) -> Result<Self, UpgradeFault> {
        if only(headers, SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
            return Err(UpgradeFault::Version);
        }
        let key = match over_http2 {
            true => new_key()?,
            false => only(headers, SEC_WEBSOCKET_KEY).filter(|key| is_key(key)).ok_or(UpgradeFault::Key)?.clone(),
        };
        Ok(Self { key, protocols: Vec::new(), extensions: Vec::new() })
    }

    /// RFC 6455 §4.1: a fault that would fail the connection at the upstream fails it here.
    fn matches(&self, headers: &HeaderMap) -> bool {
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
    /// Adds the fields that ask the upstream for the protocol, and keeps the values that they offer.
    pub(crate) fn add_request_fields(&mut self, headers: &mut HeaderMap) {
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

    /// Whether this 101 matches the request.
    pub(crate) fn matches(&self, headers: &HeaderMap) -> bool {
        let mut upgrade = tokens(headers, UPGRADE);
        let protocol = upgrade.next().is_some_and(|token| is(token, &self.protocol)) && upgrade.next().is_none();
        protocol
            && tokens(headers, CONNECTION).any(|token| is(token, "upgrade"))
            && self.web_socket.as_ref().is_none_or(|web_socket| web_socket.matches(headers))
    }

    /// Adds to an answer the fields that announce the switch to an HTTP/1.1 client.
    pub(crate) fn add_response_fields(&self, headers: &mut HeaderMap) {
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

/// The elements of a list in one field or several.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    values(headers.get_all(name)).filter(|token| !token.is_empty())
}

fn values<'h>(fields: impl IntoIterator<Item = &'h HeaderValue>) -> impl Iterator<Item = &'h [u8]> {
    fields.into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The names of extensions (RFC 6455 §9.1). Commas in quotes do not separate them.
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

/// Proves that the key was read (RFC 6455 §4.2.2). No security rests on SHA-1 here.
fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, MAGIC].concat()))
}

#[cfg(test)]
mod tests;
