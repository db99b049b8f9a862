//! Private keys that sign tokens, and their public JWKs.
//!
//! A key is parsed once. An RSA signature takes about 300 µs, so callers run [`SigningKey::sign`] outside the worker
//! threads.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::BASE64URL;
use super::algorithm::Algorithm;
use super::jwk::{VerifyingKey, thumbprint};

/// A key that signs with exactly one algorithm.
pub(crate) struct SigningKey {
    algorithm: Algorithm,
    /// The thumbprint, unless the key has a name.
    key_id: Box<str>,
    thumbprint: Box<str>,
    public_jwk: Map<String, Value>,
    pair: SigningKeyPair,
}

pub(super) enum SigningKeyPair {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The library gives no further cause.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningKeyFault {
    #[error("cannot generate a key for {0}")]
    Generate(Algorithm),
    #[error("it is not a private key for {0} in PKCS#8")]
    Parse(Algorithm),
    #[error("cannot sign with {0}")]
    Sign(Algorithm),
}

impl SigningKey {
    /// Generates a key. Also gives its PKCS#8 encoding for [`Self::from_pkcs8`].
    pub(crate) fn generate(algorithm: Algorithm) -> Result<(Self, Zeroizing<Vec<u8>>), SigningKeyFault> {
        let fault = |_| SigningKeyFault::Generate(algorithm);
        let pkcs8 = match Scheme::of(algorithm) {
            Scheme::Rsa(_) => {
                let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(fault)?;
                private.as_der().map_err(fault)?.as_ref().to_vec()
            }
            Scheme::Ec(curve) => ec_pkcs8(curve).map_err(fault)?,
            // Version 0: many readers refuse version 1, which has the public key as well.
            Scheme::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(fault)?.as_ref().to_vec(),
        };
        let pkcs8 = Zeroizing::new(pkcs8);
        Ok((Self::from_pkcs8(algorithm, &pkcs8)?, pkcs8))
    }

