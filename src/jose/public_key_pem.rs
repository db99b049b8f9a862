//! Public keys in PEM, as JWKs: a key (`PUBLIC KEY`, RFC 5280 §4.1.2.7) or the key of a certificate.
//!
//! The key is brought into the form of a JWK, so that one parser decides which keys are sound. Of a certificate nothing
//! but the key counts.

use base64::Engine as _;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};

use super::BASE64URL;
use super::der::{BIT_STRING, DerReader, INTEGER, OBJECT_ID, SEQUENCE};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublicKeyPemFault {
    #[error("it has a private key, which only the client may have: give its public key")]
    Private,
    #[error("it has neither a public key nor a certificate in PEM")]
    Nothing,
    #[error("its key is not of RSA, of P-256, P-384 or P-521, or of Ed25519")]
    KeyType,
}

/// The first key of a PEM file.
pub(crate) fn jwk(pem: &[u8]) -> Result<Value, PublicKeyPemFault> {
    if PrivateKeyDer::from_pem_slice(pem).is_ok() {
        return Err(PublicKeyPemFault::Private);
    }
    if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(pem) {
        let fields = DerReader::new(&key).enter(SEQUENCE);
        return fields.and_then(of_key_info).ok_or(PublicKeyPemFault::KeyType);
    }
    let certificate = CertificateDer::from_pem_slice(pem).map_err(|_| PublicKeyPemFault::Nothing)?;
    of_certificate(&certificate).ok_or(PublicKeyPemFault::KeyType)
}

/// True if it looks like PEM.
pub(crate) fn is_pem(document: &[u8]) -> bool {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(document).next().is_some()
}

/// The optional version of a certificate, which precedes the serial number.
const VERSION: u8 = 0xa0;

const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const ELLIPTIC_CURVE: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
const ED25519: &[u8] = b"\x2b\x65\x70";
/// The curves, with the size of a coordinate.
const CURVES: [(&[u8], &str, usize); 3] = [
    (b"\x2a\x86\x48\xce\x3d\x03\x01\x07", "P-256", 32),
    (b"\x2b\x81\x04\x00\x22", "P-384", 48),
    (b"\x2b\x81\x04\x00\x23", "P-521", 66),
];
/// The first byte of a point that is written with both coordinates (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;

fn of_certificate(certificate: &[u8]) -> Option<Value> {
    let mut fields = DerReader::new(certificate).enter(SEQUENCE)?.enter(SEQUENCE)?;
    fields.skip_optional(VERSION);
    let [_serial, _algorithm, _issuer, _validity, _subject] =
        [fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?];
    of_key_info(fields.enter(SEQUENCE)?)
}

/// `fields` are those of a `SubjectPublicKeyInfo`.
fn of_key_info(mut fields: DerReader<'_>) -> Option<Value> {
    let mut algorithm = fields.enter(SEQUENCE)?;
    let (&0, key) = fields.content(BIT_STRING)?.split_first()? else { return None };
    let text = |bytes: &[u8]| BASE64URL.encode(bytes);
    match algorithm.content(OBJECT_ID)? {
        RSA => {
            let mut numbers = DerReader::new(key).enter(SEQUENCE)?;
            let [n, e] = [numbers.content(INTEGER)?, numbers.content(INTEGER)?];
            Some(json!({"kty": "RSA", "n": text(n), "e": text(e)}))
        }
        ELLIPTIC_CURVE => {
            let named = algorithm.content(OBJECT_ID)?;
            let (_, curve, size) = CURVES.iter().find(|(id, ..)| *id == named)?;
            let (x, y) = key.strip_prefix(&[UNCOMPRESSED])?.split_at_checked(*size)?;
            Some(json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)}))
        }
        ED25519 => Some(json!({"kty": "OKP", "crv": "Ed25519", "x": text(key)})),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::Algorithm;
    use super::super::jwk::VerifyingKey;
    use super::super::signing::SigningKey;
    use super::super::x509::certify;
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    fn thumbprint(jwk: &Value) -> Box<str> {
        VerifyingKey::from_jwk(jwk, &Algorithm::ALL).unwrap().thumbprint
    }

    #[test]
    fn the_key_of_a_certificate_is_read_for_every_type() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::Es512, Algorithm::EdDsa] {
            let (key, pkcs8) = SigningKey::generate(algorithm).unwrap();
            let certificate = certify(&pkcs8, algorithm, "test").unwrap();
            let read = jwk(pem("CERTIFICATE", &certificate).as_bytes()).unwrap();
            assert_eq!(thumbprint(&read), thumbprint(&Value::Object(key.public_jwk().clone())), "{algorithm}");
            let refused = jwk(pem("PRIVATE KEY", &pkcs8).as_bytes());
            assert_eq!(refused, Err(PublicKeyPemFault::Private), "{algorithm}");
        }
    }

    #[test]
    fn a_public_key_is_read_for_every_type() {
        // Of openssl, with the thumbprints of another implementation.
        for (key, thumb) in include!("public_key_pem/keys.in") {
            let read = jwk(pem("PUBLIC KEY", &STANDARD.decode(key).unwrap()).as_bytes()).unwrap();
            assert_eq!(&*thumbprint(&read), thumb, "{read}");
        }
    }

    #[test]
    fn other_content_is_refused() {
        assert_eq!(jwk(b"{}"), Err(PublicKeyPemFault::Nothing));
        assert_eq!(jwk(pem("PUBLIC KEY", b"\x30\x00").as_bytes()), Err(PublicKeyPemFault::KeyType));
        assert_eq!(jwk(pem("CERTIFICATE", b"\x30\x00").as_bytes()), Err(PublicKeyPemFault::KeyType));
        assert!(is_pem(pem("PUBLIC KEY", b"a").as_bytes()) && !is_pem(b"{\"keys\": []}"));
    }
}
