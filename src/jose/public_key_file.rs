//! Public keys as people keep them in files: PEM of a public key or of a certificate, a JWK, or a JWK Set.
//!
//! Gives JWKs (RFC 7517 §4). Whether such a key is fit for use is decided by [`super::jwk::VerifyingKey::from_jwk`]. A
//! private key is refused: it belongs to the client alone.

use base64::Engine as _;
use pem::Pem;
use serde_json::{Map, Value, json};

use super::BASE64URL;
use super::der::{DerReader, INTEGER, OBJECT_ID, SEQUENCE};
use super::jwk::{UnusableKey, has_private_members, thumbprint};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublicKeyFault {
    #[error("it is neither PEM (PUBLIC KEY or CERTIFICATE) nor a JWK nor a JWK Set")]
    Malformed,
    #[error("it holds a private key, which only the client may have: give its public key")]
    Private,
    #[error("its key is not RSA, P-256, P-384, P-521 or Ed25519")]
    KeyType,
}

/// The keys of a file, in its order. Never empty.
pub(crate) fn public_jwks(file: &[u8]) -> Result<Vec<Map<String, Value>>, PublicKeyFault> {
    if let Ok(document) = serde_json::from_slice::<Value>(file) {
        return from_json(document);
    }
    let pems = pem::parse_many(file).map_err(|_| PublicKeyFault::Malformed)?;
    let keys: Vec<_> = pems.iter().map(from_pem).collect::<Result<_, _>>()?;
    if keys.is_empty() { Err(PublicKeyFault::Malformed) } else { Ok(keys) }
}

/// The key id of a public JWK without one (RFC 7638).
pub(crate) fn thumbprint_of(jwk: &Map<String, Value>) -> Result<Box<str>, UnusableKey> {
    let jwk = serde_json::from_value(Value::Object(jwk.clone())).map_err(|_| UnusableKey::Malformed)?;
    thumbprint(&jwk)
}

fn from_json(document: Value) -> Result<Vec<Map<String, Value>>, PublicKeyFault> {
    let list = match document.get("keys").cloned() {
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(_) => return Err(PublicKeyFault::Malformed),
        None => vec![document],
    };
    list.into_iter()
        .map(|key| match key {
            key if has_private_members(&key) => Err(PublicKeyFault::Private),
            Value::Object(jwk) if jwk.contains_key("kty") => Ok(jwk),
            _ => Err(PublicKeyFault::Malformed),
        })
        .collect()
}

fn from_pem(pem: &Pem) -> Result<Map<String, Value>, PublicKeyFault> {
    match pem.tag() {
        "PUBLIC KEY" => from_spki(&mut DerReader::new(pem.contents())),
        "CERTIFICATE" => from_certificate(pem.contents()).ok_or(PublicKeyFault::Malformed)?,
        private if private.ends_with("PRIVATE KEY") => Err(PublicKeyFault::Private),
        _ => Err(PublicKeyFault::Malformed),
    }
}

/// RFC 5280 §4.1. `None` for anything that is no certificate.
fn from_certificate(der: &[u8]) -> Option<Result<Map<String, Value>, PublicKeyFault>> {
    let mut certificate = DerReader::new(der).enter(SEQUENCE)?.enter(SEQUENCE)?;
    certificate.skip_optional(VERSION);
    certificate.content(INTEGER)?;
    // The algorithm, the issuer, the validity and the subject.
    for _ in 0..4 {
        certificate.content(SEQUENCE)?;
    }
    Some(from_spki(&mut certificate))
}

/// `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
fn from_spki(from: &mut DerReader<'_>) -> Result<Map<String, Value>, PublicKeyFault> {
    let SpkiParts { algorithm, parameters, key } = SpkiParts::read(from).ok_or(PublicKeyFault::Malformed)?;
    let jwk = match (algorithm, parameters) {
        (RSA, _) => rsa(key),
        (ELLIPTIC, Some(P256)) => ec("P-256", key),
        (ELLIPTIC, Some(P384)) => ec("P-384", key),
        (ELLIPTIC, Some(P521)) => ec("P-521", key),
        (ED25519, None) => Some(json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64URL.encode(key) })),
        _ => return Err(PublicKeyFault::KeyType),
    };
    match jwk {
        Some(Value::Object(jwk)) => Ok(jwk),
        _ => Err(PublicKeyFault::Malformed),
    }
}

/// The parts of a `SubjectPublicKeyInfo`.
struct SpkiParts<'d> {
    /// An object id, as the next is.
    algorithm: &'d [u8],
    parameters: Option<&'d [u8]>,
    key: &'d [u8],
}

