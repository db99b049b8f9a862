//! `oauth.clients.ID.keys`: the public keys of a client, for its assertions.

use std::path::PathBuf;

use super::super::decode::{Decode, form_of, mirror};
use super::super::diagnostics::Reported;
use super::super::form::{KeyRule, ValueForm};
use super::super::origin::HttpUrl;
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;
use super::jwk::RawJwk;

/// The place of one or more keys.
#[derive(Debug)]
pub(crate) enum RawClientKey {
    Jwk(At<RawJwk>),
    File(At<PathBuf>),
    Uri(At<HttpUrl>),
}

mirror! {
    struct RawClientKeyKeys {
        /// A public key, as a JWK.
        jwk: Option<At<RawJwk>>,
        /// A file with a public key or a certificate in PEM, or with a JWK or a JWK Set.
        file: Option<At<PathBuf>>,
        /// The https URL of a JWK Set, which is fetched in the background.
        jwks_uri: Option<At<HttpUrl>>,
    }
}

impl Decode for RawClientKey {
    fn form() -> ValueForm {
        form_of::<RawClientKeyKeys>().with_rule(KeyRule::OneOf(&[&["jwk"], &["file"], &["jwks_uri"]]))
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "a map with one of `jwk`, `file` and `jwks_uri`";
        if !matches!(node.value, YamlNode::Map(_)) {
            return Err(reader.mismatch(node, EXPECTED, ""));
        }
        let faults = reader.faults.count();
        let RawClientKeyKeys { jwk, file, jwks_uri } = RawClientKeyKeys::decode(node, reader)?;
        match (jwk, file, jwks_uri) {
            (Some(jwk), None, None) => Ok(Self::Jwk(jwk)),
            (None, Some(file), None) => Ok(Self::File(file)),
            (None, None, Some(uri)) => Ok(Self::Uri(uri)),
            _ if reader.faults.count() > faults => Err(reader.faults.reported_before()),
            (None, None, None) => Err(reader.mismatch(node, EXPECTED, "")),
            _ => Err(reader.mismatch(node, EXPECTED, "two keys are two items of the list")),
        }
    }
}
