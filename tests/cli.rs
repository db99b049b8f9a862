//! The command line: results on stdout, remarks on stderr, exit code 0 for success, 1 for a failed check, 2 for wrong
//! usage, and no colours in a pipe.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::command::{Finished, run, run_with};
use crate::support::gateway::{folder, program};
use crate::support::issuer::{Key, now};
use crate::support::{Client, Gateway, Issuer, Upstream};

const SECRET: &str = "correct horse battery staple";

/// Runs the program, whose output must have no escape codes.
#[track_caller]
fn says(folder: &Path, arguments: &[&str], input: &str) -> Finished {
    let mut command = program(folder);
    let said = run_with(command.args(arguments).env("DEMO_CLIENT_SECRET", "sixteen-or-more-characters"), input);
    assert!(!format!("{}{}", said.stdout, said.stderr).contains('\u{1b}'), "{said:?}");
    said
}

/// A folder with the configuration that comes with Portcullis.
fn shipped() -> PathBuf {
    let folder = folder();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.yaml"), folder.join("gateway.yaml")).unwrap();
    folder
}

/// A configuration with these `oauth.clients` and further sections.
fn config(clients: &str, more: &str) -> String {
    format!(
        r#"
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:0
    tls: {{certificates: [{{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}}]}}
allow_literal_secrets: true
oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: ES256}}
  clients:
{clients}
audit: {{file: "-"}}
{more}
"#
    )
}

fn app() -> String {
    config(&format!("    app: {{secrets: [{{value: {SECRET}}}], scopes: [read:data, write:data]}}"), "")
}

fn app_and_routes() -> String {
    let routes = "
upstreams: {legacy: 'http://127.0.0.1:9'}
routes:
  - {name: ping, path: /ping, upstream: legacy, access: public}
  - {name: read, path: /data, methods: [GET], upstream: legacy, access: {scopes: [read:data]}}
  - {name: write, path: /data, methods: [POST], upstream: legacy, access: {scopes: [write:data]}}
  - {name: either, path: /either, upstream: legacy, access: {scopes: {any_of: [tier:gold, tier:silver]}}}
  - {name: others, path: /others, upstream: legacy, access: {clients: [app], claims: {tier: gold}}}
";
    app() + routes
}

