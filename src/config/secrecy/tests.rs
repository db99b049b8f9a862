use std::path::Path;

use super::super::source::Source;
use super::super::tree;
use super::*;

const CANARY: &str = "s3cr3t";

fn source(text: &str) -> Source {
    let source = Source::new(Path::new("gateway.yaml"), text.to_owned());
    source.hide(match tree::read(text) {
        Ok(tree) => {
            source.show_keys(shown_keys(&tree));
            hidden(text, &tree)
        }
        Err(fault) => hidden_around(text, fault.span),
    });
    source
}

/// For a fault at any place, the shown text does not contain the canary.
#[track_caller]
fn never_shown(text: &str) {
    let source = source(text);
    for start in text.char_indices().map(|(start, _)| start) {
        for end in [text.len(), text.len().min(start + 1)] {
            let span = Span::new(start, if text.is_char_boundary(end) { end } else { start });
            let excerpt = source.excerpt(span).map(|excerpt| excerpt.line.into_owned()).unwrap_or_default();
            assert!(!excerpt.contains(CANARY), "{excerpt}\nof\n{text}");
            let quoted = [source.quote(span), source.quote_key(span)].into_iter().flatten().collect::<String>();
            assert!(!quoted.contains("3cr3"), "{quoted}\nof\n{text}");
        }
    }
}

#[track_caller]
fn shown(text: &str, part: &str) {
    let start = text.find(part).unwrap();
    assert_eq!(source(text).quote(Span::new(start, start + part.len())), Some(format!("`{part}`")), "{text}");
}

#[test]
fn of_the_keys_of_a_client_only_its_secrets_are_marked() {
    let secret: Vec<&&str> = RawClient::KEYS.iter().filter(|key| RawClient::is_secret(key)).collect();
    assert_eq!(secret, [&"secrets"]);
    assert!(RawOauth::is_secret("clients") && !RawOauth::is_secret("token_ttl"));
    assert!(RawSigningKeys::is_secret("wrapping_key") && !RawSigningKeys::is_secret("algorithm"));
}

#[test]
fn a_secret_is_never_shown() {
    for secrets in [
        "secrets: [{value: s3cr3t}]",
        "secrets: [{hash: s3cr3t}]",
        "secrets: s3cr3t",
        "secrets: [s3cr3t]",
        "secrets: {s3cr3t: }",
        "secrets:\n        - s3cr3t",
        "secrets:\n        - \"s3cr3t\": x",
        "secrets:\n        - value:\n            - s3cr3t\n",
        "secrets:\n        # s3cr3t\n        - value: |\n            s3cr3t\n",
        "secrets: [{vlaue: s3cr3t}]",
        "secrets: [{value: !s3cr3t x}]",
        "secrets: [{value: !s3cr3t }]",
        "secrets: [{value: &s3cr3t x}]",
        "secrets: [{value: *s3cr3t }]",
        "secrets: [{? [s3cr3t] : x}]",
        "secrets: [{<<: {x: s3cr3t}}]",
        "secrets: [{value: ok, value: s3cr3t}]",
    ] {
        never_shown(&format!("oauth:\n  clients:\n    a:\n      {secrets}"));
    }
}

#[test]
fn the_credential_of_an_upstream_is_never_shown() {
    for text in [
        "authorization: s3cr3t",
        "authorization: Bearer s3cr3t",
        "authorization: [s3cr3t]",
        "authorization: {s3cr3t: }",
        "authorization: {bearer: s3cr3t}",
        "authorization: {bearer: [s3cr3t]}",
        "authorization: {baerer: s3cr3t}",
        "authorization: {beader: s3cr3t}",
        "authorization: {basic: s3cr3t}",
        "authorization: {basic: {user: s3cr3t}}",
        "authorization: {basic: {user: a, password: s3cr3t}}",
        "authorization: {bsaic: {user: a, pasword: s3cr3t}}",
        "authorization: {header: \"X-Api-Key: s3cr3t\"}",
        "authorization: {header: X-Api-Key, value: s3cr3t}",
        "authorisation: {bearer: s3cr3t}",
        "auth: {bearer: s3cr3t}",
        "auth: {basic: {password: s3cr3t}}",
        "authorization:\n      bearer: @s3cr3t",
    ] {
        never_shown(&format!("upstreams:\n  a:\n    servers: http://b\n    {text}"));
    }
}

