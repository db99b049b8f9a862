//! `oauth.clients.ID.certificates[]`: a name that the certificate of a client has.

use super::super::decode::{Decode, form_of, mirror};
use super::super::diagnostics::Reported;
use super::super::form::{KeyRule, ValueForm};
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;

/// One name, of one kind.
#[derive(Debug)]
pub(crate) enum RawCertificateName {
    SubjectDn(At<String>),
    SanDns(At<String>),
    SanUri(At<String>),
}

mirror! {
    struct RawCertificateNameKeys {
        /// The subject, as in RFC 4514: `"CN=billing,O=Example"`.
        subject_dn: Option<At<String>>,
        /// A DNS name among the alternative names.
        san_dns: Option<At<String>>,
        /// A URI among the alternative names, such as a SPIFFE ID.
        san_uri: Option<At<String>>,
    }
}

impl Decode for RawCertificateName {
    fn form() -> ValueForm {
        form_of::<RawCertificateNameKeys>().with_rule(KeyRule::OneOf(&[&["subject_dn"], &["san_dns"], &["san_uri"]]))
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "a map of one name, such as `{san_uri: \"spiffe://example.com/app\"}`";
        if !matches!(node.value, YamlNode::Map(_)) {
            return Err(reader.mismatch(node, EXPECTED, ""));
        }
        let faults = reader.faults.count();
        let RawCertificateNameKeys { subject_dn, san_dns, san_uri } = RawCertificateNameKeys::decode(node, reader)?;
        match (subject_dn, san_dns, san_uri) {
            (Some(subject), None, None) => Ok(Self::SubjectDn(subject)),
            (None, Some(name), None) => Ok(Self::SanDns(name)),
            (None, None, Some(uri)) => Ok(Self::SanUri(uri)),
            _ if reader.faults.count() > faults => Err(reader.faults.reported_before()),
            _ => Err(reader.mismatch(node, EXPECTED, "several names are several items of the list")),
        }
    }
}
