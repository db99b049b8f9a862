//! `oauth.clients.ID.federation`: platform tokens that are a client's credentials.

use super::super::decode::{Decode, Named, Required, mirror};
use super::super::diagnostics::Reported;
use super::super::form::ValueForm;
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;
use super::claim::RawClaimRule;

mirror! {
    struct RawFederation {
        /// The name of an issuer of `issuers`.
        issuer: Required<String>,
        /// One of the `tenants` of the issuer. Required if it has them.
        tenant: Option<At<String>>,
        /// The subject of its tokens, or a pattern.
        subject: Required<RawSubject>,
        /// Claims that the token must have too, as in `access.claims`.
        claims: Named<RawClaimRule>,
        /// Whether a token counts once only.
        once: At<bool> = false,
    }
}

/// A subject, or a pattern without a map around it.
#[derive(Debug)]
pub(crate) struct RawSubject(pub(crate) String);

impl Decode for RawSubject {
    fn form() -> ValueForm {
        ValueForm::Text
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        if let YamlNode::Map(_) = node.value {
            return Err(reader.mismatch(node, "text", "write the pattern itself, without `glob`"));
        }
        String::decode(node, reader).map(Self)
    }
}
