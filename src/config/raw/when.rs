//! `routes[].when`: the header fields of the requests that a route is for.

use super::super::decode::{Decode, Named, OneOrMore, list_or_item, mirror};
use super::super::diagnostics::Reported;
use super::super::form::ValueForm;
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;

mirror! {
    struct RawWhen {
        /// Fields and their values, of which a request must have one. All of them must hold.
        headers: Named<RawFieldValues>,
        /// Whether the service acts on its body without comparing it with the field.
        unverified: At<bool> = false,
    }
}

/// The value or the list of values of which a field must have one.
#[derive(Debug)]
pub(crate) struct RawFieldValues(pub(crate) OneOrMore<String>);

impl Decode for RawFieldValues {
    fn form() -> ValueForm {
        String::form().or_list()
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        list_or_item(node, reader).map(Self)
    }
}
