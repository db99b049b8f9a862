//! The schema and the parser agree, which is tried with documents made from the schema and with the files of the tests.

mod documents;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use fastrand::Rng;
use serde_json::{Value, json};

use self::documents::{closed_maps, document, keys, nodes, yaml};
use super::super::interpolate::Surroundings;
use super::super::source::At;
use super::super::tree::{self, Scalar, YamlNode};
use super::super::{ConfigReading, parse};
use super::schema;
use crate::clock::UnixTime;

const DOCUMENTS: u64 = 100;

struct Validator {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Validator {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("gateway.schema.json", schema()).unwrap();
        let index = compiler.compile("gateway.schema.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    fn accepts(&self, document: &Value) -> bool {
        self.schemas.validate(document, self.index).is_ok()
    }
}

/// The text as the parser decodes it, before names are looked up and values compared.
fn decoded(text: &str) -> ConfigReading {
    let surroundings = Surroundings {
        variable: &|_| Ok("the-value-of-a-variable".to_owned()),
        file: &|_| Ok(b"the content of a file".to_vec()),
        now: UnixTime::from_seconds(0),
    };
    parse(Path::new("gateway.yaml"), text.as_bytes().to_vec(), &surroundings)
}

#[test]
fn the_parser_takes_every_document_of_the_schema() {
    let (validator, schema) = (Validator::new(), schema());
    let (mut all, mut seen) = (BTreeSet::new(), BTreeSet::new());
    keys(&schema, None, "", &mut all);
    assert!(all.len() > 200, "{}", all.len());
    // Until every key was in a document.
    for seed in 0..50 * DOCUMENTS {
        if seed >= DOCUMENTS && seen == all {
            break;
        }
        let document = document(&schema, &mut Rng::with_seed(seed));
        keys(&schema, Some(&document), "", &mut seen);
        assert!(validator.accepts(&document), "{document}");
        let reading = decoded(&yaml(&document));
        assert!(reading.faults.is_empty(), "{}", reading.render());
    }
    assert_eq!(all.difference(&seen).collect::<Vec<_>>(), [""; 0]);
}

/// A change of one value is accepted by both or refused by both.
#[test]
fn the_parser_and_the_schema_agree_on_changed_documents() {
    let (validator, schema) = (Validator::new(), schema());
    let others = [
        Value::Null,
        json!(0),
        json!(-1),
        json!(1.5),
        json!(4_294_967_296_u64),
        json!(true),
        json!("no-such-word"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({ "name": {} }),
        json!({ "name": [null] }),
    ];
    let (mut refused, mut accepted) = (0, 0);
    for seed in 0..DOCUMENTS {
        let rng = &mut Rng::with_seed(seed);
        let document = document(&schema, rng);
        let places = nodes(&document);
        for other in &others {
            let mut changed = document.clone();
            let place = &places[rng.usize(..places.len())];
            // A schema cannot tell what a JWK may have in it.
            if place.contains("/jwks/") {
                continue;
            }
            *changed.pointer_mut(place).unwrap() = other.clone();
            let reading = decoded(&yaml(&changed));
            let (by_schema, by_parser) = (validator.accepts(&changed), reading.faults.is_empty());
            assert_eq!(by_schema, by_parser, "{place}: {other}: {}", reading.render());
            if by_schema { accepted += 1 } else { refused += 1 }
        }
    }
    assert!(accepted > 30 && refused > 500, "{accepted} {refused}");
}

/// The schema may take a text that the parser refuses, such as a size beyond all limits, and never the other way round.
#[test]
fn the_schema_takes_every_text_that_the_parser_takes() {
    let (validator, schema) = (Validator::new(), schema());
    let mut accepted = 0;
    for seed in 0..DOCUMENTS {
        let rng = &mut Rng::with_seed(seed);
        let document = document(&schema, rng);
        let is_pattern =
            |place: &&String| document.pointer(place).and_then(Value::as_str).is_some_and(|text| text != "text");
        let places = nodes(&document);
        let places: Vec<&String> = places.iter().filter(is_pattern).collect();
        for _ in 0..places.len().min(12) {
            let place = places[rng.usize(..places.len())];
            let mut changed = document.clone();
            let text = changed.pointer_mut(place).unwrap();
            *text = json!(retyped(text.as_str().unwrap(), rng));
            let by_parser = decoded(&yaml(&changed)).faults.is_empty();
            assert!(!by_parser || validator.accepts(&changed), "{place}: {}", changed.pointer(place).unwrap());
            accepted += usize::from(by_parser);
        }
    }
    assert!(accepted > 100, "{accepted}");
}

/// Characters that matter in the forms of texts.
const LETTERS: &[char] =
    &['0', '1', '5', ':', '.', '/', '[', ']', '%', '-', '_', 'a', 'B', 'K', 'Z', 'T', '+', '@', ' ', '{', '}', '#'];

/// The text with one character more, less or different.
fn retyped(text: &str, rng: &mut Rng) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let (at, letter) = (rng.usize(..letters.len()), *rng.choice(LETTERS).unwrap());
    match rng.usize(..3) {
        0 => letters[at] = letter,
        1 => letters.insert(at, letter),
        _ => drop(letters.remove(at)),
    }
    letters.into_iter().collect()
}

#[test]
fn both_refuse_an_unknown_key_and_a_missing_one() {
    let (validator, schema) = (Validator::new(), schema());
    let refused = |changed: &Value, message: &str| {
        let reading = decoded(&yaml(changed)).render();
        assert!(!validator.accepts(changed) && reading.contains(message), "{message}: {changed}\n{reading}");
    };
    for seed in 0..DOCUMENTS / 10 {
        let document = document(&schema, &mut Rng::with_seed(seed));
        for (place, required) in closed_maps(&schema, &document, "") {
            let mut changed = document.clone();
            changed.pointer_mut(&place).unwrap()["an_unknown_key"] = json!(1);
            refused(&changed, "unknown key");
            for key in required {
                let mut changed = document.clone();
                changed.pointer_mut(&place).unwrap().as_object_mut().unwrap().remove(&key).unwrap();
                refused(&changed, &format!("missing key `{key}`"));
            }
        }
    }
}

#[test]
fn a_variable_may_stand_for_every_scalar() {
    let validator = Validator::new();
    let text = "{version: \"${V}\", workers: \"${N}\", limits: {idle_timeout: \"${T}s\", body_bytes: \"${B}\"}, \
        listeners: [{address: \"127.0.0.1:${PORT}\", proxy_protocol: \"${P}\"}], audit: {on_failure: \"${F}\"}}";
    let document = json_of(&tree::read(text).unwrap().root.unwrap()).unwrap();
    assert!(validator.accepts(&document));
    let without_variable = text.replace("${T}s", "soon");
    assert!(!validator.accepts(&json_of(&tree::read(&without_variable).unwrap().root.unwrap()).unwrap()));
}

/// Files that editors cannot read are left out. The schema refuses no file that the parser accepts, and all that are
/// wrong in their structure.
#[test]
fn the_schema_refuses_the_bad_files_of_the_tests_by_structure() {
    let validator = Validator::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_configs");
    let (mut refused, mut accepted) = (0, 0);
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let Some(document) = tree::read(&text).ok().and_then(|tree| json_of(&tree.root?)) else { continue };
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let reading = decoded(&text);
        let found = reading.render();
        let is_structural = STRUCTURAL.iter().any(|message| found.contains(message));
        let by_schema = validator.accepts(&document);
        assert!(by_schema || !reading.faults.is_empty(), "{}: only the schema refuses it", path.display());
        assert!(!(by_schema && is_structural), "{}: only the parser refuses it:\n{found}", path.display());
        if by_schema { accepted += 1 } else { refused += 1 }
    }
    assert!(refused > 30 && accepted > 30, "{refused} {accepted}");
}

