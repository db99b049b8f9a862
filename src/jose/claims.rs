//! The registered claims of a token, strictly typed (RFC 7519 §4.1).
//!
//! A registered claim of the wrong type makes the token malformed: a float `exp`, an array for `iss`, a number in
//! `aud`.

use serde_json::{Map, Value};

use super::strict_json;

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

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimsFault {
    #[error("the claims are malformed")]
    Malformed,
    #[error("a required claim is missing")]
    Missing,
}

impl Claims {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ClaimsFault> {
        let all = strict_json::object(bytes).map_err(|_| ClaimsFault::Malformed)?;
        Ok(Self {
            issuer: text(&all, "iss")?.ok_or(ClaimsFault::Missing)?,
            subject: text(&all, "sub")?.ok_or(ClaimsFault::Missing)?,
            audiences: audiences(&all)?,
            expires_at: seconds(&all, "exp")?.ok_or(ClaimsFault::Missing)?,
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
        Some(Value::String(text)) if text.is_empty() => Err(ClaimsFault::Missing),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(ClaimsFault::Malformed),
    }
}

fn seconds(all: &Map<String, Value>, name: &str) -> Result<Option<u64>, ClaimsFault> {
    match all.get(name) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(ClaimsFault::Malformed),
    }
}

fn audiences(all: &Map<String, Value>) -> Result<Vec<String>, ClaimsFault> {
    let list = match all.get("aud").ok_or(ClaimsFault::Missing)? {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many
            .iter()
            .map(|one| one.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or(ClaimsFault::Malformed)?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return Err(ClaimsFault::Malformed),
    };
    if list.is_empty() { Err(ClaimsFault::Missing) } else { Ok(list) }
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
