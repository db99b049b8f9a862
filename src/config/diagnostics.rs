//! Collects the faults of a config file and renders them.
//!
//! Each fault has a span of the source. They are rendered in the order of the file: for people with the line and a
//! caret under it, for programs as records. Shows only the text that [`Source`] permits.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

use super::source::{Source, Span};

/// All faults of one file.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    kept: Vec<SpannedFault>,
    count: usize,
    /// Faults in these spans are ignored: see [`super::needs`].
    ignored_spans: Vec<Span>,
    ignored: usize,
    root: Option<Span>,
}

/// Proof that a fault has been recorded. Takes the place of a value that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reported(());

/// A fault or a warning as a record, for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Diagnostic {
    pub(crate) file: String,
    /// Absent if it is about the file as a whole.
    pub(crate) line: Option<usize>,
    pub(crate) column: Option<usize>,
    pub(crate) message: String,
}

impl Diagnostic {
    pub(super) fn new(source: &Source, span: Option<Span>, message: String) -> Self {
        let place = span.map(|span| source.place(span));
        Self {
            file: source.name().to_owned(),
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            message,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.message)
    }
}

#[derive(Debug)]
struct SpannedFault {
    span: Option<Span>,
    message: String,
}

/// Allows `?` on a borrowed result.
impl From<&Self> for Reported {
    fn from(reported: &Self) -> Self {
        *reported
    }
}

impl Faults {
    /// Records a fault at `span`. The message is in lower case, names the way out and ends without a full stop. Text of
    /// the file in it must come from [`Source::quote`].
    pub(crate) fn at(&mut self, span: Span, message: impl Into<String>) -> Reported {
        self.record(Some(span), message.into())
    }

    /// Records a fault of the file as a whole.
    pub(crate) fn of_file(&mut self, message: impl Into<String>) -> Reported {
        self.record(None, message.into())
    }

    /// Ignores faults within the `unused` spans from now on. A fault of a default of the `root` map becomes a fault of
    /// the file, because there is no line to show for it.
    pub(super) fn begin(&mut self, root: Span, unused: Vec<Span>) {
        self.root = Some(root);
        self.ignored_spans = unused;
    }

