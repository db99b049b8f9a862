//! An entry as it is written, and the tokens that it names: a second reading that shares no code with the checks.
//!
//! It may name a token that the checks refuse, for example for its size. It must not refuse one that they accept.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The issuer and the rule of the only route of a block.
pub(super) struct WrittenEntry {
    name: String,
    issuer: Value,
    access: Value,
}

pub(super) struct NamedCaller {
    pub(super) client: Option<String>,
    pub(super) subject: Option<String>,
    /// In order.
    pub(super) scopes: BTreeSet<String>,
}

const USUAL_ALGORITHMS: [&str; 5] = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];
const CLIENT_CLAIMS: [&str; 4] = ["client_id", "azp", "appid", "cid"];
const SCOPE_CLAIMS: [&str; 4] = ["scope", "scp", "scopes", "permissions"];
const LEEWAY: f64 = 30.0;

impl WrittenEntry {
    pub(super) fn read(block: &str) -> Self {
        let block: Value = serde_saphyr::from_str(block).unwrap();
        let (name, issuer) = block["issuers"].as_object().unwrap().iter().next().unwrap();
        Self { name: name.clone(), issuer: issuer.clone(), access: block["routes"][0]["access"].clone() }
    }

    /// The caller of a token that the issuer's key of this algorithm has signed; `None` if the entry does not name it.
    pub(super) fn caller(&self, algorithm: &str, header: &Value, claims: &Value, now: u64) -> Option<NamedCaller> {
        let claims = claims.as_object()?;
        let is_named = self.names_header(algorithm, header)
            && self.names_issuer(claims)
            && self.names_audience(claims)
            && is_in_time(claims, now as f64);
        if !is_named {
            return None;
        }
        let client = CLIENT_CLAIMS.iter().find_map(|name| present(claims, name));
        let client = client.map(|value| value.as_str().map(str::to_owned)).map_or(Some(None), |text| text.map(Some))?;
        let subject = list(self.issuer.get("subject_claim"), "sub");
        let subject =
            subject.iter().filter_map(|path| at(claims, path)).find(|value| **value != "" && !value.is_null());
        let subject =
            subject.map(|value| value.as_str().map(str::to_owned)).map_or(Some(None), |text| text.map(Some))?;
        (client.is_some() || subject.is_some()).then_some(())?;
        Some(NamedCaller { client, subject, scopes: self.scopes(claims)? })
    }

    /// Whether the route admits this caller.
    pub(super) fn may_use(&self, caller: &NamedCaller, claims: &Value) -> bool {
        let access = |name: &str| self.access.get(name);
        let client = caller.client.as_ref().map(|client| format!("{}/{client}", self.name));
        let scopes = access("scopes").map(texts).unwrap_or_default();
        let has_claims = access("claims").and_then(Value::as_object).into_iter().flatten().all(|(path, wanted)| {
            let found = at(claims.as_object().unwrap(), path);
            let wanted = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
            found.is_some_and(|found| match found {
                Value::Array(items) => items.iter().any(|item| wanted.iter().any(|wanted| equals(item, wanted))),
                found => wanted.iter().any(|wanted| equals(found, wanted)),
            })
        });
        texts(&self.access["issuers"]) == [self.name.clone()]
            && has_claims
            && access("clients").is_none_or(|clients| client.is_some_and(|client| texts(clients).contains(&client)))
            && scopes.iter().all(|scope| caller.scopes.contains(scope))
    }

    fn names_header(&self, algorithm: &str, header: &Value) -> bool {
        let allowed = self.issuer.get("algorithms").map(texts);
        let allowed = allowed.unwrap_or_else(|| USUAL_ALGORITHMS.map(str::to_owned).to_vec());
        let same = |name: &str| header["alg"] == name || (name == "EdDSA" && header["alg"] == "Ed25519");
        let of_type = |name: &str| {
            let lower = name.to_lowercase();
            let short = lower.strip_prefix("application/").unwrap_or(&lower);
            ["jwt", "at+jwt"].contains(&short) || (short == "jose" && self.issuer.get("spiffe").is_some())
        };
        let is_typed = header.get("typ").is_none_or(|name| name.as_str().is_some_and(of_type));
        let unusual = ["crit", "b64", "zip"].iter().any(|name| header.get(*name).is_some());
        same(algorithm) && allowed.iter().any(|name| name == algorithm) && is_typed && !unusual
    }

    fn names_issuer(&self, claims: &Map<String, Value>) -> bool {
        let Some(issuer) = self.issuer.get("issuer").and_then(Value::as_str) else {
            let domain = self.issuer["spiffe"]["trust_domain"].as_str().unwrap();
            let path = claims.get("sub").and_then(Value::as_str).and_then(|id| id.strip_prefix("spiffe://"));
            let path = path.and_then(|rest| rest.strip_prefix(domain));
            let is_id = |path: &str| {
                let legal = |part: &str| {
                    let letters = part.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
                    !part.is_empty() && part != "." && part != ".." && letters
                };
                path.is_empty() || path.strip_prefix('/').is_some_and(|path| path.split('/').all(legal))
            };
            return path.is_some_and(is_id);
        };
        let issuers: Vec<String> = match self.issuer.get("tenants") {
            Some(tenants) => texts(tenants).iter().map(|tenant| issuer.replace("{tenant}", tenant)).collect(),
            None => vec![issuer.to_owned()],
        };
        let found = claims.get("iss").and_then(Value::as_str);
        let tenant = present(claims, "tid").filter(|_| self.issuer.get("tenants").is_some());
        let fits = |iss: &str| tenant.is_none_or(|tenant| tenant.as_str().is_some_and(|tenant| iss.contains(tenant)));
        found.is_some_and(|iss| issuers.iter().any(|issuer| issuer == iss) && fits(iss))
    }

