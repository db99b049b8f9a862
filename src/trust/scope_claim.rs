//! The claim that has the scopes of an issuer's tokens.

use serde_json::{Map, Value};

use crate::jose::claims::json_type;
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::scope::{InvalidScope, Scope, ScopeSet};

/// The rule for finding the scopes among the claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScopeClaim {
    /// The first present of `scope scp scopes permissions`, never a union.
    Auto,
    /// A claim of exactly this name, else a dotted path.
    Named(String),
}

/// A claim of the wrong type, or with too many scopes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scope claim is malformed")]
pub(crate) struct MalformedScopeClaim(pub(super) Box<Discrepancy>);

/// The claims that [`ScopeClaim::Auto`] looks for.
pub(crate) const AUTO: [&str; 4] = ["scope", "scp", "scopes", "permissions"];

impl ScopeClaim {
    /// The scopes that the claims grant. Values that are not valid scopes are dropped, since no rule can require them.
    pub(crate) fn read(&self, claims: &Map<String, Value>) -> Result<ScopeSet, MalformedScopeClaim> {
        let found = match self {
            Self::Auto => AUTO.into_iter().find_map(|name| Some((name, claims.get(name)?))),
            Self::Named(path) => claim_at(claims, path).map(|value| (&**path, value)),
        };
        let Some((name, value)) = found else { return Ok(ScopeSet::default()) };
        let names: Vec<&str> = match value {
            Value::String(text) => text.split(' ').collect(),
            Value::Array(list) => list
                .iter()
                .map(|item| item.as_str().ok_or_else(|| MalformedScopeClaim::wrong_type(name, "has", item)))
                .collect::<Result<_, _>>()?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                return Err(MalformedScopeClaim::wrong_type(name, "is", value));
            }
        };
        let count = names.len();
        let possible = names.into_iter().filter(|name| Scope::parse(name).is_ok());
        ScopeSet::from_list(possible).map_err(|limit: InvalidScope| MalformedScopeClaim::too_many(name, count, &limit))
    }
}

impl MalformedScopeClaim {
    /// `verb` is `is`, or `has` for an item of a list.
    fn wrong_type(name: &str, verb: &str, value: &Value) -> Self {
        let found = format!("{name} {verb} {}", json_type(value));
        Self(Box::new(Discrepancy::new(found, format!("{name} is a string or a list of strings"))))
    }

    fn too_many(name: &str, count: usize, limit: &InvalidScope) -> Self {
        Self(Box::new(Discrepancy::new(format!("{name} of {count} scopes"), limit.to_string())))
    }
}

/// The claim of exactly this name, else the one at this dotted path.
pub(crate) fn claim_at<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |value, name| value.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn reads(claim: &ScopeClaim, claims: &Value, expected: &str) {
        let set = claim.read(claims.as_object().unwrap()).unwrap();
        assert_eq!(set.to_string(), expected);
    }

    #[test]
    fn auto_takes_the_first_present_claim_and_never_a_union() {
        reads(&ScopeClaim::Auto, &json!({"scope": "a b", "scp": "c"}), "a b");
        reads(&ScopeClaim::Auto, &json!({"scp": ["c", "d"], "permissions": ["e"]}), "c d");
        reads(&ScopeClaim::Auto, &json!({"permissions": ["read:data"]}), "read:data");
        reads(&ScopeClaim::Auto, &json!({"scope": "", "scp": "c"}), "");
        reads(&ScopeClaim::Auto, &json!({}), "");
    }

    #[test]
    fn a_named_claim_is_found_by_its_very_name_before_it_is_a_path() {
        let path = ScopeClaim::Named("realm_access.roles".to_owned());
        reads(&path, &json!({"realm_access": {"roles": ["a"]}}), "a");
        reads(&path, &json!({"realm_access.roles": ["b"], "realm_access": {"roles": ["a"]}}), "b");
        reads(&path, &json!({"realm_access": []}), "");
    }

    #[test]
    fn names_that_no_rule_could_ask_for_are_dropped() {
        reads(&ScopeClaim::Auto, &json!({"scope": " a  \u{0430}dmin b"}), "a b");
    }

    #[test]
    fn a_scope_claim_of_the_wrong_type_is_refused() {
        for claims in [json!({"scope": {}}), json!({"scope": null}), json!({"scope": 7}), json!({"scope": ["a", 7]})] {
            assert!(ScopeClaim::Auto.read(claims.as_object().unwrap()).is_err(), "{claims}");
        }
    }
}
