//! Explains YAML syntax errors and how to fix them.
//!
//! The messages quote no text of the file: without a tree it is not known what is a secret.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use super::source::Span;

/// A syntax error, because of which there is no tree. Its message quotes no text of the file.
#[derive(Debug)]
pub(super) struct SyntaxFault {
    pub(super) span: Span,
    pub(super) message: String,
}

pub(super) fn fault(text: &str, error: &ScanError) -> SyntaxFault {
    let marked = error.marker().byte_offset().unwrap_or_default().min(text.len());
    let offset = if is_about_tabs(error.kind()) { tab_near(text, marked) } else { marked };
    SyntaxFault { span: Span::new(offset, offset), message: message(error.kind(), before(text, offset)) }
}

fn message(kind: &ErrorKind, before: &str) -> String {
    let advice = match kind {
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::ExpectedFlowSequenceSeparator
            if before.trim_end().ends_with('$') =>
        {
            "quote it: inside `{…}` and `[…]` a variable is written `\"${NAME}\"`"
        }
        ErrorKind::ExpectedFlowMappingSeparator => {
            "expected `,` or `}`: a value that holds `{`, `}`, `[`, `]` or `,` must be quoted here"
        }
        ErrorKind::ExpectedFlowSequenceSeparator => {
            "expected `,` or `]`: a value that holds `{`, `}`, `[`, `]` or `,` must be quoted here"
        }
        kind if is_about_tabs(kind) => "a tab is not allowed here: indent with spaces",
        ErrorKind::MissingAnchorOrAliasName => {
            "`*` and `&` begin aliases and anchors: quote a value that begins with one"
        }
        ErrorKind::UnexpectedCharacter { .. } => "a value cannot begin with this character: quote it",
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
            "a `:` is not allowed here: check the indentation, close every `[` and `{` above, and quote a value that contains `: `"
        }
        ErrorKind::UnclosedQuotedScalar => "this quotation mark is not closed",
        ErrorKind::InvalidQuotedScalarIndent => {
            "a quoted value that begins above is not closed: its closing quotation mark may be missing"
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            "the quoted value has ended before this: quote the whole value"
        }
        ErrorKind::UnknownQuotedScalarEscape => {
            "unknown escape: use single quotes, in which `\\` is an ordinary character"
        }
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofImplicitFlowMapping => "this `[` or `{` is never closed",
        ErrorKind::MismatchedFlowCollectionEnd { .. } | ErrorKind::MisplacedFlowCollectionEnd => {
            "this bracket does not match the one that is open"
        }
        ErrorKind::ExpectedBlockMappingKey if before.trim_end().ends_with([']', '}']) => {
            "nothing may follow a closing bracket: quote a value that begins with `[` or `{`"
        }
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation | ErrorKind::MappingKeyNotAllowed => {
            "expected a key: check the indentation"
        }
        ErrorKind::ExpectedBlockSequenceEntry => "expected `- `: check the indentation",
        ErrorKind::BlockSequenceEntryNotAllowed => "a list cannot begin here: give it lines of its own",
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => "expected `:` after this key",
        ErrorKind::RecursionLimitExceeded => "nested too deeply: at most 64 levels",
        ErrorKind::DirectiveDisallowed => "YAML directives are not supported: remove the line that begins with `%`",
        other => return format!("not valid YAML: {other}"),
    };
    advice.to_owned()
}

fn is_about_tabs(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar
    )
}

/// The place of the tab: the parser marks the text after it or the value before it.
fn tab_near(text: &str, marked: usize) -> usize {
    match text[..marked].ends_with('\t') {
        true => marked - 1,
        false => marked + text[marked..].find('\t').unwrap_or(0),
    }
}

/// The line up to `offset`.
fn before(text: &str, offset: usize) -> &str {
    let before = text.get(..offset).unwrap_or_default();
    before.rsplit(['\n', '\r']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tree;

    #[track_caller]
    fn says(text: &str, place: usize, message: &str) {
        let fault = tree::read(text).err().unwrap_or_else(|| panic!("{text}"));
        assert!(fault.message.contains(message), "{}", fault.message);
        assert_eq!(fault.span.start as usize, place, "{}", fault.message);
    }

    #[test]
    fn a_variable_in_brackets_must_be_quoted() {
        says("a: {value: ${X}}", 12, "quote it");
        says("a: [${X}]", 5, "quote it");
    }

    #[test]
    fn tabs_are_named() {
        says("a:\n\tb: 1", 3, "a tab is not allowed here");
        says("a:\n  b: 1\n\tc: 2", 10, "a tab is not allowed here");
    }

    #[test]
    fn the_usual_slips_get_advice() {
        says("a: *", 3, "quote a value");
        says("a: @b", 3, "quote it");
        says("a: b: c", 4, "contains `: `");
        says("a: 'x", 3, "is not closed");
        says("a: \"x\nb: 1\n", 6, "closing quotation mark");
        says("a: [b", 3, "is never closed");
        says("a: [b}", 3, "does not match");
        says("a: [::]:8443", 7, "quote a value that begins with `[`");
        says("a: - b", 3, "lines of its own");
        says("- a\nb: 1", 4, "expected `- `");
        says("a:\n  b: 1\n c: 2", 11, "expected a key");
        says("a: 1\nb\nc: 1", 5, "expected `:`");
        says("%YAML 1.1\n---\na: 1", 0, "directives are not supported");
        says("a: \"\\q\"", 3, "unknown escape");
    }
}
