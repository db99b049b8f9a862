//! A warning: a setting that is allowed, but is probably a mistake.

use std::fmt;

use super::diagnostics::Diagnostic;
use super::lint::Lint;
use super::source::{Source, Span};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) lint: Lint,
    pub(crate) diagnostic: Diagnostic,
}

impl Warning {
    /// A warning about the text at `span`, or about the file as a whole.
    pub(super) fn new(source: &Source, lint: Lint, span: Option<Span>, message: impl Into<String>) -> Self {
        Self { lint, diagnostic: Diagnostic::new(source, span, message.into()) }
    }

    /// The warning as others print it, with the id of its lint at the end.
    pub(crate) fn with_id(&self) -> Diagnostic {
        let message = format!("{} [{}]", self.diagnostic.message, self.lint.id());
        Diagnostic { message, ..self.diagnostic.clone() }
    }
}

/// With the id of the lint at the end.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.diagnostic, self.lint.id())
    }
}
