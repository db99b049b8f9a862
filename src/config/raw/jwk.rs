//! A JWK that is written in the configuration.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::super::decode::Decode;
use super::super::diagnostics::Reported;
use super::super::form::ValueForm;
use super::super::reader::Reader;
use super::super::source::{At, Span};
use super::super::tree::YamlNode;

/// A JWK (RFC 7517 §4), as JSON.
#[derive(Debug)]
pub(crate) struct RawJwk(pub(crate) Value);

/// Members of a JWK that are not text. All others are text, or lists and maps of it: so a `kid` such as `2024` must be
/// quoted.
const NOT_TEXT: [&str; 4] = ["ext", "exp", "iat", "nbf"];

impl Decode for RawJwk {
    fn form() -> ValueForm {
        ValueForm::FreeMap
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let YamlNode::Map(_) = &node.value else {
            return Err(reader.mismatch(node, "a JWK, which is a map such as `{kty: EC, crv: P-256, x: …, y: …}`", ""));
        };
        json(node, reader, true).map(Self)
    }
}

fn json(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>, is_text: bool) -> Result<Value, Reported> {
    let pairs = match &node.value {
        YamlNode::Map(pairs) => pairs,
        YamlNode::List(items) => return items.iter().map(|item| json(item, reader, true)).collect(),
        YamlNode::Scalar(_) | YamlNode::Refused => return scalar(node, reader, is_text),
    };
    let mut members = Map::new();
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for (key, value) in pairs {
        if let Some(first) = seen.insert(&key.value, key.span) {
            let quoted = reader.source.quote_key(key.span);
            reader.duplicate(key.span, quoted, first);
            return Err(reader.faults.reported_before());
        }
        members.insert(key.value.clone().into_owned(), json(value, reader, !NOT_TEXT.contains(&&*key.value))?);
    }
    Ok(Value::Object(members))
}

fn scalar(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>, is_text: bool) -> Result<Value, Reported> {
    let text = reader.text(node, "text")?;
    if !text.is_ambiguous() {
        return Ok(Value::String(text.value.into_owned()));
    }
    match serde_json::from_str(&text.value) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) if !is_text => Ok(value),
        Ok(_) | Err(_) => Err(reader.mismatch(node, "text", text.how_to_quote())),
    }
}
