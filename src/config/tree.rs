//! Parses YAML text into a tree of nodes with spans.
//!
//! The tree has lists, maps and *untyped* scalars. Whether `no` or `1e3` is text, a number or a fault is decided by the
//! key that reads it, so YAML never changes the type of a value. Anchors, aliases, merge keys and tags are refused, so
//! no small file expands to a large tree. They are returned as [`UnsupportedYaml`] beside the tree, so that all are
//! reported in one run. Only a syntax error ends the parsing.
//!
//! Uses the event parser below serde-saphyr's deserializer: serde's data model has no scalar style, no tags and no
//! spans for skipped values, and it is recursive.

use std::borrow::Cow;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle};

use super::source::{At, Span};
use super::syntax::{self, SyntaxFault};
use super::unsupported_yaml::UnsupportedYaml;

/// The word at the beginning of a comment that is for the gateway.
pub(super) const COMMENT_MARK: &str = "portcullis:";

/// Reads the one document of `text`.
pub(super) fn read(text: &str) -> Result<YamlTree<'_>, SyntaxFault> {
    read_at_most(MAX_NODES, text)
}

fn read_at_most(limit: usize, text: &str) -> Result<YamlTree<'_>, SyntaxFault> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options(text)) {
        let (event, span) = event.map_err(|error| syntax::fault(text, &error))?;
        builder.take(text, event, &span)?;
        if builder.documents > 1 {
            builder.dropped.push(Span::new(span_of(&span).end as usize, text.len()));
            break;
        }
        if builder.nodes > limit {
            let message = format!("too many values: at most {limit} in a file");
            return Err(SyntaxFault { span: span_of(&span), message });
        }
    }
    let Builder { root, unsupported, dropped, comments, .. } = builder;
    Ok(YamlTree { root, unsupported, dropped, comments })
}

pub(super) struct YamlTree<'s> {
    /// `None` if the file holds nothing but comments.
    pub(super) root: Option<At<YamlNode<'s>>>,
    pub(super) unsupported: Vec<At<UnsupportedYaml>>,
    /// Text that is not in the tree: values of refused keys, further documents.
    pub(super) dropped: Vec<Span>,
    /// In the order of the file, with their `#`. Empty if none is for the gateway.
    pub(super) comments: Vec<Span>,
}

/// No `Debug`: a node may be a secret.
pub(super) enum YamlNode<'s> {
    Scalar(Scalar<'s>),
    List(Vec<At<Self>>),
    /// In the order of the file. A key may occur twice.
    Map(Vec<(At<Cow<'s, str>>, At<Self>)>),
    /// An alias or a tagged scalar, which is reported as [`UnsupportedYaml`].
    Refused,
}

pub(super) struct Scalar<'s> {
    /// YAML's escapes are decoded, variables are not replaced yet.
    pub(super) text: Cow<'s, str>,
    /// Written without quotes.
    pub(super) plain: bool,
}

fn options(text: &str) -> granit_parser::Options {
    let mut options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    // Comments are few tokens more to read, and mostly for people only.
    options.set_emit_comments(text.contains(COMMENT_MARK));
    options.max_buffered_comment_events = usize::MAX;
    options
}

#[derive(Default)]
struct Builder<'s> {
    root: Option<At<YamlNode<'s>>>,
    open: Vec<OpenCollection<'s>>,
    unsupported: Vec<At<UnsupportedYaml>>,
    dropped: Vec<Span>,
    comments: Vec<Span>,
    nodes: usize,
    documents: usize,
}

/// A list or map that is not complete yet.
struct OpenCollection<'s> {
    start: u32,
    /// Of the last child.
    end: u32,
    flow: bool,
    children: Children<'s>,
}

