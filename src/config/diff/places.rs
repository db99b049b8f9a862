//! The places of entries in the text of a configuration.

use std::collections::HashMap;
use std::path::Path;

use super::change::{ChangeSubject, SubjectKey};
use crate::config::source::{At, Source, SourcePosition, Span};
use crate::config::tree::{self, YamlNode};

/// The entries of a file, by the keys that lead to them.
pub(crate) struct Places {
    source: Source,
    spans: HashMap<Vec<SubjectKey>, Span>,
}

/// Clients are this far below the top.
const DEPTH: usize = 3;

impl Places {
    /// `text` has been read without a fault.
    pub(crate) fn of(path: &Path, text: String) -> Self {
        let source = Source::new(path, text);
        let mut spans = HashMap::new();
        if let Ok(tree) = tree::read(source.text())
            && let Some(root) = &tree.root
        {
            note(&root.value, &mut Vec::new(), &mut spans);
        }
        Self { source, spans }
    }

    /// The name of the file.
    pub(crate) fn file(&self) -> &str {
        self.source.name()
    }

    /// The place of an entry, or of the nearest one above it that is written. `None`: the whole file.
    pub(crate) fn of_subject(&self, subject: &ChangeSubject) -> Option<SourcePosition> {
        let lengths = (1..=subject.path.len()).rev();
        let span = lengths.filter_map(|length| self.spans.get(subject.path.get(..length)?)).next()?;
        Some(self.source.place(*span))
    }
}

fn note(node: &YamlNode<'_>, path: &mut Vec<SubjectKey>, spans: &mut HashMap<Vec<SubjectKey>, Span>) {
    if path.len() == DEPTH {
        return;
    }
    match node {
        YamlNode::Map(entries) => {
            for (At { value: key, span }, At { value, span: _ }) in entries {
                path.push(SubjectKey::Name(key.clone().into_owned()));
                spans.insert(path.clone(), *span);
                note(value, path, spans);
                path.pop();
            }
        }
        YamlNode::List(items) => {
            for (index, At { value, span }) in items.iter().enumerate() {
                path.push(SubjectKey::Index(index));
                spans.insert(path.clone(), *span);
                note(value, path, spans);
                path.pop();
            }
        }
        YamlNode::Scalar(_) | YamlNode::Refused => {}
    }
}
