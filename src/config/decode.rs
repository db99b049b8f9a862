//! Decodes the tree into raw structs, in one pass that records every fault and continues.
//!
//! `mirror!` generates a struct for a map of the file, together with its [`Decode`]: the keys, which of them are
//! required, and the defaults of the others. A key that cannot be read becomes [`Reported`], or its default if that
//! causes no further fault. So one mistake is one fault, and the other keys are still read. A misspelt key is read as
//! the key that it resembles. Checks the form of each value; [`super::resolve`] checks whether the values fit together.

mod mirror;

use std::collections::HashMap;

use super::diagnostics::Reported;
use super::form::ValueForm;
use super::interpolate::MadeOf;
use super::reader::{Entries, MissingKey, Reader};
use super::source::{At, Span};
use super::tree::YamlNode;
use super::values::{Quotes, ScalarValue};
pub(super) use mirror::mirror;

/// A type that a node can be decoded into.
pub(super) trait Decode: Sized {
    /// An explanation after the message that the key is missing.
    const WHEN_MISSING: &'static str = "";
    /// Whether the value may be a secret, or have one in it. Then [`super::secrecy`] never shows it.
    const IS_SECRET: bool = false;

    /// The form of what [`decode`](Self::decode) accepts, for the schema.
    fn form() -> ValueForm;

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported>;
}

/// The type of a field of a mirrored map: required, optional, or a map with defaults.
pub(super) trait MapField: Sized {
    const IS_SECRET: bool = false;
    const IS_REQUIRED: bool = false;

    fn form() -> ValueForm;

    fn given(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Self;
    fn absent(key: &'static str, missing: MissingKey, reader: &mut Reader<'_>) -> Self;
}

/// A mirrored map.
pub(super) trait Mirrored {
    /// In the order of the file's documentation.
    const KEYS: &'static [&'static str];

    /// Whether the value of this key may be a secret.
    fn is_secret(key: &str) -> bool;
}

/// A required key: its value, or the proof that its absence has been reported.
pub(crate) type Required<T> = Result<At<T>, Reported>;

/// A map whose keys are names: clients, issuers, headers, claims.
#[derive(Debug)]
pub(crate) struct Named<T> {
    /// In the order of the file, each name once.
    pub(crate) entries: Vec<(At<String>, Required<T>)>,
    /// False if a name could not be read. Then an unknown name is not reported as a fault.
    pub(crate) complete: bool,
}

pub(super) const EMPTY_LIST: &str = "this list is empty: name at least one";

/// A list that is not empty in the file. Items that could not be read are left out.
#[derive(Debug)]
pub(crate) struct OneOrMore<T> {
    pub(crate) items: Vec<At<T>>,
}

impl<T> Named<T> {
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.value.as_str())
    }
}

impl<T: Decode> MapField for Required<T> {
    const IS_SECRET: bool = T::IS_SECRET;
    const IS_REQUIRED: bool = true;

    fn form() -> ValueForm {
        T::form()
    }

    fn given(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Self {
        At::decode(node, reader)
    }

    fn absent(key: &'static str, missing: MissingKey, reader: &mut Reader<'_>) -> Self {
        match missing {
            MissingKey::From(span) => Err(reader.faults.at(span, format!("missing key `{key}`{}", T::WHEN_MISSING))),
            MissingKey::Because(reported) => Err(reported),
        }
    }
}

impl<T: Decode> MapField for Option<At<T>> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn form() -> ValueForm {
        T::form()
    }

    fn given(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Self {
        At::decode(node, reader).ok()
    }

    fn absent(_: &'static str, _: MissingKey, _: &mut Reader<'_>) -> Self {
        None
    }
}

/// Whether the key is present matters even if its value cannot be read.
impl<T: Decode> MapField for Option<Required<T>> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn form() -> ValueForm {
        T::form()
    }

    fn given(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Self {
        Some(At::decode(node, reader))
    }

    /// In the place of a map there is something else, which may have the key.
    fn absent(_: &'static str, missing: MissingKey, _: &mut Reader<'_>) -> Self {
        match missing {
            MissingKey::From(_) => None,
            MissingKey::Because(reported) => Some(Err(reported)),
        }
    }
}

impl<T: Decode> MapField for Vec<At<T>> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn form() -> ValueForm {
        T::form().list(0)
    }

    fn given(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Self {
        Self::decode(node, reader).unwrap_or_default()
    }

    fn absent(_: &'static str, _: MissingKey, _: &mut Reader<'_>) -> Self {
        Self::new()
    }
}

impl<T: Decode> MapField for Named<T> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn form() -> ValueForm {
        T::form().named(0)
    }

