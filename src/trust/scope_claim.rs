//! The claims that have the scopes of an issuer's tokens.
//!
//! Takes the claims of a token, and the scopes that its issuer may grant. Gives the scopes that are granted. Each value
//! of a named claim is looked at once, and no more than [`MAX_SCOPES`] names are kept, so that the work is linear in the
//! size of the token.

use std::fmt;

use foldhash::HashSet;
use serde_json::{Map, Value};

use crate::jose::claims::json_type;
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::scope::{InvalidScope, MAX_BYTES, MAX_SCOPES, Scope, ScopeSet};

/// The rule for finding the scopes among the claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScopeClaim {
    /// The first present of `scope scp scopes permissions`, never a union, and never an object.
    Auto,
    /// The union of these claims. The keys of an object are scopes.
    Named(Vec<ClaimPath>),
}

/// The place of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimPath {
    /// The claim of exactly this name, else a dotted path.
    Text(String),
    /// The names of a claim and of its members, each taken literally.
    Parts(Vec<String>),
}

/// The values that were found and wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ScopeClaimFault {
    /// A claim of the wrong type.
    Malformed(Box<Discrepancy>),
    /// More scopes than a token may have, without those that the issuer may not grant.
    TooMany(Box<Discrepancy>),
}

/// The claims that [`ScopeClaim::Auto`] looks for.
pub(crate) const AUTO: [&str; 4] = ["scope", "scp", "scopes", "permissions"];

impl ScopeClaim {
    /// The scopes that the claims grant, of those that are `allowed`; `None` allows all. Values that are not valid
    /// scopes are dropped, since no rule can require them.
    pub(crate) fn read(
        &self,
        claims: &Map<String, Value>,
        allowed: Option<&ScopeSet>,
    ) -> Result<ScopeSet, ScopeClaimFault> {
        let mut granted = Granted { allowed, names: HashSet::default() };
        match self {
            Self::Auto => {
                let present = AUTO
                    .into_iter()
                    .map(|name| (name, claims.get(name)))
                    .find(|(_, value)| value.is_some_and(|value| !value.is_null()));
                if let Some((name, Some(value))) = present {
                    granted.add_texts(&name, value, "a string or a list of strings")?;
                }
            }
            Self::Named(paths) => {
                for path in paths {
                    granted.add_claim(path, path.find(claims))?;
                }
            }
        }
        ScopeSet::from_list(granted.names.iter().copied()).map_err(|_: InvalidScope| too_many())
    }
}

impl ClaimPath {
    fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        match self {
            Self::Text(path) => claim_at(claims, path),
            Self::Parts(parts) => {
                let (first, rest) = parts.split_first()?;
                rest.iter().try_fold(claims.get(first)?, |value, name| value.get(name))
            }
        }
    }
}

/// As it is written in the configuration.
impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(path) => f.write_str(path),
            Self::Parts(parts) => write!(f, "[{}]", parts.join(", ")),
        }
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

/// The scopes found so far, each once.
struct Granted<'c, 'a> {
    allowed: Option<&'a ScopeSet>,
    names: HashSet<&'c str>,
}

impl<'c> Granted<'c, '_> {
    fn add_claim(&mut self, path: &ClaimPath, value: Option<&'c Value>) -> Result<(), ScopeClaimFault> {
        match value {
            None | Some(Value::Null) => Ok(()),
            // An object says of each key what it is worth: `false` and `null` deny it.
            Some(Value::Object(object)) => object
                .iter()
                .filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)))
                .try_for_each(|(name, _)| self.add(name)),
            Some(value) => self.add_texts(path, value, "a string, a list of strings or an object"),
        }
    }

    fn add_texts(&mut self, claim: &dyn fmt::Display, value: &'c Value, wanted: &str) -> Result<(), ScopeClaimFault> {
        match value {
            Value::String(text) => text.split(' ').try_for_each(|name| self.add(name)),
            Value::Array(list) => list.iter().try_for_each(|item| match item {
                Value::String(name) => self.add(name),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    Err(wrong_type(claim, &format!("a list with {}", json_type(item)), wanted))
                }
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                Err(wrong_type(claim, json_type(value), wanted))
            }
        }
    }

    fn add(&mut self, name: &'c str) -> Result<(), ScopeClaimFault> {
        let counts = self.allowed.map_or_else(|| Scope::is_legal(name), |allowed| allowed.contains_name(name));
        if counts {
            self.names.insert(name);
        }
        if self.names.len() > MAX_SCOPES { Err(too_many()) } else { Ok(()) }
    }
}

fn wrong_type(claim: &dyn fmt::Display, found: &str, wanted: &str) -> ScopeClaimFault {
    let values = Discrepancy::new(format!("{claim} is {found}"), format!("{claim} is {wanted}"));
    ScopeClaimFault::Malformed(Box::new(values))
}

