use base64::Engine as _;
use serde_json::json;

use super::super::signing::SigningKey;
use super::super::{BASE64URL, roca};
use super::*;

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
    assert_eq!(read(&[Algorithm::Rs384, Algorithm::Ps512]), Err(UnusableKey::UnnamedAlgorithm));
}

#[test]
fn a_key_of_another_algorithm_than_allowed_is_unusable() {
    assert_eq!(VerifyingKey::from_jwk(&jwk(Algorithm::Ps256), &[Algorithm::Rs256]).err(), Some(UnusableKey::Algorithm));
    let named = |name: &str| with(jwk(Algorithm::Rs256), "alg", json!(name));
    let read = VerifyingKey::from_jwk(&named("RS512"), &Algorithm::DEFAULT);
    assert_eq!(read.err(), Some(UnusableKey::Algorithm));
    for name in ["RS1", "HS256", "none", "RSA-OAEP", "rs256", "", "ES256"] {
        unusable(&named(name), UnusableKey::UnfitAlgorithm);
    }
    unusable(&with(jwk(Algorithm::Es256), "alg", json!("ES384")), UnusableKey::UnfitAlgorithm);
}

#[test]
fn symmetric_and_private_keys_are_unusable() {
    unusable(&json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}), UnusableKey::Symmetric);
    unusable(&with(jwk(Algorithm::Rs256), "d", json!("AQAB")), UnusableKey::Private);
}

#[test]
fn keys_for_other_purposes_are_unusable() {
    unusable(&with(jwk(Algorithm::Rs256), "use", json!("enc")), UnusableKey::Purpose);
    unusable(&with(jwk(Algorithm::Rs256), "use", json!("x509-svid")), UnusableKey::Purpose);
    unusable(&with(jwk(Algorithm::Rs256), "key_ops", json!(["encrypt"])), UnusableKey::Purpose);
    unusable(&json!({"kty": "OKP", "crv": "X25519", "use": "enc", "x": "AAAA"}), UnusableKey::Purpose);
}

#[test]
fn keys_of_a_spiffe_bundle_are_read() {
    for name in ["sig", "jwt-svid"] {
        let key = without(with(jwk(Algorithm::Es256), "use", json!(name)), "alg");
        assert_eq!(VerifyingKey::from_jwk(&key, &Algorithm::DEFAULT).unwrap().algorithm, Algorithm::Es256, "{name}");
    }
}

#[test]
fn keys_of_an_unknown_type_or_curve_are_reported_as_that() {
    for kty in ["XYZ", "AKP", "rsa", ""] {
        unusable(&json!({"kty": kty}), UnusableKey::KeyType);
    }
    unusable(&json!({"kty": "EC", "crv": "secp256k1", "x": "AAAA", "y": "AAAA"}), UnusableKey::Curve);
    unusable(&json!({"kty": "EC", "crv": "Ed25519", "x": "AAAA"}), UnusableKey::Curve);
    unusable(&json!({"kty": "OKP", "crv": "Ed448", "x": "AAAA"}), UnusableKey::Curve);
    unusable(&json!({"kty": "OKP", "crv": "P-256", "x": "AAAA", "y": "AAAA"}), UnusableKey::Curve);
    unusable(&json!({"kty": "EC", "x": "AAAA", "y": "AAAA"}), UnusableKey::Malformed);
    unusable(&json!({"kty": ["RSA"]}), UnusableKey::Malformed);
}

/// RFC 9864.
#[test]
fn ed25519_is_another_name_of_eddsa() {
    let key = with(jwk(Algorithm::EdDsa), "alg", json!("Ed25519"));
    assert_eq!(VerifyingKey::from_jwk(&key, &Algorithm::DEFAULT).unwrap().algorithm, Algorithm::EdDsa);
    unusable(&with(jwk(Algorithm::Es256), "alg", json!("Ed25519")), UnusableKey::UnfitAlgorithm);
}

#[test]
fn padded_parameters_are_those_without_padding() {
    for (algorithm, names) in [
        (Algorithm::Rs256, ["n", "e"]),
        (Algorithm::Es256, ["x", "y"]),
        (Algorithm::Es512, ["x", "y"]),
        (Algorithm::EdDsa, ["x", "x"]),
    ] {
        let plain = jwk(algorithm);
        let padded = names.into_iter().fold(plain.clone(), |jwk, name| {
            let text = plain[name].as_str().unwrap();
            let padding = "=".repeat((4 - text.len() % 4) % 4);
            with(jwk, name, json!(format!("{text}{padding}")))
        });
        let read = |jwk: &Value| VerifyingKey::from_jwk(jwk, &Algorithm::ALL).unwrap();
        assert!(read(&plain).is_same(&read(&padded)), "{algorithm}");
        let wrong = with(plain.clone(), "x", json!(format!("{}=", padded["x"].as_str().unwrap_or_default())));
        if algorithm != Algorithm::Rs256 {
            unusable(&wrong, UnusableKey::Parameters);
        }
    }
    for text in ["A+/_", "AQAB\n", "AQ AB", "AQAB="] {
        unusable(&with(jwk(Algorithm::Rs256), "e", json!(text)), UnusableKey::Parameters);
    }
}

/// A key found by `x5t` and `x5t#S256` of a header.
#[track_caller]
fn is_found(key: &VerifyingKey, sha1: Option<&str>, sha256: Option<&str>) {
    let reference = certificate::CertificateReference { sha1, sha256 };
    assert!(key.certificate.agrees(reference), "{reference:?}: {:?}", key.certificate);
}

#[test]
fn the_thumbprints_of_a_certificate_are_given_or_computed() {
    let read = |jwk: &Value| VerifyingKey::from_jwk(jwk, &Algorithm::ALL).unwrap();
    let plain = jwk(Algorithm::Es256);
    assert!(read(&plain).certificate.is_unknown());
    // `x5c` of "hello": the thumbprints by sha1sum and sha256sum.
    let (sha1, sha256) = ("qvTGHdzF6KLavt4PO0gs2a6pQ00", "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ");
    let computed = read(&with(plain.clone(), "x5c", json!(["aGVsbG8=", "AAAA"])));
    is_found(&computed, Some(sha1), None);
    is_found(&computed, None, Some(sha256));
    is_found(&computed, Some(sha1), Some(sha256));
    let given = read(&with(with(plain.clone(), "x5c", json!(["aGVsbG8="])), "x5t", json!("gi_ven==")));
    is_found(&given, Some("gi_ven"), Some(sha256));
    assert!(read(&with(plain, "x5c", json!(["not base64"]))).certificate.is_unknown());
}

#[test]
fn weak_or_broken_parameters_are_unusable() {
    let rsa = || jwk(Algorithm::Rs256);
    for e in ["AQ", "Aw", "BA", "AQABAQABAQAB", ""] {
        unusable(&with(rsa(), "e", json!(e)), UnusableKey::Parameters);
    }
    unusable(&with(rsa(), "n", json!(BASE64URL.encode([0xff; 128]))), UnusableKey::ShortRsa(1024));
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
    for (algorithm, size) in [(Algorithm::Es256, 32), (Algorithm::Es384, 48), (Algorithm::Es512, 66)] {
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
    for value in [json!({}), json!(7), json!({"kty": "RSA", "alg": "RS256"}), json!({"kty": "XYZ", "kid": 7})] {
        unusable(&value, UnusableKey::Malformed);
    }
}
