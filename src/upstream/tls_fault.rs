//! Faults of TLS with a server: the values that were found and wanted, and the remedy for each.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::protocol::UpstreamProtocol;
use crate::clock::UnixTime;

/// Its text contains nothing secret, and names that the server presents only in part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TlsFault {
    #[error("the server asks for a client certificate, and none is configured for it")]
    CertificateRequested,
    #[error("the server refuses the client certificate, or that there is none (alert {0})")]
    CertificateRefused(String),
    #[error("the server and the gateway have no TLS version in common: the gateway speaks TLS 1.2 and 1.3")]
    Version,
    #[error(
        "the server and the gateway have no cipher suite in common: the gateway offers AES-GCM and ChaCha20-Poly1305, \
         in TLS 1.2 with ECDHE"
    )]
    Cipher,
    #[error("the server's certificate is for {found}, not for `{wanted}`")]
    Name { found: String, wanted: String },
    #[error("the server does not know the name `{0}`")]
    UnknownName(String),
    #[error("the server's certificate is of an authority that is not trusted")]
    UnknownIssuer,
    #[error("the server's certificate has expired: it was valid until {0}")]
    Expired(String),
    #[error("the server's certificate is not valid before {0}")]
    NotYetValid(String),
    #[error("the server's certificate cannot be used: {0}")]
    Certificate(String),
    #[error("the server does not speak TLS")]
    NotTls,
    #[error("the server does not speak HTTP/2: it did not choose `h2` by ALPN")]
    NotHttp2,
    #[error("the server does not speak HTTP/1.1: it did not choose `http/1.1` by ALPN")]
    NotHttp1,
    #[error("TLS failed: {0}")]
    Other(String),
}

/// The facts of a handshake that explain its failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandshakeFacts<'h> {
    /// The name that was asked for.
    pub(super) name: &'h str,
    pub(super) protocol: UpstreamProtocol,
    /// The server asked for a client certificate, and got none.
    pub(super) lacks_certificate: bool,
}

/// Of those that a certificate is for.
const MAX_NAMES: usize = 5;

