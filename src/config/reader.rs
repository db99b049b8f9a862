//! Reads nodes for the decoders: the known keys of a map, the text of a scalar, and the messages about both.
//!
//! Decides which text a message may quote: text of the source, never a decoded value. Of a secret only the name in a
//! reference is quoted, if the reference is the whole text.

use std::borrow::Cow;
use std::path::Path;

use super::diagnostics::{Faults, Reported};
use super::interpolate::{self, MadeOf, Strictness, Surroundings};
use super::needs::Needs;
use super::revision::NamedContent;
use super::source::{At, Source, Span};
use super::suggest;
use super::tree::{Scalar, YamlNode};
use super::values::Hint;

/// The context of decoding.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source,
    pub(super) surroundings: &'a Surroundings<'a>,
    pub(super) faults: &'a mut Faults,
    pub(super) needs: Needs,
    /// Bytes from variables and files so far.
    pub(super) interpolated_bytes: usize,
    pub(super) named: &'a mut NamedContent,
}

/// A scalar after interpolation.
pub(super) struct Text<'n> {
    pub(super) value: Cow<'n, str>,
    pub(super) plain: bool,
    pub(super) made_of: MadeOf,
}

/// Why a key is absent.
#[derive(Clone, Copy)]
pub(super) enum MissingKey {
    /// The map at this span does not have it.
    From(Span),
    /// There is no map.
    Because(Reported),
}

/// The known keys of one map.
pub(super) struct Entries<'n, 's> {
    known: &'static [&'static str],
    nodes: Vec<Option<&'n At<YamlNode<'s>>>>,
    pub(super) missing: MissingKey,
}

impl Reader<'_> {
    /// Finds the `known` keys of a map and reports all others.
    pub(super) fn entries<'n, 's>(
        &mut self,
        node: &'n At<YamlNode<'s>>,
        known: &'static [&'static str],
    ) -> Entries<'n, 's> {
        let mut entries = Entries { known, nodes: vec![None; known.len()], missing: MissingKey::From(node.span) };
        let YamlNode::Map(pairs) = &node.value else {
            entries.missing = MissingKey::Because(self.mismatch(node, "a map", ""));
            return entries;
        };
        let mut first: Vec<Option<Span>> = vec![None; known.len()];
        let mut unknown = Vec::new();
        for (key, value) in pairs {
            match known.iter().position(|name| *name == key.value) {
                None => unknown.push((key, value)),
                Some(slot) => match first[slot] {
                    Some(first) => self.duplicate(key.span, Some(self.source.quote_harmless(key.span)), first),
                    None => {
                        first[slot] = Some(key.span);
                        entries.nodes[slot] = Some(value);
                    }
                },
            }
        }
        for (key, value) in unknown {
            let meant = self.unknown_key(key, known);
            if let Some(slot) = meant.and_then(|meant| known.iter().position(|name| *name == meant)) {
                entries.nodes[slot].get_or_insert(value);
            }
        }
        entries
    }

    /// The text of a scalar with its variables replaced. `expected` is for the message about another kind of node.
    pub(super) fn text<'n>(&mut self, node: &'n At<YamlNode<'_>>, expected: &str) -> Result<Text<'n>, Reported> {
        self.interpolated(node, expected, Strictness::Usual)
    }

    pub(super) fn secret_text<'n>(&mut self, node: &'n At<YamlNode<'_>>) -> Result<Text<'n>, Reported> {
        self.interpolated(node, "text", Strictness::Secret)
    }

    /// Reports that `node` is not of the expected kind, with its kind and the hint, if any.
    pub(super) fn mismatch(&mut self, node: &At<YamlNode<'_>>, expected: &str, hint: Hint) -> Reported {
        let got = match &node.value {
            YamlNode::Refused => return self.faults.reported_before(),
            YamlNode::List(_) => "a list".to_owned(),
            YamlNode::Map(_) => "a map".to_owned(),
            YamlNode::Scalar(scalar) if scalar.is_nothing() => "nothing".to_owned(),
            YamlNode::Scalar(_) => self.source.quote(node.span).unwrap_or_default(),
        };
        let got = if got.is_empty() { got } else { format!(", got {got}") };
        let hint = if hint.is_empty() { String::new() } else { format!(": {hint}") };
        self.faults.at(node.span, format!("expected {expected}{got}{hint}"))
    }

    fn interpolated<'n>(
        &mut self,
        node: &'n At<YamlNode<'_>>,
        expected: &str,
        strictness: Strictness,
    ) -> Result<Text<'n>, Reported> {
        let YamlNode::Scalar(scalar) = &node.value else {
            return Err(self.mismatch(node, expected, ""));
        };
        let file = |path: &Path| {
            self.source.names_file(path);
            (self.surroundings.file)(path)
        };
        let surroundings = Surroundings { file: &file, ..*self.surroundings };
        match surroundings.interpolate(&scalar.text, self.source.folder(), strictness) {
            Ok(_) if self.interpolated_bytes > MAX_INTERPOLATED_BYTES => {
                Err(self.faults.at(node.span, "variables and files give more than 64 MiB in all"))
            }
            Ok(text) => {
                if text.made_of != MadeOf::Characters {
                    self.interpolated_bytes += text.text.len();
                    self.named.add_value(&text.text);
                }
                Ok(Text { value: text.text, plain: scalar.plain, made_of: text.made_of })
            }
            // Only a command that needs everything needs the secrets.
            Err(problem) if problem.is_absence() && !self.needs.is_everything() && self.source.is_hidden(node.span) => {
                Ok(Text { value: Cow::Borrowed(""), plain: scalar.plain, made_of: MadeOf::References })
            }
            Err(problem) => {
                let named = self.source.quote(node.span).is_some() || interpolate::is_one_reference(&scalar.text);
                let message = if named { problem.to_string() } else { problem.without_names().to_owned() };
                Err(self.faults.at(node.span, message))
            }
        }
    }

    /// Returns the known key that was probably meant.
    fn unknown_key(&mut self, key: &At<Cow<'_, str>>, known: &[&'static str]) -> Option<&'static str> {
        if self.faults.is_full() {
            self.faults.at(key.span, "unknown key");
            return None;
        }
        let meant = suggest::closest(&key.value, known);
        // A name that is close to a known key is not a secret.
        let quoted = match meant {
            Some(_) => Some(self.source.quote_harmless(key.span)),
            None => self.source.quote_key(key.span),
        };
        let quoted = quoted.map(|quoted| format!(" {quoted}")).unwrap_or_default();
        let of_rule = meant.is_none() && known.contains(&"access") && ACCESS_KEYS.contains(&&*key.value);
        let suggestion = if of_rule {
            format!(", did you mean `access.{}`?", key.value)
        } else {
            suggest::suggestion(&key.value, known)
        };
        self.faults.at(key.span, format!("unknown key{quoted}{suggestion}"));
        meant
    }

    pub(super) fn duplicate(&mut self, key: Span, quoted: Option<String>, first: Span) {
        let quoted = quoted.map(|quoted| format!(" {quoted}")).unwrap_or_default();
        let line = self.source.line(first);
        self.faults.at(key, format!("duplicate key{quoted}, first at line {line}"));
    }

    /// A key that is a name. It is printable and not a variable.
    pub(super) fn name(&mut self, key: &At<Cow<'_, str>>) -> Option<At<String>> {
        if key.value.is_empty() {
            self.faults.at(key.span, "a name is missing before the `:`");
            return None;
        }
        if key.value.contains("${") {
            self.faults.at(key.span, "a name cannot be a variable: write it out");
            return None;
        }
        if key.value.contains(char::is_control) {
            self.faults.at(key.span, "a name cannot hold control characters");
            return None;
        }
        Some(At { value: key.value.clone().into_owned(), span: key.span })
    }
}

