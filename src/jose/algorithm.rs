//! The supported signature algorithms, all asymmetric.

use std::fmt;

/// A JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1). `none` and HMAC are not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Algorithm {
    /// All that an issuer's configuration may name.
    pub(crate) const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// Those of an issuer whose configuration names none.
    pub(crate) const DEFAULT: [Self; 5] = [Self::Rs256, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa];

    /// Those of the gateway's own keys. Every common verifier knows them.
    pub(crate) const SIGNING: [Self; 5] = Self::DEFAULT;

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of exactly this name; names are case-sensitive (RFC 7515 §4.1.1). `Ed25519` (RFC 9864 §2.2) is
    /// `EdDSA`, which has no other curve here.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        if name == ED25519 {
            return Some(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// The algorithm of an own signing key, as its file and the configuration name it.
    pub(crate) fn from_signing_name(name: &str) -> Option<Self> {
        Self::SIGNING.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

/// The name of RFC 9864 §2.2 for EdDSA with an Ed25519 key.
pub(crate) const ED25519: &str = "Ed25519";

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
