//! The proofs that a client makes with its private key: an assertion for `private_key_jwt`, and a DPoP proof.
//!
//! For `portcullis token get`, and for tests that need what a client sends. The gateway itself proves nothing by them.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::BASE64URL;
use super::signing::{SigningKey, SigningKeyFault};
use crate::clock::UnixTime;

/// How long an assertion is good. It is sent at once.
const ASSERTION_SECONDS: u64 = 60;

/// The request that a DPoP proof is for (RFC 9449 §4.2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProvenRequest<'r> {
    pub(crate) method: &'r str,
    /// Query and fragment are left out of the proof.
    pub(crate) url: &'r str,
    /// Of the server's last answer.
    pub(crate) nonce: Option<&'r str>,
    /// The access token that goes with it. `None` at the token endpoint.
    pub(crate) access_token: Option<&'r str>,
}

/// An assertion by which `client` authenticates itself to `audience` (RFC 7523 §3).
pub(crate) fn assertion(
    key: &SigningKey,
    client: &str,
    audience: &str,
    now: UnixTime,
) -> Result<String, SigningKeyFault> {
    let issued_at = now.seconds();
    let claims = json!({
        "iss": client, "sub": client, "aud": audience,
        "iat": issued_at, "exp": issued_at + ASSERTION_SECONDS, "jti": random_id(key)?,
    });
    key.sign("JWT", claims.to_string().as_bytes())
}

/// A DPoP proof (RFC 9449 §4.2).
pub(crate) fn dpop_proof(
    key: &SigningKey,
    request: &ProvenRequest<'_>,
    now: UnixTime,
) -> Result<String, SigningKeyFault> {
    let header = json!({ "typ": "dpop+jwt", "alg": key.algorithm().as_str(), "jwk": bare_jwk(key) });
    let url = request.url.find(['?', '#']).map_or(request.url, |end| &request.url[..end]);
    let mut claims = json!({ "jti": random_id(key)?, "htm": request.method, "htu": url, "iat": now.seconds() });
    if let Some(nonce) = request.nonce {
        claims["nonce"] = json!(nonce);
    }
    if let Some(token) = request.access_token {
        claims["ath"] = json!(BASE64URL.encode(digest(&SHA256, token.as_bytes())));
    }
    key.sign_under(&header.to_string(), claims.to_string().as_bytes())
}

/// The members that say which key it is, and no others.
fn bare_jwk(key: &SigningKey) -> Map<String, Value> {
    let members = key.public_jwk().iter().filter(|(name, _)| !matches!(name.as_str(), "kid" | "alg" | "use"));
    members.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// 128 random bits.
fn random_id(key: &SigningKey) -> Result<String, SigningKeyFault> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| SigningKeyFault::Sign(key.algorithm()))?;
    Ok(BASE64URL.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::Algorithm;
    use super::*;

    /// Header and claims of a token that the key has signed.
    fn read(key: &SigningKey, token: &str) -> (Value, Value) {
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64URL.decode(signature).unwrap();
        assert!(key.verifying_key().unwrap().verifies(message.as_bytes(), &signature));
        let (header, claims) = message.split_once('.').unwrap();
        let json = |part: &str| serde_json::from_slice(&BASE64URL.decode(part).unwrap()).unwrap();
        (json(header), json(claims))
    }

    #[test]
    fn an_assertion_is_for_one_audience_and_a_minute() {
        let (key, _) = SigningKey::generate(Algorithm::Es256).unwrap();
        let token = assertion(&key, "app", "https://gateway.example", UnixTime::from_seconds(1000)).unwrap();
        let (header, claims) = read(&key, &token);
        assert_eq!(header, json!({ "typ": "JWT", "alg": "ES256", "kid": key.thumbprint() }));
        let expected = json!({
            "iss": "app", "sub": "app", "aud": "https://gateway.example", "iat": 1000, "exp": 1060,
            "jti": claims["jti"],
        });
        assert_eq!(claims, expected);
        let again = assertion(&key, "app", "https://gateway.example", UnixTime::from_seconds(1000)).unwrap();
        assert_ne!(read(&key, &again).1["jti"], claims["jti"]);
    }

    #[test]
    fn a_dpop_proof_names_the_request_without_its_query() {
        let (key, _) = SigningKey::generate(Algorithm::EdDsa).unwrap();
        let url = "https://api.example/data?x=1#y";
        let request = ProvenRequest { method: "GET", url, nonce: Some("n"), access_token: Some("token") };
        let (header, claims) = read(&key, &dpop_proof(&key, &request, UnixTime::from_seconds(1000)).unwrap());
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": key.public_jwk()["x"] });
        assert_eq!(header, json!({ "typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk }));
        let expected = json!({
            "htm": "GET", "htu": "https://api.example/data", "iat": 1000, "nonce": "n", "jti": claims["jti"],
            "ath": "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A",
        });
        assert_eq!(claims, expected);
        let alone = ProvenRequest { nonce: None, access_token: None, ..request };
        let (_, claims) = read(&key, &dpop_proof(&key, &alone, UnixTime::from_seconds(1000)).unwrap());
        assert!(claims.get("ath").is_none() && claims.get("nonce").is_none());
    }
}
