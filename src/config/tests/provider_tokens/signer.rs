//! Keys that sign tokens of any algorithm.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine as _;
use serde_json::Value;

use crate::jose::BASE64URL;
use crate::jose::algorithm::Algorithm;
use crate::jose::signing::SigningKey;
use crate::jose::x509;

/// One key for each type and curve.
pub(super) struct Signers {
    rsa: RsaKeyPair,
    rsa_jwk: Value,
    others: [SigningKey; 3],
}

impl Signers {
    pub(super) fn generate() -> Self {
        let (key, pkcs8) = SigningKey::generate(Algorithm::Rs256).unwrap();
        let others = [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];
        Self {
            rsa: RsaKeyPair::from_pkcs8(&pkcs8).unwrap(),
            rsa_jwk: Value::Object(key.public_jwk().clone()),
            others: others.map(|algorithm| SigningKey::generate(algorithm).unwrap().0),
        }
    }

    pub(super) fn public_jwk(&self, algorithm: &str) -> Value {
        match self.other(algorithm) {
            Some(key) => Value::Object(key.public_jwk().clone()),
            None => self.rsa_jwk.clone(),
        }
    }

    /// Any header and claims, signed with the key of this algorithm.
    pub(super) fn sign(&self, algorithm: &str, header: &str, claims: &[u8]) -> String {
        if let Some(key) = self.other(algorithm) {
            return key.sign_under(header, claims).unwrap();
        }
        let encoding: &dyn RsaEncoding = match algorithm {
            "RS256" => &RSA_PKCS1_SHA256,
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            "PS384" => &RSA_PSS_SHA384,
            "PS512" => &RSA_PSS_SHA512,
            other => panic!("no key for {other}"),
        };
        let input = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(encoding, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
        format!("{input}.{}", BASE64URL.encode(signature))
    }

    fn other(&self, algorithm: &str) -> Option<&SigningKey> {
        self.others.iter().find(|key| key.algorithm().as_str() == algorithm)
    }
}

/// A certificate in PEM, for a file that names an authority.
pub(super) fn certificate() -> String {
    x509::pair("authority", &["authority.example.com"], &[]).unwrap().certificate
}
