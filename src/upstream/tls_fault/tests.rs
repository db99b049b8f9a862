//! Faults of handshakes and their texts.

use std::sync::Arc;

use rustls::OtherError;
use rustls::pki_types::ServerName;

use super::*;

const FACTS: HandshakeFacts<'_> =
    HandshakeFacts { name: "legacy.internal", protocol: UpstreamProtocol::Http1, lacks_certificate: false };

fn wrapped(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[track_caller]
fn gives(error: Error, facts: HandshakeFacts<'_>, rule: &str) -> String {
    let fault = TlsFault::of_handshake(wrapped(error), facts);
    let fault = TlsFault::within(&fault).unwrap();
    assert_eq!(fault.rule(), rule, "{fault}");
    fault.to_string()
}

fn alert(alert: AlertDescription) -> Error {
    Error::AlertReceived(alert)
}

#[test]
fn a_requested_client_certificate_is_missing() {
    let lacking = HandshakeFacts { lacks_certificate: true, ..FACTS };
    for sent in [
        AlertDescription::HandshakeFailure,
        AlertDescription::BadCertificate,
        AlertDescription::CertificateRequired,
        AlertDescription::CertificateUnknown,
    ] {
        gives(alert(sent), lacking, "tls_client_certificate_missing");
    }
    gives(alert(AlertDescription::CertificateRequired), FACTS, "tls_client_certificate_missing");
    let refused = gives(alert(AlertDescription::UnknownCA), FACTS, "tls_client_certificate_refused");
    assert!(refused.contains("UnknownCA"), "{refused}");
    gives(alert(AlertDescription::ProtocolVersion), lacking, "tls_version");
}

#[test]
fn handshakes_without_common_parameters_say_so() {
    gives(alert(AlertDescription::HandshakeFailure), FACTS, "tls_cipher");
    gives(Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), FACTS, "tls_cipher");
    gives(alert(AlertDescription::ProtocolVersion), FACTS, "tls_version");
    gives(Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13), FACTS, "tls_version");
    gives(Error::InvalidMessage(InvalidMessage::InvalidContentType), FACTS, "tls_not_spoken");
    let no_protocol = || alert(AlertDescription::NoApplicationProtocol);
    assert!(gives(no_protocol(), FACTS, "tls_protocol").contains("HTTP/1.1"));
    let http2 = HandshakeFacts { protocol: UpstreamProtocol::Http2, ..FACTS };
    assert!(gives(no_protocol(), http2, "tls_protocol").contains("HTTP/2"));
    gives(alert(AlertDescription::InternalError), FACTS, "tls_other");
}

#[test]
fn another_name_is_reported_as_found_and_wanted() {
    let other = |presented: &[&str]| {
        let expected = ServerName::try_from("legacy.internal").unwrap();
        let presented = presented.iter().map(|name| (*name).to_owned()).collect();
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented })
    };
    let text = gives(other(&["DnsName(\"a.internal\")", "IpAddress(10.0.0.1)"]), FACTS, "tls_name");
    assert_eq!(text, "the server's certificate is for `a.internal`, `10.0.0.1`, not for `legacy.internal`");
    let text = gives(other(&["DnsName(\"a\")"; 9]), FACTS, "tls_name");
    assert!(text.contains("`a`, `a`, `a`, `a`, `a`, others, not for"), "{text}");
    assert!(gives(other(&[]), FACTS, "tls_name").contains("no subjectAltName"));
    let unknown = gives(alert(AlertDescription::UnrecognisedName), FACTS, "tls_unknown_name");
    assert!(unknown.contains("`legacy.internal`"), "{unknown}");
}

#[test]
fn other_faults_of_a_certificate_are_distinguished() {
    let certificate = |fault| Error::InvalidCertificate(fault);
    let (now, then) = (pki_time(UnixTime::from_seconds(2_000_000_000)), UnixTime::from_seconds(86_400));
    let text = gives(certificate(TlsFault::expired(now, then)), FACTS, "tls_expired");
    assert!(text.ends_with("valid until 1970-01-02T00:00:00Z"), "{text}");
    let text = gives(certificate(TlsFault::not_yet_valid(now, then)), FACTS, "tls_not_yet_valid");
    assert!(text.ends_with("before 1970-01-02T00:00:00Z"), "{text}");
    gives(certificate(CertificateError::UnknownIssuer), FACTS, "tls_unknown_issuer");
    let other = CertificateError::Other(OtherError(Arc::new(io::Error::other("CaUsedAsEndEntity"))));
    assert!(gives(certificate(other), FACTS, "tls_certificate").contains("CaUsedAsEndEntity"));
}

#[test]
fn errors_that_are_not_of_tls_stay_as_they_are() {
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    assert_eq!(TlsFault::of_handshake(reset(), FACTS).kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(TlsFault::of_read(reset()).kind(), io::ErrorKind::ConnectionReset);
    assert!(TlsFault::within(&TlsFault::of_read(wrapped(alert(AlertDescription::InternalError)))).is_none());
    let missing = TlsFault::of_read(wrapped(alert(AlertDescription::CertificateRequired)));
    assert_eq!(TlsFault::within(&missing), Some(&TlsFault::CertificateRequested));
}
