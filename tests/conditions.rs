//! Routes for requests with certain header fields: the fields choose the rule, and leaving one out opens nothing.

use std::fs;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::support::client::{request, with_header, with_token};
use crate::support::command::run;
use crate::support::gateway::{folder, program};
use crate::support::upstream::by_http2;
use crate::support::wire::{Trailed, within};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

const ROUTES: [&str; 4] = [
    "path: /mcp, name: any, methods: [POST], access: {scopes: [write:data, read:data]}",
    "path: /mcp, name: list, methods: [POST], access: {}, when: {headers: {Mcp-Method: [tools/list, initialize]}}",
    "path: /mcp, name: call, methods: [POST], access: {scopes: [write:data]}, when: {headers: {Mcp-Method: tools/call}}",
    "path: /mcp, name: read, methods: [POST], access: {scopes: {any_of: [read:data, write:data]}}, when: {headers: {Mcp-Method: tools/call, Mcp-Name: [read, über]}}",
];
/// `call` is stricter than `read`, as the check demands it.
const CALL: (&str, &str) = ("mcp-method", "tools/call");

fn post(fields: &[(&'static str, &str)], token: &str) -> Request<Full<Bytes>> {
    fields
        .iter()
        .fold(with_token(request("POST", "/mcp"), token), |asked, (name, value)| with_header(asked, name, value))
}

async fn started() -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    (Gateway::before(upstream.address, &ROUTES), upstream)
}

/// Status, route, and broken rule or reason.
async fn decided(gateway: &Gateway, client: &Client, asked: Request<Full<Bytes>>) -> (u16, String, String) {
    let answer = client.send(asked).await;
    let line = gateway.audit_of(answer.request_id());
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let rule = text("gateway.rule");
    let why = if rule.is_empty() { text("gateway.reason") } else { rule };
    (answer.status, text("http.route"), why)
}

#[tokio::test]
async fn the_fields_of_a_request_choose_its_rule() {
    let (gateway, upstream) = started().await;
    for client in gateway.both() {
        let read = client.granted("app", SECRET, "scope=read:data").await;
        for (fields, status, route) in [
            (&[("mcp-method", "tools/list")][..], 200, "list"),
            (&[("mcp-method", " tools/list ")], 200, "list"),
            (&[("mcp-method", "=?base64?dG9vbHMvbGlzdA==?=")], 200, "list"),
            (&[("mcp-method", "initialize"), ("mcp-name", "read")], 200, "list"),
            (&[CALL], 403, "call"),
            (&[CALL, ("mcp-name", "write")], 403, "call"),
            (&[CALL, ("mcp-name", "Read")], 403, "call"),
            (&[CALL, ("mcp-name", "read, write")], 403, "call"),
            (&[CALL, ("mcp-name", "read")], 200, "read"),
            (&[CALL, ("mcp-name", "=?base64?w7xiZXI=?=")], 200, "read"),
            (&[("mcp-name", "read")], 403, "any"),
            (&[("mcp-method", "TOOLS/LIST")], 403, "any"),
            (&[("mcp-method", "=?BASE64?dG9vbHMvbGlzdA==?=")], 403, "any"),
            (&[("mcp-method", "")], 403, "any"),
            (&[], 403, "any"),
        ] {
            let (found, taken, why) = decided(&gateway, &client, post(fields, &read)).await;
            assert_eq!((found, &*taken), (status, route), "{fields:?}: {why}");
            assert!(status == 200 || why == "missing_scope", "{why}");
        }
    }
    let seen = upstream.seen();
    assert!(seen.iter().any(|seen| seen.headers.get("mcp-name").is_some_and(|name| name == "=?base64?w7xiZXI=?=")));
}

#[tokio::test]
async fn a_field_with_two_readings_is_refused() {
    let (gateway, upstream) = started().await;
    for client in gateway.both() {
        let token = client.granted("app", SECRET, "").await;
        for (fields, rule) in [
            (&[CALL, CALL][..], "repeated_field"),
            (&[("mcp-method", "tools/list"), CALL], "repeated_field"),
            (&[("mcp-name", "a"), ("mcp-name", "b")], "repeated_field"),
            (&[("mcp-method", "=?base64?dG9vbHM?=")], "field_encoding"),
            (&[("mcp-method", "=?base64?/w==?=")], "field_encoding"),
            (&[("mcp-method", "tools/list"), ("mcp_method", "tools/call")], "look_alike"),
            (&[("mcp_name", "write")], "look_alike"),
            (&[("mcp.name", "write")], "look_alike"),
        ] {
            let (status, _, why) = decided(&gateway, &client, post(fields, &token)).await;
            assert_eq!((status, &*why), (400, rule), "{fields:?}");
        }
    }
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "").await;
    let hidden = post(&[("mcp-method", "tools/list"), ("connection", "mcp-method")], &token);
    let (status, _, why) = decided(&gateway, &client, hidden).await;
    assert_eq!((status, &*why), (400, "connection_lists_protected"), "the service would not get the field");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_field_in_trailers_chooses_nothing() {
    let (gateway, _upstream) = started().await;
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "scope=read:data").await;
    let mut stream = client.tls().await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Trailer: Mcp-Method\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nMcp-Method: tools/list\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 403 "), "{}", String::from_utf8_lossy(&answer));
    let line = gateway.audit_line(|line| line["url.path"] == "/mcp");
    assert_eq!(line["http.route"], "any");
}

