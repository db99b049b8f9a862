//! The registered claims of a token, strictly typed (RFC 7519 §4.1).
//!
//! A registered claim of the wrong type makes the token malformed: a text as `exp`, an array for `iss`, a number in
//! `aud`. `null` counts as an absent claim, except for `cnf`. Every token must have `exp`; the other required claims depend on its issuer.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::numeric_date::NumericDate;
use super::strict_json::{self, NotStrict};
use crate::oauth::confirmation::Confirmation;
use crate::oauth::discrepancy::Discrepancy;

/// All claims of a token; the registered ones have the right type. The signature is not verified here.
#[derive(Debug)]
pub(crate) struct Claims {
    /// JWT-SVIDs may lack it; every other token is refused without it.
    pub(crate) issuer: Option<String>,
    /// `sub`. Never empty.
    pub(crate) subject: Option<String>,
    /// `aud`. Empty if that is absent or empty; then an issuer may have another claim for them.
    pub(crate) audiences: Vec<String>,
    /// Seconds since 1970. A fraction is rounded down.
    pub(crate) expires_at: u64,
    /// A fraction is rounded up.
    pub(crate) not_before: Option<u64>,
    pub(crate) issued_at: Option<NumericDate>,
    pub(crate) token_id: Option<String>,
    pub(crate) confirmation: Confirmation,
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
    pub(crate) fn missing(name: &str) -> Self {
        Self::Missing(Box::new(Discrepancy::new(format!("no {name}"), name)))
    }

    /// None of these claims is there, and one is enough.
    pub(crate) fn none_of(names: &[&str]) -> Self {
        Self::missing(&names.join(" or "))
    }

    pub(crate) fn malformed(found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::Malformed(Box::new(Discrepancy::new(found, wanted)))
    }

    fn no_object(fault: &NotStrict) -> Self {
        Self::malformed(format!("claims with {}", fault.without_content()), "claims in one JSON object")
    }

    pub(crate) fn wrong_type(name: &str, value: &Value, wanted: &str) -> Self {
        Self::malformed(format!("{name} is {}", json_type(value)), format!("{name} is {wanted}"))
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
        Self::read(bytes, None)
    }

    /// The members of an introspection answer, where `exp` is optional (RFC 7662 §2.2). Without it, this is the end.
    pub(crate) fn of_introspection(bytes: &[u8], default_end: u64) -> Result<Self, ClaimsFault> {
        Self::read(bytes, Some(default_end))
    }

    fn read(bytes: &[u8], default_end: Option<u64>) -> Result<Self, ClaimsFault> {
        let all = strict_json::object(bytes).map_err(|fault| ClaimsFault::no_object(&fault))?;
        let not_empty = |text: &&str| !text.is_empty();
        let issuer = text(&all, "iss")?.filter(not_empty);
        let token_id = text(&all, "jti")?;
        if token_id.is_some_and(str::is_empty) {
            return Err(ClaimsFault::missing("jti"));
        }
        let exp = date(&all, "exp", bytes)?.map(NumericDate::rounded_down);
        let exp = exp.or(default_end).ok_or_else(|| ClaimsFault::missing("exp"))?;
        Ok(Self {
            issuer: issuer.map(str::to_owned),
            subject: text(&all, "sub")?.filter(not_empty).map(str::to_owned),
            audiences: texts("aud", all.get("aud"))?,
            expires_at: exp,
            not_before: date(&all, "nbf", bytes)?.map(NumericDate::rounded_up),
            issued_at: date(&all, "iat", bytes)?,
            token_id: token_id.map(str::to_owned),
            confirmation: confirmation(&all)?,
            all,
        })
    }
}

/// No key if the claim is absent. `null` is malformed: an issuer that binds a token may have failed to name the key.
fn confirmation(all: &Map<String, Value>) -> Result<Confirmation, ClaimsFault> {
    all.get("cnf").map_or(Ok(Confirmation::default()), |value| {
        Confirmation::parse(value).map_err(|values| ClaimsFault::Malformed(Box::new(values)))
    })
}

/// `None` if the claim is absent.
pub(super) fn text<'c>(all: &'c Map<String, Value>, name: &str) -> Result<Option<&'c str>, ClaimsFault> {
    match all.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(value) => Err(ClaimsFault::wrong_type(name, value, "a string")),
    }
}

pub(super) fn date(all: &Map<String, Value>, name: &str, bytes: &[u8]) -> Result<Option<NumericDate>, ClaimsFault> {
    const WANTED: &str = "a number of seconds in the years 1970 to 9999";
    let number = match all.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(value) => return Err(ClaimsFault::wrong_type(name, value, WANTED)),
    };
    let date = match number.as_u64() {
        Some(seconds) => NumericDate::from_seconds(seconds),
        None => NumericDates::text(bytes, name).and_then(NumericDate::parse),
    };
    date.map(Some).ok_or_else(|| ClaimsFault::malformed(format!("{name} is {number}"), format!("{name} is {WANTED}")))
}

/// The dates as they are written. Only a date with a fraction or an exponent needs them.
#[derive(Deserialize)]
struct NumericDates<'t> {
    #[serde(borrow)]
    exp: Option<&'t RawValue>,
    #[serde(borrow)]
    nbf: Option<&'t RawValue>,
    #[serde(borrow)]
    iat: Option<&'t RawValue>,
}