    fn given(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Self {
        let YamlNode::Map(pairs) = &node.value else {
            reader.mismatch(node, "a map", "");
            return Self { entries: Vec::new(), complete: false };
        };
        let mut named = Self { entries: Vec::new(), complete: true };
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for (key, value) in pairs {
            if let Some(first) = seen.get(&*key.value) {
                let quoted = reader.source.quote_key(key.span);
                reader.duplicate(key.span, quoted, *first);
                continue;
            }
            seen.insert(&key.value, key.span);
            match reader.name(key) {
                Some(name) => named.entries.push((name, At::decode(value, reader))),
                None => named.complete = false,
            }
        }
        named
    }

    fn absent(_: &'static str, missing: MissingKey, _: &mut Reader<'_>) -> Self {
        Self { entries: Vec::new(), complete: matches!(missing, MissingKey::From(_)) }
    }
}

impl<T: Decode> Decode for At<T> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn form() -> ValueForm {
        T::form()
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        Ok(Self { value: T::decode(node, reader)?, span: node.span })
    }
}

/// `None` is a default: a key that is present has a value.
impl<T: Decode> Decode for Option<T> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn form() -> ValueForm {
        T::form()
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        T::decode(node, reader).map(Some)
    }
}

impl<T: Decode> Decode for Vec<T> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn form() -> ValueForm {
        T::form().list(0)
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match &node.value {
            YamlNode::List(items) => Ok(items.iter().filter_map(|item| T::decode(item, reader).ok()).collect()),
            YamlNode::Scalar(scalar) if !scalar.is_nothing() => {
                Err(reader.mismatch(node, "a list", "write `[…]` around it"))
            }
            YamlNode::Scalar(_) | YamlNode::Map(_) | YamlNode::Refused => Err(reader.mismatch(node, "a list", "")),
        }
    }
}

impl<T: Decode> Decode for OneOrMore<T> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn form() -> ValueForm {
        T::form().list(1)
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match &node.value {
            YamlNode::List(items) if items.is_empty() => Err(reader.faults.at(node.span, EMPTY_LIST)),
            _ => Ok(Self { items: Vec::decode(node, reader)? }),
        }
    }
}

/// The form of a type, for another type that is made of it.
pub(super) fn form_of<T: Decode>() -> ValueForm {
    T::form()
}

/// A list, or one item without brackets.
pub(super) fn list_or_item<T: Decode>(
    node: &At<YamlNode<'_>>,
    reader: &mut Reader<'_>,
) -> Result<OneOrMore<T>, Reported> {
    match &node.value {
        YamlNode::List(_) => OneOrMore::decode(node, reader),
        YamlNode::Scalar(_) | YamlNode::Map(_) | YamlNode::Refused => {
            Ok(OneOrMore { items: vec![At::decode(node, reader)?] })
        }
    }
}

impl<T: ScalarValue> Decode for T {
    fn form() -> ValueForm {
        <T as ScalarValue>::form()
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let expected = T::expected();
        let text = reader.text(node, &expected)?;
        if T::QUOTES == Quotes::MustNot && !text.plain && text.made_of == MadeOf::Characters {
            return Err(reader.mismatch(node, &expected, "remove the quotation marks"));
        }
        match T::parse(&text.value) {
            Ok(_) if T::QUOTES == Quotes::May && text.is_ambiguous() => {
                Err(reader.mismatch(node, &expected, text.how_to_quote()))
            }
            Ok(value) => Ok(value),
            Err(hint) => Err(reader.mismatch(node, &expected, hint)),
        }
    }
}

impl Decode for String {
    fn form() -> ValueForm {
        ValueForm::Text
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let text = reader.text(node, "text")?;
        if text.is_ambiguous() {
            return Err(reader.mismatch(node, "text", text.how_to_quote()));
        }
        Ok(text.value.into_owned())
    }
}

/// The fields of a mirrored map.
impl Entries<'_, '_> {
    pub(super) fn field<T: MapField>(&self, key: &'static str, reader: &mut Reader<'_>) -> T {
        match self.node(key) {
            Some(node) => T::given(node, reader),
            None => T::absent(key, self.missing, reader),
        }
    }

    /// The place of a default is the beginning of its map, without text: no message may quote text for it.
    pub(super) fn or<T: Decode>(&self, key: &'static str, reader: &mut Reader<'_>, default: T) -> At<T> {
        let given = self.node(key).and_then(|node| At::decode(node, reader).ok());
        let start = self.span().start as usize;
        given.unwrap_or(At { value: default, span: Span::new(start, start) })
    }
}

/// The key of a field. One that is a word of Rust, such as `r#as`, is written without its mark in the file.
pub(super) const fn key_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}