fn too_many() -> ScopeClaimFault {
    let limit = format!("{MAX_SCOPES} scopes or {MAX_BYTES} bytes of scopes");
    let values = Discrepancy::new(format!("more than {limit}"), format!("at most {limit}, after `allow_scopes`"));
    ScopeClaimFault::TooMany(Box::new(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(path: &str) -> ClaimPath {
        ClaimPath::Text(path.to_owned())
    }

    fn parts(parts: &[&str]) -> ClaimPath {
        ClaimPath::Parts(parts.iter().map(|part| (*part).to_owned()).collect())
    }

    #[track_caller]
    fn reads(claim: &ScopeClaim, claims: &Value, expected: &str) {
        let set = claim.read(claims.as_object().unwrap(), None).unwrap();
        assert_eq!(set.to_string(), expected, "{claims}");
    }

    #[track_caller]
    fn is_malformed(claim: &ScopeClaim, claims: &Value, found: &str) {
        match claim.read(claims.as_object().unwrap(), None) {
            Err(ScopeClaimFault::Malformed(values)) => assert_eq!(values.found, found, "{claims}"),
            other => panic!("{claims}: {other:?}"),
        }
    }

    #[test]
    fn auto_takes_the_first_present_claim_and_never_a_union() {
        reads(&ScopeClaim::Auto, &json!({"scope": "a b", "scp": "c"}), "a b");
        reads(&ScopeClaim::Auto, &json!({"scp": ["c", "d"], "permissions": ["e"]}), "c d");
        reads(&ScopeClaim::Auto, &json!({"permissions": ["read:data"]}), "read:data");
        reads(&ScopeClaim::Auto, &json!({"scope": "", "scp": "c"}), "");
        reads(&ScopeClaim::Auto, &json!({"scope": null, "scp": "c"}), "c");
        reads(&ScopeClaim::Auto, &json!({"scope": null}), "");
        reads(&ScopeClaim::Auto, &json!({}), "");
    }

    #[test]
    fn a_named_claim_is_found_by_its_very_name_before_it_is_a_path() {
        let path = ScopeClaim::Named(vec![text("realm_access.roles")]);
        reads(&path, &json!({"realm_access": {"roles": ["a"]}}), "a");
        reads(&path, &json!({"realm_access.roles": ["b"], "realm_access": {"roles": ["a"]}}), "b");
        reads(&path, &json!({"realm_access": []}), "");
    }

    #[test]
    fn the_parts_of_a_path_are_taken_literally() {
        let path = ScopeClaim::Named(vec![parts(&["resource_access", "api.example.com", "roles"])]);
        reads(&path, &json!({"resource_access": {"api.example.com": {"roles": ["a"]}}}), "a");
        reads(&path, &json!({"resource_access": {"api": {"example": {"com": {"roles": ["a"]}}}}}), "");
        reads(&path, &json!({"resource_access.api.example.com.roles": ["a"]}), "");
        reads(&path, &json!({"resource_access": ["api.example.com"]}), "");
        let one = ScopeClaim::Named(vec![parts(&["a.b"])]);
        reads(&one, &json!({"a": {"b": "x"}}), "");
        reads(&one, &json!({"a.b": "x"}), "x");
    }

    #[test]
    fn several_claims_grant_their_union() {
        let claim = ScopeClaim::Named(vec![text("scp"), text("roles"), parts(&["a", "b"])]);
        reads(&claim, &json!({"scp": "x y", "roles": ["y", "z"], "a": {"b": {"k": {}}}}), "k x y z");
        reads(&claim, &json!({"roles": ["z"]}), "z");
        reads(&claim, &json!({"scp": null, "scope": "x"}), "");
    }

    #[test]
    fn the_keys_of_an_object_are_scopes_where_the_claim_is_named() {
        let claim = ScopeClaim::Named(vec![text("urn:zitadel:iam:org:project:roles")]);
        let roles = json!({"reader": {"1": "example.com"}, "writer": true, "admin": false, "root": null, "a b": {}});
        reads(&claim, &json!({"urn:zitadel:iam:org:project:roles": roles}), "reader writer");
        is_malformed(&ScopeClaim::Auto, &json!({"scope": {"reader": {}}}), "scope is an object");
    }

    #[test]
    fn names_that_no_rule_could_ask_for_are_dropped() {
        reads(&ScopeClaim::Auto, &json!({"scope": " a  \u{0430}dmin b"}), "a b");
    }

    #[test]
    fn a_scope_claim_of_the_wrong_type_is_malformed() {
        let named = ScopeClaim::Named(vec![text("roles"), text("scope")]);
        for claim in [ScopeClaim::Auto, named] {
            is_malformed(&claim, &json!({"scope": 7}), "scope is a number");
            is_malformed(&claim, &json!({"scope": true}), "scope is a boolean");
            is_malformed(&claim, &json!({"scope": ["a", 7]}), "scope is a list with a number");
            is_malformed(&claim, &json!({"scope": [["a"]]}), "scope is a list with a list");
            is_malformed(&claim, &json!({"scope": [null]}), "scope is a list with null");
        }
    }

    #[test]
    fn the_limits_count_scopes_that_the_issuer_may_grant() {
        let claims = |count: usize| json!({"scp": (0..count).map(|n| format!("s{n}")).collect::<Vec<_>>()});
        let read = |claims: &Value, allowed: Option<&ScopeSet>| {
            ScopeClaim::Named(vec![text("scp"), text("roles")]).read(claims.as_object().unwrap(), allowed)
        };
        let too_many = |claims: &Value| matches!(read(claims, None), Err(ScopeClaimFault::TooMany(_)));
        assert!(read(&claims(128), None).is_ok() && too_many(&claims(129)));
        let mut both = claims(128);
        both["roles"] = json!("s0 s1");
        assert!(!too_many(&both), "a scope of both claims counts once");
        both["roles"] = json!("one-more");
        assert!(too_many(&both));
        assert!(too_many(&json!({"scp": "x".repeat(4097)})), "4 KiB of scopes");
        let allowed = ScopeSet::parse("s7 s1000 other").unwrap();
        assert_eq!(read(&claims(5000), Some(&allowed)).unwrap().to_string(), "s1000 s7");
        assert_eq!(read(&json!({"scp": "x".repeat(4097)}), Some(&allowed)).unwrap(), ScopeSet::default());
    }
}
