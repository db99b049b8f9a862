//! Changes one place of a configuration's text, for tools that propose a change and examine its effect.
//!
//! Everything else of the text stays as it is. The result is not checked: the loader decides whether it is valid.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::source::{At, Span};
use super::tree::{self, YamlNode};

/// A change at one place.
#[derive(Clone, Debug)]
pub(crate) struct ConfigEdit {
    pub(crate) path: Vec<PathStep>,
    pub(crate) kind: EditKind,
}

#[derive(Clone, Debug)]
pub(crate) enum PathStep {
    Key(Cow<'static, str>),
    /// The item of a list, with its name for people.
    Item(usize, String),
}

#[derive(Clone, Debug)]
pub(crate) enum EditKind {
    /// Replaces the value, or adds the key.
    Set(Value),
    /// Adds an item to a list, or to a single value that stands for a list. An absent key gets the default and the
    /// item; without a default, nothing is changed.
    Add { item: Value, default: Option<Vec<Value>> },
}

#[derive(Debug)]
pub(crate) struct EditedConfig {
    pub(crate) text: String,
    /// The line of the value, or of the map that gets the key.
    pub(crate) line: usize,
    /// The new value in YAML, or the item that was added to a list.
    pub(crate) written: String,
    /// Whether it was added to a list that is there.
    pub(crate) is_item: bool,
}

/// The line of the value at this path. `None` if there is none.
pub(crate) fn line_of(text: &str, path: &[PathStep]) -> Option<usize> {
    let root = tree::read(text).ok()?.root?;
    let node = path.iter().try_fold(&root, |node, step| match (&node.value, step) {
        (YamlNode::Map(pairs), PathStep::Key(key)) => {
            pairs.iter().find(|(name, _)| name.value == *key).map(|(_, value)| value)
        }
        (YamlNode::List(items), PathStep::Item(index, _)) => items.get(*index),
        (YamlNode::Map(_) | YamlNode::List(_) | YamlNode::Scalar(_) | YamlNode::Refused, _) => None,
    })?;
    Some(text[..node.span.start as usize].matches('\n').count() + 1)
}

impl ConfigEdit {
    /// `None` if the text has no such place, or if a value would not be read as it is.
    pub(crate) fn apply(&self, text: &str) -> Option<EditedConfig> {
        let root = tree::read(text).ok()?.root?;
        let mut node = &root;
        for (depth, step) in self.path.iter().enumerate() {
            node = match (&node.value, step) {
                (YamlNode::Map(pairs), PathStep::Key(key)) => match pairs.iter().find(|(name, _)| name.value == *key) {
                    Some((_, value)) => value,
                    None => return self.add_key(text, node, depth),
                },
                (YamlNode::List(items), PathStep::Item(index, _)) => items.get(*index)?,
                _ => return None,
            };
        }
        match (&self.kind, &node.value) {
            (EditKind::Set(value), _) => Some(replaced(text, node.span, &flow(value)?)),
            (EditKind::Add { item, .. }, YamlNode::List(items)) => {
                let item = flow(item)?;
                let inserted = match (is_flow(text, node), items.is_empty()) {
                    (true, true) => item.clone(),
                    (true, false) => format!("{item}, "),
                    (false, _) => format!("- {item}\n{}", indentation(text, node.span)),
                };
                Some(EditedConfig { written: item, is_item: true, ..inserted_at(text, node, &inserted) })
            }
            (EditKind::Add { item, .. }, YamlNode::Scalar(_)) => {
                let item = flow(item)?;
                let list = format!("[{}, {item}]", text.get(node.span.start as usize..node.span.end as usize)?);
                Some(EditedConfig { written: item, is_item: true, ..replaced(text, node.span, &list) })
            }
            (EditKind::Add { .. }, YamlNode::Map(_) | YamlNode::Refused) => None,
        }
    }

