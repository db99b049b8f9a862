//! The value that a check found and the value that it wanted, for the audit log and the command line.

use std::fmt;

use serde_json::Value;

/// The values that a failed check found and wanted. Of a token it contains only the member, the claim or the scopes that the check
/// is about. Each text is at most [`MAX_CHARACTERS`] long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discrepancy {
    pub(crate) found: String,
    pub(crate) wanted: String,
}

/// Claims of issuers may be long, such as lists of groups.
const MAX_CHARACTERS: usize = 200;
/// Of one value among others. Texts that end with a remark on the value have room for both.
const MAX_VALUE_CHARACTERS: usize = 100;

impl Discrepancy {
    pub(crate) fn new(found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { found: cut(found.into(), MAX_CHARACTERS), wanted: cut(wanted.into(), MAX_CHARACTERS) }
    }
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {}, wanted {}", self.found, self.wanted)
    }
}

/// Text without quotation marks, everything else as JSON.
pub(crate) fn value_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A value that a remark follows.
pub(crate) fn short(value: &str) -> String {
    let end = value.char_indices().nth(MAX_VALUE_CHARACTERS + 1).map_or(value.len(), |(at, _)| at);
    cut(value[..end].to_owned(), MAX_VALUE_CHARACTERS)
}

/// `NAME=ONE|OTHER`, or `no NAME`. As many values as a discrepancy shows: the list may be far longer.
pub(crate) fn one_of<'v>(name: &str, values: impl IntoIterator<Item = &'v str>) -> String {
    let mut text = String::new();
    for value in values {
        if text.len() > 4 * MAX_CHARACTERS {
            break;
        }
        if text.is_empty() {
            text.push_str(name);
            text.push('=');
        } else {
            text.push('|');
        }
        text.push_str(value);
    }
    if text.is_empty() { format!("no {name}") } else { text }
}

fn cut(mut text: String, characters: usize) -> String {
    if let Some((at, _)) = text.char_indices().nth(characters) {
        text.truncate(at);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_and_lists_stop() {
        let long = "ä".repeat(10_000);
        let values = Discrepancy::new(&*long, one_of("aud", std::iter::repeat_n(&*long, 1000)));
        assert_eq!((values.found.chars().count(), values.wanted.chars().count()), (201, 201));
        assert_eq!(short(&long).chars().count(), 101);
        assert_eq!(one_of("aud", std::iter::repeat_n("a", 100_000)).len(), 801);
    }

    #[test]
    fn a_list_names_its_member_once() {
        assert_eq!(one_of("aud", ["a", "b"]), "aud=a|b");
        assert_eq!(one_of("aud", ["a"]), "aud=a");
        assert_eq!(one_of("aud", None), "no aud");
    }
}
