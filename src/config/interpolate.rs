//! Replaces `${…}` in scalars by values.
//!
//! | written | means |
//! | --- | --- |
//! | `${NAME}` | an environment variable; not set is a fault |
//! | `${NAME:-default}` | the default if the variable is not set or empty; never in a secret |
//! | `${file:path}` | the content of the file, without line breaks at its end and a byte order mark; relative to the config file |
//! | `$${` | the two characters `${` |
//!
//! A `$` before any other character is itself: `$argon2id$v=19$…` needs no escape. The value of a variable is not
//! interpolated again, and keys are not interpolated. Reads the environment through [`Surroundings`] only. Its messages
//! contain no text of the file except the name in a reference.

use std::borrow::Cow;
use std::env::VarError;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use crate::clock::{self, UnixTime};
use crate::telemetry::error_chain;

/// The environment of a config file: variables, files and the time.
pub(crate) struct Surroundings<'a> {
    pub(crate) variable: &'a dyn Fn(&str) -> Result<String, VarError>,
    /// Returns at most one byte more than [`FILE_BYTES`], however long the file is. Relative paths have been resolved.
    pub(crate) file: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    /// The time, for warnings of secrets that expire soon.
    pub(crate) now: UnixTime,
}

/// A scalar's text with every reference replaced.
pub(super) struct Interpolated<'s> {
    pub(super) text: Cow<'s, str>,
    pub(super) made_of: MadeOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MadeOf {
    Characters,
    References,
    Both,
}

/// A secret is read strictly: it has no default and is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    Usual,
    Secret,
}

impl Surroundings<'_> {
    /// The process's own environment and files.
    pub(crate) fn process() -> Surroundings<'static> {
        Surroundings { variable: &|name| std::env::var(name), file: &read_file, now: clock::now() }
    }

    pub(super) fn interpolate<'s>(
        &self,
        text: &'s str,
        folder: &Path,
        strictness: Strictness,
    ) -> Result<Interpolated<'s>, Problem> {
        if !text.contains("${") {
            return Ok(Interpolated { text: Cow::Borrowed(text), made_of: MadeOf::Characters });
        }
        let mut result = String::new();
        let mut pieces = Pieces { rest: text };
        let (mut characters, mut references) = (false, false);
        while let Some(piece) = pieces.next()? {
            match piece {
                TextPiece::Characters(piece) => {
                    characters = true;
                    result.push_str(piece);
                }
                TextPiece::Reference(reference) => {
                    references = true;
                    result.push_str(&self.value(&Reference::parse(reference)?, folder, strictness)?);
                }
            }
        }
        let made_of = match (characters, references) {
            (_, false) => MadeOf::Characters,
            (false, true) => MadeOf::References,
            (true, true) => MadeOf::Both,
        };
        Ok(Interpolated { text: Cow::Owned(result), made_of })
    }

    fn value(&self, reference: &Reference<'_>, folder: &Path, strictness: Strictness) -> Result<String, Problem> {
        let secret = strictness == Strictness::Secret;
        let value = match *reference {
            Reference::Variable { default: Some(_), .. } if secret => return Err(Problem::DefaultInSecret),
            Reference::Variable { name, default } => self.variable(name, default)?,
            Reference::File(path) => {
                let value = self.file(path, folder)?;
                if secret && value.contains(['\n', '\r', BYTE_ORDER_MARK]) {
                    return Err(Problem::SeveralLines { path: path.to_owned() });
                }
                value
            }
        };
        match value.is_empty() && secret {
            true => Err(Problem::Empty(reference.subject())),
            false => Ok(value),
        }
    }

    fn variable(&self, name: &str, default: Option<&str>) -> Result<String, Problem> {
        match ((self.variable)(name), default) {
            (Ok(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
            (Ok(value), _) => Ok(value),
            (Err(VarError::NotPresent), Some(default)) => Ok(default.to_owned()),
            (Err(VarError::NotPresent), None) => Err(Problem::NotSet(name.to_owned())),
            (Err(VarError::NotUnicode(_)), _) => Err(Problem::NotText(format!("the variable `{name}`"))),
        }
    }

    fn file(&self, path: &str, folder: &Path) -> Result<String, Problem> {
        let cannot = |cause: String| Problem::Unreadable { path: path.to_owned(), cause };
        let bytes = (self.file)(&folder.join(path)).map_err(|error| cannot(error_chain::reason(&error)))?;
        if bytes.len() > FILE_BYTES {
            return Err(cannot(format!("it is longer than {} KiB", FILE_BYTES / 1024)));
        }
        let text = String::from_utf8(bytes).map_err(|_| Problem::NotText(format!("the file `{path}`")))?;
        // Editors and shells add both.
        let trimmed = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text).trim_end_matches(['\r', '\n']);
        Ok(if trimmed.len() == text.len() { text } else { trimmed.to_owned() })
    }
}

