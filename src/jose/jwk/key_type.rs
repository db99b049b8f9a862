//! The type of a public key, and its parameters, brought into one form however they are written.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, EcdsaVerificationAlgorithm,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType, Jwk,
    OctetKeyPairParameters, OctetKeyPairType, RSAKeyParameters, RSAKeyType,
};

use super::super::algorithm::Algorithm;
use super::super::{BASE64URL, ed25519, roca};
use super::{JwkMembers, UnusableKey};

/// `kty`, and `crv` where the type has curves (RFC 7518 §6.2.1.1, RFC 8037 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyType {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

/// The public members, decoded.
#[derive(Debug)]
pub(super) struct KeyParameters {
    key_type: KeyType,
    /// `n` of RSA, else `x`.
    first: Vec<u8>,
    /// `e` of RSA, `y` of elliptic curves; empty for Ed25519.
    second: Vec<u8>,
}

impl KeyType {
    pub(super) fn of(jwk: &JwkMembers) -> Result<Self, UnusableKey> {
        match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Ok(Self::Rsa),
            ("EC", Some("P-256")) => Ok(Self::P256),
            ("EC", Some("P-384")) => Ok(Self::P384),
            ("EC", Some("P-521")) => Ok(Self::P521),
            ("OKP", Some("Ed25519")) => Ok(Self::Ed25519),
            ("EC" | "OKP", Some(_)) => Err(UnusableKey::Curve),
            ("EC" | "OKP", None) => Err(UnusableKey::Malformed),
            (_, _) => Err(UnusableKey::KeyType),
        }
    }

    pub(super) fn fits(self, algorithm: Algorithm) -> bool {
        self == match algorithm {
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => Self::Rsa,
            Algorithm::Es256 => Self::P256,
            Algorithm::Es384 => Self::P384,
            Algorithm::Es512 => Self::P521,
            Algorithm::EdDsa => Self::Ed25519,
        }
    }

    pub(super) fn parameters(self, jwk: &JwkMembers) -> Result<KeyParameters, UnusableKey> {
        let (first, second) = match self {
            Self::Rsa => (unsigned(decode(jwk.n.as_deref())?), unsigned(decode(jwk.e.as_deref())?)),
            Self::P256 | Self::P384 | Self::P521 => (decode(jwk.x.as_deref())?, decode(jwk.y.as_deref())?),
            Self::Ed25519 => (decode(jwk.x.as_deref())?, Vec::new()),
        };
        Ok(KeyParameters { key_type: self, first, second })
    }
}

impl KeyParameters {
    /// The key, for an algorithm of its type.
    pub(super) fn public_key(&self, algorithm: Algorithm) -> Result<ParsedPublicKey, UnusableKey> {
        match algorithm {
            Algorithm::Rs256 => self.rsa_key(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => self.rsa_key(&RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => self.rsa_key(&RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => self.rsa_key(&RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => self.rsa_key(&RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => self.rsa_key(&RSA_PSS_2048_8192_SHA512),
            Algorithm::Es256 => self.ec_key(&ECDSA_P256_SHA256_FIXED, 32),
            Algorithm::Es384 => self.ec_key(&ECDSA_P384_SHA384_FIXED, 48),
            Algorithm::Es512 => self.ec_key(&ECDSA_P521_SHA512_FIXED, 66),
            Algorithm::EdDsa => self.ed25519_key(),
        }
    }

    fn rsa_key(&self, parameters: &'static RsaParameters) -> Result<ParsedPublicKey, UnusableKey> {
        let (n, e) = (self.first.as_slice(), self.second.as_slice());
        let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if bits < 2048 {
            return Err(UnusableKey::ShortRsa(bits));
        }
        let exponent = e.iter().try_fold(0_u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
        let sound =
            exponent.is_some_and(|e| e > 3 && e < 1 << 33 && e % 2 == 1) && n.last().is_some_and(|byte| byte % 2 == 1);
        if bits > 8192 || !sound || roca::has_fingerprint(n) {
            return Err(UnusableKey::Parameters);
        }
        PublicKeyComponents { n, e }.to_parsed_public_key(parameters).map_err(|_| UnusableKey::Parameters)
    }

    fn ec_key(&self, curve: &'static EcdsaVerificationAlgorithm, size: usize) -> Result<ParsedPublicKey, UnusableKey> {
        if self.first.len() != size || self.second.len() != size {
            return Err(UnusableKey::Parameters);
        }
        // An uncompressed point (SEC 1 §2.3.3); that it lies on the curve is checked while parsing.
        let point = [&[4][..], &self.first, &self.second].concat();
        ParsedPublicKey::new(curve, point).map_err(|_| UnusableKey::Parameters)
    }

    fn ed25519_key(&self) -> Result<ParsedPublicKey, UnusableKey> {
        if !ed25519::is_valid_point(&self.first) {
            return Err(UnusableKey::Parameters);
        }
        ParsedPublicKey::new(&ED25519, &self.first).map_err(|_| UnusableKey::Parameters)
    }

    /// Only the members that a thumbprint is made of, in the form that RFC 7518 §6 requires.
    pub(super) fn jwk(&self) -> Jwk {
        let (first, second) = (BASE64URL.encode(&self.first), BASE64URL.encode(&self.second));
        let ec = |curve| {
            let (x, y) = (first.clone(), second.clone());
            AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
                key_type: EllipticCurveKeyType::EC,
                curve,
                x,
                y,
            })
        };
        let algorithm = match self.key_type {
            KeyType::Rsa => {
                AlgorithmParameters::RSA(RSAKeyParameters { key_type: RSAKeyType::RSA, n: first, e: second })
            }
            KeyType::P256 => ec(EllipticCurve::P256),
            KeyType::P384 => ec(EllipticCurve::P384),
            KeyType::P521 => ec(EllipticCurve::P521),
            KeyType::Ed25519 => AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
                key_type: OctetKeyPairType::OctetKeyPair,
                curve: EllipticCurve::Ed25519,
                x: first,
            }),
        };
        Jwk { common: CommonParameters::default(), algorithm }
    }
}

/// Base64url with padding or without. Some issuers pad the parameters of their keys, against RFC 7515 §2. Tokens are
/// never read by this.
const PADDED_OR_NOT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn decode(text: Option<&str>) -> Result<Vec<u8>, UnusableKey> {
    PADDED_OR_NOT.decode(text.ok_or(UnusableKey::Malformed)?).map_err(|_| UnusableKey::Parameters)
}

/// Some issuers send the sign byte that their big-integer library adds.
fn unsigned(mut number: Vec<u8>) -> Vec<u8> {
    if number.first() == Some(&0) {
        number.remove(0);
    }
    number
}