impl<'t> NumericDates<'t> {
    fn text(bytes: &'t [u8], name: &str) -> Option<&'t str> {
        let dates: Self = serde_json::from_slice(bytes).ok()?;
        let date = match name {
            "exp" => dates.exp,
            "nbf" => dates.nbf,
            "iat" => dates.iat,
            _ => None,
        };
        date.map(RawValue::get)
    }
}

/// A string, or a list of strings. Empty if the claim is absent or empty.
pub(crate) fn texts(name: &str, value: Option<&Value>) -> Result<Vec<String>, ClaimsFault> {
    let wrong_type = |value| ClaimsFault::wrong_type(name, value, "a string or a list of strings");
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) if one.is_empty() => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(value @ Value::Array(many)) => {
            many.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(|| wrong_type(value))).collect()
        }
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::Object(_))) => Err(wrong_type(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Valid claims but for this one, as it is written in the JSON. Empty: without it.
    fn with(name: &str, value: &str) -> Result<Claims, ClaimsFault> {
        let good = [("iss", r#""i""#), ("sub", r#""s""#), ("aud", r#""a""#), ("exp", "2000000000")];
        let members =
            good.iter().filter(|(other, _)| *other != name).map(|(name, value)| format!(r#""{name}":{value}"#));
        let changed = (!value.is_empty()).then(|| format!(r#""{name}":{value}"#));
        let text = format!("{{{}}}", members.chain(changed).collect::<Vec<_>>().join(","));
        Claims::parse(text.as_bytes())
    }

    #[track_caller]
    fn is_malformed(name: &str, value: &str) {
        let parsed = with(name, value);
        assert!(matches!(parsed, Err(ClaimsFault::Malformed(_))), "{name}: {value}: {parsed:?}");
    }

    #[test]
    fn a_date_that_is_no_number_of_seconds_is_malformed() {
        for name in ["exp", "nbf", "iat"] {
            for value in [
                r#""2000000000""#,
                "true",
                "[1]",
                "{}",
                "-1",
                "-0.5",
                "1e400",
                "253402300800",
                "1800000000000",
                "1.8e12",
                "99999999999999999999",
            ] {
                is_malformed(name, value);
            }
        }
    }

    #[test]
    fn a_fraction_shortens_the_time_in_which_a_token_is_valid() {
        assert_eq!(with("exp", "1799999999.9999999").unwrap().expires_at, 1_799_999_999);
        assert_eq!(with("exp", "2e9").unwrap().expires_at, 2_000_000_000);
        assert_eq!(with("nbf", "1800000000.0000001").unwrap().not_before, Some(1_800_000_001));
        assert_eq!(with("nbf", "1.5e9").unwrap().not_before, Some(1_500_000_000));
        let issued = with("iat", "1799999999.9999999").unwrap().issued_at.unwrap();
        assert_eq!((issued.rounded_down(), issued.rounded_up()), (1_799_999_999, 1_800_000_000));
    }

    #[test]
    fn an_escaped_name_has_the_same_date() {
        let text = br#"{"iss":"i","\u0065xp":1799999999.9999999,"x":{"exp":1}}"#;
        assert_eq!(Claims::parse(text).unwrap().expires_at, 1_799_999_999);
    }

    #[test]
    fn a_required_claim_that_is_absent_null_or_empty_is_missing() {
        for (name, value) in [("exp", ""), ("exp", "null")] {
            assert_eq!(with(name, value).unwrap_err(), ClaimsFault::missing(name), "{name}: {value}");
        }
        assert_eq!(with("jti", r#""""#).unwrap_err(), ClaimsFault::missing("jti"));
    }

    #[test]
    fn an_optional_claim_that_is_null_counts_as_absent() {
        assert_eq!(with("nbf", "null").unwrap().not_before, None);
        assert_eq!(with("iat", "null").unwrap().issued_at, None);
        assert_eq!(with("jti", "null").unwrap().token_id, None);
        assert!(with("cnf", "null").is_err(), "a token that is bound to nothing is not one that is not bound");
        for empty in ["", "null", r#""""#] {
            assert_eq!(with("iss", empty).unwrap().issuer, None, "{empty}");
            assert_eq!(with("sub", empty).unwrap().subject, None, "{empty}");
            assert_eq!(with("aud", empty).unwrap().audiences, Vec::<String>::new(), "{empty}");
        }
        assert_eq!(with("aud", "[]").unwrap().audiences, Vec::<String>::new());
    }

    #[test]
    fn an_issuer_subject_or_token_id_that_is_no_text_is_malformed() {
        for name in ["iss", "sub", "jti"] {
            for value in ["7", r#"["i"]"#, "{}", "false"] {
                is_malformed(name, value);
            }
        }
    }

    #[test]
    fn an_audience_that_is_not_text_or_a_list_of_text_is_malformed() {
        for value in ["7", "{}", "false", r#"["a",7]"#, "[null]", r#"[["a"]]"#] {
            is_malformed("aud", value);
        }
    }
}
