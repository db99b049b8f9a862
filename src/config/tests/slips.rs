//! One slip, one fault: a good file with one thing wrong.

use std::time::Duration;

use super::*;
use crate::config::raw::{RawOnFailure, oauth::KeptSecrets, route::RawAccess};
use crate::config::source::At;

/// `place` in the good file is replaced; the one message begins with `message`.
#[track_caller]
fn slip(place: &str, replacement: &str, message: &str) {
    let text = GOOD.replacen(place, replacement, 1);
    assert_ne!(text, GOOD, "{place}");
    let messages = messages(&text);
    assert!(messages.len() == 1 && messages[0].starts_with(message), "{replacement}: {messages:#?}");
}

#[track_caller]
fn no_slip(place: &str, replacement: &str) -> RawConfig {
    let text = GOOD.replacen(place, replacement, 1);
    assert_ne!(text, GOOD, "{place}");
    assert_eq!(messages(&text), [""; 0], "{replacement}");
    reading(text.as_bytes()).raw.unwrap()
}

#[test]
fn a_count_is_nothing_but_digits() {
    for wrong in ["0", "-1", "1e3", "0o17", "0x1F", "0755", "1_000", "1.5", "12:30", "~", ".inf", "yes", "", "many"] {
        slip("workers: ${FOUR}", &format!("workers: {wrong}"), "expected a count such as `100`, got ");
    }
    for quoted in ["\"4\"", "'4'", "|\n  4"] {
        slip("workers: ${FOUR}", &format!("workers: {quoted}"), "expected a count such as `100`");
    }
    slip("workers: ${FOUR}", "workers: [4]", "expected a count such as `100`, got a list");
    slip("workers: ${FOUR}", "workers: {}", "expected a count such as `100`, got a map");
    slip("workers: ${FOUR}", "workers: !!int 4", "the tag `!!int` is not supported");
}

#[test]
fn a_variable_stands_for_any_type() {
    assert_eq!(no_slip("${FOUR}", "\"${FOUR}\"").workers.unwrap().value.get(), 4);
    slip("${FOUR}", "${FOUR}x", "expected a count such as `100`, got `${FOUR}x`");
    slip("${FOUR}", "${NONE}", "the variable `NONE` is not set");
    slip("${FOUR}", "${CANARY}", "expected a count such as `100`, got `${CANARY}`");
    slip("${FOUR}", "${file:none}", "cannot read `none`: no such file");
}

#[test]
fn only_true_and_false_are_boolean() {
    for wrong in ["no", "off", "False", "0", "~", "\"false\""] {
        slip("forward_token: false", &format!("forward_token: {wrong}"), "expected `true` or `false`, got ");
    }
    no_slip("forward_token: false", "forward_token: ${NONE:-true}");
}

#[test]
fn text_that_could_be_something_else_must_be_quoted() {
    for wrong in ["no", "True", "1e3", "0o17", "0x1F", "0755", "-1", "1.5", "12:30", ".inf", "1_000", "on", "y"] {
        slip("name: ping", &format!("name: {wrong}"), "expected text, got ");
        no_slip("name: ping", &format!("name: \"{wrong}\""));
    }
    for nothing in ["~", "null", ""] {
        slip("name: ping", &format!("name: {nothing}"), "expected text, got nothing");
    }
    for fine in ["10.0.0.1", "2027-01-31", "a b", "1a", "yes-no", "${FOUR}x", "1:a"] {
        no_slip("name: read-data", &format!("name: {fine}"));
    }
    slip("\"1.2\"", "1.2", "expected `\"1.2\"` or `\"1.3\"`");
}

#[test]
fn names_are_as_written() {
    let raw = no_slip("hacker-client:", "0755:");
    assert_eq!(raw.oauth.unwrap().value.clients.names().collect::<Vec<_>>(), ["0755"]);
    slip("hacker-client:", "\"${FOUR}\":", "a name cannot be a variable");
    slip("hacker-client:", "\"\":", "a name is missing");
    slip("hacker-client:", "\"\\e[31m\":", "a name cannot hold control characters");
    slip("path: /ping", "\"pat\\eh\": /ping", "unknown key `\"pat\\eh\"`, did you mean `path`?");
    slip("  simulation:", "  legacy:", "duplicate key `legacy`, first at line 41");
}

#[test]
fn wrong_values_name_the_way_out() {
    slip("version: 1", "version: \"1\"", "expected `1`");
    slip("30s}", "30}", "expected a duration such as `30s`, got `30`: the units are `ms`, `s`, `m`, `h` and `d`");
    slip("10MiB", "10MB", "expected a size such as `8KiB`, or `unlimited`, got `10MB`: the units are");
    slip("10/s", "10/sec", "expected a rate such as `10/s`, got `10/sec`: the units are");
    slip("per: client", "per: claim", "expected `client`, `address`, `route`, `subject`, `claim:NAME` or");
    slip("0.0.0.0:8443", "8443", "expected an IP address and a port such as `0.0.0.0:8443`");
    slip("\"https://gateway.example.com\"", "https://a/b", "expected an origin such as");
    slip("access: public", "access: pubilc", "expected `public` or a map such as");
    slip("access: public", "access:", "expected `public` or a map such as `{scopes: [read:data]}`, got nothing");
    slip(", access: public", "", "missing key `access`");
    slip("path: /ping, ", "", "missing key `path`");
    slip("[GET]", "GET", "expected a list, got `GET`: write `[…]` around it");
    slip("[GET]", "[]", "this list is empty");
    slip("{department: [research, sales]}", "{department: [[x]]}", "expected text, a whole number");
    slip("{connections: unlimited", "{header_count: unlimited", "expected a count such as `100`, got `unlimited`");
    slip("http://127.0.0.1:9000", "http://127.0.0.1:9000/base", "expected a server such as");
    slip("on_failure: block", "on_failure: open", "expected `block` or `drop`, got `open`");
}

