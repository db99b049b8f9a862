use serde_json::json;

use super::super::signing::SigningKey;
use super::*;

/// The proof of RFC 9449 §4.1, without line breaks.
const OF_THE_RFC: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

fn key() -> (SigningKey, Value) {
    let (key, _) = SigningKey::generate(Algorithm::Es256).unwrap();
    let mut jwk = key.public_jwk().clone();
    jwk.retain(|name, _| ["kty", "crv", "x", "y"].contains(&name.as_str()));
    (key, Value::Object(jwk))
}

fn claims() -> Value {
    json!({"jti": "a", "htm": "GET", "htu": "https://a.example/", "iat": 1_800_000_000})
}

/// Whether a proof with this header and these claims, signed by the key, is accepted.
fn verified(key: &SigningKey, header: &Value, claims: &Value) -> Result<Thumbprint, Discrepancy> {
    let text = key.sign_under(&header.to_string(), claims.to_string().as_bytes()).unwrap();
    let proof = UnverifiedProof::parse(&text)?;
    let key = proof.key()?;
    assert!(proof.has_header_of(&key));
    if proof.is_signed_by(&key) { Ok(key.thumbprint) } else { Err(Discrepancy::new("signature", "")) }
}

#[test]
fn the_proof_of_the_rfc_is_read_and_verified() {
    let proof = UnverifiedProof::parse(OF_THE_RFC).unwrap();
    let key = proof.key().unwrap();
    assert!(proof.is_signed_by(&key));
    // RFC 9449 §6.1.
    assert_eq!(key.thumbprint.to_base64url(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    let ProofClaims { id, method, uri, issued_at, token_digest, nonce } = &proof.claims;
    assert_eq!([id, method, uri], ["-BwC3ESc6acc2lTc", "POST", "https://server.example.com/token"]);
    assert_eq!((issued_at.rounded_down(), token_digest, nonce), (1_562_262_616, &None, &None));
}

#[test]
fn a_changed_proof_has_another_signature() {
    let (header, rest) = OF_THE_RFC.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    let text = String::from_utf8(BASE64URL.decode(claims).unwrap()).unwrap();
    for (from, to) in [("POST", "GET"), ("/token", "/other"), ("1562262616", "1562262617"), ("BwC3", "BwC4")] {
        let changed = format!("{header}.{}.{signature}", BASE64URL.encode(text.replace(from, to)));
        let proof = UnverifiedProof::parse(&changed).unwrap();
        assert!(!proof.is_signed_by(&proof.key().unwrap()), "{to}");
    }
}

#[test]
fn a_key_verifies_only_proofs_with_its_header() {
    let ((one, jwk), (_, other)) = (key(), key());
    let header = json!({"typ": PROOF_TYPE, "alg": "ES256", "jwk": jwk});
    let swapped = json!({"typ": PROOF_TYPE, "alg": "ES256", "jwk": other});
    assert!(verified(&one, &header, &claims()).is_ok());
    assert!(verified(&one, &swapped, &claims()).is_err());
    let own = ProofKey::parse(&BASE64URL.encode(header.to_string())).unwrap();
    let text = one.sign_under(&swapped.to_string(), claims().to_string().as_bytes()).unwrap();
    assert!(!UnverifiedProof::parse(&text).unwrap().is_signed_by(&own));
}

#[test]
fn hostile_headers_are_refused() {
    let (key, jwk) = key();
    let good = json!({"typ": PROOF_TYPE, "alg": "ES256", "jwk": jwk});
    assert!(verified(&key, &good, &claims()).is_ok());
    let changed = |name: &str, value: Value| {
        let mut header = good.clone();
        header[name] = value;
        header
    };
    let with_member = |name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        changed("jwk", jwk)
    };
    for header in [
        changed("typ", json!("JWT")),
        changed("typ", json!("DPOP+JWT")),
        changed("typ", json!(["dpop+jwt"])),
        changed("typ", Value::Null),
        changed("alg", json!("none")),
        changed("alg", json!("HS256")),
        changed("alg", json!("ES384")),
        changed("alg", json!("RS256")),
        changed("alg", Value::Null),
        changed("crit", json!([])),
        changed("b64", json!(true)),
        changed("zip", json!("DEF")),
        changed("jwk", Value::Null),
        changed("jwk", json!([])),
        changed("jwk", json!({"kty": "oct", "k": "AAAA"})),
        changed("jwk", json!(jwk.to_string())),
        with_member("d", json!("AAAA")),
        with_member("d", Value::Null),
        with_member("crv", json!("P-384")),
        with_member("alg", json!("ES384")),
        with_member("use", json!("enc")),
        with_member("x", json!("AAAA")),
    ] {
        assert!(verified(&key, &header, &claims()).is_err(), "{header}");
    }
}

#[test]
fn claims_that_are_absent_or_of_another_type_are_refused() {
    let (key, jwk) = key();
    let header = json!({"typ": PROOF_TYPE, "alg": "ES256", "jwk": jwk});
    for (name, value) in [
        ("jti", Value::Null),
        ("jti", json!("")),
        ("jti", json!(7)),
        ("jti", json!("a".repeat(MAX_ID_BYTES + 1))),
        ("htm", Value::Null),
        ("htm", json!(["GET"])),
        ("htu", Value::Null),
        ("htu", json!("")),
        ("iat", Value::Null),
        ("iat", json!("1800000000")),
        ("iat", json!(-1)),
        ("iat", json!(1_800_000_000_000_u64)),
        ("ath", json!(7)),
        ("nonce", json!({})),
    ] {
        let mut claims = claims();
        claims[name] = value;
        assert!(verified(&key, &header, &claims).is_err(), "{claims}");
    }
}

#[test]
fn members_that_are_repeated_are_refused() {
    let (key, jwk) = key();
    let header = json!({"typ": PROOF_TYPE, "alg": "ES256", "jwk": jwk}).to_string();
    let (twice, claims) = (header.replacen('{', r#"{"alg":"ES256","#, 1), claims().to_string());
    let text = key.sign_under(&twice, claims.as_bytes()).unwrap();
    assert!(UnverifiedProof::parse(&text).unwrap().key().is_err());
    let text = key.sign_under(&header, claims.replacen('{', r#"{"jti":"b","#, 1).as_bytes()).unwrap();
    assert!(UnverifiedProof::parse(&text).is_err());
}

#[test]
fn texts_that_are_no_compact_jws_are_refused() {
    for text in ["", ".", "..", "a.b", "a.b.c.d", &"a".repeat(MAX_PROOF_BYTES + 1)] {
        assert!(UnverifiedProof::parse(text).is_err(), "{text:.40}");
    }
    for changed in [format!("{OF_THE_RFC}="), format!("{OF_THE_RFC}.a"), OF_THE_RFC.replace('.', ". ")] {
        assert!(UnverifiedProof::parse(&changed).is_err(), "{changed}");
    }
}