impl<'d> SpkiParts<'d> {
    fn read(from: &mut DerReader<'d>) -> Option<Self> {
        let mut info = from.enter(SEQUENCE)?;
        let mut identifier = info.enter(SEQUENCE)?;
        let (algorithm, parameters) = (identifier.content(OBJECT_ID)?, identifier.content(OBJECT_ID));
        // The first byte counts the unused bits of the last one.
        let key = info.content(BIT_STRING)?.strip_prefix(&[0])?;
        Some(Self { algorithm, parameters, key })
    }
}

fn rsa(key: &[u8]) -> Option<Value> {
    let mut numbers = DerReader::new(key).enter(SEQUENCE)?;
    let mut number = || {
        let bytes = numbers.content(INTEGER)?;
        Some(BASE64URL.encode(bytes.strip_prefix(&[0]).unwrap_or(bytes)))
    };
    Some(json!({ "kty": "RSA", "n": number()?, "e": number()? }))
}

/// An uncompressed point (SEC 1 §2.3.3).
fn ec(curve: &str, point: &[u8]) -> Option<Value> {
    let coordinates = point.strip_prefix(&[4])?;
    let (x, y) = coordinates.split_at_checked(coordinates.len() / 2)?;
    Some(json!({ "kty": "EC", "crv": curve, "x": BASE64URL.encode(x), "y": BASE64URL.encode(y) }))
}

const BIT_STRING: u8 = 0x03;
/// `[0]`, the version of a certificate.
const VERSION: u8 = 0xa0;
/// 1.2.840.113549.1.1.1.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1.
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7.
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.3.132.0.34.
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// 1.3.132.0.35.
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
/// 1.3.101.112.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

#[cfg(test)]
mod tests {
    use super::super::algorithm::Algorithm;
    use super::super::signing::SigningKey;
    use super::super::x509;
    use super::*;

    fn bare(key: &SigningKey) -> Map<String, Value> {
        let mut jwk = key.public_jwk().clone();
        ["kid", "alg", "use"].iter().for_each(|name| drop(jwk.remove(*name)));
        jwk
    }

    #[test]
    fn the_key_of_a_certificate_and_its_spki_are_read() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::Es512, Algorithm::EdDsa] {
            let (key, pkcs8) = SigningKey::generate(algorithm).unwrap();
            let der = x509::certify(&pkcs8, algorithm, "test").unwrap();
            let file = pem::encode(&Pem::new("CERTIFICATE", der));
            assert_eq!(public_jwks(file.as_bytes()), Ok(vec![bare(&key)]), "{algorithm}");
            assert_eq!(&*thumbprint_of(&bare(&key)).unwrap(), key.thumbprint(), "{algorithm}");
            let private = pem::encode(&Pem::new("PRIVATE KEY", pkcs8.to_vec()));
            assert_eq!(public_jwks(private.as_bytes()), Err(PublicKeyFault::Private), "{algorithm}");
        }
    }

    #[test]
    fn an_spki_of_openssl_is_read() {
        let p256 = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEK3+0igtbjEj/la22oPlDYoZMmQ2m
ofhthOpASCHV5au+Cpz5iCwfUei5rQaaok1r49YoWqzw8zIc/KFKSNqGzQ==
-----END PUBLIC KEY-----
";
        let jwks = public_jwks(p256.as_bytes()).unwrap();
        assert_eq!(jwks[0]["x"], "K3-0igtbjEj_la22oPlDYoZMmQ2mofhthOpASCHV5as");
        assert_eq!(jwks[0]["y"], "vgqc-YgsH1Houa0GmqJNa-PWKFqs8PMyHPyhSkjahs0");
    }

    #[test]
    fn a_jwk_and_a_jwk_set_are_read_as_they_are() {
        let (key, _) = SigningKey::generate(Algorithm::Es256).unwrap();
        let jwk = Value::Object(key.public_jwk().clone());
        for file in [jwk.clone(), json!({ "keys": [jwk] })] {
            assert_eq!(public_jwks(file.to_string().as_bytes()), Ok(vec![key.public_jwk().clone()]));
        }
    }

    #[test]
    fn other_files_are_refused_with_the_reason() {
        let x25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEA3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=\n-----END PUBLIC KEY-----\n";
        for (file, fault) in [
            ("", PublicKeyFault::Malformed),
            ("{}", PublicKeyFault::Malformed),
            (r#"{"keys": []}"#, PublicKeyFault::Malformed),
            (r#"{"kty": "EC", "d": "AA"}"#, PublicKeyFault::Private),
            (x25519, PublicKeyFault::KeyType),
            ("-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n", PublicKeyFault::Malformed),
            ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", PublicKeyFault::Malformed),
        ] {
            assert_eq!(public_jwks(file.as_bytes()), Err(fault), "{file}");
        }
    }
}
