//! Public keys for the assertions that no key of a client can have signed. Verifying with them takes the same time as
//! with a client's own, so that the time does not tell which clients exist.
//!
//! Their private keys were thrown away, and their results are ignored.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::jose::algorithm::Algorithm;
use crate::jose::jwk::VerifyingKey;

/// One key for each algorithm.
#[derive(Debug)]
pub(super) struct StandInKeys(Vec<Arc<VerifyingKey>>);

impl StandInKeys {
    pub(super) fn new() -> Self {
        let key = |algorithm: Algorithm| VerifyingKey::from_jwk(&jwk(algorithm), &Algorithm::ALL).map(Arc::new);
        Self(Algorithm::ALL.into_iter().filter_map(|algorithm| key(algorithm).ok()).collect())
    }

    pub(super) fn of(&self, algorithm: Algorithm) -> Option<&VerifyingKey> {
        self.0.iter().find(|key| key.algorithm == algorithm).map(|key| &**key)
    }
}

fn jwk(algorithm: Algorithm) -> Value {
    let alg = algorithm.as_str();
    match algorithm {
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512 => json!({"kty": "RSA", "alg": alg, "n": MODULUS, "e": "AQAB"}),
        Algorithm::Es256 => json!({"kty": "EC", "crv": "P-256", "x": P256.0, "y": P256.1}),
        Algorithm::Es384 => json!({"kty": "EC", "crv": "P-384", "x": P384.0, "y": P384.1}),
        Algorithm::Es512 => json!({"kty": "EC", "crv": "P-521", "x": P521.0, "y": P521.1}),
        Algorithm::EdDsa => json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519}),
    }
}

/// Of 2048 bits.
const MODULUS: &str = concat!(
    "4RJ9IskrPOe0kJQ9Avr95qE4CqBcr2ALaiPSqSjvpK02XcsH_FxolyCTHDSBx1mH0GeIql-6D5HX8LjTMRcdm3QlqCIdz4_xTKvzd0sb",
    "Ymfu5Y2VxDVLzsBr1t6VDk71-FUcLugnnqeccU_jcW84X6fhZwTT4f0I4OZfoAY1Y6dfCKsj86Ke1LDKpdaMadi2spdMLaUfeII4u3oy",
    "-LgjGkm3JDI77R2hLS6IiTPQIhz45FdGSGbph9iIxm9KpvFJ48P9_sexnzE--eVLCKZHFpfRLCYlw3eX18uQC1nJ1RH7wKoC43UA4HT8",
    "Yptga_dwTVReopWh39bylFriviWxDQ"
);
const P256: (&str, &str) =
    ("383NBXT2_1wOh399tuHoCWtDHX9EPY0THxNGdmDZ_hY", "MnxjzYOSrjRL3-9lTWFY0IaPdZ6JHjInnnEOu3trHEY");
const P384: (&str, &str) = (
    "UmSCUtCQAiaQGIp_yd3b2uvqS8-8GsYYyE602SybOm3SitvZX5DltO4r6-KB8xte",
    "mwSwKuj5IB8Vx-W1c_lB2ztrzTwjR4aroRBEWpS5_GezqORE4j6X1MtgmduzWQev",
);
const P521: (&str, &str) = (
    "ARcQj2LSJX1V9ElssU6AEZfe84Natz15yfWMOEHpTcC27PIsQ8JyWEil1W_azTJcDr7CW958i9KXPCQ5HSN2IN-k",
    "AXxf7PJFlp_ACYYKbV7wv0k299biZigq59WQawTAzV60b0fW7At1hV0_OBRsa8Dq7VfzUfUue2K4Y9KeKTI9uBJy",
);
const ED25519: &str = "7w-29Ug3vOVGCQ1mPBCB2w-jedt4fVaVd1RPQesG8Fg";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_has_a_stand_in_key() {
        let keys = StandInKeys::new();
        for algorithm in Algorithm::ALL {
            assert!(keys.of(algorithm).is_some(), "{algorithm}");
        }
    }
}
