//! The parts of the public origin that a trusted proxy may state, if its listener believes them.

use std::fmt;

/// A part of an origin (RFC 6454 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OriginPart {
    Scheme,
    Host,
    Port,
}

/// The parts that a listener believes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BelievedParts {
    pub(crate) scheme: bool,
    pub(crate) host: bool,
    pub(crate) port: bool,
}

/// Why a statement of a trusted proxy is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OriginFault {
    #[error("the forwarding fields name different {0}s")]
    Contradiction(OriginPart),
    #[error("a forwarding field does not name one valid {0}")]
    Invalid(OriginPart),
}

impl OriginPart {
    pub(crate) const ALL: [Self; 3] = [Self::Scheme, Self::Host, Self::Port];

    /// Its name in the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Scheme => "scheme",
            Self::Host => "host",
            Self::Port => "port",
        }
    }
}

impl fmt::Display for OriginPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl BelievedParts {
    /// False if the part was there already.
    pub(crate) fn add(&mut self, part: OriginPart) -> bool {
        let believed = match part {
            OriginPart::Scheme => &mut self.scheme,
            OriginPart::Host => &mut self.host,
            OriginPart::Port => &mut self.port,
        };
        !std::mem::replace(believed, true)
    }

    pub(crate) fn names(self) -> Vec<&'static str> {
        let is_believed = |part: &OriginPart| match part {
            OriginPart::Scheme => self.scheme,
            OriginPart::Host => self.host,
            OriginPart::Port => self.port,
        };
        OriginPart::ALL.into_iter().filter(is_believed).map(OriginPart::as_str).collect()
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }
}