#[tokio::test]
async fn a_request_that_meets_no_condition_finds_nothing() {
    let upstream = Upstream::start().await;
    let routes = [
        "path: /**, name: all, access: public",
        "path: /mcp, name: list, methods: [POST], access: {}, when: {headers: {Mcp-Method: tools/list}}",
        "path: /other, name: get, methods: [GET], access: public",
        "path: /other, name: post, methods: [POST], access: {}, when: {headers: {Mcp-Method: tools/list}}",
    ];
    let gateway = Gateway::before(upstream.address, &routes);
    for client in gateway.both() {
        let token = client.granted("app", SECRET, "").await;
        assert_eq!(decided(&gateway, &client, post(&[CALL], &token)).await.0, 404);
        assert_eq!(client.get("/mcp").await.status, 404, "a wider route never takes it");
        assert_eq!(decided(&gateway, &client, post(&[("mcp-method", "tools/list")], &token)).await.0, 200);
        let answer = client.send(request("POST", "/other")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"));
        let answer = client.send(with_header(request("POST", "/other"), "mcp-method", "tools/list")).await;
        assert_eq!(answer.status, 401);
    }
}

#[tokio::test]
async fn fields_that_choose_a_route_do_not_pass_as_trailers() {
    let (sender, mut seen) = mpsc::channel(1);
    let service = by_http2(move |request| {
        let sender = sender.clone();
        async move {
            let collected = request.into_body().collect().await.unwrap();
            sender.send(collected.trailers().cloned()).await.unwrap();
            Response::new(Full::<Bytes>::from("ok"))
        }
    })
    .await;
    let routes = [
        "path: /mcp, name: any, access: public",
        "path: /mcp, name: read, access: public, when: {headers: {Mcp-Name: read}}",
        "path: /other, access: public",
    ];
    let gateway = Gateway::before_http2(service, &routes);
    for path in ["/mcp", "/other"] {
        let said = [("x-sum", "1"), ("mcp-name", "write"), ("mcp_name", "write")];
        let request = request("POST", path).map(|_| Trailed::new(b"abc", &said));
        let mut connection = Client::http2(&gateway).connect_for().await.unwrap();
        assert_eq!(within(connection.begin(request)).await.unwrap().status(), 200);
        let trailers = within(seen.recv()).await.unwrap().unwrap();
        assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &"1".parse().unwrap()), "{trailers:?}");
    }
}

/// What `check` says of these routes.
fn checked(routes: &[&str]) -> String {
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), config("127.0.0.1:9".parse().unwrap(), routes, "")).unwrap();
    let said = run(program(&folder).arg("check"));
    fs::remove_dir_all(folder).unwrap();
    format!("{}{}", said.stdout, said.stderr)
}