/// The reason why a reference has no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Unclosed,
    Malformed,
    NotSet(String),
    Empty(String),
    NotText(String),
    Unreadable { path: String, cause: String },
    SeveralLines { path: String },
    DefaultInSecret,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclosed => f.write_str("`${` without `}`: write `$${` for the two characters themselves"),
            Self::Malformed => f.write_str(
                "expected `${NAME}`, `${NAME:-default}` or `${file:path}`; write `$${` for the two characters themselves",
            ),
            Self::NotSet(name) => write!(f, "the variable `{name}` is not set"),
            Self::Empty(subject) => write!(f, "{subject} is empty: a secret cannot be"),
            Self::NotText(subject) => write!(f, "{subject} does not hold UTF-8 text"),
            Self::Unreadable { path, cause } => write!(f, "cannot read `{path}`: {cause}"),
            Self::SeveralLines { path } => {
                write!(f, "the file `{path}` has several lines or a byte order mark inside: a secret is one line")
            }
            Self::DefaultInSecret => f.write_str("a secret cannot have a default: write `${NAME}`"),
        }
    }
}

impl Problem {
    /// Whether the reference is well-formed and its value is missing.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::NotSet(_) | Self::Empty(_) | Self::Unreadable { .. } => true,
            Self::Unclosed | Self::Malformed | Self::NotText(_) | Self::SeveralLines { .. } | Self::DefaultInSecret => {
                false
            }
        }
    }

    /// The message for a secret if not even the name in a reference may be shown.
    pub(super) fn without_names(&self) -> &'static str {
        match self {
            Self::Unclosed => "`${` without `}` in a secret",
            Self::Malformed => "a `${…}` in this secret is neither `${NAME}` nor `${file:path}`",
            Self::NotSet(_) => "a variable in this secret is not set",
            Self::Empty(_) => "a variable or file in this secret is empty",
            Self::NotText(_) => "a variable or file in this secret does not hold UTF-8 text",
            Self::Unreadable { .. } => "a file in this secret cannot be read",
            Self::SeveralLines { .. } => "a file in this secret has several lines or a byte order mark inside",
            Self::DefaultInSecret => "a secret cannot have a default: write `${NAME}`",
        }
    }
}

/// Whether `text` is exactly one well-formed reference. Then the name in it is not part of a secret.
pub(super) fn is_one_reference(text: &str) -> bool {
    let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.contains('}') && Reference::parse(inner).is_ok())
}

enum TextPiece<'s> {
    Characters(&'s str),
    /// The text between `${` and `}`.
    Reference(&'s str),
}

struct Pieces<'s> {
    rest: &'s str,
}

impl<'s> Pieces<'s> {
    fn next(&mut self) -> Result<Option<TextPiece<'s>>, Problem> {
        if let Some(rest) = self.rest.strip_prefix("$${") {
            let literal = &self.rest[1..3];
            self.rest = rest;
            return Ok(Some(TextPiece::Characters(literal)));
        }
        if let Some(rest) = self.rest.strip_prefix("${") {
            let (reference, rest) = rest.split_once('}').ok_or(Problem::Unclosed)?;
            self.rest = rest;
            return Ok(Some(TextPiece::Reference(reference)));
        }
        let next = self.rest.char_indices().skip(1).find(|(at, _)| {
            let rest = &self.rest[*at..];
            rest.starts_with("${") || rest.starts_with("$${")
        });
        let (characters, rest) = self.rest.split_at(next.map_or(self.rest.len(), |(at, _)| at));
        self.rest = rest;
        Ok((!characters.is_empty()).then_some(TextPiece::Characters(characters)))
    }
}

enum Reference<'s> {
    Variable { name: &'s str, default: Option<&'s str> },
    File(&'s str),
}

impl<'s> Reference<'s> {
    fn parse(text: &'s str) -> Result<Self, Problem> {
        if let Some(path) = text.strip_prefix("file:") {
            return if path.is_empty() { Err(Problem::Malformed) } else { Ok(Self::File(path)) };
        }
        let (name, default) = match text.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (text, None),
        };
        let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let goes_on_well = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let nested = default.is_some_and(|default| default.contains("${"));
        if starts_well && goes_on_well && !nested {
            Ok(Self::Variable { name, default })
        } else {
            Err(Problem::Malformed)
        }
    }

    fn subject(&self) -> String {
        match self {
            Self::Variable { name, .. } => format!("the variable `{name}`"),
            Self::File(path) => format!("the file `{path}`"),
        }
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Secrets and names are short: a longer file is a mistake.
const FILE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