enum Children<'s> {
    List(Vec<At<YamlNode<'s>>>),
    Map { pairs: Vec<(At<Cow<'s, str>>, At<YamlNode<'s>>)>, key: YamlKey<'s> },
}

enum YamlKey<'s> {
    Awaited,
    Given(At<Cow<'s, str>>),
    /// The value that follows is dropped with its key.
    Refused(Span),
}

impl<'s> Builder<'s> {
    fn take(&mut self, text: &'s str, event: Event<'s>, at: &granit_parser::Span) -> Result<(), SyntaxFault> {
        let span = span_of(at);
        let tag = at.tag_span().map(|tag| span_of(&tag));
        if let Some(tag) = tag {
            self.add_unsupported(UnsupportedYaml::Tag, tag);
        }
        match event {
            Event::DocumentStart(..) => self.begin_document(span),
            Event::Scalar(..) if tag.is_some() => self.complete(span, YamlNode::Refused),
            Event::Scalar(value, style, ..) => self.complete(span, scalar(text, span, value, style)),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.add_unsupported(UnsupportedYaml::Alias, span);
                self.complete(span, YamlNode::Refused);
            }
            Event::Anchor(..) => self.add_unsupported(UnsupportedYaml::Anchor, span),
            Event::SequenceStart(style, ..) => self.begin(span, style, Children::List(Vec::new()))?,
            Event::MappingStart(style, ..) => {
                self.begin(span, style, Children::Map { pairs: Vec::new(), key: YamlKey::Awaited })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Comment(..) => self.comments.push(span),
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            // There are no other events.
            _ => {}
        }
        Ok(())
    }

    fn begin_document(&mut self, span: Span) {
        self.documents += 1;
        if self.documents == 2 {
            self.add_unsupported(UnsupportedYaml::SecondDocument, span);
        }
    }

    fn begin(
        &mut self,
        span: Span,
        style: granit_parser::StructureStyle,
        children: Children<'s>,
    ) -> Result<(), SyntaxFault> {
        if self.open.len() == MAX_DEPTH {
            return Err(SyntaxFault { span, message: format!("nested too deeply: at most {MAX_DEPTH} levels") });
        }
        let flow = style == granit_parser::StructureStyle::Flow;
        self.open.push(OpenCollection { start: span.start, end: span.end, flow, children });
        Ok(())
    }

    fn end(&mut self, span: Span) {
        let Some(done) = self.open.pop() else { return };
        // A block ends where the next token begins, which may be a page of comments later.
        let end = if done.flow { span.end } else { done.end };
        let node = match done.children {
            Children::List(items) => YamlNode::List(items),
            Children::Map { pairs, .. } => YamlNode::Map(pairs),
        };
        self.complete(Span { start: done.start, end: end.max(done.end) }, node);
    }

    fn complete(&mut self, span: Span, node: YamlNode<'s>) {
        self.nodes += 1;
        let node = At { value: node, span };
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        parent.end = parent.end.max(span.end);
        match parent.children.add(node) {
            Added::Kept => {}
            Added::Unsupported(found) => self.add_unsupported(found, span),
            Added::Dropped(span) => self.dropped.push(span),
        }
    }

    fn add_unsupported(&mut self, value: UnsupportedYaml, span: Span) {
        self.unsupported.push(At { value, span });
    }
}

enum Added {
    Kept,
    Unsupported(UnsupportedYaml),
    Dropped(Span),
}

impl<'s> Children<'s> {
    fn add(&mut self, node: At<YamlNode<'s>>) -> Added {
        match self {
            Self::List(items) => items.push(node),
            Self::Map { pairs, key } => match std::mem::replace(key, YamlKey::Awaited) {
                YamlKey::Given(name) => pairs.push((name, node)),
                YamlKey::Refused(start) => return Added::Dropped(Span { end: node.span.end, ..start }),
                YamlKey::Awaited => match as_key(node) {
                    Ok(name) => *key = YamlKey::Given(name),
                    Err((span, found)) => {
                        *key = YamlKey::Refused(span);
                        return found.map_or(Added::Kept, Added::Unsupported);
                    }
                },
            },
        }
        Added::Kept
    }
}

/// A key, or else its span and the reason why it is refused. There is no reason if it has been reported.
fn as_key(At { value, span }: At<YamlNode<'_>>) -> Result<At<Cow<'_, str>>, (Span, Option<UnsupportedYaml>)> {
    match value {
        YamlNode::Scalar(Scalar { text, plain: true }) if text == "<<" => Err((span, Some(UnsupportedYaml::MergeKey))),
        YamlNode::Scalar(Scalar { text, .. }) => Ok(At { value: text, span }),
        YamlNode::List(_) | YamlNode::Map(_) => Err((span, Some(UnsupportedYaml::ComplexKey))),
        YamlNode::Refused => Err((span, None)),
    }
}

fn scalar<'s>(text: &'s str, span: Span, value: Cow<'s, str>, style: ScalarStyle) -> YamlNode<'s> {
    let plain = style == ScalarStyle::Plain;
    // The parser gives `~` for an absent value.
    let absent = plain && text.get(span.start as usize..span.end as usize) == Some("");
    YamlNode::Scalar(Scalar { text: if absent { Cow::Borrowed("") } else { value }, plain })
}

fn span_of(span: &granit_parser::Span) -> Span {
    let start = span.start.byte_offset().unwrap_or_default();
    Span::new(start, span.end.byte_offset().unwrap_or(start))
}

/// The config itself needs 8.
const MAX_DEPTH: usize = 64;

/// A hundred thousand clients with all their keys need 3 million nodes. This many nodes need about 600 MB.
const MAX_NODES: usize = 8_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(node: &YamlNode<'_>) -> String {
        match node {
            YamlNode::Scalar(Scalar { text, plain: true }) => text.to_string(),
            YamlNode::Scalar(Scalar { text, plain: false }) => format!("{text:?}"),
            YamlNode::List(items) => {
                format!("[{}]", items.iter().map(|item| outline(&item.value)).collect::<Vec<_>>().join(", "))
            }
            YamlNode::Map(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| format!("{}: {}", key.value, outline(&value.value)));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
            }
            YamlNode::Refused => "refused".to_owned(),
        }
    }

    #[track_caller]
    fn reads(text: &str, expected: &str) {
        let tree = read(text).unwrap();
        assert_eq!(tree.unsupported, [], "{text}");
        assert_eq!(outline(&tree.root.unwrap().value), expected, "{text}");
    }

    #[track_caller]
    fn finds(text: &str, expected: UnsupportedYaml, at: &str) {
        let tree = read(text).unwrap();
        let [ref found] = tree.unsupported[..] else { panic!("{:?} in {text}", tree.unsupported) };
        assert_eq!(found.value, expected, "{text}");
        assert_eq!(&text[found.span.start as usize..found.span.end as usize], at, "{text}");
    }

    #[track_caller]
    fn refuses(text: &str, message: &str) {
        let fault = read(text).err().unwrap_or_else(|| panic!("{text:.80}"));
        assert!(fault.message.contains(message), "{}", fault.message);
    }

    #[test]
    fn scalars_stay_as_written() {
        reads("[no, 1e3, 0o17, 12:30, ~, .inf, 0755, true]", "[no, 1e3, 0o17, 12:30, ~, .inf, 0755, true]");
        reads("a: 'no'\nb: \"1\\n\"\nc: |\n  x\n", "{a: \"no\", b: \"1\\n\", c: \"x\\n\"}");
    }

    #[test]
    fn nothing_is_empty_text() {
        reads("a:\nb: [{c: }]", "{a: , b: [{c: }]}");
    }

    #[test]
    fn a_key_may_come_twice() {
        reads("a: 1\na: 2", "{a: 1, a: 2}");
    }

    #[test]
    fn an_empty_file_has_no_root() {
        assert!(read("").unwrap().root.is_none());
        assert!(read("# only a comment\n").unwrap().root.is_none());
    }

    #[test]
    fn a_block_ends_with_its_last_value() {
        let text = "a:\n  b: [c]  # d\n\n# e\nf: g\n";
        let Some(At { value: YamlNode::Map(pairs), .. }) = read(text).unwrap().root else { panic!() };
        assert_eq!(pairs[0].1.span, Span::new(5, 11));
    }

    #[test]
    fn unsupported_yaml_is_found_at_its_place() {
        finds("a: &x 1", UnsupportedYaml::Anchor, "&x");
        finds("a: *x", UnsupportedYaml::Alias, "*x");
        finds("hosts: [*.example.com]", UnsupportedYaml::Alias, "*.example.com");
        finds("*x : 1", UnsupportedYaml::Alias, "*x");
        finds("a: !!str 5", UnsupportedYaml::Tag, "!!str");
        finds("a: !secret", UnsupportedYaml::Tag, "!secret");
        finds("a: !x {b: c}", UnsupportedYaml::Tag, "!x");
        finds("a: 1\n<<: {b: 2}", UnsupportedYaml::MergeKey, "<<");
        finds("? [a, b]\n: c\nd: e", UnsupportedYaml::ComplexKey, "[a, b]");
        finds("a: 1\n---\nb: 2", UnsupportedYaml::SecondDocument, "---");
    }

    #[test]
    fn a_refused_key_takes_its_value_along() {
        let tree = read("<<: {b: 2}\na: 1").unwrap();
        assert_eq!(outline(&tree.root.unwrap().value), "{a: 1}");
    }

    #[test]
    fn a_second_document_changes_nothing() {
        let tree = read("a: 1\n---\nb: 2").unwrap();
        assert_eq!(outline(&tree.root.unwrap().value), "{a: 1}");
    }

    #[test]
    fn billion_laughs_expand_to_nothing() {
        let mut text = String::from("a0: &a0 [x, x]\n");
        for level in 1..40 {
            text += &format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1);
        }
        assert_eq!(read(&text).unwrap().unsupported.len(), 40 + 39 * 2);
    }

    #[test]
    fn aliases_are_counted_and_not_followed() {
        let text = format!("a: &a x\nb: [{}]", "*a,".repeat(100_000));
        assert_eq!(read(&text).unwrap().unsupported.len(), 100_001);
    }

    #[test]
    fn deep_nesting_is_refused() {
        refuses(&"[".repeat(10_000), "nested too deeply");
        refuses(&"{a: ".repeat(10_000), "nested too deeply");
        refuses(&"- ".repeat(10_000), "nested too deeply");
        let indented: String = (0..10_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        refuses(&indented, "nested too deeply");
        assert!(read(&format!("{}x{}", "[".repeat(60), "]".repeat(60))).is_ok());
    }

    #[test]
    fn too_many_values_are_refused() {
        assert!(read_at_most(4, "[a, b, c]").is_ok());
        assert!(read_at_most(4, "[a, b, c, d]").is_err());
    }
}
