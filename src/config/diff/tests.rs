//! Pairs of configurations that differ in one place, with the changes that they are.

use std::fs;
use std::path::Path;

use tokio::time::Instant;

use super::*;
use crate::config::interpolate::Surroundings;
use crate::config::types::Config;

const FILE: &str = r#"version: 1
listeners: [{address: 127.0.0.1:8080}]
audit: {file: "-"}
trusted_proxies: [10.0.0.1]
admin: {address: 127.0.0.1:9100}
oauth:
  issuer: https://gateway.example.com
  audiences: [https://api.example.com, https://other.example.com]
  clients:
    billing: {secrets: [{hash: "sha256:2RG_ZklKftARNsx6xHruEHJ3_UP79NgbwkcHFg4N8BM"}], scopes: [read, write]}
    report:
      secrets: [{hash: "sha256:2RG_ZklKftARNsx6xHruEHJ3_UP79NgbwkcHFg4N8BM"}]
      scopes: [read]
      allow_from: [10.0.0.0/8]
      rate_limits: [{rate: 10/s}]
issuers:
  corp: {issuer: https://corp.example.com, audiences: [https://api.example.com], allow_scopes: [read]}
upstreams: {invoices: "http://127.0.0.1:9001", orders: "http://127.0.0.1:9002"}
routes:
  - {name: read, path: /invoices/**, methods: [GET], upstream: invoices, access: {scopes: [read]}}
  - {name: write, path: /invoices/**, methods: [POST, DELETE], upstream: invoices, access: {scopes: [write]}}
  - {path: /admin/**, upstream: orders, access: {scopes: [admin]}, allow_from: [10.0.0.0/8]}
  - {path: /api/**, upstream: orders, access: {claims: {tier: gold}}, rate_limits: [{rate: 10/s, per: client}]}
  - {path: /open, upstream: orders, access: public}
"#;

/// What is replaced, by what, and the changes.
type Pair = (&'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const PAIRS: &[Pair] = &[
    // No difference.
    ("version: 1", "# A comment.\nversion: 1", &[]),
    ("[POST, DELETE]", "[DELETE, POST]", &[]),
    ("127.0.0.1:8080}]", "127.0.0.1:8080 } ]", &[]),
    // Report mode and static tokens.
    ("access: {scopes: [write]}}", "access: {scopes: [write]}, report_until: 2026-01-01T00:00:00Z}",
        &["wider: route `write` (/invoices/**) lets pass what its rule refuses, and reports it, until 2026-01-01T00:00:00Z"]),
    ("upstreams: {", "static_tokens: {old: {hash: \"sha256:2RG_ZklKftARNsx6xHruEHJ3_UP79NgbwkcHFg4N8BM\", scopes: [read], until: 2026-01-01T00:00:00Z}}\nupstreams: {",
        &["wider: static token `old` counts until 2026-01-01T00:00:00Z, for the scope `read`"]),
    // Access of routes.
    ("{scopes: [admin]}", "public", &["wider: route /admin/** becomes public"]),
    ("access: public", "access: {scopes: [read]}", &["narrower: route /open is no longer public: it needs the scope `read`"]),
    ("{scopes: [admin]}", "{}", &["wider: route /admin/** no longer needs the scope `admin`"]),
    ("{scopes: [admin]}", "{scopes: [admin, write]}", &["narrower: route /admin/** needs the scope `write`"]),
    ("{scopes: [admin]}", "{scopes: {any_of: [admin, write]}}",
        &["wider: route /admin/** no longer needs the scope `admin`", "narrower: route /admin/** needs one of the scopes `admin`, `write`"]),
    ("{claims: {tier: gold}}", "{claims: {tier: [gold, silver]}}", &["wider: route /api/** no longer needs the claim `tier=gold`"]),
    ("{claims: {tier: gold}}", "{claims: {tier: gold}, clients: [billing]}", &["narrower: route /api/** allows the clients `billing` only"]),
    ("{claims: {tier: gold}}", "{claims: {tier: gold}, issuers: [corp]}", &["narrower: route /api/** allows the issuers `corp` only"]),
    ("{scopes: [write]}", "{scopes: [write], audiences: [https://api.example.com]}",
        &["unclear: route `write` (/invoices/**) takes tokens for `https://api.example.com`, before for the audiences of the issuer"]),
    ("{scopes: [admin]}, allow_from: [10.0.0.0/8]", "{scopes: [admin]}, allow_from: [10.1.0.0/16]",
        &["narrower: route /admin/** may be used from 10.1.0.0/16, before from 10.0.0.0/8"]),
    ("{scopes: [admin]}, allow_from: [10.0.0.0/8]", "{scopes: [admin]}",
        &["wider: route /admin/** may be used from anywhere, before from 10.0.0.0/8"]),
    ("access: public", "access: public, deny_from: [192.0.2.0/24]", &["narrower: route /open is denied from 192.0.2.0/24, before from nowhere"]),
    // Client certificates.
    ("secrets: [{hash: \"sha256:2RG_ZklKftARNsx6xHruEHJ3_UP79NgbwkcHFg4N8BM\"}], scopes", "certificates: [{san_dns: a.example.com}], scopes",
        &["unclear: names of certificates of client `billing` changed: 1 added, 0 removed", "narrower: secrets of client `billing` changed: 0 added, 1 removed"]),
    ("127.0.0.1:8080}", "127.0.0.1:8080, believe: [client_cert]}",
        &["unclear: listener 127.0.0.1:8080 believes trusted proxies about `client_cert`"]),
    // Limits.
    ("{rate: 10/s, per: client}", "{rate: 5/s, per: client}", &["narrower: limit of client on /api/** 10/s → 5/s"]),
    ("{rate: 10/s, per: client}", "{rate: 20/min, per: client}", &["unclear: limit of client on /api/** 10/s → 20/min"]),
    (", rate_limits: [{rate: 10/s, per: client}]", "", &["wider: limit of client on /api/** 10/s: removed"]),
    ("access: public", "access: public, rate_limits: [{rate: 1/s, per: address}]", &["narrower: limit of address on /open 1/s: new"]),
    ("[{rate: 10/s}]", "[{rate: 50/s}]", &["wider: limit of client `report` 10/s → 50/s"]),
    // Routing.
    ("  - {path: /open, upstream: orders, access: public}\n", "", &["narrower: route /open is removed: /open"]),
    ("access: public}\n", "access: public}\n  - {path: /new, methods: [GET], upstream: orders, access: public}\n",
        &["wider: route GET /new is new: GET /new, public"]),
    ("access: public}\n", "access: public}\n  - {path: /admin/public, upstream: orders, access: public}\n", &[
        "narrower: route /admin/** no longer takes /admin/public in another spelling",
        "changed: /admin/public is taken by route /admin/public instead of /admin/**",
        "wider: route /admin/public (instead of /admin/**) becomes public",
        "wider: route /admin/public (instead of /admin/**) may be used from anywhere, before from 10.0.0.0/8",
    ]),
    ("[POST, DELETE]", "[POST]", &["narrower: route `write` (/invoices/**) no longer takes DELETE /invoices"]),
    ("[POST, DELETE]", "[POST, DELETE, PUT]", &["wider: route `write` (/invoices/**) now takes PUT /invoices"]),
    ("path: /api/**", "path: /api/**, hosts: [api.example.com]", &[
        "narrower: route /api/** is removed: /api/**",
        "changed: /api is taken by route api.example.com/api/** instead of /api/**",
        "unclear: a resource is described at https://api.example.com/.well-known/oauth-protected-resource",
    ]),
    ("path: /api/**", "path: /api/**, when: {headers: {X-Version: '2'}}", &[
        "narrower: route /api/** is removed: /api/**",
        "changed: /api with x-version: 2 is taken by route /api/** [x-version=2] instead of /api/**",
    ]),
    ("name: write", "name: change",
        &["changed: POST,DELETE /invoices is taken by route `change` (/invoices/**) instead of `write` (/invoices/**)"]),
    // Where a route leads.
    ("path: /open, upstream: orders", "path: /open, upstream: invoices",
        &["wider: route /open leads to the upstream `invoices`", "narrower: route /open no longer leads to the upstream `orders`"]),
    ("path: /open, upstream: orders", "path: /open, respond: {body: hello}",
        &["narrower: route /open no longer leads to the upstream `orders`", "changed: route /open answers 200 from the configuration"]),
    ("path: /open, upstream: orders", "path: /open, rewrite: /closed, upstream: orders", &["unclear: route /open leads to other paths of the service"]),
    ("access: public", "access: public, mirror: {upstream: invoices, percent: 5}",
        &["wider: route /open copies 5 % of its requests to the upstream `invoices`"]),
    ("access: public", "access: public, websocket: true", &["wider: route /open opens tunnels for `websocket`"]),
    ("access: public", "access: public, timeout: 5s", &["changed: route /open has other timeouts"]),
    ("access: public", "access: public, headers: {set: {x-role: admin}}", &["unclear: route /open sends other header fields to the service"]),
    ("{scopes: [write]}", "{scopes: [write]}, forward_token: true", &["wider: route `write` (/invoices/**) sends the token to the service"]),
    ("access: public", "access: public, cors: {origins: [https://app.example.com]}",
        &["wider: route /open lets pages of other origins read its answers"]),
    ("access: public", "access: public, body_bytes: 1KiB", &["narrower: route /open takes bodies of 1024 bytes, before 10485760 bytes"]),
    ("http://127.0.0.1:9002", "http://127.0.0.1:9003", &["changed: upstream `orders` has other servers"]),
    // Clients.
    ("scopes: [read, write]", "scopes: [read]",
        &["narrower: client `billing` may no longer have `write`", "narrower: client `billing` loses POST,DELETE /invoices/**"]),
    ("scopes: [read, write]", "scopes: [read, write, admin]",
        &["wider: client `billing` may now have `admin`", "wider: client `billing` gains /admin/**"]),
    ("      allow_from: [10.0.0.0/8]\n", "", &["wider: client `report` may call from anywhere, before from 10.0.0.0/8"]),
    ("    report:\n", "    other: {secrets: [{hash: \"sha256:2RG_ZklKftARNsx6xHruEHJ3_UP79NgbwkcHFg4N8BM\"}], scopes: [read]}\n    report:\n",
        &["wider: client `other` is new, with the scopes `read`"]),
    ("      scopes: [read]\n", "      scopes: [read]\n      claims: {tier: gold}\n", &["unclear: client `report` gets tokens with other claims: `tier`"]),
    ("    report:\n      secrets: [{hash: \"sha256:2R", "    report:\n      secrets: [{hash: \"sha256:2S", &["unclear: secrets of client `report` changed: 1 added, 1 removed"]),
    // Issuers.
    ("allow_scopes: [read]", "allow_scopes: [read, admin]", &["wider: issuer `corp` may now grant `admin`"]),
    (", allow_scopes: [read]", "", &["wider: issuer `corp` may now grant any scope"]),
    ("  corp: {issuer: https://corp.example.com,", "  corp: {issuer: https://corp.example.org,",
        &["unclear: issuer `corp` is https://corp.example.org, before https://corp.example.com"]),
    ("https://corp.example.com, audiences: [https://api.example.com]", "https://corp.example.com, audiences: [https://api.example.com, x]",
        &["wider: issuer `corp` may issue tokens for `x`"]),
    ("allow_scopes: [read]}", "allow_scopes: [read]}\n  lab: {issuer: https://lab.example.com, audiences: [x]}",
        &["wider: issuer `lab` (https://lab.example.com) is trusted, with any scope"]),
    ("allow_scopes: [read]}", "allow_scopes: [read], clock_skew: 60s}", &["wider: issuer `corp` has a clock skew of 60s, before 30s"]),
    ("allow_scopes: [read]}", "allow_scopes: [read], token_header: X-Token}",
        &["unclear: issuer `corp` has its tokens in another field", "unclear: tokens are also read from the field `x-token`"]),
    // The gateway itself.
    ("version: 1", "version: 1\nlimits: {uri_bytes: 4KiB}", &["narrower: limits.uri_bytes 8192 → 4096"]),
    ("version: 1", "version: 1\nlimits: {idle_timeout: 5s}", &["changed: limits.idle_timeout 60s → 5s"]),
    ("version: 1", "version: 1\nlimits: {body_bytes: 1MiB}", &["narrower: limits.body_bytes 10485760 → 1048576"]),
    ("[10.0.0.1]", "[10.0.0.1, 10.0.0.2]", &["unclear: trusted proxies, which may name the client's address, are 10.0.0.1/32|10.0.0.2/32, before 10.0.0.1/32"]),
    ("8080}]", "8080}, {address: 127.0.0.1:8081}]", &["wider: listener 127.0.0.1:8081 is new: http, in clear text"]),
    ("8080}]", "8080, redirect_to: https://gateway.example.com}]", &["narrower: listener 127.0.0.1:8080 becomes http, redirects only, before http, in clear text"]),
    ("admin: {address: 127.0.0.1:9100}\n", "", &["narrower: the admin listener 127.0.0.1:9100 is removed"]),
    ("version: 1", "version: 1\nprobes: {address: 127.0.0.1:9101}", &["wider: the probes at 127.0.0.1:9101 are new"]),
    ("version: 1", "version: 1\nrevoked: [{client: billing}]", &["narrower: tokens of client `billing` by https://gateway.example.com are revoked"]),
    ("file: \"-\"", "file: \"-\", on_failure: drop", &["wider: requests are let in although they cannot be recorded"]),
];

fn try_read(folder: &Path, text: &str) -> Result<Config, String> {
    let path = folder.join("gateway.yaml");
    fs::write(&path, text).unwrap();
    crate::config::load(&path, &Surroundings::process()).map_err(|errors| errors.render(false))
}

fn read(folder: &Path, text: &str) -> Config {
    try_read(folder, text).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn changes(old: &Config, new: &Config) -> Vec<String> {
    let changes = diff(&AccessView::of(old), &AccessView::of(new));
    changes.iter().map(|change| format!("{}: {}", change.direction, change.text)).collect()
}

#[test]
fn each_pair_has_the_changes_that_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let old = read(folder.path(), FILE);
    let mut wrong = Vec::new();
    for (from, to, expected) in PAIRS {
        if FILE.matches(from).count() != 1 {
            wrong.push(format!("{from} is {} times in the file", FILE.matches(from).count()));
        }
        let new = match try_read(folder.path(), &FILE.replacen(from, to, 1)) {
            Ok(new) => new,
            Err(errors) => {
                wrong.push(errors);
                continue;
            }
        };
        let found = changes(&old, &new);
        if found != *expected {
            wrong.push(format!("{from} → {to}\n  expected {expected:#?}\n  found {found:#?}"));
        }
        let back = changes(&new, &old);
        assert_eq!(back.is_empty(), found.is_empty(), "{to} → {from}: {back:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_order_of_entries_is_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let (before, routes) = FILE.split_once("routes:\n").unwrap();
    let mut lines: Vec<&str> = routes.lines().collect();
    lines.reverse();
    let reversed = format!("{before}routes:\n{}\n", lines.join("\n"));
    assert_eq!(changes(&read(folder.path(), FILE), &read(folder.path(), &reversed)), [""; 0]);
}

/// A table of many routes, of which one may be changed.
fn many(count: usize, changed: Option<usize>) -> String {
    let (before, _) = FILE.split_once("routes:\n").unwrap();
    let mut text = format!("{before}routes:\n");
    for number in 0..count {
        let access = if changed == Some(number) { "public" } else { "{scopes: [read]}" };
        text += &format!("  - {{path: \"/t{number}/{{id}}/**\", upstream: orders, access: {access}}}\n");
    }
    text + "  - {path: /**, upstream: orders, access: {scopes: [admin]}}\n"
}

/// A text of the section `shared`, its replacement, and the change.
#[rustfmt::skip]
const SHARED_PAIRS: &[Pair] = &[
    ("p1", "p2", &[]),
    ("secret-1", "secret-2", &[]),
    ("name: a", "name: b", &[]),
    ("loss: share", "loss: local",
        &["wider: while shared.redis is unreachable, each replica has the whole limit, before each replica has its share of a limit"]),
    ("loss: share", "loss: deny",
        &["narrower: while shared.redis is unreachable, shared limits refuse everything, before each replica has its share of a limit"]),
    ("most: 8", "most: 4", &["wider: shared.instance.most 8 → 4, by which limits are divided at first"]),
    ("most: 8", "most: 9", &["narrower: shared.instance.most 8 → 9, by which limits are divided at first"]),
    ("heartbeat: 3s", "heartbeat: 5s", &["unclear: shared.instance.heartbeat 3s → 5s"]),
    ("stale: 1h", "stale: 2h", &["wider: known clients go on without shared.postgres for 7200s, before 3600s"]),
    ("stale: 1h", "stale: 1m", &["narrower: known clients go on without shared.postgres for 60s, before 3600s"]),
    ("timeout: 50ms", "timeout: 1s", &["changed: shared.redis.timeout 50ms → 1000ms"]),
    ("username: gateway", "username: other", &["changed: shared.redis has another user"]),
    ("rediss:", "redis:", &["unclear: shared.redis is reached in clear text"]),
    ("prefix: one", "prefix: two",
        &["unclear: shared.redis is another store or prefix: the uses of assertions and proofs in the former one are not known there"]),
    ("127.0.0.1:6380", "127.0.0.1:6381",
        &["unclear: shared.redis is another store or prefix: the uses of assertions and proofs in the former one are not known there"]),
    ("/clients", "/others",
        &["unclear: shared.postgres.url names another database, user or protection: clients and keys may be others"]),
];

#[test]
fn a_changed_store_of_replicas_has_its_change() {
    const SHARED: &str = "allow_literal_secrets: true
shared:
  redis: {url: 'rediss://127.0.0.1:6380', prefix: one, username: gateway, password: secret-1, timeout: 50ms}
  postgres: {url: 'postgres://user:p1@127.0.0.1/clients', stale: 1h}
  instance: {name: a, most: 8, heartbeat: 3s}
  on_loss: share
";
    let folder = tempfile::tempdir().unwrap();
    let with = |section: &str| read(folder.path(), &format!("{FILE}{section}"));
    let old = with(SHARED);
    for (from, to, expected) in SHARED_PAIRS {
        assert_eq!(SHARED.matches(from).count(), 1, "{from}");
        assert_eq!(changes(&old, &with(&SHARED.replacen(from, to, 1))), *expected, "{from} → {to}");
    }
    let alone = with("");
    let about_stores = |old: &Config, new: &Config| {
        let mut changes = changes(old, new);
        changes.retain(|change| change.contains("shared"));
        changes
    };
    let removed =
        "wider: shared.redis is removed: each replica has its own revocations, and uses of assertions and proofs";
    assert_eq!(about_stores(&old, &alone), [removed, "changed: shared.postgres is removed"]);
    let new = "narrower: shared.redis is new: replicas share revocations, and the uses of assertions and proofs";
    assert_eq!(about_stores(&alone, &old), [new, "changed: shared.postgres is new"]);
    let limit = "wider: limit of client on /api/** 10/s over all replicas → 10/s";
    assert!(changes(&old, &alone).iter().any(|change| change == limit), "{:?}", changes(&old, &alone));
}

#[test]
fn the_federation_of_a_client_is_compared_by_what_it_covers() {
    let folder = tempfile::tempdir().unwrap();
    let with = |entries: &str| {
        let text = FILE.replace("upstreams: {", "  ci: {issuer: https://ci.example.com}\nupstreams: {");
        let keys = format!("scopes: [read]\n      federation: [{entries}]\n      allow_from");
        read(folder.path(), &text.replace("scopes: [read]\n      allow_from", &keys))
    };
    let [all, main] = ["{issuer: ci, subject: 'a:*:c'}", "{issuer: ci, subject: 'a:b:c'}"];
    let gold = "{issuer: ci, subject: 'a:*:c', claims: {tier: gold}}";
    let metals = "{issuer: ci, subject: 'a:*:c', claims: {tier: [gold, silver]}}";
    let once = "{issuer: ci, subject: 'a:*:c', once: true}";
    let gains = |text: &str| format!("wider: client `report` may use the platform tokens {text}");
    let loses = |text: &str| format!("narrower: client `report` may no longer use all of the platform tokens {text}");
    for (wide, narrow, difference) in [
        (all, main, ""),
        (all, gold, " (without `tier=gold`)"),
        (all, once, " (more than once)"),
        (metals, gold, " (with `tier=gold|silver`, without `tier=gold`)"),
    ] {
        let text = format!("`a:*:c` of ci{difference}");
        assert_eq!(changes(&with(wide), &with(narrow)), [loses(&text)], "{narrow}");
        assert_eq!(changes(&with(narrow), &with(wide)), [gains(&text)], "{narrow}");
        assert_eq!(changes(&with(wide), &with(&format!("{wide}, {narrow}"))), [""; 0], "{narrow}");
    }
    assert_eq!(
        changes(&with(main), &with("{issuer: ci, subject: 'x:y'}")),
        [gains("`x:y` of ci"), loses("`a:b:c` of ci")]
    );
}

#[test]
fn one_changed_route_among_many_is_one_change() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = [None, Some(77)].map(|changed| read(folder.path(), &many(500, changed)));
    assert_eq!(changes(&old, &new), ["wider: route /t77/{id}/** becomes public"]);
    assert_eq!(changes(&old, &read(folder.path(), &many(500, None))), [""; 0]);
}

#[test]
#[ignore = "a measurement, for a release build"]
fn ten_thousand_routes_each_are_compared_in_two_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let old = read(folder.path(), &many(10_000, None));
    let one = read(folder.path(), &many(10_000, Some(77)));
    let all = read(folder.path(), &many(10_000, None).replace("[read]}}", "[write]}}"));
    for (new, expected) in [(&old, 0), (&one, 1), (&all, 20_000)] {
        let begun = Instant::now();
        assert!(changes(&old, new).len() >= expected);
        assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
    }
}
