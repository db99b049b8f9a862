//! Reads a client id and a secret from a token request.
//!
//! Takes the `Authorization` header and the body's parameters; gives one [`PresentedSecret`] or an error. A request
//! must use only one method (RFC 6749 §2.3): a secret in both places is refused.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;

use super::hash::ClientSecret;
use crate::issuer::client_auth::claim::ClientFault;

/// A secret, and the client that it is presented for.
#[derive(Debug)]
pub(crate) enum PresentedSecret {
    /// `client_secret_basic` (RFC 6749 §2.3.1).
    Basic { id: CredentialsReading, secret: SecretReading },
    /// `client_secret_post` (RFC 6749 §2.3.1), in a form or in JSON.
    Post { id: String, secret: ClientSecret },
}

/// RFC 6749 requires the id and the secret to be form-encoded in a Basic header, but many clients send them unencoded.
/// If the two readings differ, both are compared, so that a secret with a `+` works with either kind of client.
#[derive(Debug)]
pub(crate) struct CredentialsReading {
    pub(crate) decoded: String,
    pub(crate) plain: Option<String>,
}

#[derive(Debug)]
pub(crate) struct SecretReading {
    pub(crate) decoded: ClientSecret,
    pub(crate) plain: Option<ClientSecret>,
}

impl PresentedSecret {
    /// `id` and `secret` are those of the body.
    pub(crate) fn read(
        headers: &HeaderMap,
        id: Option<String>,
        secret: Option<ClientSecret>,
    ) -> Result<Self, ClientFault> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let header = values.next();
        if values.next().is_some() {
            return Err(ClientFault::InvalidRequest("more than one Authorization header"));
        }
        match header {
            Some(value) => Self::basic(value.as_bytes(), id.as_deref(), secret.is_some()),
            None => Self::post(id, secret),
        }
    }

    /// The id as received, for the audit log, and the id without decoding if it differs.
    pub(crate) fn ids(&self) -> (&str, Option<&str>) {
        match self {
            Self::Basic { id, .. } => (&id.decoded, id.plain.as_deref()),
            Self::Post { id, .. } => (id, None),
        }
    }

    /// All readings of the secret.
    pub(crate) fn into_secrets(self) -> Vec<ClientSecret> {
        match self {
            Self::Basic { secret, .. } => std::iter::once(secret.decoded).chain(secret.plain).collect(),
            Self::Post { secret, .. } => vec![secret],
        }
    }

    fn basic(value: &[u8], body_id: Option<&str>, secret_in_body: bool) -> Result<Self, ClientFault> {
        if secret_in_body {
            return Err(ClientFault::InvalidRequest("client credentials in both header and body"));
        }
        let (user, password) = decode_basic(value).ok_or(MALFORMED_BASIC)?;
        let (id, secret) = (CredentialsReading::of(&user), CredentialsReading::of(&password));
        if body_id.is_some_and(|other| other != id.decoded && Some(other) != id.plain.as_deref()) {
            return Err(ClientFault::InvalidRequest("client_id differs between header and body"));
        }
        let secret =
            SecretReading { decoded: ClientSecret::new(secret.decoded), plain: secret.plain.map(ClientSecret::new) };
        Ok(Self::Basic { id, secret })
    }

    fn post(id: Option<String>, secret: Option<ClientSecret>) -> Result<Self, ClientFault> {
        match (id, secret) {
            (Some(id), Some(secret)) => Ok(Self::Post { id, secret }),
            (id, _) => Err(ClientFault::NoCredentials { client: id, values: None }),
        }
    }
}

impl CredentialsReading {
    fn of(raw: &str) -> Self {
        let spaced = raw.replace('+', " ");
        // A value that does not decode to UTF-8 was not encoded.
        let decoded = percent_decode_str(&spaced).decode_utf8().map_or_else(|_| raw.to_owned(), Cow::into_owned);
        let plain = (decoded != raw).then(|| raw.to_owned());
        Self { decoded, plain }
    }
}

const MALFORMED_BASIC: ClientFault =
    ClientFault::Malformed { description: "the Authorization header is not valid Basic credentials", basic: true };

/// User and password of a Basic header (RFC 7617 §2). Neither may be empty.
fn decode_basic(value: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim_ascii()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    if user.is_empty() || password.is_empty() || text.contains('\0') {
        return None;
    }
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(headers: &[&str], body: &[(&str, &str)]) -> Result<PresentedSecret, ClientFault> {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let of_body = |name| body.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        PresentedSecret::read(&map, of_body("client_id"), of_body("client_secret").map(ClientSecret::new))
    }

    fn basic(user_and_password: &[u8]) -> String {
        format!("Basic {}", STANDARD.encode(user_and_password))
    }

    #[test]
    fn basic_is_read_form_encoded_and_as_it_is() {
        let Ok(PresentedSecret::Basic { id, secret }) = read(&[&basic(b"my+id:a%2Bb+c:d")], &[]) else {
            panic!("refused")
        };
        assert_eq!((id.decoded.as_str(), id.plain.as_deref()), ("my id", Some("my+id")));
        assert_eq!(secret.decoded.expose(), "a+b c:d");
        assert_eq!(secret.plain.unwrap().expose(), "a%2Bb+c:d");
    }

    #[test]
    fn a_percent_sign_that_encodes_nothing_is_itself() {
        for secret in ["100%", "%zz", "%FF", "a+%C3%28"] {
            let Ok(PresentedSecret::Basic { secret: read, .. }) =
                read(&[&basic(format!("id:{secret}").as_bytes())], &[])
            else {
                panic!("{secret} was refused")
            };
            assert_eq!(read.plain.as_ref().unwrap_or(&read.decoded).expose(), secret);
        }
    }

    #[test]
    fn a_basic_header_that_is_none_is_refused() {
        for bad in [&b"nocolon"[..], b":secret", b"id:", b"id:a\0b", b"id:\xff"] {
            assert!(matches!(read(&[&basic(bad)], &[]), Err(ClientFault::Malformed { .. })), "{bad:?}");
        }
        for bad in ["Basic", "Basic !!!", "Bearer abc", "Basicabc", "Digest x"] {
            assert!(matches!(read(&[bad], &[]), Err(ClientFault::Malformed { .. })), "{bad}");
        }
    }

    #[test]
    fn one_way_per_request() {
        let good = basic(b"id:secret");
        assert!(matches!(read(&[&good], &[("client_secret", "x")]), Err(ClientFault::InvalidRequest(_))));
        assert!(matches!(read(&[&good], &[("client_id", "other")]), Err(ClientFault::InvalidRequest(_))));
        assert!(matches!(read(&[&good, &good], &[]), Err(ClientFault::InvalidRequest(_))));
        assert!(read(&[&good], &[("client_id", "id")]).is_ok());
    }

    #[test]
    fn without_a_secret_there_are_no_credentials() {
        assert!(matches!(read(&[], &[]), Err(ClientFault::NoCredentials { client: None, .. })));
        assert!(matches!(read(&[], &[("client_id", "id")]), Err(ClientFault::NoCredentials { client: Some(_), .. })));
        assert!(matches!(read(&[], &[("client_secret", "s")]), Err(ClientFault::NoCredentials { .. })));
    }
}
