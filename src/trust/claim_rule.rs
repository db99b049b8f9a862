//! Rules for the claims of a token: those of a route, and those of a client's platform tokens.

use std::fmt;

use serde_json::{Map, Value};

use super::scope_claim::claim_at;
use crate::oauth::discrepancy::{Discrepancy, short, value_text};
use crate::oauth::segment_pattern::SegmentPattern;

/// The claim at `path` has one of `values`, or is an array with an element that has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClaimRule {
    pub(crate) path: String,
    pub(crate) values: Vec<WantedValue>,
}

/// A condition on a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum WantedValue {
    Equal(Value),
    /// Text that fits.
    Glob(SegmentPattern),
}

/// Every token that has the claim as `own` wants it has it as `other` wants it.
pub(crate) fn narrows(own: &ClaimRule, other: &ClaimRule) -> bool {
    own.path == other.path && own.values.iter().all(|value| other.values.iter().any(|wider| wider.covers(value)))
}

impl ClaimRule {
    /// `None`: a credential without claims.
    pub(crate) fn holds(&self, claims: Option<&Map<String, Value>>) -> bool {
        let found = claims.and_then(|claims| claim_at(claims, &self.path));
        found.is_some_and(|found| elements(found).iter().any(|value| self.accepts(value)))
    }

    fn accepts(&self, value: &Value) -> bool {
        self.values.iter().any(|wanted| wanted.accepts(value))
    }

    pub(crate) fn discrepancy(&self, claims: Option<&Map<String, Value>>) -> Discrepancy {
        let Some(found) = claims.and_then(|claims| claim_at(claims, &self.path)) else {
            return Discrepancy::new(format!("no {}", self.path), self.wanted_as(WantedValue::to_string));
        };
        let differs_in_type = |value: &&Value| self.values.iter().any(|wanted| wanted.differs_in_type(value));
        match elements(found).iter().find(differs_in_type).filter(|_| !self.holds(claims)) {
            Some(value) => {
                Discrepancy::new(format!("{}={}", self.path, with_type(value)), self.wanted_as(WantedValue::with_type))
            }
            None => {
                let found = format!("{}={}", self.path, value_text(found));
                Discrepancy::new(found, self.wanted_as(WantedValue::to_string))
            }
        }
    }

    fn wanted_as(&self, text: impl Fn(&WantedValue) -> String) -> String {
        let wanted: Vec<String> = self.values.iter().map(text).collect();
        format!("{}={}", self.path, wanted.join("|"))
    }
}

/// The elements of an array, or the only value.
fn elements(claim: &Value) -> &[Value] {
    claim.as_array().map_or(std::slice::from_ref(claim), Vec::as_slice)
}

/// Text in quotation marks. Without types, `65` and `"65"` would read the same.
fn with_type(value: &Value) -> String {
    let name = match value {
        Value::String(_) => "text",
        Value::Number(_) => "number",
        Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => "no text",
    };
    format!("{} ({name})", short(&value.to_string()))
}

impl WantedValue {
    fn accepts(&self, value: &Value) -> bool {
        match self {
            Self::Equal(wanted) => wanted == value,
            Self::Glob(pattern) => value.as_str().is_some_and(|text| pattern.matches(text)),
        }
    }

    /// Whether a value reads as this one and is of another type.
    fn differs_in_type(&self, value: &Value) -> bool {
        match self {
            Self::Equal(wanted) => wanted != value && value_text(wanted) == value_text(value),
            Self::Glob(_) => false,
        }
    }

    fn with_type(&self) -> String {
        match self {
            Self::Equal(value) => with_type(value),
            Self::Glob(pattern) => pattern.to_string(),
        }
    }

    /// True if this accepts every value that the other accepts.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Glob(pattern), Self::Glob(other)) => pattern.covers(other),
            (Self::Equal(_), Self::Glob(_)) => false,
            (_, Self::Equal(value)) => self.accepts(value),
        }
    }
}

/// As in the configuration: text without quotation marks.
impl fmt::Display for WantedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(value) => f.write_str(&value_text(value)),
            Self::Glob(pattern) => pattern.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values(claim: &Value, wanted: &[Value]) -> String {
        let values = wanted.iter().cloned().map(WantedValue::Equal).collect();
        let rule = ClaimRule { path: "owner".to_owned(), values };
        rule.discrepancy(json!({ "owner": claim }).as_object()).to_string()
    }

    #[test]
    fn values_that_differ_in_type_alone_are_shown_with_it() {
        for (claim, wanted, text) in [
            (json!("65"), vec![json!(65)], "found owner=\"65\" (text), wanted owner=65 (number)"),
            (
                json!(65),
                vec![json!("65"), json!("x")],
                "found owner=65 (number), wanted owner=\"65\" (text)|\"x\" (text)",
            ),
            (json!(["a", 65]), vec![json!("65")], "found owner=65 (number), wanted owner=\"65\" (text)"),
            (json!("true"), vec![json!(true)], "found owner=\"true\" (text), wanted owner=true (no text)"),
            (json!("65"), vec![json!("66")], "found owner=65, wanted owner=66"),
            (json!("65"), vec![json!(65), json!("65")], "found owner=65, wanted owner=65|65"),
        ] {
            assert_eq!(values(&claim, &wanted), text);
        }
    }
}
