//! An entry as it is written, and the tokens that it names: a second reading of `docs/reference/issuers.md` and
//! `configuration.md` that shares no code with the checks.
//!
//! It knows the keys that the pages of `docs/how-to/issuers` use, and panics at another one, so that no key can be
//! forgotten here. Not read: how a token is carried (`token_header`), and where keys come from.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The issuer and the rule of the only route of a block.
pub(super) struct WrittenEntry {
    name: String,
    issuer: Value,
    access: Value,
}

#[derive(Debug, PartialEq)]
pub(super) struct NamedCaller {
    /// As services are told.
    pub(super) iss: String,
    pub(super) client: Option<String>,
    pub(super) subject: Option<String>,
    /// In order.
    pub(super) scopes: BTreeSet<String>,
}

const USUAL_ALGORITHMS: [&str; 5] = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];
const CLIENT_CLAIMS: [&str; 4] = ["client_id", "azp", "appid", "cid"];
const SCOPE_CLAIMS: [&str; 4] = ["scope", "scp", "scopes", "permissions"];
const LEEWAY: f64 = 30.0;
/// 10000-01-01.
const END_OF_DATES: f64 = 253_402_300_800.0;

const KNOWN_KEYS: [&str; 15] = [
    "issuer",
    "tenants",
    "spiffe",
    "jwks_uri",
    "jwks_file",
    "jwks",
    "fetch",
    "ca",
    "audiences",
    "audience_claim",
    "subject_claim",
    "token_header",
    "algorithms",
    "scope_claim",
    "allow_scopes",
];
const KNOWN_RULES: [&str; 4] = ["issuers", "claims", "clients", "scopes"];

impl WrittenEntry {
    pub(super) fn read(block: &str) -> Self {
        let block: Value = serde_saphyr::from_str(block).unwrap();
        let (name, issuer) = block["issuers"].as_object().unwrap().iter().next().unwrap();
        let access = block["routes"][0]["access"].clone();
        let unknown = |value: &Value, known: &[&str]| {
            value.as_object().unwrap().keys().find(|key| !known.contains(&key.as_str())).cloned()
        };
        let unknown = unknown(issuer, &KNOWN_KEYS).or_else(|| unknown(&access, &KNOWN_RULES));
        assert_eq!(unknown, None, "a key that this reading does not know");
        Self { name: name.clone(), issuer: issuer.clone(), access }
    }

    /// The caller of a token that the issuer's key of this algorithm and id has signed; `None` if the entry does not
    /// name it.
    pub(super) fn caller(&self, key: (&str, &Value), token: (&Value, &Value), now: u64) -> Option<NamedCaller> {
        let ((algorithm, key_id), (header, claims)) = (key, token);
        let claims = claims.as_object()?;
        let is_named = self.names_header(algorithm, header)
            && names_key(key_id, header)
            && are_well_formed(claims)
            && self.names_audience(claims)
            && is_in_time(claims, now as f64);
        if !is_named {
            return None;
        }
        let iss = self.iss(claims)?;
        let client = CLIENT_CLAIMS.iter().find_map(|name| present(claims, name));
        let client = client.map_or(Some(None), |value| identity(value).map(Some))?;
        let subject_claims = self.issuer.get("subject_claim").map_or_else(|| vec!["sub".to_owned()], texts);
        let subject = subject_claims.iter().filter_map(|path| at(claims, path));
        let subject = subject.into_iter().find(|value| **value != "" && !value.is_null());
        let subject = subject.map_or(Some(None), |value| identity(value).map(Some))?;
        (client.is_some() || subject.is_some()).then_some(())?;
        Some(NamedCaller { iss, client, subject, scopes: self.scopes(claims)? })
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
        let one_name = |name: &str| if name == "Ed25519" { "EdDSA" } else { name }.to_owned();
        let allowed = self.issuer.get("algorithms").map(texts);
        let allowed = allowed.unwrap_or_else(|| USUAL_ALGORITHMS.map(str::to_owned).to_vec());
        let is_allowed = allowed.iter().any(|name| one_name(name) == algorithm);
        let other_type = if self.issuer.get("spiffe").is_some() { "jose" } else { "at+jwt" };
        let of_type = |name: &str| {
            let lower = name.to_lowercase();
            let short = lower.strip_prefix("application/").unwrap_or(&lower);
            ["jwt", other_type].contains(&short)
        };
        let is_typed = header.get("typ").is_none_or(|name| name.as_str().is_some_and(of_type));
        let is_unusual = ["crit", "b64", "zip"].iter().any(|name| header.get(*name).is_some());
        is_allowed && header["alg"].as_str().map(one_name).as_deref() == Some(algorithm) && is_typed && !is_unusual
    }

