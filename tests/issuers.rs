//! Tokens as the providers make them are accepted by the entries that the pages in `docs/how-to/issuers` show for them.
//!
//! `tests/issuers/PROVIDER` has what the provider serves (`provider.json`) and one file for each shape of its tokens.
//! Claims that are times are seconds from now. The entry is the block of the provider's page, in which only the
//! provider's hosts and the paths of files are replaced.

mod entry;
mod provider;

use http::{HeaderName, HeaderValue, Request};
use serde_json::{Map, Value, json};

use self::entry::Entry;
use self::provider::{Shape, Site, providers};
use crate::support::client::request;
use crate::support::issuer::now;
use crate::support::pages::{Page, pages};
use crate::support::{Answer, Client, Gateway, Upstream};

/// A gateway with one entry, between a provider and a service.
struct World<'s> {
    gateway: Gateway,
    client: Client,
    upstream: &'s Upstream,
    site: &'s Site,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_provider_shape_is_accepted_by_its_documented_entry() {
    let upstream = Upstream::start().await;
    let mut failures = Vec::new();
    let mut tried = 0;
    for provider in providers() {
        let site = Site::start(&provider).await;
        for (name, shapes) in provider.by_entry() {
            let entry = Entry::of(&provider, name);
            let Some(world) = World::start(&entry.documented(&site), &site, &upstream, &mut failures) else { continue };
            world.gateway_has_keys(&entry);
            for shape in shapes {
                tried += 1;
                let refusals = shape.refused.iter().map(|(claims, reason)| (claims, Some(reason.as_str())));
                for (claims, reason) in [(&json!({}), None)].into_iter().chain(refusals) {
                    let outcome = world.outcome(shape, claims).await;
                    if outcome != expected(shape, &entry, reason, &site) {
                        failures.push(format!("{} with {claims}, not {reason:?}: {outcome}", shape.name));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} of {tried} fail:\n{}", failures.len(), failures.join("\n"));
    assert!(tried >= 50, "only {tried} shapes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_entry_accepts_only_standard_shapes() {
    let upstream = Upstream::start().await;
    let mut failures = Vec::new();
    for provider in providers() {
        let site = Site::start(&provider).await;
        for (name, shapes) in provider.by_entry() {
            let entry = Entry::of(&provider, name);
            let Some(world) = World::start(&entry.default(&site), &site, &upstream, &mut failures) else { continue };
            world.gateway_has_keys(&entry);
            for shape in shapes {
                let outcome = world.outcome(shape, &json!({})).await;
                let found = outcome["reason"].as_str().unwrap_or("accepted");
                if found != shape.by_default {
                    failures.push(format!("{} by default: {found}, not {}", shape.name, shape.by_default));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_token_of_the_pages_is_a_tried_shape() {
    let providers = providers();
    let mut shown = 0;
    for page in provider_pages() {
        let provider = providers.iter().find(|provider| page.name.ends_with(&provider.page)).unwrap();
        for block in page.blocks().iter().filter(|block| block.language == "json") {
            let token: Value = serde_json::from_str(&block.text).unwrap();
            let is_shape = |shape: &Shape| {
                let claims = shape.claims_at(token["claims"]["exp"].as_u64().unwrap() - shape.lifetime());
                token == json!({ "header": shape.header, "claims": claims })
            };
            assert!(provider.shapes.iter().any(is_shape), "{}:{} is no shape", page.name, block.line);
            shown += 1;
        }
    }
    assert!(shown >= 17, "{shown}");
}

#[test]
fn every_entry_of_the_pages_is_tried() {
    let providers = providers();
    let is_tried = |page: &Page, name: &str| {
        let provider = providers.iter().find(|provider| page.name.ends_with(&provider.page));
        provider.is_some_and(|provider| provider.shapes.iter().any(|shape| shape.entry == name))
    };
    for page in provider_pages() {
        for block in page.blocks().iter().filter(|block| block.language == "yaml") {
            let name = entry::name(&block.text);
            assert!(is_tried(&page, &name), "{}:{}: no shape tries `{name}`", page.name, block.line);
        }
    }
}

fn provider_pages() -> Vec<Page> {
    let all = pages().into_iter();
    all.filter(|page| page.name.starts_with(entry::FOLDER) && !page.name.ends_with("README.md")).collect()
}

impl<'s> World<'s> {
    /// `None` if the configuration is refused, which is a failure.
    fn start(entry: &str, site: &'s Site, upstream: &'s Upstream, failures: &mut Vec<String>) -> Option<Self> {
        let folder = site.folder();
        let moved = entry.replace("/var/", &format!("{}/var/", folder.display()));
        let yaml = entry::complete(&moved, upstream.address);
        if let Err(refused) = entry::check(&folder, &yaml) {
            failures.push(format!("{entry}{refused}"));
            return None;
        }
        let authority = folder.join("authority.pem");
        let gateway = Gateway::start_in(folder, &yaml, &[("SSL_CERT_FILE", authority.to_str().unwrap())]);
        let client = Client::new(&gateway);
        Some(Self { gateway, client, upstream, site })
    }

    fn gateway_has_keys(&self, entry: &Entry) {
        if entry.is_fetched() {
            self.gateway.log_line(&format!("fetched the JWK Set\",\"issuer.name\":\"{}\"", entry.name));
        }
    }

    /// The gateway's decision about the shape with these changes: the reason of its refusal, or the caller.
    async fn outcome(&self, shape: &Shape, changes: &Value) -> Value {
        let shape = shape.at(self.site);
        let changes = self.site.placed(changes);
        let token = self.site.sign(&shape.header, &patched(shape.claims_at(now()), &changes));
        let before = self.upstream.seen().len();
        let answer = self.client.send(with_credentials(&shape, &token)).await;
        let line = self.gateway.audit_of(answer.request_id());
        let reached = self.upstream.seen().len() > before;
        match line.get("gateway.reason") {
            Some(reason) => {
                assert!(!reached && is_refusal(&answer), "{}: {line}", shape.name);
                json!({ "reason": reason })
            }
            None => self.caller(&shape, &line, &token),
        }
    }

    /// The caller as the service and the audit log were told of it.
    fn caller(&self, shape: &Shape, line: &Value, token: &str) -> Value {
        let seen = self.upstream.seen().pop().unwrap();
        let told = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap()).filter(|v| !v.is_empty());
        assert!(
            seen.headers.values().all(|value| !value.to_str().unwrap().contains(token)),
            "{} is passed on",
            shape.name
        );
        let mut caller = Map::new();
        caller.extend(told("x-auth-issuer").map(|value| ("issuer".to_owned(), value.into())));
        for (name, field, member) in [
            ("client", "x-auth-client-id", "oauth.client_id"),
            ("subject", "x-auth-subject", "oauth.subject"),
            ("scopes", "x-auth-scope", "oauth.scope"),
        ] {
            let audited = line.get(member).and_then(Value::as_str).filter(|value| !value.is_empty());
            assert_eq!(told(field), audited, "{}: {name}", shape.name);
            caller.extend(told(field).map(|value| (name.to_owned(), value.into())));
        }
        json!({ "entry": line["oauth.issuer"], "caller": caller })
    }
}

fn is_refusal(answer: &Answer) -> bool {
    [401, 403].contains(&answer.status)
}

/// The issuer that services are told is `iss`, unless the shape says otherwise.
fn expected(shape: &Shape, entry: &Entry, reason: Option<&str>, site: &Site) -> Value {
    if let Some(reason) = reason {
        return json!({ "reason": reason });
    }
    let Shape { claims, mut caller, .. } = shape.at(site);
    if caller.get("issuer").is_none() {
        caller["issuer"] = claims["iss"].clone();
    }
    json!({ "entry": entry.name, "caller": caller })
}

/// In `Authorization`, or alone in the field of the shape.
fn with_credentials(shape: &Shape, token: &str) -> Request<http_body_util::Full<bytes::Bytes>> {
    let mut request = request("GET", "/orders/1");
    let (name, value) = match &shape.field {
        None => ("authorization".to_owned(), format!("Bearer {token}")),
        Some(field) => (field.to_lowercase(), token.to_owned()),
    };
    request.headers_mut().insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
    request
}

/// A JSON merge patch (RFC 7396), after which times are seconds from now.
fn patched(mut claims: Value, changes: &Value) -> Value {
    let (Value::Object(members), Value::Object(changes)) = (&mut claims, changes) else { return changes.clone() };
    for (name, change) in changes {
        match change {
            Value::Null => drop(members.remove(name)),
            Value::Number(offset) if provider::TIMES.contains(&name.as_str()) => {
                members.insert(name.clone(), (now() as i64 + offset.as_i64().unwrap()).into());
            }
            Value::Object(_) if members.get(name).is_some_and(Value::is_object) => {
                let inner = members.remove(name).unwrap();
                members.insert(name.clone(), patched(inner, change));
            }
            other => drop(members.insert(name.clone(), other.clone())),
        }
    }
    claims
}
