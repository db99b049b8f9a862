//! Documents that are made from the schema, and their parts.

use std::collections::BTreeSet;

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::super::VARIABLE;

/// A document that has what the schema requires, and of the rest a random part.
pub(super) fn document(schema: &Value, rng: &mut Rng) -> Value {
    if let Some(alternatives) = schema["anyOf"].as_array() {
        let is_variable = |schema: &&Value| schema["pattern"] == VARIABLE;
        let usual: Vec<&Value> = alternatives.iter().filter(|schema| !is_variable(schema)).collect();
        return document(usual[rng.usize(..usual.len())], rng);
    }
    if let Some(values) = schema["enum"].as_array().or(schema["examples"].as_array()) {
        return values[rng.usize(..values.len())].clone();
    }
    match schema["type"].as_str().unwrap() {
        "string" => json!("text"),
        "boolean" => json!(rng.bool()),
        "integer" => {
            let (least, most) = (schema["minimum"].as_i64().unwrap(), schema["maximum"].as_i64().unwrap());
            json!([least, most, rng.i64(least..=most)][rng.usize(..3)])
        }
        "array" => (0..count(schema, "minItems", rng)).map(|_| document(&schema["items"], rng)).collect(),
        "object" => Value::Object(map(schema, rng)),
        other => panic!("{other}"),
    }
}

fn count(schema: &Value, least: &str, rng: &mut Rng) -> usize {
    schema[least].as_u64().unwrap_or_default() as usize + rng.usize(..3)
}

fn map(schema: &Value, rng: &mut Rng) -> Map<String, Value> {
    if let Value::Object(_) = &schema["additionalProperties"] {
        let values = (0..count(schema, "minProperties", rng))
            .map(|number| (format!("name-{number}"), document(&schema["additionalProperties"], rng)));
        return values.collect();
    }
    let Some(properties) = schema["properties"].as_object() else { return Map::new() };
    let groups: Vec<BTreeSet<&str>> = schema["oneOf"].as_array().into_iter().flatten().map(required).collect();
    let chosen = if groups.is_empty() { BTreeSet::new() } else { groups[rng.usize(..groups.len())].clone() };
    let is_grouped = |key: &str| groups.iter().any(|group| group.contains(key));
    let mut keys: BTreeSet<&str> = required(schema).into_iter().chain(chosen).collect();
    keys.extend(properties.keys().map(String::as_str).filter(|key| !is_grouped(key) && rng.bool()));
    if keys.is_empty() && schema["minProperties"].is_u64() {
        keys.extend(properties.keys().next().map(String::as_str));
    }
    keys.into_iter().map(|key| (key.to_owned(), document(&properties[key], rng))).collect()
}

fn required(schema: &Value) -> BTreeSet<&str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The document in flow style. Words are plain, because the parser refuses some in quotation marks.
pub(super) fn yaml(document: &Value) -> String {
    match document {
        Value::Array(items) => format!("[{}]", items.iter().map(yaml).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key:?}: {}", yaml(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => text.clone(),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => document.to_string(),
    }
}

/// The paths of all keys, or of those that the document has.
pub(super) fn keys(schema: &Value, document: Option<&Value>, path: &str, found: &mut BTreeSet<String>) {
    for schema in alternatives(schema) {
        for (key, below) in schema["properties"].as_object().into_iter().flatten() {
            let value = document.map(|document| &document[key]);
            if value.is_none_or(|value| !value.is_null()) {
                let path = format!("{path}.{key}");
                keys(below, value, &path, found);
                found.insert(path);
            }
        }
        let below = [&schema["items"], &schema["additionalProperties"]];
        for below in below.into_iter().filter(|below| below.is_object()) {
            match document {
                None => keys(below, None, path, found),
                Some(document) => children(document).for_each(|(_, value)| keys(below, Some(value), path, found)),
            }
        }
    }
}

/// The maps of the document that have known keys only, each with its required keys.
pub(super) fn closed_maps(schema: &Value, document: &Value, place: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let fitting: Vec<&Value> = alternatives(schema).filter(|schema| has_type_of(schema, document)).collect();
    // Which of several maps is meant cannot be said of a map with a fault.
    if fitting.len() > 1 && fitting.iter().all(|schema| schema["properties"].is_object()) {
        return found;
    }
    for schema in fitting {
        let properties = schema["properties"].as_object();
        if properties.is_some() {
            let required = required(schema).into_iter().map(str::to_owned).collect();
            found.push((place.to_owned(), required));
        }
        for (name, value) in children(document) {
            let named = properties.and_then(|properties| properties.get(&name));
            let below =
                named.unwrap_or(if document.is_array() { &schema["items"] } else { &schema["additionalProperties"] });
            found.extend(closed_maps(below, value, &format!("{place}/{name}")));
        }
    }
    found
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    let several = schema["anyOf"].as_array();
    let one = several.is_none().then_some(schema);
    one.into_iter().chain(several.into_iter().flatten())
}

fn has_type_of(schema: &Value, document: &Value) -> bool {
    match document {
        Value::Array(_) => schema["type"] == "array",
        Value::Object(_) => schema["type"] == "object",
        _ => false,
    }
}

/// The places of all values, as JSON pointers.
pub(super) fn nodes(document: &Value) -> Vec<String> {
    let mut found = vec![String::new()];
    for (name, value) in children(document) {
        found.extend(nodes(value).iter().map(|place| format!("/{name}{place}")));
    }
    found
}

fn children(document: &Value) -> Box<dyn Iterator<Item = (String, &Value)> + '_> {
    match document {
        Value::Array(items) => Box::new(items.iter().enumerate().map(|(at, item)| (at.to_string(), item))),
        Value::Object(map) => Box::new(map.iter().map(|(key, value)| (key.clone(), value))),
        _ => Box::new(std::iter::empty()),
    }
}