    /// The proof for a fault that was recorded earlier and whose own proof was not kept.
    pub(super) fn reported_before(&self) -> Reported {
        debug_assert!(self.count() > 0, "a value was refused without a fault");
        Reported(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Includes ignored faults.
    pub(crate) fn count(&self) -> usize {
        self.count + self.ignored
    }

    /// Whether further faults are only counted, so that their messages are not used.
    pub(super) fn is_full(&self) -> bool {
        self.kept.len() == KEPT
    }

    /// Every fault with its line and a caret, then the number of faults.
    pub(crate) fn render(&self, source: &Source, renderer: &Renderer) -> String {
        let mut text = String::new();
        for fault in self.in_order() {
            text.push_str(&fault.render(source, renderer));
            text.push('\n');
        }
        text.push_str(&self.summary(source));
        text.push('\n');
        text
    }

    pub(crate) fn diagnostics(&self, source: &Source) -> Vec<Diagnostic> {
        self.in_order().into_iter().map(|fault| fault.diagnostic(source)).collect()
    }

    fn record(&mut self, span: Option<Span>, message: String) -> Reported {
        let is_ignored = |span: Span| self.ignored_spans.iter().any(|ignored| ignored.encloses(span));
        if span.is_some_and(is_ignored) {
            self.ignored += 1;
            return Reported(());
        }
        let is_default_of_root = |span: &Span| self.root.is_some_and(|root| *span == Span { end: root.start, ..root });
        let span = span.filter(|span| !is_default_of_root(span));
        self.count += 1;
        if !self.is_full() {
            self.kept.push(SpannedFault { span, message });
        }
        Reported(())
    }

    fn in_order(&self) -> Vec<&SpannedFault> {
        let mut faults: Vec<&SpannedFault> = self.kept.iter().collect();
        faults.sort_by_key(|fault| fault.span);
        faults
    }

    fn summary(&self, source: &Source) -> String {
        let name = source.name();
        match self.count {
            1 => format!("{name}: 1 problem"),
            many if many > KEPT => format!("{name}: {many} problems, of which {KEPT} are shown"),
            many => format!("{name}: {many} problems"),
        }
    }
}

impl SpannedFault {
    fn render(&self, source: &Source, renderer: &Renderer) -> String {
        let title = Level::ERROR.no_name().primary_title(self.diagnostic(source).to_string());
        match self.span.and_then(|span| source.excerpt(span)) {
            Some(excerpt) => {
                let caret = AnnotationKind::Primary.span(excerpt.marked);
                let snippet = Snippet::source(excerpt.line).line_start(excerpt.number).annotation(caret);
                renderer.render(&[title.element(snippet)])
            }
            None => renderer.render(&[annotate_snippets::Group::with_title(title)]),
        }
    }

    fn diagnostic(&self, source: &Source) -> Diagnostic {
        Diagnostic::new(source, self.span, self.message.clone())
    }
}

/// Further faults are only counted: a large file could have millions.
const KEPT: usize = 1000;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn source(text: &str) -> Source {
        let source = Source::new(Path::new("gateway.yaml"), text.to_owned());
        source.hide(Vec::new());
        source
    }

    fn rendered(text: &str, report: impl FnOnce(&mut Faults)) -> String {
        let mut faults = Faults::default();
        report(&mut faults);
        faults.render(&source(text), &Renderer::plain())
    }

    #[test]
    fn a_fault_shows_its_line_and_a_caret() {
        let text = "routes:\n  - access: {issuers: [corp]}\n";
        let shown = rendered(text, |faults| {
            faults.at(Span::new(31, 35), "unknown issuer `corp` (known: `self`)");
        });
        assert_eq!(
            shown.lines().collect::<Vec<_>>(),
            [
                "gateway.yaml:2:24: unknown issuer `corp` (known: `self`)",
                "  |",
                "2 |   - access: {issuers: [corp]}",
                "  |                        ^^^^",
                "gateway.yaml: 1 problem",
            ]
        );
    }

    #[test]
    fn faults_come_in_the_order_of_the_file() {
        let shown = rendered("a: 1\nb: secret\n", |faults| {
            faults.at(Span::new(8, 14), "second");
            faults.at(Span::new(3, 4), "first");
            faults.of_file("of the whole");
        });
        assert_eq!(
            shown.lines().collect::<Vec<_>>(),
            [
                "gateway.yaml: of the whole",
                "gateway.yaml:1:4: first",
                "  |",
                "1 | a: 1",
                "  |    ^",
                "gateway.yaml:2:4: second",
                "gateway.yaml: 3 problems",
            ]
        );
    }

    #[test]
    fn a_span_of_many_lines_shows_the_first() {
        let shown = rendered("a:\tb\n  c\n", |faults| {
            faults.at(Span::new(3, 9), "first");
        });
        assert_eq!(
            shown.lines().collect::<Vec<_>>(),
            ["gateway.yaml:1:4: first", "  |", "1 | a:    b", "  |       ^", "gateway.yaml: 1 problem",]
        );
    }

    #[test]
    fn a_flood_of_faults_is_counted_and_cut() {
        let shown = rendered("a", |faults| {
            for _ in 0..5000 {
                faults.of_file("wrong");
            }
        });
        assert_eq!(shown.lines().count(), KEPT + 1);
        assert!(shown.ends_with("\ngateway.yaml: 5000 problems, of which 1000 are shown\n"));
    }

    #[test]
    fn machines_get_records() {
        let mut faults = Faults::default();
        faults.at(Span::new(3, 4), "wrong");
        faults.of_file("unreadable");
        let json = serde_json::to_string(&faults.diagnostics(&source("a: 1"))).unwrap();
        assert_eq!(
            json,
            r#"[{"file":"gateway.yaml","line":null,"column":null,"message":"unreadable"},{"file":"gateway.yaml","line":1,"column":4,"message":"wrong"}]"#
        );
    }
}
