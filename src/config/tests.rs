//! Whole files and their faults.

mod provider_tokens;
mod slips;

use std::env::VarError;

use annotate_snippets::Renderer;

use super::*;

const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);

fn reading(bytes: &[u8]) -> ConfigReading {
    let variable = |name: &str| match name {
        "FOUR" => Ok("4".to_owned()),
        "CANARY" => Ok("s3cr3t".to_owned()),
        _ => Err(VarError::NotPresent),
    };
    let file = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    parse(Path::new("gateway.yaml"), bytes.to_vec(), &Surroundings { variable: &variable, file: &file, now: NOW })
}

fn rendered(text: &str) -> String {
    let ConfigReading { source, faults, .. } = reading(text.as_bytes());
    faults.render(&source, &Renderer::plain())
}

/// The messages alone.
fn messages(text: &str) -> Vec<String> {
    let ConfigReading { source, faults, .. } = reading(text.as_bytes());
    faults.diagnostics(&source).into_iter().map(|fault| fault.message).collect()
}

#[track_caller]
fn only_says(bytes: &[u8], line: usize, column: usize, message: &str) {
    let ConfigReading { source, faults, raw, .. } = reading(bytes);
    assert!(raw.is_none());
    let [fault] = &faults.diagnostics(&source)[..] else { panic!("{faults:?}") };
    assert_eq!((fault.line, fault.column), (Some(line), Some(column)), "{fault:?}");
    assert!(fault.message.contains(message), "{fault:?}");
}

