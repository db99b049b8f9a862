//! The JSON Schema of `gateway.yaml` (draft 7), for editors.
//!
//! Made from the forms that the parser's types give, so that it has every key. It accepts all that the parser accepts.
//! It refuses unknown keys, wrong types and unknown words, but no values that contradict each other: those are found by
//! `portcullis check`. A scalar may also be text with `${…}`, wherever the parser takes variables.

mod descriptions;

use serde_json::{Map, Value, json};

use super::decode::Decode as _;
use super::form::{KeyForm, KeyRule, MapForm, TextPattern, ValueForm};
use super::raw::RawConfig;
use descriptions::Descriptions;

/// The schema as text, without a line break at its end.
pub(crate) fn text() -> String {
    format!("{:#}", schema())
}

fn schema() -> Value {
    let mut root = SchemaWriter { descriptions: Descriptions::of_the_reference() }.value(&RawConfig::form(), "");
    root["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    root["title"] = json!("gateway.yaml");
    root["description"] = json!("The configuration of Portcullis. `portcullis check` also finds what no schema can.");
    root
}

/// Text with a variable: its value is not known here.
const VARIABLE: &str = r"\$\{";

struct SchemaWriter {
    descriptions: Descriptions,
}

impl SchemaWriter {
    /// `path` has the keys from the root, without the names of the user: `oauth.clients.secrets`.
    fn value(&self, form: &ValueForm, path: &str) -> Value {
        let mut forms = Vec::new();
        flatten(form, &mut forms);
        let mut alternatives: Vec<Value> = forms.iter().map(|form| self.alternative(form, path)).collect();
        let needs_variable =
            |form: &&ValueForm| matches!(form, ValueForm::Bool | ValueForm::Integer(..) | ValueForm::Words(_));
        let has_variable = |form: &&ValueForm| matches!(form, ValueForm::Text | ValueForm::Pattern(_));
        if forms.iter().any(needs_variable) && !forms.iter().any(has_variable) {
            alternatives.push(json!({ "type": "string", "pattern": VARIABLE }));
        }
        match &mut alternatives[..] {
            [only] => only.take(),
            _ => json!({ "anyOf": alternatives }),
        }
    }

    fn alternative(&self, form: &ValueForm, path: &str) -> Value {
        match form {
            ValueForm::Text => json!({ "type": "string" }),
            ValueForm::Path => json!({ "type": "string", "minLength": 1 }),
            ValueForm::Bool => json!({ "type": "boolean" }),
            ValueForm::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            ValueForm::Words(words) => json!({ "type": "string", "enum": words }),
            ValueForm::Pattern(pattern) => text_of(pattern),
            ValueForm::FreeMap => json!({ "type": "object" }),
            ValueForm::List(least, item) => {
                with_least(json!({ "type": "array", "items": self.value(item, path) }), "minItems", *least)
            }
            ValueForm::Named(least, value) => with_least(
                json!({ "type": "object", "additionalProperties": self.value(value, path) }),
                "minProperties",
                *least,
            ),
            ValueForm::Map(map) => self.map(map, path),
            ValueForm::AnyOf(_) => self.value(form, path),
        }
    }

    fn map(&self, map: &MapForm, path: &str) -> Value {
        let properties: Map<String, Value> =
            map.keys.iter().map(|key| (key.name.to_owned(), self.key(key, path))).collect();
        let required: Vec<&str> = map.keys.iter().filter(|key| key.is_required).map(|key| key.name).collect();
        let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        match map.rule {
            KeyRule::Free => {}
            KeyRule::NotEmpty => schema["minProperties"] = json!(1),
            KeyRule::OneOf(groups) => {
                schema["oneOf"] = groups.iter().map(|keys| json!({ "required": keys })).collect();
            }
        }
        schema
    }

    fn key(&self, key: &KeyForm, path: &str) -> Value {
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        let mut schema = self.value(&key.form, &path);
        if let Some(description) = self.descriptions.of(&path, key.comment) {
            schema["description"] = json!(description);
        }
        schema
    }
}

/// The forms of which the value has one.
fn flatten<'f>(form: &'f ValueForm, forms: &mut Vec<&'f ValueForm>) {
    match form {
        ValueForm::AnyOf(several) => several.iter().for_each(|form| flatten(form, forms)),
        _ => forms.push(form),
    }
}

fn text_of(TextPattern { pattern, expected, examples }: &TextPattern) -> Value {
    json!({
        "type": "string",
        "pattern": format!("^({pattern})$|{VARIABLE}"),
        // Read by editors, which would show the regular expression otherwise.
        "patternErrorMessage": format!("expected {expected}"),
        "examples": examples,
    })
}

fn with_least(mut schema: Value, keyword: &str, least: usize) -> Value {
    if least > 0 {
        schema[keyword] = json!(least);
    }
    schema
}

#[cfg(test)]
mod tests;
