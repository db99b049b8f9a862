//! The value that a check found and the value that it wanted, for the audit log and the command line.

use serde_json::Value;

/// What a failed check found and wanted. Of a token it contains only the member, the claim or the scopes that the check
/// is about. Each text is at most [`MAX_CHARACTERS`] long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discrepancy {
    pub(crate) found: String,
    pub(crate) wanted: String,
}

/// Claims of issuers may be long, such as lists of groups.
const MAX_CHARACTERS: usize = 200;

impl Discrepancy {
    pub(crate) fn new(found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { found: cut(found.into()), wanted: cut(wanted.into()) }
    }
}

/// Text without quotation marks, everything else as JSON.
pub(crate) fn value_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(MAX_CHARACTERS) {
        text.truncate(at);
        text.push('…');
    }
    text
}