#[test]
fn of_the_credential_of_an_upstream_the_keys_are_shown() {
    let text =
        "upstreams:\n  a:\n    authorization: {basic: {user: s3cr3t, password: s3cr3t}, hedaer: s3cr3t, s3cr3t: x}";
    let line = "    authorization: {basic: {user: ***, password: ***}, hedaer: ***}";
    for part in ["authorization", "basic", "user", "password", "hedaer"] {
        assert_eq!(excerpt(text, part), format!("{line}|{part}"), "{part}");
    }
    shown("upstreams:\n  a:\n    authorization:\n      header: Content-Length\n      value: x", "Content-Length");
}

#[test]
fn a_secret_in_the_wrong_place_is_never_shown() {
    for text in [
        "s3cr3t",
        "[s3cr3t]",
        "oauth: s3cr3t",
        "oauth: {clients: s3cr3t}",
        "oauth: {clients: [s3cr3t]}",
        "oauth: {clients: {a: s3cr3t}}",
        "oauth: {clients: {a: {s3cr3t}}}",
        "oauth: {clients: {a: {x: s3cr3t}}}",
        "oauth: {clients: {a: {secret: s3cr3t}}}",
        "oauth: {clients: {a: {sercets: [s3cr3t]}}}",
        "oauth: {clients: {a: {<<: {x: s3cr3t}}}}",
        "oauth: {client: {a: {x: s3cr3t}}}",
        "oauth: {x: s3cr3t}",
        "ouath: {clients: {a: {x: s3cr3t}}}",
        "clients: {a: s3cr3t}",
        "x: s3cr3t",
        "routes: [{client_secret: s3cr3t}]",
        "routes: [{headers: {set: {Password: s3cr3t, \nX-Api-Key: s3cr3t}}}]",
        "routes: [{headers: {set: {X-Upstream: s3cr3t}}}]",
        "routes: [{headers: {set: {\"X-Upstream s3cr3t\": x}}}]",
        "routes: [{headers: s3cr3t}]",
        "routes: [{headers: {set: s3cr3t}}]",
        "routes: [{headers: {set: [s3cr3t]}}]",
        "upstreams: {a: \"http://user:s3cr3t@host\"}",
        "upstreams: {a: [http://user:s3cr3t@host]}",
        "routes: [{\"http://user:s3cr3t@host\": x}]",
        "issuers: {a: {credentials: s3cr3t}}",
        "limits: {<<: {x: s3cr3t}}",
        "version: 1\n---\nx: s3cr3t",
    ] {
        never_shown(text);
    }
}

#[test]
fn a_secret_near_broken_syntax_is_never_shown() {
    for text in [
        "oauth:\n  clients:\n    a:\n      secrets:\n        - s3cr3t: x: y",
        "oauth:\n  clients:\n    a: {secrets: [{value: ${s3cr3t}}]}",
        "oauth:\n  clients:\n    a:\n      secrets: [\ns3cr3t: \"x",
        "secrets:\n- value: \"s3cr3t",
        "clients:\n  a: \"s3cr3t",
        "s3cr3t: x: y",
        "\"oauth\": {\"x\": \"s3cr3t\" \"y\"}",
        "{oauth: {clients: {a: @s3cr3t}}}",
        "routes:\n  clients:\n    a: [s3cr3t, @]",
        "routes:\n  password: @s3cr3t",
        "routes:\n  - headers:\n      set:\n        X-Upstream: @s3cr3t",
        "oauth: [\nroutes:\n  - @s3cr3t # secret",
    ] {
        never_shown(text);
    }
}

#[track_caller]
fn excerpt(text: &str, part: &str) -> String {
    let start = text.find(part).unwrap();
    let source = source(text);
    let excerpt = source.excerpt(Span::new(start, start + part.len())).unwrap();
    format!("{}|{}", excerpt.line, &excerpt.line[excerpt.marked])
}