/// Parts of the parser's messages about keys and types.
const STRUCTURAL: [&str; 5] = ["unknown key", "missing key", ", got a list", ", got a map", ", got nothing"];

/// The node as an editor reads it, by the core schema of YAML 1.2. `None` if it has what no JSON can have.
fn json_of(node: &At<YamlNode<'_>>) -> Option<Value> {
    match &node.value {
        YamlNode::Refused => None,
        YamlNode::List(items) => items.iter().map(json_of).collect(),
        YamlNode::Map(pairs) => {
            let mut map = serde_json::Map::new();
            for (key, value) in pairs {
                if map.insert(key.value.clone().into_owned(), json_of(value)?).is_some() {
                    return None;
                }
            }
            Some(Value::Object(map))
        }
        YamlNode::Scalar(scalar) => Some(json_of_scalar(scalar)),
    }
}

fn json_of_scalar(scalar: &Scalar<'_>) -> Value {
    match (&*scalar.text, scalar.plain) {
        ("" | "~" | "null" | "Null" | "NULL", true) => Value::Null,
        ("true" | "True" | "TRUE", true) => json!(true),
        ("false" | "False" | "FALSE", true) => json!(false),
        (text, true) if text.parse::<i64>().is_ok() => json!(text.parse::<i64>().unwrap()),
        (text, true) if text.starts_with(['-', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) => {
            text.parse::<f64>().map_or_else(|_| json!(text), |number| json!(number))
        }
        (text, _) => json!(text),
    }
}
