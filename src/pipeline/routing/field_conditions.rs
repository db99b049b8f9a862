//! The header fields that a route is for: `when`.
//!
//! A value is compared exactly, without the white space around it. A value in the form `=?base64?…?=` (Model Context
//! Protocol, 2026-07-28) is decoded first. A field that the gateway and a service could read in two ways is refused,
//! so that both act on the same value: one that is repeated, that another name resembles, or that `Connection` removes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foldhash::HashSet;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::pipeline::request::case_fold::fold;
use crate::pipeline::request::headers::FieldFault;

/// All must hold. Never empty, sorted by name, each name once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldConditions(Vec<FieldCondition>);

/// The field has one of the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldCondition {
    pub(crate) name: HeaderName,
    /// Sorted, each once, never empty.
    pub(crate) values: Vec<String>,
}

const ENCODED: (&str, &str) = ("=?base64?", "?=");

impl FieldConditions {
    /// `None` without a condition.
    pub(crate) fn new(fields: impl IntoIterator<Item = (HeaderName, Vec<String>)>) -> Option<Self> {
        let mut conditions: Vec<FieldCondition> = fields
            .into_iter()
            .map(|(name, mut values)| {
                values.sort_unstable();
                values.dedup();
                FieldCondition { name, values }
            })
            .collect();
        conditions.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        (!conditions.is_empty()).then_some(Self(conditions))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &FieldCondition> {
        self.0.iter()
    }

    /// Whether all hold. `value` gives the value of a field, if the request has it.
    pub(crate) fn hold<'v>(&self, value: impl Fn(&HeaderName) -> Option<&'v str>) -> bool {
        let holds = |condition: &FieldCondition| {
            value(&condition.name).is_some_and(|value| condition.values.iter().any(|wanted| wanted == value))
        };
        self.0.iter().all(holds)
    }

    /// Whether one request can meet both, at a service that may ignore upper and lower case in values.
    pub(crate) fn may_meet(&self, other: &Self) -> bool {
        let share = |own: &FieldCondition, other: &FieldCondition| {
            let is_shared = |value: &String| other.values.iter().any(|other| is_same_folded(value, other));
            own.values.iter().any(|value| other.values.binary_search(value).is_ok()) || own.values.iter().any(is_shared)
        };
        let is_apart = |own: &FieldCondition, other: &FieldCondition| own.name == other.name && !share(own, other);
        !self.0.iter().any(|own| other.0.iter().any(|other| is_apart(own, other)))
    }

    /// An order that depends on the conditions alone.
    pub(super) fn key(&self) -> Vec<(&str, &[String])> {
        self.0.iter().map(|condition| (condition.name.as_str(), &condition.values[..])).collect()
    }
}

/// As in messages and names of routes.
impl fmt::Display for FieldConditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, FieldCondition { name, values }) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{name}={}", values.join("|"))?;
        }
        Ok(())
    }
}

fn is_same_folded(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() { one.eq_ignore_ascii_case(other) } else { fold(one) == fold(other) }
}

/// The fields on which routes have conditions. In trailers they would reach a service after a route was chosen without
/// them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConditionFields(Arc<[HeaderName]>);

impl ConditionFields {
    /// Those of these conditions, each once.
    pub(super) fn of<'c>(conditions: impl IntoIterator<Item = &'c FieldConditions>) -> Self {
        let names = conditions.into_iter().flat_map(FieldConditions::iter).map(|condition| &condition.name);
        let names: HashSet<&HeaderName> = names.collect();
        Self(names.into_iter().cloned().collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes them, and names that a service may read as one of them, from trailers.
    pub(crate) fn remove_alike(&self, trailers: &mut HeaderMap) {
        let is_alike = |name: &&HeaderName| self.0.iter().any(|wanted| resembles(name, wanted));
        let alike: Vec<HeaderName> = trailers.keys().filter(is_alike).cloned().collect();
        for name in alike {
            trailers.remove(name);
        }
    }
}

/// Refuses a request in which services could take another field for one of these, or would not get one of them.
pub(super) fn check_names(headers: &HeaderMap, names: &[HeaderName]) -> Result<(), FieldFault> {
    let is_look_alike = |name: &HeaderName| !names.contains(name) && names.iter().any(|wanted| resembles(name, wanted));
    if headers.keys().any(is_look_alike) {
        return Err(FieldFault::LookAlike);
    }
    let listed = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut listed = listed.map(<[u8]>::trim_ascii);
    let is_removed = |item: &[u8]| names.iter().any(|name| item.eq_ignore_ascii_case(name.as_str().as_bytes()));
    if listed.any(is_removed) { Err(FieldFault::Connection) } else { Ok(()) }
}

/// Whether a service may read one name as the other: CGI and similar interfaces keep letters and digits only.
pub(super) fn resembles(name: &HeaderName, wanted: &HeaderName) -> bool {
    let (name, wanted) = (name.as_str().as_bytes(), wanted.as_str().as_bytes());
    let kept = |byte: &u8| if byte.is_ascii_alphanumeric() { *byte } else { b'-' };
    name.len() == wanted.len() && name.iter().map(kept).eq(wanted.iter().map(kept))
}

/// The value of a field, decoded. `None`: the request does not have it, or it has characters that must be encoded.
pub(super) fn value_of<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<Cow<'h, str>>, FieldFault> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(name) { Err(FieldFault::Repeated) } else { Ok(None) };
    };
    let Ok(text) = value.to_str() else { return Ok(None) };
    let text = text.trim_matches([' ', '\t']);
    let encoded = text.strip_prefix(ENCODED.0).and_then(|rest| rest.strip_suffix(ENCODED.1));
    let Some(encoded) = encoded else { return Ok(Some(Cow::Borrowed(text))) };
    let bytes = STANDARD.decode(encoded).map_err(|_| FieldFault::Encoding)?;
    String::from_utf8(bytes).map(|text| Some(Cow::Owned(text))).map_err(|_| FieldFault::Encoding)
}

