//! Texts of the file in messages, as far as they may be shown.

use std::path::Path;

use super::super::source::{At, Span};
use super::Resolver;

impl Resolver<'_> {
    /// The text at this place for a message. Empty if it may not be shown.
    pub(super) fn quoted<T>(&self, at: &At<T>) -> String {
        self.source.quote(at.span).map(|text| format!(" {text}")).unwrap_or_default()
    }

    /// Replaces the path in a message by the text at `span` if it comes from a variable and does not exist. The
    /// variable may hold a secret, for example a private key instead of its path.
    pub(super) fn redact_path(&self, message: String, span: Span, path: &Path) -> String {
        let located = self.source.locate(path);
        if !self.source.has_references(span) || self.is_known(&located, span) {
            return message;
        }
        let written = self.source.quote(span).unwrap_or_else(|| "…".to_owned());
        message.replace(&located.display().to_string(), written.trim_matches('`'))
    }

    /// Whether a path exists, or its folder exists and the file name is written out.
    fn is_known(&self, path: &Path, span: Span) -> bool {
        let is_written_out = |name: &str| {
            let written = self.source.verbatim(span).trim_end_matches(['"', '\'']);
            written.strip_suffix(name).is_some_and(|before| before.ends_with('/'))
        };
        let name = path.file_name().and_then(|name| name.to_str());
        path.exists() || path.parent().is_some_and(Path::is_dir) && name.is_some_and(is_written_out)
    }

    /// [`quoted`](Self::quoted), at the end of a message.
    pub(super) fn got<T>(&self, at: &At<T>) -> String {
        self.source.quote(at.span).map(|text| format!(", got {text}")).unwrap_or_default()
    }
}