#[test]
fn of_a_line_with_a_secret_the_keys_are_shown() {
    let text =
        "oauth:\n  clients:\n    app: {secrets: [{value: s3cr3t, expires: 1}], scops: [a], token_ttl: 99h} # s3cr3t";
    let line = "    app: {secrets: [{value: ***, expires: ***}], scops: [***], token_ttl: ***";
    for (part, marked) in [
        ("app", "app"),
        ("value", "value"),
        ("s3cr3t", "***"),
        ("expires", "expires"),
        ("scops", "scops"),
        ("99h", "***"),
    ] {
        assert_eq!(excerpt(text, part), format!("{line}|{marked}"), "{part}");
    }
    let text = "oauth:\n  clients:\n    app:\n      secrets:\n        - hash: \"s3cr3t\"\n          value: -s3cr3t";
    assert_eq!(excerpt(text, "\"s3cr3t"), "        - hash: ***|***");
    assert_eq!(excerpt(text, "-s3cr3t"), "          value: ***|***");
    let text = "oauth:\n  clients:\n    app: {secrets: [{valu: 1, 's3cr3t': 2, SECRET: 3, s_c_r_t_s_c_r_t_s_: 4}]}";
    assert_eq!(excerpt(text, "valu"), "    app: {secrets: [{valu: ***}]}|valu");
}

#[test]
fn harmless_values_are_shown() {
    shown("workers: many", "many");
    shown("oauth:\n  token_ttl: 1y", "1y");
    shown("oauth:\n  clients:\n    a:\n      secrets: [{value: x}]\n      scopes: [a b]", "a b");
    shown("routes:\n  - access: {issuers: [corp]}", "corp");
    shown("oauth: {clients: {secret-service: {\nscopes: [a b]}}}", "a b");
    shown("hosts: x\nroutes:\n  - hosts: [*.example.com]", "*.example.com");
    shown("rotues:\n  - path: x", "x");
}

#[test]
fn broken_syntax_is_shown_where_no_secret_can_be() {
    shown("oauth: {clients: {a: s3cr3t}}\nroutes:\n  - path: @x\n", "@x");
}

#[test]
fn an_unknown_key_is_shown_without_its_value() {
    let text = "servers: s3cr3t";
    assert_eq!(source(text).quote_key(Span::new(0, 7)).unwrap(), "`servers`");
    never_shown(text);
}

#[test]
fn the_credentials_of_fetches_and_private_keys_are_never_shown() {
    for below in [
        "fetch: {headers: {X-Key: s3cr3t}}",
        "fetch: {headers: [s3cr3t]}",
        "fetch: {header: {X-Key: s3cr3t}}",
        "fetch: {bearer_token: s3cr3t}",
        "fetch: {token: s3cr3t}",
        "fetch: {proxy: \"http://user:s3cr3t@proxy:3128\"}",
        "fetch: {proxy: \"http://user:s3cr3t\"}",
        "fetch: {proxy: [s3cr3t]}",
        "fetch: s3cr3t://user:s3cr3t@proxy",
        "fetch: s3cr3t",
        "fetch: [s3cr3t]",
        "fetch: {proxy: \"http://user:s3cr3t@proxy:3128\", ]}",
        "fetch: {proxi: \"http://user:s3cr3t@proxy:3128\", header: {X-Key: s3cr3t}, ]}",
        "headers: {X-Key: s3cr3t}",
        "token: s3cr3t",
        "proxy: \"http://user:s3cr3t\"",
        "jwks: {keys: [{kty: oct, k: s3cr3t}]}",
        "jwks: {keys: [{kty: RSA, d: s3cr3t, p: s3cr3t, oth: [{r: s3cr3t}]}]}",
        "jwks:\n      keys:\n        - kty: EC\n          d: s3cr3t\n          other: s3cr3t",
        "jwk: {keys: [{d: s3cr3t}]}",
    ] {
        never_shown(&format!("issuers:\n  corp:\n    issuer: a\n    {below}\n    audiences: [a]\n"));
    }
    let text = "issuers:\n  corp:\n    jwks_file: keys.json\n    fetch:\n      bearer_token_file: run/token\n      proxy: http://p:1\n";
    for part in ["keys.json", "run/token", "http://p:1"] {
        shown(text, part);
    }
    shown("issuers:\n  corp:\n    fetch: {proxy: \"socks5://p/x\"}\n", "socks5://p/x");
    shown("issuers:\n  corp:\n    jwks: {keys: [{kty: oct, kid: one}]}\n", "{kty: oct, kid: one}");
}
