//! The statements of a trusted proxy that its listener believes: parts of the public origin, and the certificate of the
//! client.

use std::fmt;

/// A part of an origin (RFC 6454 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OriginPart {
    Scheme,
    Host,
    Port,
}

/// A statement of a proxy about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyStatement {
    Origin(OriginPart),
    /// The certificate that the client has presented to the proxy.
    ClientCertificate,
}

/// The statements that a listener believes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BelievedParts {
    pub(crate) scheme: bool,
    pub(crate) host: bool,
    pub(crate) port: bool,
    pub(crate) client_certificate: bool,
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

impl ProxyStatement {
    pub(crate) const ALL: [Self; 4] = [
        Self::Origin(OriginPart::Scheme),
        Self::Origin(OriginPart::Host),
        Self::Origin(OriginPart::Port),
        Self::ClientCertificate,
    ];

    /// Its name in the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Origin(part) => part.as_str(),
            Self::ClientCertificate => "client_cert",
        }
    }
}

impl fmt::Display for ProxyStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl BelievedParts {
    /// False if the statement was there already.
    pub(crate) fn add(&mut self, statement: ProxyStatement) -> bool {
        let believed = match statement {
            ProxyStatement::Origin(OriginPart::Scheme) => &mut self.scheme,
            ProxyStatement::Origin(OriginPart::Host) => &mut self.host,
            ProxyStatement::Origin(OriginPart::Port) => &mut self.port,
            ProxyStatement::ClientCertificate => &mut self.client_certificate,
        };
        !std::mem::replace(believed, true)
    }

    pub(crate) fn names(self) -> Vec<&'static str> {
        let is_believed = |statement: &ProxyStatement| match statement {
            ProxyStatement::Origin(OriginPart::Scheme) => self.scheme,
            ProxyStatement::Origin(OriginPart::Host) => self.host,
            ProxyStatement::Origin(OriginPart::Port) => self.port,
            ProxyStatement::ClientCertificate => self.client_certificate,
        };
        ProxyStatement::ALL.into_iter().filter(is_believed).map(ProxyStatement::as_str).collect()
    }

    pub(crate) fn has_origin(self) -> bool {
        self.scheme || self.host || self.port
    }
}