impl TlsFault {
    /// The name in logs and in the audit log.
    pub(crate) fn rule(&self) -> &'static str {
        match self {
            Self::CertificateRequested => "tls_client_certificate_missing",
            Self::CertificateRefused(_) => "tls_client_certificate_refused",
            Self::Version => "tls_version",
            Self::Cipher => "tls_cipher",
            Self::Name { .. } => "tls_name",
            Self::UnknownName(_) => "tls_unknown_name",
            Self::UnknownIssuer => "tls_unknown_issuer",
            Self::Expired(_) => "tls_expired",
            Self::NotYetValid(_) => "tls_not_yet_valid",
            Self::Certificate(_) => "tls_certificate",
            Self::NotTls => "tls_not_spoken",
            Self::NotHttp2 | Self::NotHttp1 => "tls_protocol",
            Self::Other(_) => "tls_other",
        }
    }

    /// In the audit log.
    pub(crate) fn found_and_wanted(&self) -> (&str, &str) {
        match self {
            Self::CertificateRequested => ("a request for a client certificate", "none"),
            Self::CertificateRefused(alert) => (alert, "an accepted client certificate"),
            Self::Version => ("another version of TLS", "TLS 1.2 or 1.3"),
            Self::Cipher => ("other cipher suites", "AES-GCM or ChaCha20-Poly1305"),
            Self::Name { found, wanted } => (found, wanted),
            Self::UnknownName(name) => ("a server that does not know the name", name),
            Self::UnknownIssuer => ("a certificate of an unknown authority", "one of a trusted authority"),
            Self::Expired(until) => (until, "a certificate that ends later"),
            Self::NotYetValid(from) => (from, "a certificate that begins earlier"),
            Self::Certificate(reason) => (reason, "a certificate that can be used"),
            Self::NotTls => ("no TLS", "TLS"),
            Self::NotHttp2 => ("another protocol", "h2"),
            Self::NotHttp1 => ("another protocol", "http/1.1"),
            Self::Other(reason) => (reason, "TLS"),
        }
    }

    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::CertificateRequested => "set `tls.client_cert` and `tls.client_key`",
            Self::CertificateRefused(_) => "check `tls.client_cert`",
            Self::Version => "enable TLS 1.2 or 1.3 on the server",
            Self::Cipher => "enable one of these cipher suites on the server",
            Self::Name { .. } | Self::UnknownName(_) => "set `tls.server_name` to a name of the server's certificate",
            Self::UnknownIssuer => "add its authority, or the certificate itself, to the file of `tls.ca`",
            Self::Expired(_) => "renew the server's certificate",
            Self::NotYetValid(_) => "check the clocks of the server and of this machine",
            Self::Certificate(_) => "renew it, or set `tls.ca` to a file with this very certificate",
            Self::NotTls => "write `http://` in `servers`, or another port",
            Self::NotHttp2 => "remove `protocol: http2`",
            Self::NotHttp1 => "set `protocol: http2`",
            Self::Other(_) => "check the TLS settings of the server",
        }
    }

    /// The fault within an error of a connection.
    pub(crate) fn within(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    pub(super) fn into_io(self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, self)
    }

    /// The error of a handshake; others than TLS's own stay as they are.
    pub(super) fn of_handshake(error: io::Error, facts: HandshakeFacts<'_>) -> io::Error {
        match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
            Some(fault) => Self::of(fault, facts).into_io(),
            None => error,
        }
    }

    /// The error of reading. In TLS 1.3 a server judges the client's certificate after the client's handshake.
    pub(super) fn of_read(error: io::Error) -> io::Error {
        match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
            Some(Error::AlertReceived(alert)) => match Self::of_certificate_alert(*alert) {
                Some(fault) => fault.into_io(),
                None => error,
            },
            _ => error,
        }
    }

    fn of(error: &Error, facts: HandshakeFacts<'_>) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::of_alert(*alert, facts),
            Error::InvalidCertificate(fault) => Self::of_certificate(fault, facts.name),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::Version,
            Error::PeerIncompatible(
                PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon,
            ) => Self::Cipher,
            other => Self::Other(other.to_string()),
        }
    }

    fn of_alert(alert: AlertDescription, facts: HandshakeFacts<'_>) -> Self {
        let certificate = Self::of_certificate_alert(alert);
        match alert {
            _ if facts.lacks_certificate && (certificate.is_some() || alert == AlertDescription::HandshakeFailure) => {
                Self::CertificateRequested
            }
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => Self::Cipher,
            AlertDescription::ProtocolVersion => Self::Version,
            AlertDescription::UnrecognisedName => Self::UnknownName(facts.name.to_owned()),
            AlertDescription::NoApplicationProtocol => match facts.protocol {
                UpstreamProtocol::Http1 => Self::NotHttp1,
                UpstreamProtocol::Http2 => Self::NotHttp2,
            },
            other => certificate.unwrap_or_else(|| Self::Other(format!("the server sent the alert {other:?}"))),
        }
    }

    fn of_certificate_alert(alert: AlertDescription) -> Option<Self> {
        match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => Some(Self::CertificateRequested),
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => Some(Self::CertificateRefused(format!("{alert:?}"))),
            _ => None,
        }
    }

    fn of_certificate(fault: &CertificateError, name: &str) -> Self {
        let date = |seconds: u64| UnixTime::from_seconds(seconds).to_the_second();
        match fault {
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::Name { found: names(presented), wanted: name.to_owned() }
            }
            CertificateError::NotValidForName => Self::Name { found: names(&[]), wanted: name.to_owned() },
            // An authority of the same name with another key has signed it.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired(date(not_after.as_secs())),
            CertificateError::Expired => Self::Expired(date(0)),
            CertificateError::NotValidYetContext { not_before, .. } => Self::NotYetValid(date(not_before.as_secs())),
            CertificateError::Other(other) => Self::Certificate(format!("{:?}", other.0)),
            other => Self::Certificate(other.to_string()),
        }
    }

    /// A certificate that was valid until this time.
    pub(super) fn expired(time: rustls::pki_types::UnixTime, until: UnixTime) -> CertificateError {
        CertificateError::ExpiredContext { time, not_after: pki_time(until) }
    }

    /// A certificate that is valid from this time on.
    pub(super) fn not_yet_valid(time: rustls::pki_types::UnixTime, from: UnixTime) -> CertificateError {
        CertificateError::NotValidYetContext { time, not_before: pki_time(from) }
    }
}

fn pki_time(time: UnixTime) -> rustls::pki_types::UnixTime {
    rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(time.seconds()))
}

/// The names of a certificate, which the library gives as `DnsName("a")` and `IpAddress(10.0.0.1)`.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        format!("`{}`", inner.trim_matches('"').escape_default())
    };
    let mut named: Vec<String> = presented.iter().take(MAX_NAMES).map(plain).collect();
    if presented.len() > MAX_NAMES {
        named.push("others".to_owned());
    }
    if named.is_empty() { "no name (it has no subjectAltName)".to_owned() } else { named.join(", ") }
}

#[cfg(test)]
mod tests;
