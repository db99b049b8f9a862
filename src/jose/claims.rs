//! The registered claims of a token, strictly typed (RFC 7519 §4.1).
//!
//! A registered claim of the wrong type makes the token malformed: a float `exp`, an array for `iss`, a number in
//! `aud`.

use serde_json::{Map, Value};

use super::strict_json::{self, NotStrict};
use crate::oauth::discrepancy::Discrepancy;

/// All claims of a token; the registered ones have the right type. The signature is not verified here.
#[derive(Debug)]
pub(crate) struct Claims {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// Never empty.
    pub(crate) audiences: Vec<String>,
    /// Seconds since 1970.
    pub(crate) expires_at: u64,
    pub(crate) not_before: Option<u64>,
    pub(crate) issued_at: Option<u64>,
    pub(crate) token_id: Option<String>,
    /// Every member, the registered ones included.
    pub(crate) all: Map<String, Value>,
}

/// Each variant has the values that were found and wanted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimsFault {
    #[error("the claims are malformed")]
    Malformed(Box<Discrepancy>),
    #[error("a required claim is missing")]
    Missing(Box<Discrepancy>),
}

impl ClaimsFault {
    fn missing(name: &str) -> Self {
        Self::Missing(Box::new(Discrepancy::new(format!("no {name}"), name)))
    }

    fn no_object(fault: &NotStrict) -> Self {
        let found = format!("claims with {}", fault.without_content());
        Self::Malformed(Box::new(Discrepancy::new(found, "claims in one JSON object")))
    }

    fn wrong_type(name: &str, value: &Value, wanted: &str) -> Self {
        let found = format!("{name} is {}", json_type(value));
        Self::Malformed(Box::new(Discrepancy::new(found, format!("{name} is {wanted}"))))
    }
}

/// The type of a JSON value, with an article.
pub(crate) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Claims {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ClaimsFault> {
        let all = strict_json::object(bytes).map_err(|fault| ClaimsFault::no_object(&fault))?;
        Ok(Self {
            issuer: text(&all, "iss")?.ok_or_else(|| ClaimsFault::missing("iss"))?,
            subject: text(&all, "sub")?.ok_or_else(|| ClaimsFault::missing("sub"))?,
            audiences: audiences(&all)?,
            expires_at: seconds(&all, "exp")?.ok_or_else(|| ClaimsFault::missing("exp"))?,
            not_before: seconds(&all, "nbf")?,
            issued_at: seconds(&all, "iat")?,
            token_id: text(&all, "jti")?,
            all,
        })
    }
}

fn text(all: &Map<String, Value>, name: &str) -> Result<Option<String>, ClaimsFault> {
    match all.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Err(ClaimsFault::missing(name)),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(value) => Err(ClaimsFault::wrong_type(name, value, "a string")),
    }
}

fn seconds(all: &Map<String, Value>, name: &str) -> Result<Option<u64>, ClaimsFault> {
    match all.get(name) {
        None => Ok(None),
        Some(value) => {
            value.as_u64().map(Some).ok_or_else(|| ClaimsFault::wrong_type(name, value, "a whole number of seconds"))
        }
    }
}

fn audiences(all: &Map<String, Value>) -> Result<Vec<String>, ClaimsFault> {
    let value = all.get("aud").ok_or_else(|| ClaimsFault::missing("aud"))?;
    let wrong_type = || ClaimsFault::wrong_type("aud", value, "a string or a list of strings");
    let list = match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => {
            many.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or_else(wrong_type)?
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return Err(wrong_type()),
    };
    if list.is_empty() { Err(ClaimsFault::missing("aud")) } else { Ok(list) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(name: &str, value: &str) {
        let good = [("iss", r#""i""#), ("sub", r#""s""#), ("aud", r#""a""#), ("exp", "2000000000")];
        let members =
            good.iter().filter(|(other, _)| *other != name).map(|(name, value)| format!(r#""{name}":{value}"#));
        let bad = (!value.is_empty()).then(|| format!(r#""{name}":{value}"#));
        let text = format!("{{{}}}", members.chain(bad).collect::<Vec<_>>().join(","));
        assert!(Claims::parse(text.as_bytes()).is_err(), "{text}");
    }

    #[test]
    fn a_time_that_is_not_a_whole_number_of_seconds_is_refused() {
        for name in ["exp", "nbf", "iat"] {
            for value in
                [r#""2000000000""#, "null", "true", "[1]", "{}", "1.5", "2e9", "-1", "1e400", "99999999999999999999"]
            {
                refuses(name, value);
            }
        }
    }

    #[test]
    fn a_required_claim_that_is_missing_is_refused() {
        for name in ["iss", "sub", "aud", "exp"] {
            refuses(name, "");
        }
    }

    #[test]
    fn an_issuer_or_subject_that_is_no_text_is_refused() {
        for name in ["iss", "sub", "jti"] {
            for value in ["7", "null", r#"["i"]"#, "{}", r#""""#] {
                refuses(name, value);
            }
        }
    }

    #[test]
    fn an_audience_that_is_not_text_or_a_list_of_text_is_refused() {
        for value in ["7", "null", "{}", "[]", r#"["a",7]"#, "[null]"] {
            refuses("aud", value);
        }
    }
}
