//! The text of `gateway.yaml`, and which parts of it may be shown.
//!
//! Turns a [`Span`] into line and column, a quotation for a message, or an excerpt under one. A line that may have a
//! secret is never shown: not the value, not its neighbours, not a comment beside it. Only the keys given to
//! [`Source::show_keys`] are shown of such a line, and `***` for the rest.
//!
//! Invariant: until [`Source::hide`] has been called, everything is secret.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The name and text of a file, and its hidden parts.
pub(crate) struct Source {
    name: String,
    folder: PathBuf,
    text: String,
    hidden: OnceCell<Vec<Span>>,
    keys: OnceCell<Vec<Span>>,
    line_starts: OnceCell<Vec<u32>>,
    /// The last offset and its column. On a very long line the next count continues from there.
    last: Cell<(u32, usize)>,
    /// The files that the configuration names and whose content counts.
    named_files: RefCell<BTreeSet<PathBuf>>,
}

/// A value with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    /// For a default: the start of the map without the key.
    pub(crate) span: Span,
}

/// A range of bytes of the source. Files are much smaller than 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// The start of a span. Both count from 1, columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourcePosition {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// One line of the source, with the bytes to mark.
pub(super) struct Excerpt<'s> {
    pub(super) number: usize,
    pub(super) line: Cow<'s, str>,
    pub(super) marked: std::ops::Range<usize>,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        let clamp = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: clamp(start), end: clamp(end.max(start)) }
    }

    pub(super) fn encloses(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Source {
    /// Messages show `path` as the user wrote it. Relative paths in the file start from its folder.
    pub(super) fn new(path: &Path, text: String) -> Self {
        Self {
            name: path.display().to_string(),
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            text,
            hidden: OnceCell::new(),
            keys: OnceCell::new(),
            line_starts: OnceCell::new(),
            last: Cell::new((0, 1)),
            named_files: RefCell::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A path from the file, taken relative to the folder of the file.
    pub(crate) fn locate(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// [`locate`](Self::locate) for a file whose content is part of the configuration.
    pub(crate) fn locate_content(&self, path: &Path) -> PathBuf {
        let located = self.locate(path);
        self.names_file(&located);
        located
    }

    /// Records that the configuration is made of this file too, whether it can be read or not.
    pub(super) fn names_file(&self, located: &Path) {
        if !self.named_files.borrow().contains(located) {
            self.named_files.borrow_mut().insert(located.to_owned());
        }
    }

    pub(super) fn named_files(&self) -> Vec<PathBuf> {
        self.named_files.borrow().iter().cloned().collect()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn place(&self, span: Span) -> SourcePosition {
        let line = self.line_of(span);
        let start = (self.line_start(line), 1);
        let last = Some(self.last.get()).filter(|(last, _)| (start.0..=span.start).contains(last));
        let (from, column) = last.unwrap_or(start);
        let column = column + self.text[from as usize..span.start as usize].chars().count();
        self.last.set((span.start, column));
        SourcePosition { line: line + 1, column }
    }

    /// [`place`](Self::place) without the column.
    pub(crate) fn line(&self, span: Span) -> usize {
        self.line_of(span) + 1
    }

    /// The text at `span` for a message: in backticks, on one line, cut if long. `None` if it may be secret.
    /// Messages quote this and never a decoded value, which may come from a variable.
    pub(crate) fn quote(&self, span: Span) -> Option<String> {
        self.shown_line(span).map(|_| self.quote_harmless(span))
    }

    /// The text at `span`, secret or not. The caller knows that it is not.
    pub(super) fn verbatim(&self, span: Span) -> &str {
        &self.text[span.range()]
    }

    /// The text of its line before `span`.
    pub(super) fn before_on_line(&self, span: Span) -> &str {
        &self.text[self.line_start(self.line_of(span)) as usize..span.start as usize]
    }

    /// Whether the text at `span` may be a secret.
    pub(super) fn is_hidden(&self, span: Span) -> bool {
        self.hidden_from(span.start).is_none_or(|secret| secret.is_some_and(|secret| secret.start <= span.start))
    }

    /// Whether the text at `span` has a reference to a variable or file.
    pub(crate) fn has_references(&self, span: Span) -> bool {
        self.text[span.range()].contains("${")
    }

    /// Quotes a key. Its line may have a secret if the key itself is none.
    pub(crate) fn quote_key(&self, span: Span) -> Option<String> {
        let secret = self.hidden_from(span.start)?;
        let is_key = self.keys().binary_search(&span).is_ok();
        let shown = is_key || secret.is_none_or(|secret| secret.start >= span.end);
        shown.then(|| self.quote_harmless(span))
    }

    /// Quotes text that is known not to be secret. As written, so that no escape in it becomes a control character.
    pub(super) fn quote_harmless(&self, span: Span) -> String {
        let first = self.text[span.range()].lines().next().unwrap_or_default();
        format!("`{}`", shorten(first, QUOTED_CHARACTERS))
    }

    pub(super) fn excerpt(&self, span: Span) -> Option<Excerpt<'_>> {
        let Some(line) = self.shown_line(span) else {
            return self.masked(span);
        };
        let number = self.line_of(span);
        let from = (span.start - self.line_start(number)) as usize;
        let to = (from + span.range().len()).min(line.len()).max(from);
        Some(Excerpt { number: number + 1, line: line.into(), marked: from..to })
    }

    /// The keys of a hidden line, and `***` for the text between them.
    fn masked(&self, span: Span) -> Option<Excerpt<'_>> {
        self.hidden.get()?;
        let number = self.line_of(span);
        let line = self.line_span(number);
        let first = self.keys().partition_point(|key| key.start < line.start);
        let keys: Vec<Span> = self.keys()[first..].iter().copied().take_while(|key| key.end <= line.end).collect();
        if keys.is_empty() || line.range().len() > SHOWN_BYTES {
            return None;
        }
        let (mut masked, mut marked, mut at) = (String::new(), 0..0, line.start);
        let mut push = |text: &str, part: Span, is_key: bool| {
            let from = masked.len();
            masked.push_str(text);
            if (part.start..part.end).contains(&span.start) {
                let (offset, mask) = ((span.start - part.start) as usize, text.find(MASK).unwrap_or(text.len()));
                let of_part = match is_key {
                    true => 0..text.len(),
                    // The opening of a list or a map is shown.
                    false if offset < mask => offset..offset + 1,
                    false => mask..text.len().min(mask + MASK.len()),
                };
                marked = from + of_part.start..from + of_part.end;
            }
        };
        for key in keys {
            let gap = Span { start: at, end: key.start };
            push(&between(&self.text[gap.range()], at == line.start), gap, false);
            push(&self.text[key.range()], key, true);
            at = key.end;
        }
        let rest = Span { start: at, end: line.end.max(at + 1) };
        push(between(self.text[at as usize..line.end as usize].trim_end(), false).trim_end(), rest, false);
        Some(Excerpt { number: number + 1, line: masked.into(), marked })
    }

    fn keys(&self) -> &[Span] {
        self.keys.get().map_or(&[], Vec::as_slice)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Declares the secret parts, once. All other text may be shown from now on. `spans` are in order and do not
    /// overlap.
    pub(super) fn hide(&self, spans: Vec<Span>) {
        let _ = self.hidden.set(spans);
    }

    /// Declares which keys may be shown although their lines have secrets, once and in order.
    pub(super) fn show_keys(&self, spans: Vec<Span>) {
        let _ = self.keys.set(spans);
    }

    /// The line on which `span` begins, if no part of it is secret.
    fn shown_line(&self, span: Span) -> Option<&str> {
        let line = self.line_span(self.line_of(span));
        let touched = self.hidden_from(line.start)?.is_some_and(|secret| secret.start < line.end.max(line.start + 1));
        if touched || line.range().len() > SHOWN_BYTES {
            return None;
        }
        let text = self.text[line.range()].trim_end_matches(['\n', '\r']);
        (!mentions_secrets(text) && !has_credentials(text)).then_some(text)
    }

    /// The first secret that ends after `offset`. The outer `None` means that everything may be secret.
    fn hidden_from(&self, offset: u32) -> Option<Option<Span>> {
        let hidden = self.hidden.get()?;
        let next = hidden.partition_point(|secret| secret.end <= offset);
        Some(hidden.get(next).copied())
    }

    /// Its line break included.
    fn line_span(&self, line: usize) -> Span {
        let end = self.line_starts().get(line + 1).map_or(self.text.len(), |&next| next as usize);
        Span::new(self.line_start(line) as usize, end)
    }

    /// Counted from 0.
    fn line_of(&self, span: Span) -> usize {
        self.line_starts().partition_point(|&start| start <= span.start) - 1
    }

    fn line_start(&self, line: usize) -> u32 {
        self.line_starts()[line]
    }

    fn line_starts(&self) -> &[u32] {
        self.line_starts.get_or_init(|| {
            let bytes = self.text.as_bytes();
            let ends = (0..bytes.len()).filter(|&at| match bytes[at] {
                b'\n' => true,
                b'\r' => bytes.get(at + 1) != Some(&b'\n'),
                _ => false,
            });
            std::iter::once(0).chain(ends.map(|at| Span::new(at + 1, at + 1).start)).collect()
        })
    }
}

/// Whether a line has a word that suggests a secret, in a key, a value or a comment.
pub(super) fn mentions_secrets(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| line.contains(word))
}

/// Whether a text has a URL with a user or password.
pub(super) fn has_credentials(line: &str) -> bool {
    line.split("://").skip(1).any(|rest| rest.split_whitespace().next().is_some_and(|url| url.contains('@')))
}

/// The text before a key as far as it closes and opens lists and maps. The rest may be a secret.
fn between(gap: &str, begins_line: bool) -> String {
    let opens = |c: char| matches!(c, ' ' | '\t' | ':' | '{' | '[') || (begins_line && c == '-');
    let rest = gap.trim_start_matches(opens);
    let opening = &gap[..gap.len() - rest.len()];
    let masked = rest.trim_end_matches([' ', ',', '}', ']', '{', '[']);
    let closing = &rest[masked.len()..];
    match (masked.is_empty(), closing.is_empty()) {
        (true, _) => format!("{opening}{closing}"),
        (false, false) => format!("{opening}{MASK}{closing}"),
        (false, true) => format!("{opening}{MASK} "),
    }
}

const MASK: &str = "***";

fn shorten(text: &str, limit: usize) -> Cow<'_, str> {
    match text.char_indices().nth(limit) {
        Some((cut, _)) => Cow::Owned(format!("{}…", &text[..cut])),
        None => Cow::Borrowed(text),
    }
}

const SECRET_WORDS: [&str; 13] = [
    "secret",
    "passw",
    "credential",
    "private key",
    "api-key",
    "api_key",
    "apikey",
    "authorization",
    "bearer ",
    "value:",
    "hash:",
    "sha256:",
    "$argon2",
];

const QUOTED_CHARACTERS: usize = 60;

/// A longer line would not help the reader, and it would be searched again for every fault.
const SHOWN_BYTES: usize = 4096;

#[cfg(test)]
mod tests;
