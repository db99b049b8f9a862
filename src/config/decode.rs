//! Tree → raw structs, in one walk that records every fault and goes on.
//!
//! `mirror!` writes a struct as the file shows it, together with its [`Decode`]: which keys there are,
//! which are required, what the others default to. A key that could not be read leaves [`Reported`] behind, or its
//! default where that can cause no further fault, so that one slip is one fault; its neighbours are read all the same.
//! A misspelt key is read as the one it stands for. Decides what is well-formed, never what makes sense together.

use std::collections::HashMap;

use super::diagnostics::Reported;
use super::interpolate::MadeOf;
use super::reader::{MissingKey, Reader};
use super::source::{At, Span};
use super::tree::YamlNode;
use super::values::{Quotes, ScalarValue};

/// What a node can be read as.
pub(super) trait Decode: Sized {
    /// What follows the message that a key is missing, where its name does not say it all.
    const WHEN_MISSING: &'static str = "";

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported>;
}

/// What a key of a mirrored map can be: required, optional, or with a default of its own.
pub(super) trait MapField: Sized {
    fn given(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Self;
    fn absent(key: &'static str, missing: MissingKey, reader: &mut Reader<'_>) -> Self;
}

/// A key that must be there: its value, or the proof that its lack has been reported.
pub(crate) type Required<T> = Result<At<T>, Reported>;

/// A map whose keys are names: clients, issuers, headers, claims.
#[derive(Debug)]
pub(crate) struct Named<T> {
    /// In the order of the file, each name once.
    pub(crate) entries: Vec<(At<String>, Required<T>)>,
    /// If not, a name that is not here may be one that could not be read, and its lack is no fault.
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
    fn given(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Self {
        At::decode(node, reader).ok()
    }

    fn absent(_: &'static str, _: MissingKey, _: &mut Reader<'_>) -> Self {
        None
    }
}

/// Whether the key is there matters, even where its value can't be read.
impl<T: Decode> MapField for Option<Required<T>> {
    fn given(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Self {
        Some(At::decode(node, reader))
    }

    fn absent(_: &'static str, _: MissingKey, _: &mut Reader<'_>) -> Self {
        None
    }
}

impl<T: Decode> MapField for Vec<At<T>> {
    fn given(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Self {
        Self::decode(node, reader).unwrap_or_default()
    }

    fn absent(_: &'static str, _: MissingKey, _: &mut Reader<'_>) -> Self {
        Self::new()
    }
}

impl<T: Decode> MapField for Named<T> {
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
    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        Ok(Self { value: T::decode(node, reader)?, span: node.span })
    }
}

impl<T: Decode> Decode for Vec<T> {
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
    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match &node.value {
            YamlNode::List(items) if items.is_empty() => Err(reader.faults.at(node.span, EMPTY_LIST)),
            _ => Ok(Self { items: Vec::decode(node, reader)? }),
        }
    }
}

impl<T: ScalarValue> Decode for T {
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
    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let text = reader.text(node, "text")?;
        if text.is_ambiguous() {
            return Err(reader.mismatch(node, "text", text.how_to_quote()));
        }
        Ok(text.value.into_owned())
    }
}

/// Writes a struct that mirrors a map of the file, with its `Decode` and `MapField`. A field is one of
/// - `key: Required<T>`: its lack is a fault;
/// - `key: At<T> = default`: the default stands where it is left out;
/// - `key: Option<At<T>>`, `Option<Required<T>>`, `Vec<At<T>>`, `Named<T>`: may be left out;
/// - `key: M`, where `M` is a mirrored map itself: as if it were there and empty.
macro_rules! mirror {
    ($(#[$meta:meta])* struct $name:ident { $($(#[$doc:meta])* $key:ident: $type:ty $(= $default:expr)?,)* }) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $key: $type,)*
        }

        impl $name {
            fn from_entries(
                entries: &$crate::config::reader::Entries<'_, '_>,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Self {
                Self { $($key: $crate::config::decode::mirror!(@field entries, reader, $key $(, $default)?),)* }
            }
        }

        impl $crate::config::decode::Decode for $name {
            fn decode(
                node: &$crate::config::source::At<$crate::config::tree::YamlNode<'_>>,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Result<Self, $crate::config::diagnostics::Reported> {
                Ok(<Self as $crate::config::decode::MapField>::given(node, reader))
            }
        }

        impl $crate::config::decode::MapField for $name {
            fn given(
                node: &$crate::config::source::At<$crate::config::tree::YamlNode<'_>>,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Self {
                let entries = reader.entries(node, &[$(stringify!($key)),*]);
                Self::from_entries(&entries, reader)
            }

            fn absent(
                _: &'static str,
                missing: $crate::config::reader::MissingKey,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Self {
                Self::from_entries(&$crate::config::reader::Entries::none(missing), reader)
            }
        }
    };
    (@field $entries:ident, $reader:ident, $key:ident) => {
        $entries.field(stringify!($key), $reader)
    };
    (@field $entries:ident, $reader:ident, $key:ident, $default:expr) => {
        $entries.or(stringify!($key), $reader, $default)
    };
}
pub(super) use mirror;
