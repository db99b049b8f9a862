//! Conditions on the claims of a token: those of a route, and those of a client's platform credentials.

use std::fmt;

use serde_json::{Map, Value};

use super::scope_claim::claim_at;
use crate::oauth::discrepancy::{Discrepancy, value_text};
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
        match claims.and_then(|claims| claim_at(claims, &self.path)) {
            Some(Value::Array(list)) => list.iter().any(|value| self.accepts(value)),
            Some(value) => self.accepts(value),
            None => false,
        }
    }

    fn accepts(&self, value: &Value) -> bool {
        self.values.iter().any(|wanted| wanted.accepts(value))
    }

    pub(crate) fn discrepancy(&self, claims: Option<&Map<String, Value>>) -> Discrepancy {
        let found = match claims.and_then(|claims| claim_at(claims, &self.path)) {
            Some(value) => format!("{}={}", self.path, value_text(value)),
            None => format!("no {}", self.path),
        };
        let wanted: Vec<String> = self.values.iter().map(WantedValue::to_string).collect();
        Discrepancy::new(found, format!("{}={}", self.path, wanted.join("|")))
    }
}

impl WantedValue {
    fn accepts(&self, value: &Value) -> bool {
        match self {
            Self::Equal(wanted) => wanted == value,
            Self::Glob(pattern) => value.as_str().is_some_and(|text| pattern.matches(text)),
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