    /// The issuer that services are told, if this is the issuer of the token.
    fn iss(&self, claims: &Map<String, Value>) -> Option<String> {
        let found = present(claims, "iss").and_then(Value::as_str).filter(|iss| !iss.is_empty());
        let written = self.issuer.get("issuer").and_then(Value::as_str);
        if let Some(spiffe) = self.issuer.get("spiffe") {
            let domain = spiffe["trust_domain"].as_str().unwrap();
            let is_issuer = found.is_none() || written.is_none_or(|written| found == Some(written));
            let is_workload = is_workload(claims.get("sub")?.as_str()?, domain);
            let iss = written.map_or_else(|| format!("spiffe://{domain}"), str::to_owned);
            return (is_issuer && is_workload).then_some(iss);
        }
        let (found, written) = (found?, written.unwrap());
        let is_issuer = match self.issuer.get("tenants") {
            None => found == written,
            Some(tenants) => texts(tenants).iter().any(|tenant| {
                let is_same = present(claims, "tid").is_none_or(|tid| tid == tenant.as_str());
                found == written.replace("{tenant}", tenant) && is_same
            }),
        };
        is_issuer.then(|| found.to_owned())
    }

    fn names_audience(&self, claims: &Map<String, Value>) -> bool {
        let values = |value: Option<&Value>| value.map(texts).unwrap_or_default();
        let mut found = values(claims.get("aud").filter(|aud| **aud != ""));
        if found.is_empty()
            && let Some(path) = self.issuer.get("audience_claim")
        {
            let other = at(claims, path.as_str().unwrap());
            if !other.is_none_or(is_text_or_list) {
                return false;
            }
            found = values(other);
        }
        let wanted = &self.issuer["audiences"];
        wanted == "unlimited" || found.iter().any(|audience| texts(wanted).contains(audience))
    }

    /// `None` if a scope claim has the wrong type, or there are too many scopes.
    fn scopes(&self, claims: &Map<String, Value>) -> Option<BTreeSet<String>> {
        let written = self.issuer.get("scope_claim").filter(|written| **written != "auto");
        let values: Vec<&Value> = match written {
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
                Value::Object(members) if written.is_some() => {
                    let is_granted = |value: &Value| !value.is_null() && *value != false;
                    members.iter().filter(|(_, value)| is_granted(value)).map(|(name, _)| name.clone()).collect()
                }
                Value::Array(_) | Value::Object(_) | Value::Bool(_) | Value::Number(_) => return None,
            };
            all.extend(names);
        }
        let legal =
            |scope: &String| !scope.is_empty() && scope.chars().all(|c| matches!(c, '!' | '#'..='[' | ']'..='~'));
        let allowed = self.issuer.get("allow_scopes").map(texts);
        all.retain(|scope| legal(scope) && allowed.as_ref().is_none_or(|allowed| allowed.contains(scope)));
        (all.len() <= 128).then_some(all)
    }
}

/// The only key has this id, and no thumbprints. A token may name it by its id, or not at all.
fn names_key(id: &Value, header: &Value) -> bool {
    match header.get("kid") {
        Some(named) => named.is_string() && named == id,
        None => ["x5t", "x5t#S256"].iter().all(|name| header.get(*name).is_none_or(Value::is_string)),
    }
}

/// The registered claims have their types. `null` counts as absent.
fn are_well_formed(claims: &Map<String, Value>) -> bool {
    let is_text = |name: &str| present(claims, name).is_none_or(Value::is_string);
    let is_date = |name: &str| {
        let date = present(claims, name).map(Value::as_f64);
        date.is_none_or(|date| date.is_some_and(|date| (0.0..END_OF_DATES).contains(&date)))
    };
    ["iss", "sub", "jti"].into_iter().all(is_text)
        && claims.get("jti").is_none_or(|id| *id != "")
        && claims.get("aud").is_none_or(is_text_or_list)
        && ["exp", "nbf", "iat"].into_iter().all(is_date)
}

fn is_text_or_list(value: &Value) -> bool {
    match value {
        Value::Null | Value::String(_) => true,
        Value::Array(items) => items.iter().all(Value::is_string),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

/// Whole seconds: `exp` rounds down, the others up.
fn is_in_time(claims: &Map<String, Value>, now: f64) -> bool {
    let time = |name: &str| present(claims, name).and_then(Value::as_f64);
    let has_begun = |name: &str| time(name).is_none_or(|time| time.ceil() <= now + LEEWAY);
    time("exp").is_some_and(|time| time.floor() + LEEWAY > now) && has_begun("nbf") && has_begun("iat")
}

/// A client or a subject.
fn identity(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let is_legal = !text.is_empty() && text.len() <= 1024 && !text.chars().any(char::is_control);
    is_legal.then(|| text.to_owned())
}

/// A SPIFFE ID in this trust domain, with a path.
fn is_workload(id: &str, domain: &str) -> bool {
    let path = id.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(domain)).unwrap_or_default();
    let is_legal = |part: &str| {
        let letters = part.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        !part.is_empty() && part != "." && part != ".." && letters
    };
    path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_legal))
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
    assert!(wanted.get("exact").is_none(), "a form that this reading does not know");
    let Some(glob) = wanted.get("glob").and_then(Value::as_str) else { return found == wanted };
    let Some(found) = found.as_str() else { return false };
    let separators = |text: &str| text.chars().filter(|c| [':', '/'].contains(c)).collect::<String>();
    let (mut parts, mut wanted_parts) = (found.split([':', '/']), glob.split([':', '/']));
    separators(found) == separators(glob)
        && wanted_parts
            .all(|wanted| parts.next().is_some_and(|part| part == wanted || (wanted == "*" && !part.is_empty())))
}

/// The strings of a list, or a single one.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}
