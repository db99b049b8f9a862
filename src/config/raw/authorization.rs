//! `upstreams.NAME.authorization`: the credential that the service wants from the gateway itself.

use super::super::decode::{Decode, Required, form_of, mirror};
use super::super::diagnostics::Reported;
use super::super::form::{KeyRule, ValueForm};
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;
use super::oauth::Secret;

#[derive(Debug)]
pub(crate) enum RawAuthorization {
    Bearer(At<Secret>),
    Basic { user: At<String>, password: At<Secret> },
    Header { name: At<String>, value: At<Secret> },
}

mirror! {
    /// One of `bearer`, `basic`, and `header` with `value`.
    struct RawAuthorizationKeys {
        /// A token, sent as `Authorization: Bearer …`.
        bearer: Option<At<Secret>>,
        /// Credentials, sent as `Authorization: Basic …`.
        basic: Option<At<RawBasic>>,
        /// The name of a header field. It needs `value`.
        header: Option<At<String>>,
        /// The value of the field that `header` names.
        value: Option<At<Secret>>,
    }
}

mirror! {
    struct RawBasic {
        /// The name of the user.
        user: Required<String>,
        /// The password, from a variable or a file.
        password: Required<Secret>,
    }
}

impl Decode for RawAuthorization {
    const IS_SECRET: bool = true;

    fn form() -> ValueForm {
        form_of::<RawAuthorizationKeys>().with_rule(KeyRule::OneOf(&[&["bearer"], &["basic"], &["header", "value"]]))
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "`{bearer: …}`, `{basic: {user: …, password: …}}` or `{header: NAME, value: …}`";
        let YamlNode::Map(_) = &node.value else {
            return Err(reader.mismatch(node, EXPECTED, ""));
        };
        let faults = reader.faults.count();
        let RawAuthorizationKeys { bearer, basic, header, value } = RawAuthorizationKeys::decode(node, reader)?;
        match (bearer, basic, header, value) {
            _ if reader.faults.count() > faults => Err(reader.faults.reported_before()),
            (Some(token), None, None, None) => Ok(Self::Bearer(token)),
            (None, Some(basic), None, None) => {
                Ok(Self::Basic { user: basic.value.user?, password: basic.value.password? })
            }
            (None, None, Some(name), Some(value)) => Ok(Self::Header { name, value }),
            (None, None, Some(name), None) => Err(reader.faults.at(name.span, "`header` needs its `value`")),
            (None, None, None, Some(value)) => {
                Err(reader.faults.at(value.span, "`value` needs the `header` that it is sent in"))
            }
            (_, _, _, _) => Err(reader.faults.at(node.span, format!("expected one of {EXPECTED}"))),
        }
    }
}
