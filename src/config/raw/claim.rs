//! Values of claims: those that the tokens of a client have, and those that an access rule wants.

use serde_json::Value;

use super::super::decode::{Decode, OneOrMore, form_of, list_or_item, mirror};
use super::super::diagnostics::Reported;
use super::super::form::{KeyRule, ValueForm};
use super::super::interpolate::MadeOf;
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;

/// The value or the list of values that the tokens of a client have in a claim.
#[derive(Debug)]
pub(crate) struct RawClaim {
    pub(crate) values: OneOrMore<ClaimValue>,
    /// Whether the file has a list, which may hold one value only.
    pub(crate) is_list: bool,
}

/// Variables always give text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimValue {
    Text(String),
    Integer(i64),
    Bool(bool),
}

/// The value or the list of values of which an access rule requires one in a claim.
#[derive(Debug)]
pub(crate) struct RawClaimRule(pub(crate) OneOrMore<RawWantedValue>);

#[derive(Debug)]
pub(crate) enum RawWantedValue {
    Plain(ClaimValue),
    /// `{glob: PATTERN}`
    Glob(At<String>),
    /// `{exact: TEXT}`, for text with `*`.
    Exact(At<String>),
}

mirror! {
    /// Has exactly one of the two.
    struct RawWantedText {
        /// A pattern in which `*` stands for one whole segment between `:` or `/`.
        glob: Option<At<String>>,
        /// A value that contains `*`.
        exact: Option<At<String>>,
    }
}

impl ClaimValue {
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Integer(number) => Value::from(*number),
            Self::Bool(truth) => Value::from(*truth),
        }
    }
}

impl Decode for RawClaim {
    fn form() -> ValueForm {
        ClaimValue::form().or_list()
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let is_list = matches!(node.value, YamlNode::List(_));
        Ok(Self { values: list_or_item(node, reader)?, is_list })
    }
}

impl Decode for ClaimValue {
    fn form() -> ValueForm {
        ValueForm::AnyOf(vec![ValueForm::Text, ValueForm::Integer(i64::MIN, i64::MAX), ValueForm::Bool])
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "text, a whole number, `true` or `false`";
        let text = reader.text(node, EXPECTED)?;
        let typed = text.plain && text.made_of == MadeOf::Characters;
        match (&*text.value, text.value.parse::<i64>()) {
            ("true", _) if typed => Ok(Self::Bool(true)),
            ("false", _) if typed => Ok(Self::Bool(false)),
            // Only the usual spelling: `0755` and `+1` are ambiguous.
            (written, Ok(number)) if typed && number.to_string() == written => Ok(Self::Integer(number)),
            _ if text.is_ambiguous() => Err(reader.mismatch(node, EXPECTED, text.how_to_quote())),
            _ => Ok(Self::Text(text.value.into_owned())),
        }
    }
}

impl Decode for RawClaimRule {
    fn form() -> ValueForm {
        RawWantedValue::form().or_list()
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        list_or_item(node, reader).map(Self)
    }
}

impl Decode for RawWantedValue {
    fn form() -> ValueForm {
        let text = form_of::<RawWantedText>().with_rule(KeyRule::OneOf(&[&["glob"], &["exact"]]));
        ValueForm::AnyOf(vec![ClaimValue::form(), text])
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let YamlNode::Map(_) = &node.value else {
            return ClaimValue::decode(node, reader).map(Self::Plain);
        };
        let faults = reader.faults.count();
        let RawWantedText { glob, exact } = RawWantedText::decode(node, reader)?;
        match (glob, exact) {
            _ if reader.faults.count() > faults => Err(reader.faults.reported_before()),
            (Some(pattern), None) => Ok(Self::Glob(pattern)),
            (None, Some(text)) => Ok(Self::Exact(text)),
            (Some(_), Some(_)) | (None, None) => {
                Err(reader.faults.at(node.span, "expected a value, `{glob: PATTERN}` or `{exact: TEXT}`"))
            }
        }
    }
}