#[test]
fn faults_of_secrets_do_not_quote_them() {
    let value = "{value: \"${CANARY}\"}";
    slip(value, "{value: s3cr3t, hash: s3cr3t}", "expected either `hash` or `value`: two secrets are two items");
    slip(value, "{}", "expected a map such as `{hash: …}` or `{value: …}`, got a map");
    slip(value, "s3cr3t", "expected a map such as `{hash: …}` or `{value: …}`");
    slip(value, "{vaule: \"${CANARY}\"}", "unknown key `vaule`, did you mean `value`?");
    slip(value, "{s3cr3t: x}", "unknown key (known: `hash`, `value`, `expires_at`, `not_before`)");
    slip(value, "{value: 12345678901234567890}", "expected text: quote it if it is meant as text");
    slip(value, "{value: \"${NONE}\"}", "the variable `NONE` is not set");
    slip(value, "{value: \"${NONE:-s3cr3t}\"}", "a secret cannot have a default");
    slip(value, "{value: \"x${s3cr3t}\"}", "a variable in this secret is not set");
    slip(value, "{value: ${CANARY}}", "quote it: inside `{…}` and `[…]` a variable is written `\"${NAME}\"`");
}

#[test]
fn broken_maps_are_said_once_and_leave_names_open() {
    let raw = |text: &str| reading(text.as_bytes()).raw.unwrap();
    let issuers = "issuers:\n  auth0:";
    assert!(raw(GOOD).issuers.complete);
    assert!(!raw(&GOOD.replace(issuers, "issuers: [x]\nadmin:\n  address:")).issuers.complete);
    let text = format!("{}\noauth: []\n", &GOOD[..GOOD.find("oauth:").unwrap()]);
    assert_eq!(messages(&text), ["expected a map, got a list"]);
    let oauth = raw(&text).oauth.unwrap().value;
    assert!(oauth.issuer.is_err() && !oauth.clients.complete);
}

#[test]
fn good_items_survive_bad_neighbours() {
    let raw = reading(GOOD.replace("[GET, HEAD]", "[GET, 1, *x , HEAD]").as_bytes()).raw.unwrap();
    let methods = raw.routes[1].value.methods.as_ref().unwrap();
    assert_eq!(methods.value.items.iter().map(|item| &*item.value).collect::<Vec<_>>(), ["GET", "HEAD"]);
}

#[test]
fn spans_point_at_values() {
    let ConfigReading { source, mut faults, raw, .. } = reading(GOOD.as_bytes());
    let raw = raw.unwrap();
    faults.at(raw.routes[0].value.upstream.as_ref().unwrap().as_ref().unwrap().span, "unknown upstream `legacy`");
    assert!(faults.render(&source, &Renderer::plain()).starts_with("gateway.yaml:61:57: unknown upstream `legacy`"));
}

#[test]
fn literal_secrets_are_distinguished_from_variables() {
    let literal = |written: &str| {
        let raw = no_slip("${CANARY}", written);
        let oauth = raw.oauth.unwrap().value;
        let client = oauth.clients.entries.into_iter().next().unwrap().1.unwrap().value;
        match &client.secrets()[0].value.kept {
            KeptSecrets::Value(secret) | KeptSecrets::Hash(secret) => secret.value.is_literal(),
        }
    };
    assert!(!literal("${CANARY}${FOUR}"));
    assert!(literal("abc") && literal("x${CANARY}") && literal("$${CANARY}"));
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let text = "
version: 1
listeners: [{address: 127.0.0.1:8080}]
oauth: {issuer: http://localhost, audiences: [a], clients: {}}
upstreams: {a: http://localhost}
routes: [{path: /, upstream: a, access: {}}]
";
    let ConfigReading { source, faults, raw, .. } = reading(text.as_bytes());
    assert!(faults.is_empty(), "{}", rendered(text));
    let raw = raw.unwrap();
    let limits = raw.limits.or_default();
    assert_eq!((limits.connections, limits.idle_timeout), (Some(10_000), Some(Duration::from_secs(60))));
    assert_eq!((limits.body_bytes, limits.token_bytes, limits.h2_streams), (Some(10 << 20), 8192, 100));
    assert_eq!((limits.in_flight, limits.in_flight_per_address, limits.tunnels_per_address), (4096, 2048, 500));
    assert!(raw.audit.file.is_none());
    assert_eq!(raw.state_directory.value, Path::new("state"));
    assert_eq!(raw.audit.on_failure.value, RawOnFailure::Block);
    assert_eq!(source.line(raw.state_directory.span), 2);
    assert_eq!((raw.shutdown.delay.value.as_secs(), raw.shutdown.drain.value.as_secs()), (0, 30));
    let oauth = raw.oauth.unwrap().value;
    assert!(oauth.signing_keys.directory.is_none());
    assert!(oauth.token_endpoint.json_requests.value);
    let route = &raw.routes[0].value;
    assert!(matches!(route.access, Ok(At { value: RawAccess::Rule { .. }, .. })));
    assert!(route.timeout.is_none());
    assert!(raw.admin.is_none() && raw.workers.is_none() && !raw.allow_literal_secrets.value);
}
