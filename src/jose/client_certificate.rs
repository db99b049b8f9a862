//! The certificate of a client: the facts by which clients are authenticated and tokens are bound (RFC 8705).
//!
//! Reads the certificate and verifies nothing: TLS has done that, or a proxy that is believed.

use aws_lc_rs::digest::{SHA256, digest};

use super::certificate_facts::CertificateFacts;
use super::der::{DerReader, OBJECT_ID, OCTET_STRING, SEQUENCE};
use super::distinguished_name::DistinguishedName;
use crate::clock::UnixTime;
use crate::oauth::confirmation::Thumbprint;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// The digest of its DER (RFC 8705 §3.1).
    pub(crate) thumbprint: Thumbprint,
    /// `None` if it is empty, or has a value without a certain text.
    pub(crate) subject: Option<DistinguishedName>,
    /// The URIs among its alternative names.
    pub(crate) uris: Vec<String>,
    /// The DNS names among its alternative names.
    pub(crate) dns_names: Vec<String>,
    valid_until: Option<UnixTime>,
}

const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = b"\x55\x1d\x11";
/// `GeneralName` (RFC 5280 §4.2.1.6).
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;

impl ClientCertificate {
    /// `None` if it is no certificate, or has its alternative names twice.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let facts = CertificateFacts::read(der)?;
        let mut whole = DerReader::new(der);
        let mut certificate = whole.enter(SEQUENCE)?;
        let mut fields = certificate.enter(SEQUENCE)?;
        fields.skip_optional(VERSION);
        let [_serial, _algorithm, _issuer, _validity] =
            [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
        let subject = DistinguishedName::of_der(fields.enter(SEQUENCE)?).filter(|subject| !subject.is_empty());
        let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
        if let Some(mut names) = alternative_names(fields)? {
            while let Some((tag, name)) = names.next() {
                let list = match tag {
                    DNS_NAME => &mut dns_names,
                    URI => &mut uris,
                    _ => continue,
                };
                list.push(String::from_utf8(name.to_vec()).ok()?);
            }
            names.is_empty().then_some(())?;
        }
        let digest = digest(&SHA256, der).as_ref().try_into().ok()?;
        let read = Self { thumbprint: Thumbprint(digest), subject, uris, dns_names, valid_until: facts.valid_until };
        whole.is_empty().then_some(read)
    }

    /// A certificate of which nothing else is known.
    pub(crate) fn with_thumbprint(thumbprint: Thumbprint) -> Self {
        Self { thumbprint, subject: None, uris: Vec::new(), dns_names: Vec::new(), valid_until: None }
    }

    /// A connection, or the resumption of a session, may outlive the certificate that it began with.
    pub(crate) fn has_ended(&self, now: UnixTime) -> bool {
        self.valid_until.is_some_and(|end| end < now)
    }
}

/// The outer `None`: the extension occurs twice, or cannot be read.
fn alternative_names<'d>(mut fields: DerReader<'d>) -> Option<Option<DerReader<'d>>> {
    let Some(mut extensions) = fields.find(EXTENSIONS) else { return Some(None) };
    let mut extensions = extensions.enter(SEQUENCE)?;
    let mut found = None;
    while let Some(mut extension) = extensions.enter(SEQUENCE) {
        if extension.content(OBJECT_ID)? == ALTERNATIVE_NAMES {
            let names = extension.find(OCTET_STRING)?.enter(SEQUENCE)?;
            found.replace(names).is_none().then_some(())?;
        }
    }
    extensions.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::x509::client_certificate;
    use super::*;

    #[test]
    fn the_names_of_a_certificate_are_read() {
        let der = client_certificate(["Example, Inc.", "client"], &["A.example"], &["spiffe://example/a"], 2030);
        let read = ClientCertificate::read(&der).unwrap();
        assert_eq!(read.subject, DistinguishedName::parse("CN=client,O=Example\\, Inc.").ok());
        assert_eq!((read.uris, read.dns_names), (vec!["spiffe://example/a".to_owned()], vec!["A.example".to_owned()]));
        assert_eq!(digest(&SHA256, &der).as_ref(), read.thumbprint.0);
        assert_eq!(ClientCertificate::read(&[&der[..], b"\0"].concat()), None, "bytes after it");
    }

    #[test]
    fn an_empty_subject_names_nothing() {
        let read = ClientCertificate::read(&client_certificate(["", ""], &[], &["a:b"], 2030)).unwrap();
        assert_eq!(read.subject, None);
    }

    #[test]
    fn a_certificate_ends_after_its_last_second() {
        let read = ClientCertificate::read(&client_certificate(["", "a"], &[], &[], 2021)).unwrap();
        let at = |time| UnixTime::parse(time).unwrap();
        assert!(!read.has_ended(at("2021-01-01T00:00:00Z")) && read.has_ended(at("2021-01-01T00:00:01Z")));
    }

    proptest! {
        #[test]
        fn no_damage_to_a_certificate_causes_a_panic(at in 0usize..600, byte in any::<u8>(), cut in 0usize..600) {
            let mut bytes = client_certificate(["a", "b"], &["c"], &["d:e"], 2030);
            let length = bytes.len();
            bytes[at % length] = byte;
            let _ = ClientCertificate::read(&bytes);
            let _ = ClientCertificate::read(&bytes[..cut.min(length)]);
        }
    }
}