const GOOD: &str = "
version: 1
workers: ${FOUR}
listeners:
  - address: 0.0.0.0:8443
    tls: {certificates: [{cert: a.crt, key: a.key, self_signed: true}], min_version: \"1.2\"}
  - {address: \"[::]:8080\", redirect_to: \"https://gateway.example.com\", proxy_protocol: true}
limits: {connections: unlimited, body_bytes: 10MiB, handshakes: 512, min_body_rate: 240B/s, connection_age: 1h, in_flight_per_address: unlimited, tunnels: 1000, tunnels_per_address: 500, tunnel_idle_timeout: 5m}
shutdown: {delay: 0s, drain: 30s}
allow_literal_secrets: false
oauth:
  issuer: https://gateway.example.com
  audiences: [https://api.example.com]
  token_ttl: 1h
  signing_keys: {algorithm: RS256, directory: state/keys}
  token_endpoint:
    path: /oauth/token
    json_requests: true
    rate_limits: [{rate: 20/s, burst: 40, per: address}]
  clients:
    hacker-client:
      secrets:
        - {value: \"${CANARY}\"}
        - {hash: \"$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA\"}
      scopes: [simulation:read, tier:gold]
      claims: {department: research, level: 3, admin: false, groups: [a, b]}
      audiences: [https://api.example.com]
      token_ttl: 10m
issuers:
  auth0:
    issuer: https://tenant.eu.auth0.com/
    jwks_uri: https://tenant.eu.auth0.com/.well-known/jwks.json
    audiences: [http://localhost:8080]
    algorithms: [RS256]
    types: [at+jwt, JWT, absent]
    clock_skew: 30s
    scope_claim: auto
    allow_scopes: [read:data]
    ca: certs/idp-ca.crt
upstreams:
  legacy: http://127.0.0.1:9000
  simulation: {servers: [http://10.0.0.5:9001], connect_timeout: 5s, response_timeout: 30s, protocol: http2}
  secure:
    servers: [https://10.0.0.5:9001]
    tls: {ca: certs/internal-ca.crt, server_name: sim.internal, client_cert: certs/gw.crt, client_key: certs/gw.key}
  local: unix:run/app.sock
  several:
    servers: [http://10.0.0.5:9001, {url: \"http://10.0.0.6:9001\", weight: 2}]
    balance: {hash: \"header:X-Tenant\"}
    health_check: {path: /healthz, interval: 5s, timeout: 1s, unhealthy_after: 3, healthy_after: 2, status: [200, 204], body: pong}
    ejection: {consecutive_failures: 5, error_rate: 50%, duration: 30s, max_ejected: 50%}
    circuit_breaker: {consecutive_failures: 20, open_for: 5s}
    retries: {attempts: 2, on: [connect, reset, 503], per_try_timeout: 1s}
    slow_start: 30s
    max_connections: 100
    max_in_flight: unlimited
    answers: {header_count: 300, header_bytes: 128KiB}
    authorization: {basic: {user: gateway, password: \"${CANARY}\"}}
    via: false
routes:
  - {name: ping, path: /ping, methods: [GET], upstream: legacy, access: public, allow_from: [10.0.0.0/8], deny_from: [\"::1/128\"]}
  - name: read-data
    hosts: [api.example.com, \"*.internal.example.com\"]
    path: /api/**
    methods: [GET, HEAD]
    upstream: legacy
    access:
      issuers: [self, auth0]
      audiences: [https://api.example.com]
      scopes: {all_of: [read:data], any_of: [tier:gold, tier:silver]}
      claims: {department: [research, sales]}
      clients: [hacker-client, auth0/zJlvk0TKsOKx]
    rate_limits:
      - {rate: 10/s, burst: 20, per: client}
      - {rate: 1000/min, per: \"header:X-Tenant\"}
    strip_prefix: /api
    map_responses: false
    headers: {set: {X-Env: prod}, add: {X-Way: gateway}, remove: [X-Debug]}
    response_headers: {set: {Strict-Transport-Security: max-age=60}, add: {X-Way: gateway}, remove: [Server]}
    cors: {origins: [https://app.example.com, \"https://*.example.org\"], methods: [GET], headers: [Authorization], expose: [X-Count], credentials: true, max_age: 1h}
    mirror: {upstream: simulation, percent: 10, timeout: 5s}
    forward_token: false
    timeout: 30s
    body_bytes: 1MiB
    websocket: true
    upgrades: [tcp]
  - {path: \"/v1/{id}/**\", upstream: {legacy: 95, simulation: 5}, sticky: \"claim:tenant\", rewrite: \"/v2/{id}/**\", access: {claims: {team: [{glob: \"sales:*\"}, {exact: \"*\"}]}}}
  - {path: /old/**, redirect: {to: https://new.example.com/**, status: 301}, access: public}
  - {path: /hello, respond: {status: 200, body: hello, content_type: text/plain}, access: public}
audit: {file: state/audit.jsonl, on_failure: block}
admin: {address: 127.0.0.1:9901}
trusted_proxies: [10.0.0.0/8, \"2001:db8::/32\"]
dns: {servers: [10.0.0.53:53]}
";

#[test]
fn every_key_is_known() {
    let ConfigReading { faults, raw, .. } = reading(GOOD.as_bytes());
    assert!(faults.is_empty(), "{}", rendered(GOOD));
    let raw = raw.unwrap();
    assert_eq!(raw.workers.unwrap().value.get(), 4);
    assert_eq!(raw.routes.len(), 5);
    assert_eq!(raw.issuers.names().collect::<Vec<_>>(), ["auth0"]);
}

#[test]
fn keys_that_are_not_there_yet_are_unknown() {
    let text = GOOD.replace("min_version: \"1.2\"", "crl: clients.crl");
    assert_ne!(text, GOOD);
    let messages = messages(&text);
    assert!(messages.len() == 1 && messages[0].starts_with("unknown key"), "{messages:?}");
}

#[test]
fn an_unreadable_file_is_a_fault() {
    let reading = read(Path::new("/nonexistent/gateway.yaml"), Needs::EVERYTHING, &Surroundings::process());
    let rendered = reading.faults.render(&reading.source, &Renderer::plain());
    let name = "/nonexistent/gateway.yaml";
    assert_eq!(
        rendered,
        format!(
            "{name}: cannot read the file: no such file; give its path with --config
{name}: 1 problem
"
        )
    );
}

#[test]
fn a_file_that_says_nothing_is_a_fault() {
    for text in ["", "# nothing\n", "\n\n"] {
        assert_eq!(messages(text), ["the file is empty"], "{text:?}");
    }
    assert_eq!(messages("---\n"), ["expected a map, got nothing"]);
    assert_eq!(messages("- a"), ["expected a map, got a list"]);
    assert_eq!(messages("s3cr3t"), ["expected a map"]);
}

#[test]
fn non_text_values_are_faults() {
    only_says(b"version: 1\nworkers: \xff", 2, 10, "not UTF-8");
    only_says(b"\xff\xfev\0", 1, 1, "UTF-16");
    only_says(b"\xef\xbb\xbfversion: 1", 1, 1, "byte order mark");
    only_says(b"version: 1\n\0workers: 1", 2, 1, "U+0000");
    only_says(b"version: \x1b[31m", 1, 10, "U+001B");
    only_says("version: \u{9b}31m".as_bytes(), 1, 10, "U+009B");
}

#[test]
fn a_file_may_be_large_but_not_endless() {
    assert_eq!(messages(&"#".repeat(FILE_BYTES + 1)), ["the file is longer than 64 MiB"]);
}

#[test]
fn variables_cannot_multiply_a_file() {
    let variable = |_: &str| Ok("x".repeat(1 << 20));
    let file = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let text = format!("routes: [{{hosts: [{}]}}]", "\"${A}\",".repeat(100));
    let surroundings = Surroundings { variable: &variable, file: &file, now: NOW };
    let ConfigReading { source, faults, .. } = parse(Path::new("gateway.yaml"), text.into_bytes(), &surroundings);
    let rendered = faults.diagnostics(&source);
    assert!(rendered.iter().any(|fault| fault.message == "variables and files give more than 64 MiB in all"));
}

#[test]
fn no_message_holds_a_secret() {
    for slip in [
        "secrets: [{value: s3cr3t, vaule: s3cr3t, value: s3cr3t}]",
        "secrets: {value: s3cr3t}",
        "secrets: [s3cr3t, [s3cr3t], {s3cr3t: s3cr3t}]",
        "secrets: [{value: [s3cr3t]}, {value: {s3cr3t: 1}}, {hash: !s3cr3t x}, {hash: *s3cr3t }]",
        "secrets: [{value: \"${s3cr3t} s3cr3t\"}, {value: \"s3cr3t${s3cr3t\"}, {value: \"${file:s3cr3t}s3cr3t\"}]",
        "secrets: [{value: \"${NONE:-s3cr3t}\"}]",
        "secrets: [{value: \"${CANARY}\", expires_at: ${CANARY}}]",
        "secret: s3cr3t",
        "client_secret: s3cr3t",
        "s3cr3t",
        "[s3cr3t]",
        "s3cr3t: s3cr3t",
        "scopes: [[s3cr3t]], secrets: s3cr3t",
        "secrets: [{value: @s3cr3t}]",
        "secrets: [{value: \"s3cr3t}]",
        "secrets: [{value: s3cr3t]",
        "secrets:\n- s3cr3t: s3cr3t\n  - s3cr3t",
    ] {
        for client in [format!("{{{slip}}}"), format!("\n      {slip}")] {
            let rendered = rendered(&format!("version: 1\noauth:\n  clients:\n    a: {client}\nroutes: s3c\n"));
            assert!(!rendered.contains("s3cr3t"), "{rendered}");
            assert!(!rendered.ends_with(" 0 problems\n"), "{rendered}");
        }
    }
}

/// A file in which all secrets are the canary, in each form that a secret can have.
const WITH_SECRETS: &str = "version: 1
oauth:
  issuer: https://gateway.example.com
  clients:
    a:
      secrets:
        - {value: s3cr3t}
        - value: \"s3cr3t\"
        - hash: s3cr3t
      scopes: [read]
    b: {secrets: [{hash: s3cr3t}], scopes: [read]}
  audiences: [api]
routes:
  - {path: /, access: {clients: [a]}, upstream: x}
";

proptest::proptest! {
    #[test]
    fn no_slip_of_the_hand_shows_a_secret(edits in proptest::collection::vec((0..400usize, 0..30usize, ".?|[\\]\\[{}:,#&*!|>'\"%@` \n-]{1,3}"), 1..4)) {
        let mut text: Vec<char> = WITH_SECRETS.chars().collect();
        for (at, length, inserted) in edits {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, inserted.chars());
        }
        let text: String = text.into_iter().collect();
        let rendered = rendered(&text);
        for part in ["s3c", "3cr", "cr3", "r3t"] {
            proptest::prop_assert!(!rendered.contains(part), "{text}\n{rendered}");
        }
    }
}
