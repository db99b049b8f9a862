//! Refusals because of the keys that choose an entry and read its tokens: several entries of one issuer, tenants, trust
//! domains, header fields, subjects, audiences and scopes.

use serde_json::{Value, json};

use super::{API, Refused, Suggestion, World};
use crate::support::client::{request, with_header};

const ENTRA: &str = "https://login.example.com";

impl World {
    async fn with_entries() -> Self {
        let sections = |iss: &str, key: &crate::support::issuer::Key| {
            format!(
                "issuers:
  web: {{issuer: \"urn:shared\", jwks_uri: \"{iss}/jwks\", audiences: [web]}}
  batch: {{issuer: \"urn:shared\", jwks_uri: \"{iss}/jwks\", audiences: [batch]}}
  entra:
    issuer: {ENTRA}/{{tenant}}/v2.0
    tenants: [a]
    jwks_uri: \"{iss}/jwks\"
    audiences: [{API}]
  mesh: {{spiffe: {{trust_domain: example.org, bundle: \"{iss}/jwks\"}}, audiences: [{API}]}}
  edge: {{issuer: \"urn:edge\", jwks_uri: \"{iss}/jwks\", audiences: [{API}], token_header: X-Edge-Token}}
  plain: {{issuer: \"urn:plain\", jwks_uri: \"{iss}/jwks\", audiences: [{API}], scope_claim: auto}}
  fixed:
    issuer: urn:fixed
    audiences: [{API}]
    jwks: {{keys: [{jwk}]}}",
                jwk = key.jwk(),
            )
        };
        let routes = ["path: /any, name: any, access: {}", "path: /read, name: read, access: {scopes: [read]}"];
        Self::with(&routes, sections, &["web", "batch", "entra", "mesh", "edge", "plain"]).await
    }

    fn of_entries(&self) -> Vec<Refused<'static>> {
        let (change, none) = (Suggestion::Change, Suggestion::None);
        let case = |name, changes: Value, (reason, found, wanted), suggestion| Refused {
            name,
            path: "/any",
            token: self.token(&changes),
            reason,
            found,
            wanted,
            suggestion,
        };
        let tenant = |name: &str| format!("{ENTRA}/{name}/v2.0");
        vec![
            case(
                "the audience of no entry",
                json!({"iss": "urn:shared", "aud": "v"}),
                ("bad_audience", "aud=v", "aud=web|batch"),
                change(&["add \"v\" to `issuers.web.audiences`"], "for this audience belongs to `web`"),
            ),
            case(
                "the audiences of two entries",
                json!({"iss": "urn:shared", "aud": ["web", "batch"]}),
                ("bad_audience", "aud=web|batch", "audiences of one issuer entry, not of web and batch"),
                none("request a token for one of them only"),
            ),
            case(
                "another tenant",
                json!({"iss": tenant("c")}),
                (
                    "unknown_issuer",
                    "whose tenant c is not listed by issuer `entra`",
                    "a tenant of issuers.entra.tenants",
                ),
                change(&["add \"c\" to `issuers.entra.tenants`"], "every token of this tenant"),
            ),
            case(
                "a near miss of a tenant",
                json!({"iss": format!("{}/", tenant("a"))}),
                (
                    "unknown_issuer",
                    "differs by a trailing slash from issuer `entra`",
                    "iss=https://login.example.com/a/v2.0",
                ),
                change(&["set `issuers.entra.issuer` to \"https://login.example.com/{tenant}/v2.0/\""], "no longer"),
            ),
            case(
                "two tenants",
                json!({"iss": tenant("a"), "tid": "b"}),
                ("unknown_issuer", "tid=b", "tid=a, as in iss"),
                none("it names two tenants"),
            ),
            case(
                "another trust domain",
                json!({"iss": null, "sub": "spiffe://example.net/a"}),
                ("unknown_issuer", "no iss, sub=spiffe://example.net/a", "trust_domain=example.org"),
                none("add an entry with `spiffe`"),
            ),
            case("no iss", json!({"iss": null}), ("missing_claim", "no iss", "iss"), none("only JWT-SVIDs")),
            case(
                "no aud, but a client",
                json!({"iss": "urn:plain", "aud": null}),
                ("missing_claim", "no aud", "aud"),
                change(
                    &["set `issuers.plain.audience_claim` to \"azp\"", "add \"app\" to `issuers.plain.audiences`"],
                    "`azp` is the audience",
                ),
            ),
            case(
                "no aud and no client",
                json!({"iss": "urn:plain", "aud": [], "azp": null}),
                ("missing_claim", "no aud", "aud"),
                none("each route that accepts the issuer then needs `access.claims`"),
            ),
            case(
                "no subject and no client",
                json!({"iss": "urn:plain", "sub": "", "azp": null, "common_name": "x"}),
                ("missing_claim", "no sub or client_id or azp or appid or cid", "sub or client_id"),
                change(
                    &["set `issuers.plain.subject_claim` to [\"sub\", \"common_name\"]"],
                    "`common_name` is the subject",
                ),
            ),
            case(
                "many scopes",
                json!({"iss": "urn:plain", "scope": (0..200).map(|n| format!("s{n}")).collect::<Vec<_>>()}),
                ("too_many_scopes", "more than 128 scopes", "at most 128 scopes"),
                change(&["set `issuers.plain.allow_scopes` to [\"read\"]"], "keep only these scopes"),
            ),
            case(
                "scopes as an object",
                json!({"iss": "urn:plain", "scope": {"read": {}}}),
                ("malformed", "scope is an object", "scope is a string or a list of strings"),
                change(&["set `issuers.plain.scope_claim` to \"scope\""], "every value of `scope`"),
            ),
            Refused {
                path: "/read",
                ..case(
                    "scopes of a replaced claim",
                    json!({"iss": "urn:plain", "scope": "x", "roles": ["read"]}),
                    ("missing_scope", "x", "read"),
                    change(&["set `issuers.plain.scope_claim` to [\"scope\", \"roles\"]"], "is a scope too"),
                )
            },
            Refused {
                token: self.token_with(&json!({"kid": "k9"}), &json!({"iss": "urn:fixed"})),
                ..case(
                    "a key of the configuration",
                    json!({}),
                    ("unknown_kid", "kid=k9, alg=ES256", "kid=k1 (ES256)"),
                    none("has to be added to `issuers.fixed.jwks` (line "),
                )
            },
            Refused {
                token: self.token_with(&json!({"kid": "k9"}), &json!({"iss": "urn:plain"})),
                ..case(
                    "a key at a place",
                    json!({}),
                    ("unknown_kid", "kid=k9, alg=ES256", "kid=k1 (ES256)"),
                    none("where `issuers.plain.jwks_uri` (line "),
                )
            },
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_no_entry_or_of_another_form_says_what_would_accept_it() {
    let world = World::with_entries().await;
    let mut faults = Vec::new();
    for case in world.of_entries() {
        faults.extend(world.faults(&case).await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_another_field_says_where_it_counts() {
    let world = World::with_entries().await;
    let (edge, plain) = (world.of("urn:edge", &json!({})), world.of("urn:plain", &json!({})));
    for (field, token, found, wanted, issuer) in [
        ("authorization", &edge, "a token in authorization", "a token in x-edge-token", "edge"),
        ("x-edge-token", &plain, "a token in x-edge-token", "a token in authorization", "plain"),
    ] {
        let value = if field == "authorization" { format!("Bearer {token}") } else { token.clone() };
        let answer = world.client.send(with_header(request("GET", "/any"), field, &value)).await;
        let line = world.gateway.audit_of(answer.request_id());
        let said = world.inspected(&["--token-header", field], token);
        for object in [&line, &said] {
            let text = |name: &str| object.get(format!("gateway.{name}")).or(object.get(name)).unwrap().clone();
            assert_eq!(
                [text("reason"), text("found"), text("wanted")],
                ["issuer_not_allowed", found, wanted],
                "{object}"
            );
        }
        assert_eq!(line["oauth.issuer"], issuer, "{line}");
        let change = said["change"].as_str().unwrap_or_else(|| panic!("{said}"));
        assert!(change.contains(&format!("set `issuers.{issuer}.token_header` to \"{field}\"")), "{said}");
        assert!(said["opens"].as_str().unwrap().contains("no longer in"), "{said}");
        assert_eq!(world.inspected(&[], token)["good"], true, "in the field of its issuer");
    }
    let said = world.inspected(&["--token-header", "X-New"], &plain);
    assert_eq!([&said["reason"], &said["found"]], ["no_token", "no Authorization"], "{said}");
    assert!(said["change"].as_str().unwrap().contains("`issuers.plain.token_header` to \"x-new\""), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_in_no_field_or_in_two_name_the_fields() {
    let world = World::with_entries().await;
    let token = world.of("urn:edge", &json!({}));
    let none = world.client.send(request("GET", "/any")).await;
    let line = world.gateway.audit_of(none.request_id());
    assert_eq!(line["gateway.wanted"], "Authorization: Bearer TOKEN, or x-edge-token: TOKEN", "{line}");
    let two = with_header(request("GET", "/any"), "x-edge-token", &token);
    let two = world.client.send(with_header(two, "authorization", &format!("Bearer {token}"))).await;
    let line = world.gateway.audit_of(two.request_id());
    assert_eq!(line["gateway.found"], "credentials in x-edge-token and authorization", "{line}");
    assert_eq!((&line["gateway.reason"], &line["oauth.issuer"]), (&json!("bad_request"), &json!("edge")), "{line}");
    let nowhere = world.client.send(with_header(request("GET", "/nowhere"), "x-edge-token", &token)).await;
    let line = world.gateway.audit_of(nowhere.request_id());
    assert_eq!((&line["oauth.issuer"], &line["oauth.verified"]), (&json!("edge"), &json!(false)), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_at_any_step_names_the_entry_that_would_take_the_token() {
    let world = World::with_entries().await;
    for (claims, issuer) in [
        (json!({"iss": "urn:shared", "aud": "batch"}), Some("batch")),
        (json!({"iss": "urn:shared", "aud": "v"}), Some("urn:shared")),
        (json!({"iss": format!("{ENTRA}/a/v2.0")}), Some("entra")),
        (json!({"iss": format!("{ENTRA}/c/v2.0")}), Some("https://login.example.com/c/v2.0")),
        (json!({"iss": null, "sub": "spiffe://example.org/a"}), Some("mesh")),
        (json!({"iss": null, "sub": "spiffe://example.net/a"}), None),
    ] {
        for path in ["/nowhere", "/read"] {
            let answer = world.client.get_with(path, &world.token(&claims)).await;
            let line = world.gateway.audit_of(answer.request_id());
            assert_eq!(line["oauth.issuer"].as_str(), issuer, "{path}: {line}");
        }
    }
}