    /// Adds the key at this depth of the path, with all below it, to a map.
    fn add_key(&self, text: &str, map: &At<YamlNode<'_>>, depth: usize) -> Option<EditedConfig> {
        let value = match &self.kind {
            EditKind::Set(value) => value.clone(),
            EditKind::Add { item, default } => {
                let mut list = default.clone()?;
                list.push(item.clone());
                Value::Array(list)
            }
        };
        let written = flow(&value)?;
        let mut nested = written.clone();
        for step in self.path[depth + 1..].iter().rev() {
            let PathStep::Key(key) = step else { return None };
            nested = format!("{{{}: {nested}}}", flow_key(key)?);
        }
        let PathStep::Key(key) = &self.path[depth] else { return None };
        let pair = format!("{}: {nested}", flow_key(key)?);
        let inserted = match (is_flow(text, map), &map.value) {
            (true, YamlNode::Map(pairs)) if pairs.is_empty() => pair,
            (true, _) => format!("{pair}, "),
            (false, _) => format!("{pair}\n{}", indentation(text, map.span)),
        };
        Some(EditedConfig { written, ..inserted_at(text, map, &inserted) })
    }

    /// The names of the map that has the value, and of the value in it.
    pub(crate) fn map_and_key(&self) -> Option<(String, &str)> {
        let (last, above) = self.path.split_last()?;
        let above: Vec<&str> = above.iter().map(PathStep::name).collect();
        Some((above.join("."), last.name()))
    }
}

impl PathStep {
    fn name(&self) -> &str {
        match self {
            Self::Key(key) => key,
            Self::Item(_, name) => name,
        }
    }
}

/// The path as `issuers.corp.audiences`.
impl fmt::Display for ConfigEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.path.iter().map(PathStep::name).collect();
        f.write_str(&names.join("."))
    }
}

/// YAML in one line. `None` for text that the configuration would replace.
pub(crate) fn flow(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.contains("${") => return None,
        // A duration or a size is written without quotes.
        Value::String(text) if is_quantity(text) => text.clone(),
        Value::String(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Option<Vec<_>>>()?.join(", ")),
        Value::Object(members) => {
            let pair = |(key, value): (&String, &Value)| Some(format!("{}: {}", flow_key(key)?, flow(value)?));
            format!("{{{}}}", members.iter().map(pair).collect::<Option<Vec<_>>>()?.join(", "))
        }
    })
}

/// A key is written without quotes where this changes nothing.
pub(crate) fn flow_key(key: &str) -> Option<String> {
    let is_plain = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if is_plain { Some(key.to_owned()) } else { flow(&Value::from(key)) }
}

fn is_quantity(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len() && matches!(unit, "s" | "KiB")
}

fn is_flow(text: &str, node: &At<YamlNode<'_>>) -> bool {
    text[node.span.start as usize..].starts_with(['{', '['])
}

/// Spaces up to the column at which a block begins.
fn indentation(text: &str, block: Span) -> String {
    let before = &text[..block.start as usize];
    let line = before.rsplit('\n').next().unwrap_or_default();
    " ".repeat(line.chars().count())
}

/// Inserts at the beginning of a list or a map.
fn inserted_at(text: &str, node: &At<YamlNode<'_>>, inserted: &str) -> EditedConfig {
    let start = node.span.start as usize + usize::from(is_flow(text, node));
    with_text(text, start..start, inserted)
}

fn replaced(text: &str, span: Span, value: &str) -> EditedConfig {
    with_text(text, span.start as usize..span.end as usize, value)
}