#[test]
fn check_shows_the_exposure_of_the_shipped_configuration() {
    let folder = shipped();
    let said = says(&folder, &["check"], "");
    assert_eq!((said.code, &*said.stderr), (Some(0), ""));
    let (first, rest) = said.stdout.split_once('\n').unwrap();
    let id = first.strip_prefix("ok  gateway.yaml (").and_then(|rest| rest.strip_suffix(")")).unwrap();
    let (file, named) = id.split_once('-').unwrap();
    let is_hex = |part: &str| part.bytes().all(|digit| digit.is_ascii_hexdigit());
    assert!((file.len(), named.len()) == (12, 6) && is_hex(file) && is_hex(named), "{first}");
    assert_eq!(
        rest,
        "
   listens  127.0.0.1:8443 https, self-signed allowed
    issues  https://localhost:8443/oauth/token 1 client, RS256
 audits to  state/audit.jsonl
     admin  127.0.0.1:9901 http, without authentication

ROUTE         PATH                           UPSTREAM  ACCESS                    LIMITS
ping          GET,HEAD /ping                 legacy    EVERYONE                  5/s per address
read-orders   GET,HEAD /api/**               legacy    orders:read               50/s per client
write-orders  POST,PUT,PATCH,DELETE /api/**  legacy    orders:write (no client)
"
    );
    let said = says(&folder, &["check", "--format", "json"], "");
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, found), (Some(0), json!({ "ok": true, "config": id, "findings": [] })));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "check writes nothing");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn check_shows_what_is_special_about_an_issuer() {
    let folder = folder();
    let key = Key::new("k1", "ES256").jwk();
    fs::write(folder.join("keys.json"), json!({ "keys": [key] }).to_string()).unwrap();
    let issuers = "issuers:
  plain: {issuer: 'https://a.example.com', audiences: [api]}
  special:
    issuer: 'https://b.example.com/{tenant}'
    tenants: [red, blue]
    token_header: X-Token
    jwks_file: keys.json
    audiences: [api]
";
    fs::write(folder.join("gateway.yaml"), app() + issuers).unwrap();
    let said = says(&folder, &["check"], "");
    let rows: Vec<&str> = said.stdout.lines().filter(|line| line.trim_start().starts_with("trusts")).collect();
    let expected = [
        "    trusts  https://a.example.com plain",
        "    trusts  https://b.example.com/{tenant} special; tenants blue, red; tokens in x-token; keys in keys.json",
    ];
    assert_eq!((said.code, &rows[..]), (Some(0), &expected[..]), "{said:?}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn check_shows_the_conditions_and_the_binding_of_a_route() {
    let folder = folder();
    let routes = "
upstreams: {tools: 'http://127.0.0.1:9'}
routes:
  - {path: /mcp, name: any, upstream: tools, access: {scopes: [read:data, write:data], bound: dpop}}
  - {path: /mcp, name: list, upstream: tools, access: {scopes: [read:data], bound: dpop}, when: {headers: {Mcp-Method: [tools/list, ping]}}}
";
    fs::write(folder.join("gateway.yaml"), app() + routes).unwrap();
    let said = says(&folder, &["check"], "");
    let rows: Vec<&str> = said.stdout.lines().filter(|line| line.contains("/mcp")).collect();
    let expected = [
        "any    * /mcp                               tools     read:data write:data + bound dpop",
        "list   * /mcp [mcp-method=ping|tools/list]  tools     read:data + bound dpop",
    ];
    assert_eq!(rows, expected, "{said:?}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_missing_variable_of_the_shipped_configuration_is_named() {
    let folder = shipped();
    let said = run(program(&folder).arg("check").env_remove("DEMO_CLIENT_SECRET"));
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains(": the variable `DEMO_CLIENT_SECRET` is not set\n"), "{}", said.stderr);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn check_warns_of_keys_that_are_fetched_in_clear_text() {
    let folder = folder();
    let issuers = "issuers: {corp: {issuer: corp, audiences: [a], jwks_uri: 'http://127.0.0.1:9/keys'}}";
    fs::write(folder.join("gateway.yaml"), app() + issuers).unwrap();
    let said = says(&folder, &["check"], "");
    assert_eq!(said.code, Some(0));
    let warning = ": the keys of issuer `corp` are fetched in clear text, from this machine [clear-text-keys]\n";
    assert!(said.stderr.starts_with("warning: gateway.yaml:") && said.stderr.ends_with(warning), "{}", said.stderr);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn check_warns_of_a_token_endpoint_without_a_rate_limit() {
    let folder = folder();
    let limits = "  token_endpoint: {rate_limits: []}\n  signing_keys:";
    fs::write(folder.join("gateway.yaml"), app().replace("  signing_keys:", limits)).unwrap();
    let said = says(&folder, &["check"], "");
    assert_eq!(said.code, Some(0));
    assert!(said.stderr.starts_with("warning: gateway.yaml:"), "{}", said.stderr);
    assert!(said.stderr.contains(": no rate limit at the token endpoint"), "{}", said.stderr);
    fs::remove_dir_all(folder).unwrap();
}

/// The warnings of `check`, as records.
#[track_caller]
fn warnings(yaml: &str) -> Vec<Value> {
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    let said = says(&folder, &["check", "--format", "json"], "");
    assert_eq!(said.code, Some(0), "{said:?}");
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    let warnings = found["findings"].as_array().unwrap().clone();
    // With --strict a build fails on them.
    let strict = says(&folder, &["check", "--strict"], "");
    assert_eq!(strict.code, Some(if warnings.is_empty() { 0 } else { 1 }), "{strict:?}");
    fs::remove_dir_all(folder).unwrap();
    warnings
}

fn of_lint(lint: &str, mut warnings: Vec<Value>) -> Vec<Value> {
    warnings.retain(|warning| warning["lint"] == lint);
    warnings
}

#[test]
fn check_warns_if_no_listener_can_serve_the_token_endpoint() {
    let tls = "\n    tls: {certificates: [{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}]}";
    let plain = |address: &str| app().replace(tls, "").replace("127.0.0.1:0", address);
    assert_ne!(plain("127.0.0.1:0"), app());
    let found = warnings(&plain("0.0.0.0:8080"));
    let [warning] = &found[..] else { panic!("{found:?}") };
    assert!(warning["message"].as_str().unwrap().starts_with("no listener can serve the token endpoint"), "{warning}");
    assert_eq!(
        (&warning["file"], &warning["line"], &warning["column"]),
        (&json!("gateway.yaml"), &json!(8), &json!(11))
    );
    assert_eq!(warnings(&plain("127.0.0.1:8080")), [""; 0]);
    assert_eq!(warnings(&app()), [""; 0]);
}

#[test]
fn check_warns_of_claims_that_require_nothing() {
    let routes = |access: &str| {
        format!(
            "{}\nupstreams: {{a: 'http://127.0.0.1:9'}}\nroutes: [{{path: /x, upstream: a, access: {access}}}]\n",
            app()
        )
    };
    for access in ["{claims: {}}", "{scopes: [read:data], claims: {}}"] {
        let found = of_lint("empty-claims", warnings(&routes(access)));
        let [warning] = &found[..] else { panic!("{found:?}") };
        let message = warning["message"].as_str().unwrap();
        assert!(message.contains("requires nothing") && message.contains("write `access: {}`"), "{warning}");
    }
    for access in ["{}", "{claims: {tier: gold}}"] {
        assert_eq!(of_lint("empty-claims", warnings(&routes(access))), [""; 0]);
    }
}

#[tokio::test]
async fn the_yaml_of_a_new_client_pasted_into_the_configuration_works() {
    let folder = folder();
    let said = says(&folder, &["client", "new", "billing", "--scopes", "invoices:read,invoices:write"], "");
    assert_eq!(said.code, Some(0));
    let (secret, yaml) = said.stdout.split_once('\n').unwrap();
    assert!(secret.len() == 46 && secret.starts_with("gw_"));
    assert!(!yaml.contains(secret) && !said.stderr.contains(secret), "the secret is shown once");
    assert!(
        said.stderr.contains("shown only once")
            && said.stderr.contains("under oauth.clients in gateway.yaml, and reload")
    );

    let gateway = Gateway::start(&config(yaml, ""));
    let answer = Client::new(&gateway).token("billing", secret, "").await;
    assert_eq!((answer.status, &answer.json()["scope"]), (200, &json!("invoices:read invoices:write")));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_new_client_is_valid_in_the_configuration() {
    let folder = folder();
    for (id, scopes, why) in [
        ("m\u{fc}ller", "a", "a client id is printable ASCII, 1024 characters at most"),
        ("a\tb", "a", "a client id is printable ASCII, 1024 characters at most"),
        ("", "a", "a client id is printable ASCII"),
        ("app", "a b", "`a b`: a scope is one or more printable ASCII characters"),
        ("app", "a,,b", "an empty scope: a scope is one or more printable ASCII characters"),
    ] {
        let said = says(&folder, &["client", "new", id, "--scopes", scopes], "");
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{id} {scopes}");
        assert!(said.stderr.starts_with(&format!("error: {why}")), "{}", said.stderr);
    }
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn hashed_secrets_of_both_kinds_are_granted_tokens() {
    let folder = folder();
    let made = says(&folder, &["client", "new", "a", "--scopes", "a"], "").stdout;
    let made = made.lines().next().unwrap();
    let fast = says(&folder, &["client", "hash"], &format!("{made}\n"));
    let slow = says(&folder, &["client", "hash"], SECRET);
    assert!(fast.stdout.starts_with("sha256:") && slow.stdout.starts_with("$argon2id$v=19$"));
    for said in [&fast, &slow] {
        assert_eq!((said.code, said.stdout.lines().count()), (Some(0), 1));
        assert!(!said.stderr.contains(made) && !said.stderr.contains(SECRET));
    }
    let client =
        |id, hash: &Finished| format!("    {id}: {{secrets: [{{hash: '{}'}}], scopes: [a]}}\n", hash.stdout.trim_end());
    let gateway = Gateway::start(&config(&(client("fast", &fast) + &client("slow", &slow)), ""));
    let caller = Client::new(&gateway);
    assert_eq!(caller.token("fast", made, "").await.status, 200);
    assert_eq!(caller.token("slow", SECRET, "").await.status, 200);
    assert_eq!(caller.token("slow", made, "").await.status, 401);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_short_secret_is_neither_hashed_nor_shown() {
    let folder = folder();
    let said = says(&folder, &["client", "hash"], "hunter2\n");
    assert_eq!((said.code, &*said.stdout), (Some(2), ""));
    assert_eq!(said.stderr, "a secret has at least 16 characters; `portcullis client new` creates one\n");
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn inspect_shows_which_routes_accept_a_token() {
    let gateway = Gateway::start(&app_and_routes());
    let token = Client::new(&gateway).granted("app", SECRET, "scope=read:data").await;
    let said = says(&gateway.folder, &["token", "inspect"], &format!("Bearer {token}\n"));
    assert_eq!((said.code, &*said.stderr), (Some(0), ""));
    assert!(said.stdout.contains("\"alg\": \"ES256\"") && said.stdout.contains("\"client_id\": \"app\""));
    assert!(
        said.stdout.ends_with(
            "
good  issuer self, client app, scope read:data
  read  allowed
  write  403 missing_scope: the token lacks the scope write:data: found read:data, wanted write:data
    no change  the client has to have the scope in `oauth.clients`, and request a new token
  either  403 missing_scope: the token lacks one of the scopes tier:gold tier:silver: found read:data, wanted one of tier:gold tier:silver
    no change  the client has to have the scope in `oauth.clients`, and request a new token
  others  403 claim_mismatch: the route requires another value of the claim `tier`: found no tier, wanted tier=gold
    no change  the token has no value of the claim that could be added
"
        ),
        "{}",
        said.stdout
    );
    assert!(!said.stdout.contains(token.rsplit('.').next().unwrap()), "the signature is not shown");

    let said = says(&gateway.folder, &["token", "inspect", "--format", "json"], &token);
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, &found["good"], &found["claims"]["scope"]), (Some(0), &json!(true), &json!("read:data")));
    assert_eq!((&found["routes"]["read"], &found["routes"]["ping"]), (&json!({"allowed": true}), &Value::Null));
    let refusal = json!({
        "allowed": false, "status": 403, "reason": "missing_scope",
        "why": "the token lacks the scope write:data: found read:data, wanted write:data",
        "found": "read:data", "wanted": "write:data", "change": null, "opens": null,
        "no_change": "the client has to have the scope in `oauth.clients`, and request a new token",
    });
    assert_eq!(found["routes"]["write"], refusal);
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_shows_why_a_token_is_refused() {
    let key = Key::new("k1", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    let folder = folder();
    let trusted = format!("issuers: {{corp: {{issuer: '{}', audiences: [https://api.example.com]}}}}", issuer.issuer);
    fs::write(folder.join("gateway.yaml"), app() + &trusted).unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = issuer.claims();
        claims[name] = value;
        key.sign(&claims)
    };
    let good = key.sign(&issuer.claims());
    let stranger = Key::new("k1", "ES256").sign(&issuer.claims());
    for (token, code, why) in [
        (good, Some(0), "good  issuer corp, client their-app, scope read:data"),
        (with("exp", json!(now() - 600)), Some(1), "refused  expired: its `exp` is past"),
        (with("iss", json!("https://other.example.com")), Some(1), "refused  unknown_issuer: no configured issuer has"),
        (with("aud", json!("other")), Some(1), "refused  bad_audience: its `aud` contains none of"),
        (stranger, Some(1), "refused  bad_signature: the signature was not made with"),
        (
            "garbage".to_owned(),
            Some(1),
            "refused  malformed: the token or one of its claims has the wrong form: found 1 part, wanted a signed JWT",
        ),
        (
            "a.!.c".to_owned(),
            Some(1),
            "refused  malformed: the token or one of its claims has the wrong form: found a token with an illegal character after 2 others",
        ),
        (
            "bnVsbA.bnVsbA.bnVsbA".to_owned(),
            Some(1),
            "refused  malformed: the token or one of its claims has the wrong form: found a header with no JSON object",
        ),
        (
            with("sub", json!(7)),
            Some(1),
            "refused  malformed: the token or one of its claims has the wrong form: found sub is a number, wanted sub is a string",
        ),
        (
            "a".repeat(9000),
            Some(1),
            "refused  malformed: the token or one of its claims has the wrong form: found a token of 9000 bytes, wanted a token of at most 8192",
        ),
        (with("exp", json!(now() - 5)), Some(0), "  its `exp` is past; accepted until 20"),
    ] {
        let said = says(&folder, &["token", "inspect"], &token);
        assert_eq!((said.code, &*said.stderr), (code, ""), "{why}");
        assert!(said.stdout.contains(&format!("\n{why}")), "{why}:\n{}", said.stdout);
        let said = says(&folder, &["token", "inspect", "--format", "json"], &token);
        let found: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!((said.code, found["good"].as_bool()), (code, Some(code == Some(0))));
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn inspect_without_a_token_or_a_configuration_is_wrong_usage() {
    let folder = folder();
    let said = says(&folder, &["token", "inspect"], "x");
    assert_eq!((said.code, &*said.stdout), (Some(2), ""));
    assert!(said.stderr.starts_with("gateway.yaml: cannot read the file: no such file; give its path with --config\n"));
    fs::write(folder.join("gateway.yaml"), app()).unwrap();
    let said = says(&folder, &["token", "inspect"], "\n");
    assert_eq!((said.code, &*said.stdout), (Some(2), ""));
    assert!(said.stderr.contains("printf %s \"$TOKEN\" | portcullis token inspect"));
    fs::remove_dir_all(folder).unwrap();
}

/// As in a shell without the service's secrets, for a user who cannot read the private key.
#[tokio::test]
async fn a_verb_needs_only_the_configuration_that_it_uses() {
    let clients = "    app: {secrets: [{value: '${APP_SECRET}'}], scopes: [read:data]}";
    let routes = "
upstreams: {legacy: 'http://127.0.0.1:9'}
routes:
  - {name: read, path: /data, upstream: legacy, access: {}, headers: {set: {X-Api-Key: '${LEGACY_KEY}'}}}
";
    let folder = folder();
    let yaml = config(clients, routes).replace("audit: {file: \"-\"}\n", "");
    fs::write(folder.join("gateway.yaml"), &yaml).unwrap();
    let secrets = [("APP_SECRET", SECRET), ("LEGACY_KEY", "s3cr3t")];
    let gateway = Gateway::start_in(folder, &yaml, &secrets);
    let token = Client::new(&gateway).granted("app", SECRET, "").await;
    let folder = &gateway.folder;
    for name in ["certs/localhost.key", "certs/localhost.crt"] {
        fs::remove_file(folder.join(name)).unwrap();
    }
    fs::write(folder.join("certs/localhost.crt"), "unreadable").unwrap();
    for (arguments, input, result) in [
        (&["audit", "tail"][..], "", "issue"),
        (&["audit", "query"], "", "issue"),
        (&["audit", "verify"], "", "intact"),
        (&["keys", "list"], "", "signing"),
        (&["keys", "rotate"], "", "next"),
        (&["issuers"], "", "self"),
        (&["client", "rotate", "app"], "", "value: '${APP_SECRET}'"),
        (&["token", "inspect"], &token, "allowed"),
        (&["token", "revoke"], &token, "revoked"),
        (&["token", "revoke", "--client", "app"], "", "revoked"),
    ] {
        let said = run_with(program(folder).args(arguments), input);
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        assert!(said.stdout.contains(result), "{arguments:?}: {said:?}");
    }
    for verb in ["check", "run"] {
        let said = run(program(folder).arg(verb));
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.stderr.contains("the variable `APP_SECRET` is not set"), "{said:?}");
    }
    // Parts that a verb does use are still required.
    for (arguments, change, fault) in [
        (&["audit", "tail"][..], "audit: {file: '${LOG}'}\n", "the variable `LOG` is not set"),
        (&["keys", "list"], "state_directory: '${STATE}'\n", "the variable `STATE` is not set"),
        (&["keys", "list"], "admin: {address: '${ADMIN}'}\n", ""),
        (&["token", "revoke", "--client", "app"], "state_directory: '${STATE}'\n", "the variable `STATE` is not set"),
        (&["token", "inspect"], "limits: {token_bytes: '${LIMIT}'}\n", "the variable `LIMIT` is not set"),
        (&["audit", "tail"], "adit: {}\n", "did you mean `audit`?"),
        (&["audit", "tail"], "surprise: {}\n", "unknown key"),
    ] {
        fs::write(folder.join("gateway.yaml"), format!("{yaml}{change}")).unwrap();
        let said = run_with(program(folder).args(arguments), &token);
        let code = if fault.is_empty() { Some(0) } else { Some(2) };
        assert_eq!(said.code, code, "{arguments:?} {change}: {said:?}");
        assert!(said.stderr.contains(fault), "{arguments:?}: {said:?}");
    }
}

#[test]
fn the_help_of_every_verb_has_examples() {
    let folder = folder();
    for (verb, phrases) in [
        (
            &[][..],
            &["portcullis demo", "portcullis check", "Exit codes: 0 success; 1 the check failed", "PORTCULLIS_LOG"][..],
        ),
        (
            &["run"],
            &[
                "SIGTERM",
                "text on a terminal",
                "JSON",
                "shutdown.drain",
                "SIGHUP",
                "restart",
                "[default: gateway.yaml]",
            ],
        ),
        (&["check"], &["writes nothing", "--format json", "Exit code 2", "--strict", "opens no connection"]),
        (
            &["explain"],
            &["Examples:", "--token-file -", "Opens no connection", "Exit code 0", "--issuer corp --claims"],
        ),
        (&["demo"], &["and curl", "beside the configuration", "Ports that are taken"]),
        (&["client"], &["new", "rotate", "hash"]),
        (
            &["client", "new"],
            &[
                "Examples:",
                "--scopes invoices:read,invoices:write",
                "without downtime",
                "--key",
                "--public billing.crt",
            ],
        ),
        (
            &["client", "rotate"],
            &["Example:", "--overlap 72h", "not modified", "reload", "last_used_timestamp_seconds"],
        ),
        (&["client", "hash"], &["Example:", "standard input", "argon2id"]),
        (&["token"], &["get", "inspect", "revoke"]),
        (&["token", "get"], &["Examples:", "--key", "PORTCULLIS_CLIENT_SECRET", "Exit code 1", "--dpop-for"]),
        (&["keys"], &["list", "rotate", "retire"]),
        (&["keys", "rotate"], &["--now", "no token fails"]),
        (&["keys", "retire"], &["refused from then on", "rotate --now"]),
        (&["issuers"], &["Example:", "running gateway", "Exit code 1", "--format json"]),
        (&["audit"], &["verify", "tail", "query"]),
        (&["audit", "verify"], &["Examples:", "Integrity:", "Completeness:", "--key", "Exit code 1"]),
        (&["audit", "tail"], &["Examples:", "-f", "--decision", "--request-id"]),
        (&["audit", "query"], &["Examples:", "--client", "--since", "a time before now", "--format json"]),
        (&["token", "inspect"], &["Example:", "| portcullis token inspect", "Exit code 1"]),
        (
            &["token", "revoke"],
            &["Examples:", "| portcullis token revoke", "--client billing", "within a second", "later"],
        ),
    ] {
        let said = says(&folder, &[verb, &["--help"]].concat(), "");
        assert_eq!((said.code, &*said.stderr), (Some(0), ""));
        let text = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        for phrase in phrases {
            assert!(text.contains(phrase), "{verb:?} lacks {phrase:?}:\n{}", said.stdout);
        }
        assert!(said.stdout.lines().all(|line| line.chars().count() <= 100), "{}", said.stdout);
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn wrong_usage_is_exit_code_2_with_a_hint_on_stderr() {
    let folder = folder();
    for (arguments, hint) in [
        (&[][..], "Usage: portcullis <COMMAND>"),
        (&["serve"], "unrecognized subcommand 'serve'"),
        (&["isuers"], "a similar subcommand exists: 'issuers'"),
        (&["run", "--confg", "x"], "a similar argument exists: '--config'"),
        (&["check", "--format", "xml"], "[possible values: text, json, github]"),
        (&["client"], "Usage: portcullis client <COMMAND>"),
        (&["client", "new", "app"], "--scopes <SCOPE,…>"),
        (&["audit", "verify", "--no-checkpoints", "--key", "x"], "cannot be used with"),
        (&["token", "inspect", "eyJ"], "unexpected argument 'eyJ'"),
        (&["token", "revoke", "eyJ"], "unexpected argument 'eyJ'"),
    ] {
        let said = says(&folder, arguments, "");
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{arguments:?}");
        assert!(said.stderr.contains(hint), "{arguments:?} lacks {hint:?}:\n{}", said.stderr);
    }
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = Upstream::start().await.address;
    let folder = folder();
    let yaml = app().replace("127.0.0.1:0", &taken.to_string());
    fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    let said = says(&folder, &["run"], "");
    assert_eq!(said.code, Some(2));
    let expected = format!(
        "error: cannot listen on {taken}: another process has it; change `listeners[].address` in the configuration"
    );
    assert!(said.stderr.contains(&expected), "{}", said.stderr);
    let yaml = format!("{}\nadmin: {{address: '{taken}'}}\n", app());
    fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    let said = says(&folder, &["run"], "");
    assert!(said.stderr.contains("; change `admin.address` in the configuration"), "{}", said.stderr);
    fs::remove_dir_all(folder).unwrap();
}
