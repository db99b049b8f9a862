//! JWKs, read one by one: an unusable key does not affect the others.
//!
//! Takes a JWK and the algorithms that its issuer may use; gives a key that is parsed, fit to verify with, and bound to
//! exactly one algorithm. Private members, symmetric keys, weak RSA and points off the curve make a key unusable.

use std::sync::Arc;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters,
};
use base64::Engine as _;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk, KeyAlgorithm, KeyOperations,
    OctetKeyPairParameters, PublicKeyUse, RSAKeyParameters, ThumbprintHash,
};
use serde_json::Value;

use super::BASE64URL;
use super::algorithm::Algorithm;
use super::{ed25519, roca};

/// A public key that verifies signatures of one algorithm.
pub(crate) struct VerifyingKey {
    pub(crate) key_id: Option<Arc<str>>,
    pub(crate) algorithm: Algorithm,
    /// RFC 7638, SHA-256. Two keys with the same thumbprint are the same key.
    pub(crate) thumbprint: Box<str>,
    public: ParsedPublicKey,
}

/// Why a JWK is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnusableKey {
    #[error("it is not a supported JWK")]
    Malformed,
    #[error("it is symmetric")]
    Symmetric,
    #[error("it has private members")]
    Private,
    #[error("it is not for verifying signatures")]
    Purpose,
    #[error("its algorithm is not allowed for this issuer")]
    Algorithm,
    #[error("its parameters are weak or invalid")]
    Parameters,
    #[error("another key has the same id")]
    Ambiguous,
}

impl VerifyingKey {
    pub(crate) fn from_jwk(value: &Value, allowed: &[Algorithm]) -> Result<Self, UnusableKey> {
        if PRIVATE_MEMBERS.iter().any(|name| value.get(name).is_some()) {
            return Err(UnusableKey::Private);
        }
        if value.get("kty").and_then(Value::as_str) == Some("oct") {
            return Err(UnusableKey::Symmetric);
        }
        let jwk: Jwk = serde_json::from_value(value.clone()).map_err(|_| UnusableKey::Malformed)?;
        if !is_for_verifying(&jwk) {
            return Err(UnusableKey::Purpose);
        }
        let algorithm = only_algorithm(&jwk, allowed)?;
        let public = public_key(&jwk.algorithm, algorithm)?;
        let thumbprint = thumbprint(&jwk)?;
        Ok(Self { key_id: jwk.common.key_id.map(Into::into), algorithm, thumbprint, public })
    }

    /// True if `signature` over `message` was made by this key.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify_sig(message, signature).is_ok()
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// RFC 7638 over SHA-256, in base64url.
pub(crate) fn thumbprint(jwk: &Jwk) -> Result<Box<str>, UnusableKey> {
    jwk.thumbprint(ThumbprintHash::SHA256).map(Into::into).map_err(|_| UnusableKey::Malformed)
}

/// Private members of RSA, EC and OKP keys (RFC 7518 §6).
const PRIVATE_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

fn is_for_verifying(jwk: &Jwk) -> bool {
    let used_for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let may_verify = jwk.common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    used_for_signatures && may_verify
}

/// A key has one algorithm: the one it names, else the issuer's only one for its type, else RS256 for RSA.
fn only_algorithm(jwk: &Jwk, allowed: &[Algorithm]) -> Result<Algorithm, UnusableKey> {
    let fitting: Vec<Algorithm> =
        allowed.iter().copied().filter(|algorithm| fits(&jwk.algorithm, *algorithm)).collect();
    if let Some(named) = &jwk.common.key_algorithm {
        return fitting.into_iter().find(|algorithm| same(*named, *algorithm)).ok_or(UnusableKey::Algorithm);
    }
    match fitting[..] {
        [only] => Ok(only),
        [] => Err(UnusableKey::Algorithm),
        [..] if fitting.contains(&Algorithm::Rs256) => Ok(Algorithm::Rs256),
        [..] => Err(UnusableKey::Algorithm),
    }
}

fn fits(parameters: &AlgorithmParameters, algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::Rs256 | Algorithm::Ps256 => matches!(parameters, AlgorithmParameters::RSA(_)),
        Algorithm::Es256 => {
            matches!(parameters, AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256)
        }
        Algorithm::Es384 => {
            matches!(parameters, AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384)
        }
        Algorithm::EdDsa => {
            matches!(parameters, AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519)
        }
    }
}

fn same(named: KeyAlgorithm, algorithm: Algorithm) -> bool {
    named
        == match algorithm {
            Algorithm::Rs256 => KeyAlgorithm::RS256,
            Algorithm::Ps256 => KeyAlgorithm::PS256,
            Algorithm::Es256 => KeyAlgorithm::ES256,
            Algorithm::Es384 => KeyAlgorithm::ES384,
            Algorithm::EdDsa => KeyAlgorithm::EdDSA,
        }
}

