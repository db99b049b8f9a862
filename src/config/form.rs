//! The forms of values: the part of the parser's knowledge that a schema can tell.
//!
//! Each type that the file is decoded into gives its form beside its parser, so that a type without one does not
//! compile. Forms have no rules about several keys of different maps: those belong to [`super::resolve`].

/// The form of a value.
#[derive(Clone, Debug)]
pub(super) enum ValueForm {
    Text,
    /// Text that is not empty.
    Path,
    Bool,
    /// A whole number from the first to the second, both included.
    Integer(i64, i64),
    /// One of a few words.
    Words(Vec<&'static str>),
    Pattern(TextPattern),
    /// A map whose content has no fixed keys, such as a JWK.
    FreeMap,
    /// At least so many items of one form.
    List(usize, Box<Self>),
    /// At least so many values of one form, by names of the user.
    Named(usize, Box<Self>),
    Map(MapForm),
    AnyOf(Vec<Self>),
}

#[derive(Clone, Debug)]
pub(super) struct TextPattern {
    /// A regular expression for the whole text, of the kind that ECMA 262 and Rust have in common.
    pub(super) pattern: String,
    /// Completes "expected …".
    pub(super) expected: String,
    pub(super) examples: &'static [&'static str],
}

/// A map with known keys.
#[derive(Clone, Debug)]
pub(super) struct MapForm {
    pub(super) keys: Vec<KeyForm>,
    pub(super) rule: KeyRule,
}

#[derive(Clone, Debug)]
pub(super) struct KeyForm {
    pub(super) name: &'static str,
    /// The comment at the field, for keys without a row in the documentation.
    pub(super) comment: &'static str,
    pub(super) is_required: bool,
    pub(super) form: ValueForm,
}

/// A rule about the keys of one map, besides those that are always required.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyRule {
    Free,
    NotEmpty,
    /// Exactly one of these groups of keys is present.
    OneOf(&'static [&'static [&'static str]]),
}

impl ValueForm {
    pub(super) fn map(keys: Vec<KeyForm>) -> Self {
        Self::Map(MapForm { keys, rule: KeyRule::Free })
    }

    pub(super) fn pattern(pattern: &str, expected: String, examples: &'static [&'static str]) -> Self {
        Self::Pattern(TextPattern { pattern: pattern.to_owned(), expected, examples })
    }

    pub(super) fn list(self, least: usize) -> Self {
        Self::List(least, Box::new(self))
    }

    pub(super) fn named(self, least: usize) -> Self {
        Self::Named(least, Box::new(self))
    }

    /// One value, or a list of them that is not empty.
    pub(super) fn or_list(self) -> Self {
        Self::AnyOf(vec![self.clone(), self.list(1)])
    }

    /// This form, or the word.
    pub(super) fn or_word(self, word: &'static str) -> Self {
        Self::AnyOf(vec![self, Self::Words(vec![word])])
    }

    /// A map's form with this key required.
    pub(super) fn requiring(mut self, key: &str) -> Self {
        if let Self::Map(map) = &mut self {
            map.keys.iter_mut().filter(|known| known.name == key).for_each(|known| known.is_required = true);
        }
        self
    }

    /// A map's form with these of its keys only.
    pub(super) fn keeping(mut self, keys: &[&str]) -> Self {
        if let Self::Map(map) = &mut self {
            map.keys.retain(|known| keys.contains(&known.name));
        }
        self
    }

    /// A map's form with this rule.
    pub(super) fn with_rule(mut self, rule: KeyRule) -> Self {
        if let Self::Map(map) = &mut self {
            map.rule = rule;
        }
        self
    }
}
