//! Recognises authentication that holds for a connection and not for a request: NTLM, Negotiate (RFC 4559 §6) and
//! similar schemes.
//!
//! Takes header fields of a request or a response. Reads the name of a scheme only, and prefers false positives: a
//! connection that is wrongly taken for authenticated is closed too early, the reverse would give a caller's identity
//! to other callers.

use http::header::{AUTHORIZATION, PROXY_AUTHENTICATE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The credentials that a request sends to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestCredentials {
    None,
    /// Of a scheme that is not known to authenticate connections.
    ForRequest,
    ForConnection,
}

/// The statement of a response about the authentication of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ConnectionAuthSign {
    None,
    /// The caller may authenticate the connection.
    Offer,
    /// The caller is authenticating the connection, or has done so.
    Handshake,
}

/// `Negotiate:Kerberos` counts as the first part of its name.
const SCHEMES: [&[u8]; 4] = [b"ntlm", b"negotiate", b"kerberos", b"nego2"];
/// IIS and its clients use it to say that authentication holds for the connection.
const PERSISTENT_AUTH: HeaderName = HeaderName::from_static("persistent-auth");
/// RFC 7615 §3.
const AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("authentication-info");

impl RequestCredentials {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::None;
        for value in headers.get_all(AUTHORIZATION) {
            if is_for_connections(scheme(value.as_bytes()).0) {
                return Self::ForConnection;
            }
            found = Self::ForRequest;
        }
        found
    }

    /// The statement of the response to a request with these credentials. Most responses are not examined.
    pub(super) fn response_sign(self, status: StatusCode, headers: &HeaderMap) -> ConnectionAuthSign {
        match self {
            Self::ForConnection => ConnectionAuthSign::Handshake,
            Self::ForRequest => sign(headers),
            Self::None if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED) => {
                sign(headers)
            }
            Self::None => ConnectionAuthSign::None,
        }
    }
}

fn sign(headers: &HeaderMap) -> ConnectionAuthSign {
    let persists = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"false");
    if headers.get_all(PERSISTENT_AUTH).iter().any(persists) {
        return ConnectionAuthSign::Handshake;
    }
    let fields = [WWW_AUTHENTICATE, PROXY_AUTHENTICATE, AUTHENTICATION_INFO];
    let values = fields.iter().flat_map(|name| headers.get_all(name));
    // A comma in a quoted string ends an element too.
    let elements = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(scheme);
    let named = elements.filter(|(scheme, _)| is_for_connections(scheme));
    named
        .map(|(_, token)| if token.is_empty() { ConnectionAuthSign::Offer } else { ConnectionAuthSign::Handshake })
        .max()
        .unwrap_or(ConnectionAuthSign::None)
}

/// The name at the beginning, without preceding characters that cannot be part of a name, and the rest.
fn scheme(element: &[u8]) -> (&[u8], &[u8]) {
    let start = element.iter().position(u8::is_ascii_alphanumeric).unwrap_or(element.len());
    let element = &element[start..];
    let end = element.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(element.len());
    let (name, rest) = element.split_at(end);
    (name, rest.trim_ascii())
}

fn is_for_connections(name: &[u8]) -> bool {
    SCHEMES.iter().any(|scheme| scheme.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &'static str, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn connection_credentials_are_known_by_scheme_in_any_case() {
        let of = |values: &[&str]| RequestCredentials::of(&map("authorization", values));
        assert_eq!(of(&[]), RequestCredentials::None);
        for values in
            [&["Bearer ntlm"][..], &["Basic bnRsbQ=="], &["NTLMv9 x"], &["Negotiated"], &[""], &["Basic x"; 2]]
        {
            assert_eq!(of(values), RequestCredentials::ForRequest, "{values:?}");
        }
        for values in
            [&["NTLM x"][..], &["ntlm"], &["nEgOtIaTe x"], &["Basic x", "Negotiate x"], &[",NTLM x"], &["\tNTLM\tx"]]
        {
            assert_eq!(of(values), RequestCredentials::ForConnection, "{values:?}");
        }
    }

    #[test]
    fn a_response_is_examined_if_it_can_concern_the_connection() {
        let offer = map("www-authenticate", &["NTLM"]);
        let on = |credentials: RequestCredentials, status: u16| {
            credentials.response_sign(StatusCode::from_u16(status).unwrap(), &offer)
        };
        assert_eq!(on(RequestCredentials::None, 200), ConnectionAuthSign::None);
        assert_eq!(
            (on(RequestCredentials::None, 401), on(RequestCredentials::None, 407)),
            (ConnectionAuthSign::Offer, ConnectionAuthSign::Offer)
        );
        assert_eq!(on(RequestCredentials::ForRequest, 200), ConnectionAuthSign::Offer);
        assert_eq!(on(RequestCredentials::ForConnection, 500), ConnectionAuthSign::Handshake);
    }

    #[test]
    fn the_sign_may_be_in_any_field_and_element() {
        for (name, values, expected) in [
            ("www-authenticate", &["Basic realm=\"x\"", "Bearer"][..], ConnectionAuthSign::None),
            ("www-authenticate", &["Basic realm=\"x\"", "NTLM"], ConnectionAuthSign::Offer),
            ("www-authenticate", &["Basic realm=\"x\" , negotiate,Digest qop=\"a\""], ConnectionAuthSign::Offer),
            ("www-authenticate", &["Negotiate", "NTLM TlRMTVNTUAAC"], ConnectionAuthSign::Handshake),
            ("proxy-authenticate", &["Negotiate"], ConnectionAuthSign::Offer),
            ("authentication-info", &["Negotiate oYG2"], ConnectionAuthSign::Handshake),
            ("persistent-auth", &["true"], ConnectionAuthSign::Handshake),
            ("persistent-auth", &["False"], ConnectionAuthSign::None),
            ("x-authenticate", &["NTLM"], ConnectionAuthSign::None),
        ] {
            assert_eq!(sign(&map(name, values)), expected, "{name}: {values:?}");
        }
    }
}
