//! The binding that tokens must have: to a key or to a client certificate, of which the caller proves possession.

use std::fmt;

use super::confirmation::Confirmation;

/// The binding that a client's tokens or the tokens at a route must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TokenBinding {
    /// Bearer tokens will do. A bound token still needs its proof.
    #[default]
    None,
    /// To the key of DPoP proofs (RFC 9449).
    Dpop,
    /// To a client certificate (RFC 8705).
    Mtls,
    /// To one of the two.
    Either,
}

impl TokenBinding {
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::Dpop, Self::Mtls, Self::Either];

    /// The word in the configuration.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Dpop => "dpop",
            Self::Mtls => "mtls",
            Self::Either => "either",
        }
    }

    /// Whether a token with this confirmation has the binding.
    pub(crate) fn holds(self, confirmation: &Confirmation) -> bool {
        match self {
            Self::None => true,
            Self::Dpop => confirmation.key.is_some(),
            Self::Mtls => confirmation.certificate.is_some(),
            Self::Either => !confirmation.is_none(),
        }
    }

    /// Whether every token with this binding has the other one as well.
    pub(crate) fn is_within(self, other: Self) -> bool {
        match (self, other) {
            (_, Self::None) | (Self::Dpop | Self::Mtls | Self::Either, Self::Either) => true,
            (Self::None | Self::Dpop | Self::Mtls | Self::Either, _) => self == other,
        }
    }
}

/// Completes "a token …".
impl fmt::Display for TokenBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "of any kind",
            Self::Dpop => "that is bound to a DPoP key",
            Self::Mtls => "that is bound to a client certificate",
            Self::Either => "that is bound to a DPoP key or to a client certificate",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::confirmation::Thumbprint;
    use super::*;

    #[test]
    fn a_binding_holds_for_tokens_that_have_it() {
        let (key, certificate) = (Some(Thumbprint([1; 32])), Some(Thumbprint([2; 32])));
        for (key, certificate, expected) in [
            (None, None, [true, false, false, false]),
            (key, None, [true, true, false, true]),
            (None, certificate, [true, false, true, true]),
            (key, certificate, [true, true, true, true]),
        ] {
            let confirmation = Confirmation { key, certificate };
            assert_eq!(TokenBinding::ALL.map(|bound| bound.holds(&confirmation)), expected, "{confirmation:?}");
        }
    }

    #[test]
    fn a_binding_within_another_holds_for_fewer_tokens() {
        let keys = [None, Some(Thumbprint([1; 32]))];
        let all = keys.iter().flat_map(|key| keys.map(|certificate| Confirmation { key: *key, certificate }));
        let all: Vec<Confirmation> = all.collect();
        for (one, other) in TokenBinding::ALL.into_iter().flat_map(|one| TokenBinding::ALL.map(|other| (one, other))) {
            let implied = all.iter().all(|confirmation| !one.holds(confirmation) || other.holds(confirmation));
            assert_eq!(one.is_within(other), implied, "{one:?} {other:?}");
        }
    }
}
