//! Reads the client's credentials from a token request.
//!
//! Takes the `Authorization` header and the body's parameters; gives one [`ClientCredentials`] or an error. A request
//! must use only one method (RFC 6749 §2.3): a secret in both places is refused.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;

use super::grant::GrantFault;
use super::request::Parameters;
use super::secret::ClientSecret;

/// The credentials of a request. Each authentication method is a variant.
#[derive(Debug)]
pub(crate) enum ClientCredentials {
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

impl ClientCredentials {
    pub(crate) fn read(headers: &HeaderMap, parameters: &mut Parameters) -> Result<Self, GrantFault> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let header = values.next();
        if values.next().is_some() {
            return Err(GrantFault::InvalidRequest("more than one Authorization header"));
        }
        match header {
            Some(value) => Self::basic(value.as_bytes(), parameters),
            None => Self::post(parameters),
        }
    }

    /// The id as received, for the audit log.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Basic { id, .. } => &id.decoded,
            Self::Post { id, .. } => id,
        }
    }

    pub(crate) fn is_basic(&self) -> bool {
        match self {
            Self::Basic { .. } => true,
            Self::Post { .. } => false,
        }
    }

    fn basic(value: &[u8], parameters: &Parameters) -> Result<Self, GrantFault> {
        if parameters.client_secret.is_some() {
            return Err(GrantFault::InvalidRequest("client credentials in both header and body"));
        }
        let (user, password) = decode_basic(value).ok_or(GrantFault::MalformedBasic)?;
        let (id, secret) = (CredentialsReading::of(&user), CredentialsReading::of(&password));
        if parameters.client_id.as_ref().is_some_and(|other| *other != id.decoded && Some(other) != id.plain.as_ref()) {
            return Err(GrantFault::InvalidRequest("client_id differs between header and body"));
        }
        let secret =
            SecretReading { decoded: ClientSecret::new(secret.decoded), plain: secret.plain.map(ClientSecret::new) };
        Ok(Self::Basic { id, secret })
    }

    fn post(parameters: &mut Parameters) -> Result<Self, GrantFault> {
        match (parameters.client_id.take(), parameters.client_secret.take()) {
            (Some(id), Some(secret)) => Ok(Self::Post { id, secret }),
            (id, _) => Err(GrantFault::NoCredentials { client: id }),
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

    fn read(headers: &[&str], body: &[(&str, &str)]) -> Result<ClientCredentials, GrantFault> {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(body).finish();
        ClientCredentials::read(&map, &mut Parameters::from_form(body.as_bytes()).unwrap())
    }

    fn basic(user_and_password: &[u8]) -> String {
        format!("Basic {}", STANDARD.encode(user_and_password))
    }

    #[test]
    fn basic_is_read_form_encoded_and_as_it_is() {
        let Ok(ClientCredentials::Basic { id, secret }) = read(&[&basic(b"my+id:a%2Bb+c:d")], &[]) else {
            panic!("refused")
        };
        assert_eq!((id.decoded.as_str(), id.plain.as_deref()), ("my id", Some("my+id")));
        assert_eq!(secret.decoded.expose(), "a+b c:d");
        assert_eq!(secret.plain.unwrap().expose(), "a%2Bb+c:d");
    }

    #[test]
    fn a_percent_sign_that_encodes_nothing_is_itself() {
        for secret in ["100%", "%zz", "%FF", "a+%C3%28"] {
            let Ok(ClientCredentials::Basic { secret: read, .. }) =
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
            assert!(matches!(read(&[&basic(bad)], &[]), Err(GrantFault::MalformedBasic)), "{bad:?}");
        }
        for bad in ["Basic", "Basic !!!", "Bearer abc", "Basicabc", "Digest x"] {
            assert!(matches!(read(&[bad], &[]), Err(GrantFault::MalformedBasic)), "{bad}");
        }
    }

    #[test]
    fn one_way_per_request() {
        let good = basic(b"id:secret");
        assert!(matches!(read(&[&good], &[("client_secret", "x")]), Err(GrantFault::InvalidRequest(_))));
        assert!(matches!(read(&[&good], &[("client_id", "other")]), Err(GrantFault::InvalidRequest(_))));
        assert!(matches!(read(&[&good, &good], &[]), Err(GrantFault::InvalidRequest(_))));
        assert!(read(&[&good], &[("client_id", "id")]).is_ok());
    }

    #[test]
    fn without_a_secret_there_are_no_credentials() {
        assert!(matches!(read(&[], &[]), Err(GrantFault::NoCredentials { client: None })));
        assert!(matches!(read(&[], &[("client_id", "id")]), Err(GrantFault::NoCredentials { client: Some(_) })));
        assert!(matches!(read(&[], &[("client_secret", "s")]), Err(GrantFault::NoCredentials { .. })));
    }
}
