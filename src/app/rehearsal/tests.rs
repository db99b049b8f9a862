use super::*;
use crate::app::rehearsal::requests::RequestText;
use crate::config::{self, interpolate::Surroundings};
use crate::oauth::observer::{Trace, Unobserved};
use std::fs;

const FILE: &str = r#"
version: 1
listeners: [{address: "127.0.0.1:0"}]
oauth:
  issuer: https://gateway.example.com
  audiences: [https://api.example.com]
  clients:
    billing:
      secrets: [{hash: "sha256:n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"}]
      scopes: [read, write]
upstreams: {service: {servers: ["http://127.0.0.1:1"]}}
routes:
  - {name: items, path: /items/**, methods: [GET], upstream: service, access: {scopes: [read]}}
  - {name: open, path: /open, upstream: service, access: public, rate_limits: [{rate: 1/s, per: route}]}
"#;

fn rehearsal(file: &str) -> Rehearsal {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    fs::write(&path, file).unwrap();
    let config =
        config::load(&path, &Surroundings::process()).unwrap_or_else(|errors| panic!("{:?}", errors.diagnostics()));
    Rehearsal::new(&config).unwrap()
}

fn request(rehearsal: &Rehearsal, method: &str, target: &str, token: Option<&str>) -> RehearsedRequest {
    let fields: Vec<_> =
        token.map(|token| ("Authorization".to_owned(), format!("Bearer {token}"))).into_iter().collect();
    let from = "127.0.0.1".parse().unwrap();
    let text = RequestText { method, target, host: "localhost", from, is_https: true, fields: &fields };
    RehearsedRequest::read(&text, &rehearsal.snapshot.limits, &rehearsal.snapshot.trusted_proxies).unwrap()
}

fn decided(rehearsal: &Rehearsal, method: &str, target: &str, token: Option<&str>) -> String {
    let decision = rehearsal.decide(request(rehearsal, method, target, token), &mut Unobserved);
    let outcome = match decision.outcome {
        RehearsedOutcome::Refused { reason, .. } => reason.as_str().to_owned(),
        other => format!("{other:?}"),
    };
    format!("{} {outcome}", decision.rule.unwrap_or_default())
}

#[test]
fn a_rehearsed_request_is_decided_as_a_real_one() {
    let rehearsal = rehearsal(FILE);
    let token = rehearsal.token_of_client("billing", Some("read")).unwrap();
    let other = rehearsal.token_of_client("billing", Some("write")).unwrap();
    for (method, target, token, expected) in [
        ("GET", "/items/1", Some(&token), "items Permitted"),
        ("GET", "/items/1", Some(&other), "items missing_scope"),
        ("GET", "/items/1", None, "items no_token"),
        ("POST", "/items/1", Some(&token), " method_not_allowed"),
        ("GET", "/nothing", Some(&token), " no_route"),
        ("GET", "/open", None, "open Permitted"),
        // Limits are not used up.
        ("GET", "/open", None, "open Permitted"),
        ("POST", "/oauth/token", None, "(token) Endpoint"),
    ] {
        assert_eq!(decided(&rehearsal, method, target, token.map(String::as_str)), expected, "{method} {target}");
    }
    assert!(rehearsal.token_of_client("billing", Some("admin")).is_err());
    assert!(rehearsal.token_of_client("other", None).is_err());
}

#[test]
fn an_observer_sees_the_way_of_a_request() {
    let rehearsal = rehearsal(FILE);
    let mut trace = Trace::default();
    rehearsal.decide(request(&rehearsal, "GET", "/items/1", None), &mut trace);
    assert!(
        trace.0.iter().any(|seen| seen.subject == "route" && seen.values.found == "items (/items/**)"),
        "{trace:?}"
    );
}