/// A field value that is read as `text`: encoded where it must be.
pub(crate) fn value_for(text: &str) -> HeaderValue {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim_matches(' ') == text;
    let plain = HeaderValue::try_from(text).ok().filter(|_| is_plain && !text.starts_with(ENCODED.0));
    let encoded = || HeaderValue::try_from(format!("{}{}{}", ENCODED.0, STANDARD.encode(text), ENCODED.1));
    plain.or_else(|| encoded().ok()).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        text.parse().unwrap()
    }

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let fields = fields.iter().map(|(field, value)| (name(field), HeaderValue::from_str(value).unwrap()));
        fields.collect()
    }

    #[test]
    fn a_value_is_read_without_white_space_and_decoded() {
        for (written, read) in [
            ("tools/call", Ok(Some("tools/call"))),
            (" tools/call \t", Ok(Some("tools/call"))),
            ("Tools/Call", Ok(Some("Tools/Call"))),
            ("a, b", Ok(Some("a, b"))),
            ("", Ok(Some(""))),
            ("=?base64?dG9vbHMvY2FsbA==?=", Ok(Some("tools/call"))),
            ("=?base64?w7xiZXI=?=", Ok(Some("über"))),
            ("=?base64??=", Ok(Some(""))),
            ("=?BASE64?dG9vbHMvY2FsbA==?=", Ok(Some("=?BASE64?dG9vbHMvY2FsbA==?="))),
            ("=?base64?dG9vbHMvY2FsbA==", Ok(Some("=?base64?dG9vbHMvY2FsbA=="))),
            ("=?base64?dG9vbHMvY2FsbA?=", Err(FieldFault::Encoding)),
            ("=?base64?dG9vbHMvY2FsbB==?=", Err(FieldFault::Encoding)),
            ("=?base64? dG9vbHMvY2FsbA==?=", Err(FieldFault::Encoding)),
            ("=?base64?/w==?=", Err(FieldFault::Encoding)),
            ("=?base64?_w==?=", Err(FieldFault::Encoding)),
        ] {
            let headers = map(&[("mcp-method", written)]);
            let found = value_of(&headers, &name("mcp-method"));
            assert_eq!(found.as_ref().map(Option::as_deref).map_err(|fault| *fault), read, "{written}");
        }
        let mut raw = HeaderMap::new();
        raw.insert("mcp-name", HeaderValue::from_bytes("über".as_bytes()).unwrap());
        assert_eq!(value_of(&raw, &name("mcp-name")), Ok(None));
        assert_eq!(value_of(&raw, &name("mcp-method")), Ok(None));
        let twice = map(&[("mcp-name", "a"), ("Mcp-Name", "a")]);
        assert_eq!(value_of(&twice, &name("mcp-name")), Err(FieldFault::Repeated));
    }

    #[test]
    fn a_value_for_a_text_is_read_as_that_text() {
        for text in ["tools/call", " a", "über", "=?base64?x?=", "=?base64?", "", "a, b"] {
            let mut headers = HeaderMap::new();
            headers.insert("mcp-name", value_for(text));
            assert_eq!(value_of(&headers, &name("mcp-name")).unwrap().as_deref(), Some(text));
        }
    }

    #[test]
    fn names_that_services_could_confuse_are_refused() {
        let names = [name("mcp-name"), name("x_version")];
        for (field, value, expected) in [
            ("mcp-name", "a", Ok(())),
            ("mcp_name", "a", Err(FieldFault::LookAlike)),
            ("Mcp.Name", "a", Err(FieldFault::LookAlike)),
            ("x-version", "a", Err(FieldFault::LookAlike)),
            ("mcp-names", "a", Ok(())),
            ("connection", "close, MCP-Name", Err(FieldFault::Connection)),
            ("connection", "close", Ok(())),
        ] {
            assert_eq!(check_names(&map(&[(field, value)]), &names), expected, "{field}: {value}");
        }
    }

    #[test]
    fn conditions_meet_unless_they_want_other_values_of_a_field() {
        let of = |fields: &[(&str, &[&str])]| {
            let fields = fields.iter().map(|(field, values)| (name(field), values.iter().map(ToString::to_string)));
            FieldConditions::new(fields.map(|(name, values)| (name, values.collect()))).unwrap()
        };
        let call = of(&[("mcp-method", &["tools/call"])]);
        assert!(!call.may_meet(&of(&[("mcp-method", &["tools/list"]), ("mcp-name", &["a"])])));
        assert!(call.may_meet(&of(&[("mcp-method", &["tools/list", "tools/call"])])));
        assert!(call.may_meet(&of(&[("x-version", &["2"])])));
        let both = of(&[("mcp-name", &["b", "a", "a"]), ("mcp-method", &["tools/call"])]);
        assert_eq!(both.to_string(), "mcp-method=tools/call, mcp-name=a|b");
        let holds = |method, tool| both.hold(|field| if *field == name("mcp-name") { tool } else { method });
        assert!(holds(Some("tools/call"), Some("b")));
        assert!(!holds(Some("tools/call"), None));
        assert!(!holds(Some("tools/call"), Some("c")));
    }
}