fn with_text(text: &str, range: std::ops::Range<usize>, new: &str) -> EditedConfig {
    let line = text[..range.start].matches('\n').count() + 1;
    let text = format!("{}{new}{}", &text[..range.start], &text[range.end..]);
    EditedConfig { text, line, written: new.to_owned(), is_item: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn edit(path: &str, kind: EditKind) -> ConfigEdit {
        let step = |step: &str| match step.parse() {
            Ok(index) => PathStep::Item(index, step.to_owned()),
            Err(_) => PathStep::Key(step.to_owned().into()),
        };
        ConfigEdit { path: path.split('.').map(step).collect(), kind }
    }

    fn add(path: &str) -> ConfigEdit {
        edit(path, EditKind::Add { item: json!("new"), default: Some(vec![json!("x")]) })
    }

    #[track_caller]
    fn gives(edit: &ConfigEdit, text: &str, expected: &str, line: usize) {
        let edited = edit.apply(text).unwrap();
        assert_eq!((&*edited.text, edited.line), (expected, line), "{text}");
        let root = tree::read(&edited.text);
        assert!(root.is_ok_and(|tree| tree.unsupported.is_empty()), "{}", edited.text);
    }

    #[test]
    fn an_item_is_added_to_a_list_and_to_a_single_value() {
        gives(&add("a.b"), "a: {b: [c]}\n", "a: {b: [\"new\", c]}\n", 1);
        gives(&add("a.b"), "a: {b: []}\n", "a: {b: [\"new\"]}\n", 1);
        gives(&add("a.b"), "a:\n  b:\n    - c\n    - d\n", "a:\n  b:\n    - \"new\"\n    - c\n    - d\n", 3);
        gives(&add("a.b"), "a:\n  b: c # why\n", "a:\n  b: [c, \"new\"] # why\n", 2);
    }

    #[test]
    fn an_absent_key_is_added_with_the_default() {
        gives(&add("a.b"), "a: {c: d}\n", "a: {b: [\"x\", \"new\"], c: d}\n", 1);
        gives(&add("a.b"), "a: {}\n", "a: {b: [\"x\", \"new\"]}\n", 1);
        gives(&add("a.b"), "z: 1\na:\n  c: d\n", "z: 1\na:\n  b: [\"x\", \"new\"]\n  c: d\n", 3);
        gives(&add("a.0.b"), "a:\n  - c: d\n", "a:\n  - b: [\"x\", \"new\"]\n    c: d\n", 2);
        gives(&add("a.b.c"), "z: 1\n", "a: {b: {c: [\"x\", \"new\"]}}\nz: 1\n", 1);
        let existing_only = edit("a.b", EditKind::Add { item: json!("new"), default: None });
        assert!(existing_only.apply("a: {c: d}\n").is_none());
    }

    #[test]
    fn a_value_is_replaced_or_added() {
        let set = edit("a.b", EditKind::Set(json!("60s")));
        gives(&set, "a:\n  b: 30s\n  c: d\n", "a:\n  b: 60s\n  c: d\n", 2);
        gives(&set, "a:\n  c: d\n", "a:\n  b: 60s\n  c: d\n", 2);
        assert_eq!(set.to_string(), "a.b");
    }

    #[test]
    fn a_value_has_the_line_that_it_begins_at() {
        let line =
            |path: &str| line_of("a: 1\nb:\n  c:\n    - x\n    - d: e\n", &edit(path, EditKind::Set(json!(1))).path);
        assert_eq!((line("a"), line("b.c"), line("b.c.1.d")), (Some(1), Some(4), Some(5)));
        assert_eq!((line("z"), line("a.b"), line("b.c.2")), (None, None, None));
    }

    #[test]
    fn text_of_a_token_cannot_become_structure_or_a_variable() {
        let hostile = |text: &str| edit("a", EditKind::Set(json!({ "b": text }))).apply("a: 1\n");
        let edited = hostile("x\"}\nroutes: []\n# ").unwrap();
        let root = tree::read(&edited.text).unwrap().root.unwrap();
        let YamlNode::Map(pairs) = &root.value else { panic!("{}", edited.text) };
        assert_eq!(pairs.len(), 1, "{}", edited.text);
        assert!(hostile("${SECRET}").is_none());
    }
}