    fn names_audience(&self, claims: &Map<String, Value>) -> bool {
        let found = match present(claims, "aud") {
            None => Vec::new(),
            Some(Value::String(text)) if text.is_empty() => Vec::new(),
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(items)) if items.iter().all(Value::is_string) => texts(&Value::Array(items.clone())),
            Some(_) => return false,
        };
        if self.issuer["audiences"] == "unlimited" {
            return true;
        }
        let instead = self.issuer.get("audience_claim").and_then(Value::as_str).filter(|_| found.is_empty());
        let found = instead.and_then(|path| at(claims, path)).map_or(found, texts);
        let wanted = texts(&self.issuer["audiences"]);
        found.iter().any(|audience| wanted.contains(audience))
    }

    /// `None` if a scope claim has the wrong type.
    fn scopes(&self, claims: &Map<String, Value>) -> Option<BTreeSet<String>> {
        let values: Vec<&Value> = match self.issuer.get("scope_claim") {
            None => SCOPE_CLAIMS.iter().find_map(|name| present(claims, name)).into_iter().collect(),
            Some(Value::Array(paths)) => paths.iter().filter_map(|path| at_path(claims, path)).collect(),
            Some(path) => at_path(claims, path).into_iter().collect(),
        };
        let mut all = BTreeSet::new();
        for value in values {
            let names: Vec<String> = match value {
                Value::Null => Vec::new(),
                Value::String(text) => text.split(' ').map(str::to_owned).collect(),
                Value::Array(items) if items.iter().all(Value::is_string) => texts(value),
                Value::Object(members) if self.issuer.get("scope_claim").is_some() => {
                    let granted =
                        members.iter().filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)));
                    granted.map(|(name, _)| name.clone()).collect()
                }
                Value::Array(_) | Value::Object(_) | Value::Bool(_) | Value::Number(_) => return None,
            };
            all.extend(names);
        }
        let legal =
            |scope: &String| !scope.is_empty() && scope.chars().all(|c| matches!(c, '!' | '#'..='[' | ']'..='~'));
        let allowed = self.issuer.get("allow_scopes").map(texts);
        all.retain(|scope| legal(scope) && allowed.as_ref().is_none_or(|allowed| allowed.contains(scope)));
        Some(all)
    }
}

/// Whole seconds: `exp` rounds down, the others up.
fn is_in_time(claims: &Map<String, Value>, now: f64) -> bool {
    let time = |name: &str| present(claims, name).map(|value| value.as_f64().filter(|time| *time >= 0.0));
    let begun = |name: &str| match time(name) {
        None => true,
        Some(time) => time.is_some_and(|time| time.ceil() <= now + LEEWAY),
    };
    let ends = time("exp").flatten().is_some_and(|time| time.floor() + LEEWAY > now && time < 253_402_300_800.0);
    ends && begun("nbf") && begun("iat")
}

/// Not absent, and not `null`.
fn present<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    claims.get(name).filter(|value| !value.is_null())
}

/// The claim of this name, else at this dotted path.
fn at<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    claims.get(path).or_else(|| {
        let mut names = path.split('.');
        let first = claims.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    })
}

/// A text is a name or a dotted path; a list is a path as it is written.
fn at_path<'c>(claims: &'c Map<String, Value>, path: &Value) -> Option<&'c Value> {
    match path {
        Value::String(path) => at(claims, path),
        Value::Array(names) => {
            let first = claims.get(names[0].as_str().unwrap())?;
            names[1..].iter().try_fold(first, |value, name| value.get(name.as_str().unwrap()))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => panic!("{path} is no path"),
    }
}

/// A value of a rule, or `{glob: …}`: `*` is one whole segment.
fn equals(found: &Value, wanted: &Value) -> bool {
    let Some(glob) = wanted.get("glob").and_then(Value::as_str) else { return found == wanted };
    let Some(found) = found.as_str() else { return false };
    let separators = |text: &str| text.chars().filter(|c| [':', '/'].contains(c)).collect::<String>();
    let (mut parts, mut wanted_parts) = (found.split([':', '/']), glob.split([':', '/']));
    separators(found) == separators(glob)
        && wanted_parts
            .all(|wanted| parts.next().is_some_and(|part| part == wanted || (wanted == "*" && !part.is_empty())))
}

fn list(value: Option<&Value>, usual: &str) -> Vec<String> {
    value.map_or_else(|| vec![usual.to_owned()], texts)
}

/// The strings of a list, or a single one.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}
