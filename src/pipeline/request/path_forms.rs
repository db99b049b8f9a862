//! Forms of a path that services read in different ways. They are refused, unless a route opts in to them.

use super::ambiguous::Ambiguous;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathForm {
    /// `;` or `%3B`: the beginning of a path parameter, or a part of the name.
    Semicolon,
    /// `%2F`: a separator, or a part of the name.
    EncodedSlash,
    /// `%5C`: a separator on Windows, or a part of the name.
    EncodedBackslash,
    /// `//`: merged, or a segment with an empty name.
    EmptySegment,
}

/// A set of forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathForms(u8);

impl PathForm {
    pub(crate) const ALL: [Self; 4] = [Self::Semicolon, Self::EncodedSlash, Self::EncodedBackslash, Self::EmptySegment];

    /// Its name in the configuration.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Semicolon => "semicolon",
            Self::EncodedSlash => "encoded_slash",
            Self::EncodedBackslash => "encoded_backslash",
            Self::EmptySegment => "empty_segment",
        }
    }

    /// The form that a path has by the escape of this byte.
    pub(super) const fn of_escaped(byte: u8) -> Option<Self> {
        match byte {
            b';' => Some(Self::Semicolon),
            b'/' => Some(Self::EncodedSlash),
            b'\\' => Some(Self::EncodedBackslash),
            _ => None,
        }
    }

    /// The refusal of a path with this form.
    pub(crate) const fn fault(self) -> Ambiguous {
        match self {
            Self::Semicolon => Ambiguous::Parameter,
            Self::EncodedSlash | Self::EncodedBackslash => Ambiguous::Slash,
            Self::EmptySegment => Ambiguous::EmptySegment,
        }
    }

    /// Whether a part of a path in its canonical spelling has this form.
    fn is_in(self, part: &str) -> bool {
        match self {
            Self::Semicolon => part.contains(';') || part.contains("%3B"),
            Self::EncodedSlash => part.contains("%2F"),
            Self::EncodedBackslash => part.contains("%5C"),
            Self::EmptySegment => part.contains("//"),
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl PathForms {
    /// The forms in a part of a path in its canonical spelling.
    pub(crate) fn in_part(part: &str) -> Self {
        PathForm::ALL.into_iter().filter(|form| form.is_in(part)).collect()
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn contains(self, form: PathForm) -> bool {
        self.0 & form.bit() != 0
    }

    pub(super) const fn insert(&mut self, form: PathForm) {
        self.0 |= form.bit();
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = PathForm> {
        PathForm::ALL.into_iter().filter(move |form| self.contains(*form))
    }
}

impl FromIterator<PathForm> for PathForms {
    fn from_iter<I: IntoIterator<Item = PathForm>>(forms: I) -> Self {
        let mut set = Self::default();
        forms.into_iter().for_each(|form| set.insert(form));
        set
    }
}