impl<'n, 's> Entries<'n, 's> {
    pub(super) fn node(&self, key: &'static str) -> Option<&'n At<YamlNode<'s>>> {
        let slot = self.known.iter().position(|name| *name == key)?;
        self.nodes[slot]
    }

    /// The span of the map.
    pub(super) fn span(&self) -> Span {
        match self.missing {
            MissingKey::From(span) => span,
            MissingKey::Because(_) => Span::new(0, 0),
        }
    }

    /// The fields of a map that is not in the file.
    pub(super) fn none(missing: MissingKey) -> Self {
        Self { known: &[], nodes: Vec::new(), missing }
    }
}

impl Scalar<'_> {
    pub(super) fn is_nothing(&self) -> bool {
        self.plain && NOTHING.contains(&&*self.text)
    }
}

impl Text<'_> {
    /// Whether a YAML parser may read this as a number, a truth value or null.
    pub(super) fn is_ambiguous(&self) -> bool {
        let text = &*self.value;
        self.plain
            && self.made_of == MadeOf::Characters
            && (NOTHING.contains(&text) || TRUTHS.contains(&&*text.to_ascii_lowercase()) || looks_like_a_number(text))
    }

    pub(super) fn how_to_quote(&self) -> Hint {
        if NOTHING.contains(&&*self.value) { "" } else { "quote it if it is meant as text" }
    }
}

/// In YAML 1.1 or 1.2, decimal or not: `1e3 0o17 0x1F 1_000 -1 .5 12:30 .inf`.
fn looks_like_a_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let special = matches!(unsigned.to_ascii_lowercase().as_str(), ".inf" | ".nan");
    let starts_well = unsigned.strip_prefix('.').unwrap_or(unsigned).starts_with(|c: char| c.is_ascii_digit());
    let goes_on_well =
        |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | '_' | ':' | '+' | '-' | 'x' | 'X' | 'o' | 'O');
    special || (starts_well && unsigned.chars().all(goes_on_well) && is_number(unsigned))
}

fn is_number(unsigned: &str) -> bool {
    let digits = unsigned.replace('_', "");
    let radix = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)];
    digits.parse::<f64>().is_ok()
        || radix.iter().any(|(prefix, radix)| digits.strip_prefix(prefix).is_some_and(|rest| is_of_radix(rest, *radix)))
        || digits.split(':').all(|part| part.parse::<f64>().is_ok())
}

fn is_of_radix(digits: &str, radix: u32) -> bool {
    !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix))
}

const NOTHING: [&str; 5] = ["", "~", "null", "Null", "NULL"];

const TRUTHS: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "y", "n"];

/// Keys of an access rule that are sometimes written beside it.
const ACCESS_KEYS: [&str; 6] = ["issuers", "audiences", "scopes", "claims", "clients", "bound"];

/// The same limit as for the file itself.
const MAX_INTERPOLATED_BYTES: usize = 64 << 20;
