//! One change of access, and the list of them.

use std::fmt;

use crate::audit::line::shown;

/// A change of access that a configuration makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessChange {
    pub(crate) direction: Direction,
    pub(crate) subject: ChangeSubject,
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// Requests are let in that were refused.
    Wider,
    /// Requests may be let in that were refused: the two cannot be compared. Counts as wider.
    Unclear,
    /// Requests are refused that were let in.
    Narrower,
    /// Neither: the same requests are let in, and something else about them changes.
    Changed,
}

/// The entry of the file that a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChangeSubject {
    /// The keys that lead to it, from the top.
    pub(crate) path: Vec<SubjectKey>,
    /// It is in the old file only.
    pub(crate) is_old: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SubjectKey {
    Name(String),
    /// The place in a list.
    Index(usize),
}

/// The changes so far.
#[derive(Debug, Default)]
pub(super) struct Changes(pub(super) Vec<AccessChange>);

impl Direction {
    /// Its name, for programs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Wider => "wider",
            Self::Unclear => "unclear",
            Self::Narrower => "narrower",
            Self::Changed => "changed",
        }
    }

    /// Whether access may widen.
    pub(crate) const fn may_widen(self) -> bool {
        match self {
            Self::Wider | Self::Unclear => true,
            Self::Narrower | Self::Changed => false,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ChangeSubject {
    /// An entry of the new file, by the names of its keys.
    pub(super) fn named(keys: &[&str]) -> Self {
        Self { path: keys.iter().map(|key| SubjectKey::Name((*key).to_owned())).collect(), is_old: false }
    }

    /// An item of a list.
    pub(super) fn item(list: &str, index: usize) -> Self {
        Self { path: vec![SubjectKey::Name(list.to_owned()), SubjectKey::Index(index)], is_old: false }
    }

    pub(super) fn of_old(self) -> Self {
        Self { is_old: true, ..self }
    }
}

impl Changes {
    /// A name in the text may have characters that control a terminal or are not seen: they are escaped.
    pub(super) fn add(&mut self, direction: Direction, subject: &ChangeSubject, text: impl AsRef<str>) {
        let text = shown(text.as_ref());
        self.0.push(AccessChange { direction, subject: subject.clone(), text });
    }
}