fn public_key(parameters: &AlgorithmParameters, algorithm: Algorithm) -> Result<ParsedPublicKey, UnusableKey> {
    match (algorithm, parameters) {
        (Algorithm::Rs256, AlgorithmParameters::RSA(rsa)) => rsa_key(rsa, &RSA_PKCS1_2048_8192_SHA256),
        (Algorithm::Ps256, AlgorithmParameters::RSA(rsa)) => rsa_key(rsa, &RSA_PSS_2048_8192_SHA256),
        (Algorithm::Es256, AlgorithmParameters::EllipticCurve(ec)) => ec_key(ec, &ECDSA_P256_SHA256_FIXED, 32),
        (Algorithm::Es384, AlgorithmParameters::EllipticCurve(ec)) => ec_key(ec, &ECDSA_P384_SHA384_FIXED, 48),
        (Algorithm::EdDsa, AlgorithmParameters::OctetKeyPair(okp)) => ed25519_key(okp),
        _ => Err(UnusableKey::Algorithm),
    }
}

fn rsa_key(rsa: &RSAKeyParameters, parameters: &'static RsaParameters) -> Result<ParsedPublicKey, UnusableKey> {
    let (n, e) = (decode(&rsa.n)?, decode(&rsa.e)?);
    let (n, e) = (unsigned(&n), unsigned(&e));
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let exponent = e.iter().try_fold(0_u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    let sound =
        exponent.is_some_and(|e| e > 3 && e < 1 << 33 && e % 2 == 1) && n.last().is_some_and(|byte| byte % 2 == 1);
    if !(2048..=8192).contains(&bits) || !sound || roca::has_fingerprint(n) {
        return Err(UnusableKey::Parameters);
    }
    PublicKeyComponents { n, e }.to_parsed_public_key(parameters).map_err(|_| UnusableKey::Parameters)
}

/// Some issuers send the sign byte that their big-integer library adds.
fn unsigned(number: &[u8]) -> &[u8] {
    number.strip_prefix(&[0]).unwrap_or(number)
}

fn ec_key(
    ec: &EllipticCurveKeyParameters,
    curve: &'static EcdsaVerificationAlgorithm,
    size: usize,
) -> Result<ParsedPublicKey, UnusableKey> {
    let (x, y) = (decode(&ec.x)?, decode(&ec.y)?);
    if x.len() != size || y.len() != size {
        return Err(UnusableKey::Parameters);
    }
    // An uncompressed point (SEC 1 §2.3.3); that it lies on the curve is checked while parsing.
    let point = [&[4][..], &x, &y].concat();
    ParsedPublicKey::new(curve, point).map_err(|_| UnusableKey::Parameters)
}

fn ed25519_key(okp: &OctetKeyPairParameters) -> Result<ParsedPublicKey, UnusableKey> {
    let x = decode(&okp.x)?;
    if !ed25519::is_valid_point(&x) {
        return Err(UnusableKey::Parameters);
    }
    ParsedPublicKey::new(&signature::ED25519, x).map_err(|_| UnusableKey::Parameters)
}

fn decode(text: &str) -> Result<Vec<u8>, UnusableKey> {
    BASE64URL.decode(text).map_err(|_| UnusableKey::Parameters)
}

#[cfg(test)]
mod tests {
    use super::super::signing::SigningKey;
    use super::*;
    use serde_json::json;

    fn jwk(algorithm: Algorithm) -> Value {
        let (key, _) = SigningKey::generate(algorithm).unwrap();
        Value::Object(key.public_jwk().clone())
    }

    fn with(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk[name] = value;
        jwk
    }

    fn without(mut jwk: Value, name: &str) -> Value {
        jwk.as_object_mut().unwrap().remove(name);
        jwk
    }

    #[track_caller]
    fn unusable(jwk: &Value, reason: UnusableKey) {
        assert_eq!(VerifyingKey::from_jwk(jwk, &Algorithm::ALL).err(), Some(reason), "{jwk}");
    }

    #[test]
    fn keys_of_every_algorithm_are_read() {
        for algorithm in Algorithm::ALL {
            let key = VerifyingKey::from_jwk(&jwk(algorithm), &Algorithm::ALL).unwrap();
            assert_eq!(key.algorithm, algorithm);
            assert_eq!(key.key_id.as_deref(), Some(&*key.thumbprint));
        }
    }

    #[test]
    fn a_key_that_names_no_algorithm_gets_the_only_one_of_its_type() {
        let rsa = without(jwk(Algorithm::Ps256), "alg");
        let read = |allowed: &[Algorithm]| VerifyingKey::from_jwk(&rsa, allowed).map(|key| key.algorithm);
        assert_eq!(read(&[Algorithm::Ps256, Algorithm::Es256]), Ok(Algorithm::Ps256));
        assert_eq!(read(&[Algorithm::Ps256, Algorithm::Rs256]), Ok(Algorithm::Rs256));
        assert_eq!(read(&[Algorithm::Es256]), Err(UnusableKey::Algorithm));
    }

    #[test]
    fn a_key_of_another_algorithm_than_allowed_is_unusable() {
        assert_eq!(
            VerifyingKey::from_jwk(&jwk(Algorithm::Ps256), &[Algorithm::Rs256]).err(),
            Some(UnusableKey::Algorithm)
        );
        unusable(&with(jwk(Algorithm::Rs256), "alg", json!("RS512")), UnusableKey::Algorithm);
        unusable(&with(jwk(Algorithm::Es256), "alg", json!("ES384")), UnusableKey::Algorithm);
    }

    #[test]
    fn symmetric_and_private_keys_are_unusable() {
        unusable(&json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}), UnusableKey::Symmetric);
        unusable(&with(jwk(Algorithm::Rs256), "d", json!("AQAB")), UnusableKey::Private);
    }

    #[test]
    fn keys_for_other_purposes_are_unusable() {
        unusable(&with(jwk(Algorithm::Rs256), "use", json!("enc")), UnusableKey::Purpose);
        unusable(&with(jwk(Algorithm::Rs256), "key_ops", json!(["encrypt"])), UnusableKey::Purpose);
    }

    #[test]
    fn weak_or_broken_parameters_are_unusable() {
        let rsa = || jwk(Algorithm::Rs256);
        for e in ["AQ", "Aw", "BA", "AQABAQABAQAB", ""] {
            unusable(&with(rsa(), "e", json!(e)), UnusableKey::Parameters);
        }
        unusable(&with(rsa(), "n", json!(BASE64URL.encode([0xff; 128]))), UnusableKey::Parameters);
        unusable(&with(rsa(), "n", json!(BASE64URL.encode([0xff; 1025]))), UnusableKey::Parameters);
        unusable(&with(rsa(), "n", json!("not base64url!")), UnusableKey::Parameters);
        unusable(&with(jwk(Algorithm::Es256), "x", json!(BASE64URL.encode([1; 32]))), UnusableKey::Parameters);
        unusable(&with(jwk(Algorithm::Es256), "x", json!(BASE64URL.encode([1; 31]))), UnusableKey::Parameters);
    }

    #[test]
    fn a_sign_byte_of_modulus_and_exponent_is_passed_over() {
        let (key, _) = SigningKey::generate(Algorithm::Rs256).unwrap();
        let jwk = Value::Object(key.public_jwk().clone());
        let signed = |name: &str| {
            let bytes = BASE64URL.decode(jwk[name].as_str().unwrap()).unwrap();
            json!(BASE64URL.encode([&[0], &bytes[..]].concat()))
        };
        let both = with(with(jwk.clone(), "n", signed("n")), "e", signed("e"));
        for jwk in [with(jwk.clone(), "n", signed("n")), with(jwk.clone(), "e", signed("e")), both] {
            assert!(VerifyingKey::from_jwk(&jwk, &Algorithm::ALL).is_ok(), "{jwk}");
        }
        // A second one is no sign byte; one alone is no exponent.
        for (name, text) in [("e", "AAABAAE"), ("e", "AA")] {
            unusable(&with(jwk.clone(), name, json!(text)), UnusableKey::Parameters);
        }
    }

    /// Their private keys can be computed (CVE-2017-15361).
    #[test]
    fn keys_of_a_flawed_generator_are_unusable() {
        unusable(&with(jwk(Algorithm::Rs256), "n", json!(roca::tests::WYCHEPROOF)), UnusableKey::Parameters);
        unusable(&with(jwk(Algorithm::Ps256), "n", json!(roca::tests::WYCHEPROOF)), UnusableKey::Parameters);
    }

    #[test]
    fn points_off_their_curve_are_unusable() {
        for (algorithm, size) in [(Algorithm::Es256, 32), (Algorithm::Es384, 48)] {
            for coordinate in ["x", "y"] {
                for bytes in [vec![0; size], vec![1; size], vec![0xff; size]] {
                    let jwk = with(jwk(algorithm), coordinate, json!(BASE64URL.encode(bytes)));
                    unusable(&jwk, UnusableKey::Parameters);
                }
            }
            let infinity = with(
                with(jwk(algorithm), "x", json!(BASE64URL.encode(vec![0; size]))),
                "y",
                json!(BASE64URL.encode(vec![0; size])),
            );
            unusable(&infinity, UnusableKey::Parameters);
        }
        for bytes in [vec![2; 32], vec![0xff; 32], vec![0; 32], vec![0; 31], vec![0; 33]] {
            unusable(&with(jwk(Algorithm::EdDsa), "x", json!(BASE64URL.encode(bytes))), UnusableKey::Parameters);
        }
    }

    #[test]
    fn an_invalid_jwk_is_unusable() {
        for value in [json!({}), json!(7), json!({"kty": "RSA"}), json!({"kty": "XYZ", "kid": 7})] {
            assert!(VerifyingKey::from_jwk(&value, &Algorithm::ALL).is_err(), "{value}");
        }
    }
}
