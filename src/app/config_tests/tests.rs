use super::*;
use crate::config;
use crate::config::interpolate::Surroundings;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

const FILE: &str = r#"
version: 1
listeners: [{address: "127.0.0.1:0"}]
trusted_proxies: [10.9.0.0/16]
audit: {file: "-"}
oauth:
  issuer: https://gateway.example.com
  audiences: [https://api.example.com]
  clients:
    billing:
      secrets: [{hash: "sha256:n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"}]
      scopes: [read, write]
issuers:
  corp: {issuer: "https://login.example.com", audiences: [https://api.example.com]}
  access: {issuer: "https://access.example.com", audiences: [https://api.example.com], token_header: X-Access-Token}
upstreams: {service: {servers: ["http://127.0.0.1:1"]}}
routes:
  - {name: items, path: /items/**, methods: [GET], upstream: service, access: {scopes: [read]}}
  - {name: gold, path: /gold, upstream: service, access: {issuers: [corp, access], claims: {tier: gold}}}
  - {name: inside, path: /inside, upstream: service, access: public, allow_from: [10.0.0.0/8]}
  - {name: live, path: /live, upstream: service, access: public, websocket: true}
  - {name: slow, path: /slow, upstream: service, access: public, rate_limits: [{rate: 1/d, per: route}]}
  - {name: hosted, hosts: [api.example.com], path: /hosted, upstream: service, access: public}
"#;

fn config(tests: &str) -> Config {
    loaded(format!("{FILE}tests:\n{tests}"))
}

#[track_caller]
fn loaded(text: String) -> Config {
    config::load_text(Path::new("/nowhere/gateway.yaml"), text, &Surroundings::process())
        .unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

/// The failures of these tests, without their places.
#[track_caller]
fn failures(tests: &str) -> Vec<String> {
    failures_in(&config(tests))
}

#[track_caller]
fn failures_in(config: &Config) -> Vec<String> {
    let report = run(config, |_| true, || ()).unwrap();
    report.failures().into_iter().map(|failure| failure.message).collect()
}

#[test]
fn every_kind_of_caller_and_request_is_decided() {
    let tests = r#"
  - {allowed: [POST /oauth/token, {GET /.well-known/jwks.json: (jwks)}], refused: {GET /items/1: no_token, GET /other: no_route}}
  - as: {client: billing}
    allowed: {GET /items/1?page=2: items}
    refused: {DELETE /items/1: method_not_allowed, GET /items/%2e%2e/x: bad_request, GET /gold: issuer_not_allowed}
  - {as: {client: billing, scopes: [write]}, refused: {GET /items/1: missing_scope}}
  - as: [{issuer: corp, claims: {sub: a, tier: gold}}, {issuer: access, claims: {sub: b, tier: gold, groups: [a, 1, {b: true}]}}]
    allowed: [GET /gold]
    refused: {GET /items/1: missing_scope}
  - {as: {issuer: corp, claims: {sub: a, tier: silver}}, refused: {GET /gold: claim_mismatch}}
  - {as: {issuer: corp, claims: {sub: a, exp: 1}}, refused: {GET /gold: expired}}
  - {as: {issuer: corp, claims: {sub: a, aud: null}}, refused: {GET /gold: missing_claim}}
  - {as: {issuer: corp, claims: {sub: a, aud: other}}, refused: {GET /gold: bad_audience}}
  - {from: 10.0.0.7, allowed: [GET /inside, GET /slow, GET /slow?again]}
  - {from: 192.0.2.1, refused: {GET /inside: address_not_allowed}}
  - {from: "2001:db8::1", refused: {GET /inside: address_not_allowed}}
  - {host: api.example.com, allowed: {GET /hosted: hosted}}
  - {refused: {GET /hosted: no_route}}
  - {headers: {Authorization: Bearer a.b.c}, refused: {GET /items/1: malformed}}
  - {scheme: http, from: 192.0.2.1, refused: {POST /oauth/token: bad_request}}
"#;
    assert_eq!(failures(tests), [""; 0]);
}

#[test]
fn a_trusted_proxy_names_the_address_of_the_caller() {
    let tests = r#"
  - {from: 10.9.0.1, headers: {X-Forwarded-For: 10.0.0.7}, allowed: [GET /inside]}
  - {from: 10.9.0.1, headers: {X-Forwarded-For: 192.0.2.1}, refused: {GET /inside: address_not_allowed}}
  - {from: 192.0.2.1, headers: {X-Forwarded-For: 10.0.0.7}, refused: {GET /inside: address_not_allowed}}
"#;
    assert_eq!(failures(tests), [""; 0]);
}

/// Routes that demand a binding, and a client for each way to get it.
const BOUND: &str = r#"
  - {name: by_key, path: /key, upstream: service, access: {bound: dpop}}
  - {name: by_certificate, path: /certificate, upstream: service, access: {bound: mtls}}
  - {name: by_any, path: /any, upstream: service, access: {bound: either}}
"#;

#[test]
fn a_caller_with_a_bound_token_proves_what_it_has() {
    let secrets = r#"secrets: [{hash: "sha256:n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"}]"#;
    let clients = [
        ("key", format!("{secrets}, bound: dpop")),
        ("certificate", format!("{secrets}, bound: mtls")),
        ("either", format!("{secrets}, bound: either")),
        ("only", "certificates: [{san_dns: only.example.com}]".to_owned()),
        ("both", "certificates: [{san_dns: both.example.com}], bound: dpop".to_owned()),
    ];
    let entries: String = clients.iter().map(|(id, rest)| format!("    {id}: {{scopes: [read], {rest}}}\n")).collect();
    let file = FILE.replace("  clients:\n", &format!("  clients:\n{entries}"));
    let tests = r#"tests:
  - {as: {client: key}, allowed: [GET /key, GET /any], refused: {GET /certificate: not_bound}}
  - {as: [{client: certificate}, {client: only}], allowed: [GET /certificate, GET /any], refused: {GET /key: not_bound}}
  - {as: [{client: either}, {client: both}], allowed: [GET /key, GET /certificate, GET /any]}
  - {as: {client: billing}, refused: {GET /key: not_bound, GET /certificate: not_bound, GET /any: not_bound}}
  - {as: {client: certificate}, scheme: http, refused: {GET /certificate: not_proven}}
  - as: {issuer: corp, claims: {sub: a, cnf: {"x5t#S256": bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg0}}}
    allowed: [GET /certificate, GET /any]
    refused: {GET /key: not_bound}
  - as: {issuer: corp, claims: {sub: a, cnf: {jkt: bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg0}}}
    allowed: [GET /key, GET /any]
    refused: {GET /certificate: not_bound}
  - {as: {issuer: corp, claims: {sub: a, cnf: {jkt: short}}}, refused: {GET /key: malformed}}
"#;
    assert_eq!(failures_in(&loaded(format!("{file}{BOUND}{tests}"))), [""; 0]);
}

#[test]
fn a_refusal_for_want_of_a_binding_names_the_one_that_is_wanted() {
    let tests = "tests:
  - {allowed: [GET /key, GET /certificate, GET /any]}
  - {as: {client: billing}, allowed: [GET /key, GET /certificate, GET /any]}
";
    let failures = failures_in(&loaded(format!("{FILE}{BOUND}{tests}")));
    let by_key = "Authorization: DPoP TOKEN, with a proof in the field DPoP";
    let by_certificate = "Authorization: Bearer TOKEN, or x-access-token: TOKEN, with the client certificate";
    let parts = [
        format!("(found no Authorization, wanted {by_key})"),
        format!("(found no Authorization, wanted {by_certificate})"),
        format!("(found no Authorization, wanted {by_key}, or {by_certificate})"),
        "(found a token that is bound to no key, wanted".to_owned(),
        "(found a token that is bound to no certificate, wanted".to_owned(),
        "(found a token that is bound to no key and to no certificate, wanted".to_owned(),
    ];
    assert_eq!(failures.len(), parts.len());
    for (failure, part) in failures.iter().zip(parts) {
        assert!(failure.contains(&part), "{part}: {failure}");
    }
}

#[test]
fn a_handshake_of_websockets_is_decided_by_its_fields() {
    let tests = r#"
  - headers: {Connection: Upgrade, Upgrade: websocket, Sec-WebSocket-Version: "13", Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==}
    allowed: {GET /live: live}
  - headers: {Connection: Upgrade, Upgrade: websocket, Sec-WebSocket-Version: "13"}
    refused: {GET /live: bad_request}
  - {headers: {Content-Type: application/grpc}, refused: {POST /items/1: method_not_allowed}}
"#;
    assert_eq!(failures(tests), [""; 0]);
}

#[test]
fn a_failure_says_what_was_expected_and_decided() {
    let tests = r#"
  - {name: one, as: {client: billing, scopes: [write]}, allowed: [GET /items/1]}
  - {allowed: [{GET /slow: items}], refused: {GET /live: no_token, GET /nothing: no_token}}
"#;
    assert_eq!(
        failures(tests),
        [
            "test `one`: GET /items/1, client billing with write: expected allowed, but refused with `missing_scope` by route `items` \
             (found write, wanted read)",
            "test `anonymous`: GET /slow, anonymous: expected allowed by route `items`, but allowed by route `slow`",
            "test `anonymous`: GET /live, anonymous: expected refused with `no_token`, but allowed by route `live`",
            "test `anonymous`: GET /nothing, anonymous: expected refused with `no_token`, but refused with `no_route`",
        ]
    );
}

#[test]
fn coverage_counts_what_passed() {
    let config = config(
        r#"
  - {as: {client: billing}, allowed: [GET /items/1, GET /live], refused: {GET /inside: no_route}}
  - {refused: {GET /items/1: no_token}}
"#,
    );
    let coverage = run(&config, |_| true, || ()).unwrap().coverage;
    assert_eq!((coverage.routes, coverage.rules, coverage.percent()), (6, 3, 33));
    assert_eq!(coverage.never_allowed, ["gold", "inside", "slow", "hosted"]);
    assert_eq!(coverage.never_refused, ["gold", "inside"]);
    let selected = run(&config, |test| test.name == "anonymous", || ()).unwrap();
    assert_eq!((selected.tests.len(), selected.coverage.never_allowed.len()), (1, 6));
}

#[test]
#[ignore = "a measurement of a release build"]
fn ten_thousand_requests_are_tested_in_a_second() {
    let requests: Vec<String> = (0..5_000).map(|number| format!("GET /items/{number}")).collect();
    let callers = "[{client: billing}, {client: billing, scopes: [read]}]";
    let config = config(&format!("  - {{as: {callers}, allowed: [{}]}}\n", requests.join(", ")));
    let begun = Instant::now();
    let report = run(&config, |_| true, || ()).unwrap();
    let elapsed = begun.elapsed();
    assert_eq!((report.tests[0].requests.len(), report.failures().len()), (10_000, 0));
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
}