    pub(crate) fn from_pkcs8(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Self, SigningKeyFault> {
        let fault = || SigningKeyFault::Parse(algorithm);
        let pair = match Scheme::of(algorithm) {
            Scheme::Rsa(encoding) => SigningKeyPair::Rsa(RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| fault())?, encoding),
            Scheme::Ec(curve) => SigningKeyPair::Ec(EcdsaKeyPair::from_pkcs8(curve, pkcs8).map_err(|_| fault())?),
            Scheme::Ed25519 => SigningKeyPair::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| fault())?),
        };
        Self::of(algorithm, pair)
    }

    /// A key whose pair is read already.
    pub(super) fn of(algorithm: Algorithm, pair: SigningKeyPair) -> Result<Self, SigningKeyFault> {
        let fault = || SigningKeyFault::Parse(algorithm);
        let mut public_jwk = pair.public_jwk();
        let jwk = serde_json::from_value(Value::Object(public_jwk.clone())).map_err(|_| fault())?;
        let thumbprint = thumbprint(&jwk).map_err(|_| fault())?;
        public_jwk.insert("kid".to_owned(), json!(thumbprint));
        public_jwk.insert("alg".to_owned(), json!(algorithm.as_str()));
        public_jwk.insert("use".to_owned(), json!("sig"));
        Ok(Self { algorithm, key_id: thumbprint.clone(), thumbprint, public_jwk, pair })
    }

    /// The same key with this key id.
    pub(crate) fn named(mut self, key_id: &str) -> Self {
        self.key_id = key_id.into();
        self.public_jwk.insert("kid".to_owned(), json!(key_id));
        self
    }

    /// The compact serialisation (RFC 7515 §3.1) of JSON `claims`, with this `typ` in the header.
    pub(crate) fn sign(&self, token_type: &str, claims: &[u8]) -> Result<String, SigningKeyFault> {
        let header = json!({ "typ": token_type, "alg": self.algorithm.as_str(), "kid": self.key_id });
        self.sign_under(&header.to_string(), claims)
    }

    /// [`Self::sign`] with any header, so that tests can sign invalid tokens.
    pub(crate) fn sign_under(&self, header: &str, claims: &[u8]) -> Result<String, SigningKeyFault> {
        let mut token = BASE64URL.encode(header);
        token.push('.');
        BASE64URL.encode_string(claims, &mut token);
        let signature = self.pair.sign(token.as_bytes()).map_err(|_| SigningKeyFault::Sign(self.algorithm))?;
        token.push('.');
        BASE64URL.encode_string(signature, &mut token);
        Ok(token)
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// RFC 7638.
    pub(crate) fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The public members only, with `kid`, `alg` and `use`.
    pub(crate) fn public_jwk(&self) -> &Map<String, Value> {
        &self.public_jwk
    }

    pub(crate) fn verifying_key(&self) -> Result<VerifyingKey, SigningKeyFault> {
        VerifyingKey::from_jwk(&Value::Object(self.public_jwk.clone()), &[self.algorithm])
            .map_err(|_| SigningKeyFault::Parse(self.algorithm))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// The library's parameters for an algorithm.
pub(super) enum Scheme {
    Rsa(&'static dyn RsaEncoding),
    Ec(&'static EcdsaSigningAlgorithm),
    Ed25519,
}

impl Scheme {
    /// Also those that own keys do not use: tests sign as issuers do.
    pub(super) fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Rs256 => Self::Rsa(&RSA_PKCS1_SHA256),
            Algorithm::Rs384 => Self::Rsa(&RSA_PKCS1_SHA384),
            Algorithm::Rs512 => Self::Rsa(&RSA_PKCS1_SHA512),
            Algorithm::Ps256 => Self::Rsa(&RSA_PSS_SHA256),
            Algorithm::Ps384 => Self::Rsa(&RSA_PSS_SHA384),
            Algorithm::Ps512 => Self::Rsa(&RSA_PSS_SHA512),
            Algorithm::Es256 => Self::Ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => Self::Ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => Self::Ec(&ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::EdDsa => Self::Ed25519,
        }
    }
}

impl SigningKeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        match self {
            Self::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &SystemRandom::new(), message, &mut signature)?;
                Ok(signature)
            }
            Self::Ec(pair) => Ok(pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec()),
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }

    /// The members that RFC 7638 takes the thumbprint of.
    fn public_jwk(&self) -> Map<String, Value> {
        let jwk = match self {
            Self::Rsa(pair, _) => {
                let public = pair.public_key();
                json!({
                    "kty": "RSA",
                    "n": BASE64URL.encode(public.modulus().big_endian_without_leading_zero()),
                    "e": BASE64URL.encode(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Self::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({ "kty": "EC", "crv": curve, "x": BASE64URL.encode(x), "y": BASE64URL.encode(y) })
            }
            Self::Ed25519(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64URL.encode(pair.public_key()) }),
        };
        let Value::Object(members) = jwk else { return Map::new() };
        members
    }
}

fn ec_pkcs8(curve: &'static EcdsaSigningAlgorithm) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    Ok(EcdsaKeyPair::generate(curve)?.to_pkcs8v1()?.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_signs_for_its_public_jwk() {
        for algorithm in Algorithm::ALL {
            let (key, pkcs8) = SigningKey::generate(algorithm).unwrap();
            let again = SigningKey::from_pkcs8(algorithm, &pkcs8).unwrap();
            let token = again.sign("at+jwt", b"{}").unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            let signature = BASE64URL.decode(signature).unwrap();
            let public = key.verifying_key().unwrap();
            assert!(public.verifies(message.as_bytes(), &signature), "{algorithm}");
            assert!(!public.verifies(b"other", &signature), "{algorithm}");
        }
    }

    #[test]
    fn a_key_file_of_another_algorithm_is_refused() {
        let (_, pkcs8) = SigningKey::generate(Algorithm::Es256).unwrap();
        assert!(SigningKey::from_pkcs8(Algorithm::Rs256, &pkcs8).is_err());
        assert!(SigningKey::from_pkcs8(Algorithm::Es384, &pkcs8).is_err());
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        // The key of RFC 7638 §3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs\
                 tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1\
                 n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = serde_json::from_value(json!({"kty": "RSA", "n": n, "e": "AQAB"})).unwrap();
        assert_eq!(&*thumbprint(&jwk).unwrap(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
