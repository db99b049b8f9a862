//! Replaces `${…}` in scalars by values.
//!
//! | written | means |
//! | --- | --- |
//! | `${NAME}` | an environment variable; not set is a fault |
//! | `${NAME:-default}` | the default if the variable is not set or empty; never in a secret |
//! | `${file:path}` | the content of the file, without one newline at its end; relative to the config file |
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
            Reference::File(path) => self.file(path, folder)?,
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
        let mut bytes = (self.file)(&folder.join(path)).map_err(|error| cannot(error_chain::reason(&error)))?;
        if bytes.len() > FILE_BYTES {
            return Err(cannot(format!("it is longer than {} KiB", FILE_BYTES / 1024)));
        }
        let line_break = [&b"\r\n"[..], b"\n"].into_iter().find(|end| bytes.ends_with(end));
        bytes.truncate(bytes.len() - line_break.map_or(0, <[u8]>::len));
        String::from_utf8(bytes).map_err(|_| Problem::NotText(format!("the file `{path}`")))
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
            Self::DefaultInSecret => f.write_str("a secret cannot have a default: write `${NAME}`"),
        }
    }
}

impl Problem {
    /// Whether the reference is well-formed and its value is missing.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::NotSet(_) | Self::Empty(_) | Self::Unreadable { .. } => true,
            Self::Unclosed | Self::Malformed | Self::NotText(_) | Self::DefaultInSecret => false,
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

/// Secrets and names are short: a longer file is a mistake.
const FILE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interpolate(text: &str, strictness: Strictness) -> Result<(String, MadeOf), String> {
        let variable = |name: &str| match name {
            "HOST" => Ok("10.0.0.1".to_owned()),
            "EMPTY" => Ok(String::new()),
            "REFERENCE" => Ok("${HOST}".to_owned()),
            "BYTES" => Err(VarError::NotUnicode("x".into())),
            _ => Err(VarError::NotPresent),
        };
        let file = |path: &Path| match path.to_str().unwrap() {
            "etc/secrets/a" => Ok(b"abc\n\n".to_vec()),
            "/dos" => Ok(b"abc\r\n".to_vec()),
            "/empty" => Ok(b"\n".to_vec()),
            "/long" => Ok(vec![b'x'; FILE_BYTES + 1]),
            "/bytes" => Ok(vec![0xff]),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        Surroundings { variable: &variable, file: &file, now: UnixTime::from_seconds(0) }
            .interpolate(text, Path::new("etc"), strictness)
            .map(|it| (it.text.into_owned(), it.made_of))
            .map_err(|problem| problem.to_string())
    }

    #[track_caller]
    fn gives(text: &str, value: &str, made_of: MadeOf) {
        assert_eq!(interpolate(text, Strictness::Usual), Ok((value.to_owned(), made_of)));
    }

    #[track_caller]
    fn fails(text: &str, strictness: Strictness, message: &str) {
        let error = interpolate(text, strictness).unwrap_err();
        assert!(error.contains(message), "{error}");
    }

    #[test]
    fn references_are_replaced_wherever_they_stand() {
        gives("${HOST}", "10.0.0.1", MadeOf::References);
        gives("http://${HOST}:80/${HOST}", "http://10.0.0.1:80/10.0.0.1", MadeOf::Both);
        gives("${HOST}${EMPTY}", "10.0.0.1", MadeOf::References);
        gives("ä${HOST}ö", "ä10.0.0.1ö", MadeOf::Both);
    }

    #[test]
    fn defaults_stand_in_for_unset_and_empty() {
        gives("${NONE:-x:-y}", "x:-y", MadeOf::References);
        gives("${EMPTY:-x}", "x", MadeOf::References);
        gives("${HOST:-x}", "10.0.0.1", MadeOf::References);
        gives("${NONE:-}", "", MadeOf::References);
        gives("${EMPTY}", "", MadeOf::References);
    }

    #[test]
    fn files_lose_one_newline() {
        gives("${file:secrets/a}", "abc\n", MadeOf::References);
        gives("${file:/dos}", "abc", MadeOf::References);
    }

    #[test]
    fn other_dollars_are_themselves() {
        for text in ["$", "$$", "$HOST", "a$b", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", "{}", "$ {HOST}"] {
            gives(text, text, MadeOf::Characters);
        }
    }

    #[test]
    fn a_doubled_dollar_writes_a_reference_down() {
        gives("$${HOST}", "${HOST}", MadeOf::Characters);
        gives("$$${HOST}", "$${HOST}", MadeOf::Characters);
        gives("$${HOST} is ${HOST}", "${HOST} is 10.0.0.1", MadeOf::Both);
    }

    #[test]
    fn values_are_not_read_again() {
        gives("${REFERENCE}", "${HOST}", MadeOf::References);
    }

    #[test]
    fn missing_values_are_faults() {
        fails("a${NONE}", Strictness::Usual, "the variable `NONE` is not set");
        fails("${BYTES}", Strictness::Usual, "`BYTES` does not hold UTF-8");
        fails("${file:none}", Strictness::Usual, "cannot read `none`: no such file");
        fails("${file:/long}", Strictness::Usual, "cannot read `/long`: it is longer than 64 KiB");
        fails("${file:/bytes}", Strictness::Usual, "does not hold UTF-8");
        fails("${HOST", Strictness::Usual, "without `}`");
        for malformed in ["${}", "${file:}", "${a-b}", "${1A}", "${A:?b}", "${:-b}", "${A:-${HOST}}", "${ HOST }"] {
            fails(malformed, Strictness::Usual, "expected `${NAME}`");
        }
    }

    #[test]
    fn secrets_have_no_defaults_and_are_not_empty() {
        fails("${HOST:-x}", Strictness::Secret, "cannot have a default");
        fails("${EMPTY}", Strictness::Secret, "`EMPTY` is empty");
        fails("${file:/empty}", Strictness::Secret, "`/empty` is empty");
        assert!(interpolate("${HOST}", Strictness::Secret).is_ok());
    }

    #[test]
    fn a_whole_reference_is_distinguished_from_a_part() {
        assert!(is_one_reference("${A}") && is_one_reference("${file:a b}"));
        assert!(!is_one_reference("${A}b") && !is_one_reference("${A}${B}") && !is_one_reference("${a-b}"));
    }

    proptest! {
        #[test]
        fn text_without_references_is_unchanged(text in r"([^$]|\$[^${])*\$?") {
            gives(&text, &text, MadeOf::Characters);
        }

        #[test]
        fn any_text_can_be_written_down(text in r"[${}A ]{0,12}") {
            gives(&text.replace("${", "$${"), &text, MadeOf::Characters);
        }
    }
}
