//! `tls_client_auth`: a client is authenticated by the certificate of its connection (RFC 8705 §2.1).
//!
//! The certificate was verified in the handshake, or by the proxy that states it. Here its names are compared with those
//! that the configuration keeps of the client. One name suffices.

use std::fmt;
use std::rc::Rc;

use super::claim::{Claim, Standing};
use crate::clock::UnixTime;
use crate::jose::client_certificate::ClientCertificate;
use crate::jose::distinguished_name::DistinguishedName;
use crate::oauth::discrepancy::{Discrepancy, one_of, short};

/// A certificate, and the client that it is presented for.
#[derive(Debug)]
pub(crate) struct PresentedCertificate {
    pub(crate) id: String,
    pub(crate) certificate: Rc<ClientCertificate>,
}

/// A name that the certificate of a client has (RFC 8705 §2.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CertificateName {
    SubjectDn(DistinguishedName),
    /// In lower case.
    SanDns(String),
    SanUri(String),
}

/// The names of a client that a text shows.
const MAX_NAMES: usize = 8;

impl CertificateName {
    fn is_of(&self, certificate: &ClientCertificate) -> bool {
        match self {
            Self::SubjectDn(subject) => certificate.subject.as_ref() == Some(subject),
            Self::SanDns(name) => certificate.dns_names.iter().any(|own| own.eq_ignore_ascii_case(name)),
            Self::SanUri(uri) => certificate.uris.contains(uri),
        }
    }
}

impl PresentedCertificate {
    /// Checks that the certificate has a name of the client. Gives what was found and wanted, for the audit log.
    pub(super) fn check(&self, claim: Claim<'_, &[CertificateName]>, now: UnixTime) -> Result<(), Box<Discrepancy>> {
        let Claim { standing, kept, .. } = claim;
        let has_name = kept.iter().any(|name| name.is_of(&self.certificate));
        let wanted = match standing {
            Standing::Unknown => "a client with this id",
            Standing::Good | Standing::Elsewhere if kept.is_empty() => "another authentication method of this client",
            Standing::Good | Standing::Elsewhere if !has_name => "a certificate with a name of `certificates`",
            Standing::Good | Standing::Elsewhere if self.certificate.has_ended(now) => {
                "a certificate that has not ended"
            }
            Standing::Good | Standing::Elsewhere => return Ok(()),
        };
        Err(Box::new(Discrepancy::new(found_text(&self.certificate), wanted)))
    }
}

fn found_text(certificate: &ClientCertificate) -> String {
    let subject = certificate.subject.as_ref().map(|subject| short(&subject.to_string()));
    let subject = one_of("subject_dn", subject.as_deref());
    let [uris, dns_names] = [("san_uri", &certificate.uris), ("san_dns", &certificate.dns_names)]
        .map(|(name, values)| one_of(name, values.iter().map(String::as_str)));
    format!("a certificate with {subject}, {uris}, {dns_names}, x5t#S256={:?}", certificate.thumbprint)
}

/// For a request without a certificate: the names of which one is wanted.
pub(super) fn missing(kept: &[CertificateName]) -> Box<Discrepancy> {
    let names: Vec<String> = kept.iter().take(MAX_NAMES).map(CertificateName::to_string).collect();
    let wanted = format!("a certificate with {}", names.join(" or "));
    Box::new(Discrepancy::new("no client certificate", wanted))
}

/// As in the configuration.
impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SubjectDn(subject) => write!(f, "subject_dn={subject}"),
            Self::SanDns(name) => write!(f, "san_dns={name}"),
            Self::SanUri(uri) => write!(f, "san_uri={uri}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::jose::x509::client_certificate;

    const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);

    fn presented(end: i32) -> PresentedCertificate {
        let der = client_certificate(["Example", "client"], &["A.example"], &["spiffe://example/a"], end);
        PresentedCertificate { id: "app".to_owned(), certificate: Rc::new(ClientCertificate::read(&der).unwrap()) }
    }

    fn is_of(presented: &PresentedCertificate, kept: &[CertificateName], standing: Standing) -> bool {
        presented.check(Claim { id: "app", standing, kept, from: Ipv4Addr::LOCALHOST.into() }, NOW).is_ok()
    }

    fn subject(text: &str) -> CertificateName {
        CertificateName::SubjectDn(DistinguishedName::parse(text).unwrap())
    }

    fn dns(name: &str) -> CertificateName {
        CertificateName::SanDns(name.to_owned())
    }

    fn uri(uri: &str) -> CertificateName {
        CertificateName::SanUri(uri.to_owned())
    }

    #[test]
    fn a_certificate_with_one_of_the_names_matches() {
        for name in [subject("CN=client,O=Example"), dns("a.example"), uri("spiffe://example/a")] {
            assert!(is_of(&presented(2030), &[dns("b.example"), name], Standing::Good));
        }
    }

    #[test]
    fn a_name_of_another_kind_or_text_does_not_match() {
        for name in [
            subject("CN=client"),
            subject("O=Example,CN=client"),
            dns("*.example"),
            dns("client"),
            dns("spiffe://example/a"),
            uri("a.example"),
            uri("spiffe://example/A"),
            uri("spiffe://example/a/b"),
            uri("spiffe://example/"),
        ] {
            assert!(!is_of(&presented(2030), std::slice::from_ref(&name), Standing::Good), "{name:?}");
        }
        assert!(!is_of(&presented(2030), &[], Standing::Good));
    }

    #[test]
    fn a_refused_certificate_is_described_by_its_names() {
        let claim =
            Claim { id: "app", standing: Standing::Good, kept: &[dns("b")][..], from: Ipv4Addr::LOCALHOST.into() };
        let values = presented(2030).check(claim, NOW).unwrap_err();
        let names = "subject_dn=CN=client,O=Example, san_uri=spiffe://example/a, san_dns=A.example, x5t#S256=";
        assert!(values.found.starts_with(&format!("a certificate with {names}")), "{values}");
    }

    #[test]
    fn a_missing_certificate_is_described_by_its_names() {
        let certificates = vec![dns("a.example"), subject("CN=client,O=Example")];
        let text = "found no client certificate, \
                    wanted a certificate with san_dns=a.example or subject_dn=CN=client,O=Example";
        assert_eq!(missing(&certificates).to_string(), text);
    }

    #[test]
    fn an_unknown_client_and_an_ended_certificate_match_nothing() {
        assert!(!is_of(&presented(2030), &[dns("a.example")], Standing::Unknown));
        assert!(!is_of(&presented(2021), &[dns("a.example")], Standing::Good));
        assert!(is_of(&presented(2030), &[dns("a.example")], Standing::Elsewhere));
    }
}
