//! `host` of an upstream or a route: the `Host` that the service gets.

use super::super::decode::{Decode, Required, form_of, mirror};
use super::super::diagnostics::Reported;
use super::super::form::ValueForm;
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;

#[derive(Debug)]
pub(crate) enum RawHost {
    /// The server's own.
    Upstream,
    /// The caller's.
    Preserve,
    Name(Required<String>),
}

mirror! {
    struct RawHostName {
        /// A host, with or without a port.
        name: Required<String>,
    }
}

impl Decode for RawHost {
    fn form() -> ValueForm {
        ValueForm::AnyOf(vec![ValueForm::Words(vec!["upstream", "preserve"]), form_of::<RawHostName>()])
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "`upstream`, `preserve`, or a map such as `{name: legacy.internal}`";
        if matches!(node.value, YamlNode::Map(_)) {
            return RawHostName::decode(node, reader).map(|map| Self::Name(map.name));
        }
        match &*reader.text(node, EXPECTED)?.value {
            "upstream" => Ok(Self::Upstream),
            "preserve" => Ok(Self::Preserve),
            _ => Err(reader.mismatch(node, EXPECTED, "a name is written `{name: …}`")),
        }
    }
}