#[test]
fn values_that_differ_in_case_only_need_the_same_rule() {
    let of = |method: &str, access: &str| {
        format!(
            "path: /mcp, name: {access}, access: {{scopes: [{access}]}}, when: {{headers: {{Mcp-Method: {method}}}}}"
        )
    };
    let said = checked(&[&of("tools/call", "write:data"), &of("Tools/Call", "read:data")]);
    assert!(said.contains("a service that ignores case in values") && said.contains("different rules"), "{said}");
    let said = checked(&[&of("tools/call", "write:data"), &of("tools/list", "read:data")]);
    assert!(!said.contains("different rules"), "{said}");
}

#[test]
fn no_route_of_a_path_changes_a_field_that_chooses() {
    let lists = "path: /mcp, name: list, access: {}, when: {headers: {Mcp-Method: tools/list}}";
    for change in ["set: {Mcp-Method: a}", "add: {mcp-method: a}", "remove: [mcp_method]"] {
        let any = format!("path: /mcp, name: any, access: {{}}, headers: {{{change}}}");
        let said = checked(&[&any, lists]);
        assert!(said.contains("changes the field `mcp-method` in `headers`"), "{change}: {said}");
        let said = checked(&[&any.replace("/mcp", "/other"), lists]);
        assert!(!said.contains("changes the field"), "{change}: {said}");
    }
}

/// What `diff` says of two lists of routes.
fn compared(old: &[&str], new: &[&str]) -> String {
    let folder = folder();
    for (name, routes) in [("old.yaml", old), ("new.yaml", new)] {
        fs::write(folder.join(name), config("127.0.0.1:9".parse().unwrap(), routes, "")).unwrap();
    }
    let said = run(program(&folder).args(["diff", "old.yaml", "new.yaml"]));
    fs::remove_dir_all(folder).unwrap();
    format!("{}{}", said.stdout, said.stderr)
}

#[test]
fn a_new_condition_with_a_laxer_rule_is_wider() {
    let strict = "path: /mcp, name: any, methods: [POST], access: {scopes: [read:data]}";
    let lax = "path: /mcp, name: list, methods: [POST], access: {}, when: {headers: {Mcp-Method: tools/list}}";
    let said = compared(&[strict], &[strict, lax]);
    assert!(said.contains("no longer needs the scope `read:data`"), "{said}");
    let said = compared(&[strict, lax], &[strict]);
    assert!(said.contains("needs the scope `read:data`") && said.contains("repeated"), "{said}");
    let same = compared(&[strict, lax], &[lax, strict]);
    assert!(!same.contains("scope"), "{same}");
    let other = lax.replace("tools/list", "[tools/list, initialize]");
    let said = compared(&[strict, lax], &[strict, &other]);
    assert!(said.contains("mcp-method: initialize"), "{said}");
}

#[test]
fn explain_names_the_fields_and_the_lost_routes() {
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), config("127.0.0.1:9".parse().unwrap(), &ROUTES, "")).unwrap();
    let explained = |fields: &[&str]| {
        let mut command = program(&folder);
        command.args(["explain", "POST", "/mcp", "--format", "json", "--client", "app"]);
        let said = run(command.args(fields.iter().flat_map(|field| ["--header", field])));
        serde_json::from_str::<Value>(&said.stdout).unwrap_or_else(|_| panic!("{said:?}")).to_string()
    };
    let text = explained(&["Mcp-Method: tools/list"]);
    let repeated = explained(&["Mcp-Method: tools/list", "Mcp-Method: tools/call"]);
    assert!(repeated.contains("(the rule repeated_field)"), "{repeated}");
    let other = explained(&["Mcp-Method: tools/call", "Mcp-Name: read"]);
    assert!(other.contains("it has fewer conditions") && !other.contains("less specific"), "{other}");
    fs::remove_dir_all(folder).unwrap();
    assert!(text.contains("field mcp-method") && text.contains("tools/list"), "{text}");
    assert!(text.contains("it is for requests with mcp-method=tools/call, and this does not hold"), "{text}");
}
