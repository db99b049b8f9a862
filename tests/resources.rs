//! Resources: a resource document for each (RFC 9728), and its URL in every challenge.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::support::client::{request, with_header, with_token};
use crate::support::issuer::{Issuer, Key};
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

const OAUTH: &str = "oauth:
  issuer: https://localhost:8443
  audiences: [https://localhost:8443, https://localhost:8443/mcp, https://api.example.com, https://www.example.com]
  signing_keys: {algorithm: ES256}
  clients:
    app: {secrets: [{value: correct horse battery staple}], scopes: [read:data, write:data]}
    other: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}
";

const RESOURCES: &str = "resources:
  mcp: {url: https://localhost:8443/mcp, name: Tools of the shop, scopes: [extra]}
  root: {url: https://localhost:8443/}
";

const ROUTES: [&str; 6] = [
    "path: /mcp/**, resource: mcp, access: {scopes: {all_of: [read:data], any_of: [write:data, tools]}}",
    "path: /mcp/any, resource: mcp, access: {}",
    "path: /mcp/client, resource: mcp, access: {clients: [other]}",
    "path: /mcp/limited, resource: mcp, access: {}, rate_limits: [{rate: 1/d, per: address}]",
    "path: /data, resource: root, access: {scopes: [write:data]}",
    "path: /plain, access: {scopes: [write:data]}",
];

fn start(upstream: &Upstream, routes: &[&str], sections: &str) -> Gateway {
    Gateway::start(&config(upstream.address, routes, &format!("{OAUTH}{sections}")))
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

fn of_host(path: &str, host: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().uri(format!("https://{host}{path}")).header("host", host);
    request.body(Full::default()).unwrap()
}

/// The one challenge of an answer. Empty without one.
#[track_caller]
fn challenge(answer: &Answer) -> &str {
    let all: Vec<&str> = answer.headers.get_all("www-authenticate").iter().map(|one| one.to_str().unwrap()).collect();
    assert!(all.len() <= 1, "{all:?}");
    all.first().copied().unwrap_or_default()
}

#[tokio::test]
async fn a_document_describes_its_resource_byte_for_byte() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, &ROUTES, RESOURCES);
    let algorithms = "\"dpop_signing_alg_values_supported\":[";
    for client in gateway.both() {
        let answer = client.get(&format!("{WELL_KNOWN}/mcp")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        let said = text(&answer);
        for member in [
            "\"resource\":\"https://localhost:8443/mcp\"",
            "\"resource_name\":\"Tools of the shop\"",
            "\"authorization_servers\":[\"https://localhost:8443\"]",
            "\"scopes_supported\":[\"extra\",\"read:data\",\"tools\",\"write:data\"]",
            "\"bearer_methods_supported\":[\"header\"]",
            algorithms,
        ] {
            assert!(said.contains(member), "{member}: {said}");
        }
        let root = client.get(WELL_KNOWN).await;
        assert_eq!(root.json()["resource"], "https://localhost:8443/");
        assert_eq!(root.json()["scopes_supported"], serde_json::json!(["write:data"]));
        assert_eq!(root.json().get("resource_name"), None);
        assert_eq!(client.get(&format!("{WELL_KNOWN}/other")).await.status, 404);
        assert_eq!(gateway.audit_of(answer.request_id())["http.route"], "(resource)");
    }
    assert!(upstream.seen().is_empty(), "the gateway answers itself");
}

#[tokio::test]
async fn documents_can_be_cached_and_read_by_pages() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, &ROUTES, RESOURCES);
    for client in gateway.both() {
        let answer = client.get(WELL_KNOWN).await;
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("cache-control"), "public, max-age=300");
        let tag = answer.header("etag").to_owned();
        let held = client.send(with_header(request("GET", WELL_KNOWN), "if-none-match", &tag)).await;
        assert_eq!((held.status, held.body.len(), held.header("etag")), (304, 0, &*tag));
        assert_eq!(held.header("access-control-allow-origin"), "*");
        let head = client.send(request("HEAD", WELL_KNOWN)).await;
        assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, &*tag));
        let asked = with_header(request("OPTIONS", WELL_KNOWN), "origin", "https://app.example.com");
        let asked = with_header(asked, "access-control-request-method", "GET");
        let granted = client.send(with_header(asked, "access-control-request-headers", "mcp-protocol-version")).await;
        assert_eq!((granted.status, granted.body.len()), (204, 0));
        assert_eq!(granted.header("access-control-allow-origin"), "*");
        assert_eq!(granted.header("access-control-allow-headers"), "*");
        assert_eq!(granted.header("access-control-allow-methods"), "GET, HEAD");
        let posted = client.send(request("POST", WELL_KNOWN)).await;
        assert_eq!((posted.status, posted.header("allow")), (405, "GET, HEAD, OPTIONS"));
    }
}

#[tokio::test]
async fn the_host_chooses_among_documents_of_one_path() {
    let upstream = Upstream::start().await;
    let routes = [
        "path: /**, hosts: [api.example.com], resource: api, access: {scopes: [read:data]}",
        "path: /**, hosts: [www.example.com], resource: www, access: {scopes: [write:data]}",
    ];
    let resources = "resources: {api: {url: https://api.example.com}, www: {url: https://www.example.com}}\n";
    let gateway = start(&upstream, &routes, resources);
    for client in gateway.both() {
        for host in ["api.example.com", "www.example.com"] {
            let answer = client.send(of_host(WELL_KNOWN, host)).await;
            assert_eq!(answer.json()["resource"], format!("https://{host}"));
            let refused = client.send(of_host("/x", host)).await;
            let metadata = format!("resource_metadata=\"https://{host}{WELL_KNOWN}\"");
            assert!(challenge(&refused).ends_with(&metadata), "{refused:?}");
        }
        assert_eq!(client.send(of_host(WELL_KNOWN, "localhost")).await.status, 404);
    }
}

#[tokio::test]
async fn only_a_missing_or_bad_token_gets_a_challenge() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, &ROUTES, RESOURCES);
    let metadata = "resource_metadata=\"https://localhost:8443/.well-known/oauth-protected-resource/mcp\"";
    let scope = "scope=\"read:data tools write:data\"";
    let bearer = "Bearer realm=\"portcullis\"";
    let invalid = "error=\"invalid_token\", error_description=\"the access token is invalid or expired\"";
    for client in gateway.both() {
        let token = client.granted("app", SECRET, "scope=read:data&resource=https://localhost:8443/mcp").await;
        let root = "resource_metadata=\"https://localhost:8443/.well-known/oauth-protected-resource\"";
        for (path, token, status, expected) in [
            ("/mcp/x", "", 401, format!("{bearer}, {scope}, {metadata}")),
            ("/mcp/x", "bad", 401, format!("{bearer}, {invalid}, {scope}, {metadata}")),
            ("/mcp/any", "", 401, format!("{bearer}, {metadata}")),
            (
                "/mcp/x",
                &token,
                403,
                format!("{bearer}, error=\"insufficient_scope\", scope=\"tools write:data\", {metadata}"),
            ),
            ("/mcp/client", &token, 403, String::new()),
            ("/data", "", 401, format!("{bearer}, scope=\"write:data\", {root}")),
            ("/plain", "", 401, bearer.to_owned()),
            ("/plain", &token, 403, format!("{bearer}, error=\"insufficient_scope\", scope=\"write:data\"")),
            ("/mcp/any", &token, 200, String::new()),
            ("/nowhere", "", 404, String::new()),
        ] {
            let asked = request("GET", path);
            let answer = client.send(if token.is_empty() { asked } else { with_token(asked, token) }).await;
            assert_eq!((answer.status, challenge(&answer)), (status, &*expected), "{path} {token}");
        }
        let twice = with_header(with_token(request("GET", "/mcp/x"), &token), "authorization", "Bearer other");
        let answer = client.send(twice).await;
        assert_eq!((answer.status, challenge(&answer)), (400, ""));
        client.get_with("/mcp/limited", &token).await;
        let answer = client.get("/mcp/limited").await;
        assert_eq!((answer.status, challenge(&answer)), (429, ""));
    }
}

#[tokio::test]
async fn an_audience_that_is_a_url_of_ours_is_a_resource() {
    let upstream = Upstream::start().await;
    let routes = [
        "path: /mcp/**, access: {scopes: [read:data]}",
        "path: /data, access: {}",
        "path: /api, hosts: [api.example.com], access: {}",
        "path: /foreign, access: {audiences: [https://www.example.com]}",
        "path: /open, access: public",
    ];
    let gateway = start(&upstream, &routes, "");
    for client in gateway.both() {
        for (path, host, resource) in [("/mcp/x", "localhost", "/mcp"), ("/data", "localhost", "")] {
            let answer = client.send(of_host(path, host)).await;
            let url = format!("https://localhost:8443{WELL_KNOWN}{resource}");
            assert!(challenge(&answer).ends_with(&format!("resource_metadata=\"{url}\"")), "{answer:?}");
            let document = client.get(&format!("{WELL_KNOWN}{resource}")).await;
            assert_eq!(document.json()["resource"], format!("https://localhost:8443{resource}"));
        }
        let api = client.send(of_host("/api", "api.example.com")).await;
        let url = format!("https://api.example.com{WELL_KNOWN}");
        assert!(challenge(&api).ends_with(&format!("resource_metadata=\"{url}\"")), "{api:?}");
        let document = client.send(of_host(WELL_KNOWN, "api.example.com")).await;
        assert_eq!(document.json().get("scopes_supported"), None, "never an empty list");
        let foreign = client.get("/foreign").await;
        assert_eq!(challenge(&foreign), "Bearer realm=\"portcullis\"");
    }
}

#[tokio::test]
async fn external_issuers_alone_have_documents_too() {
    let (key, upstream) = (Key::new("k", "ES256"), Upstream::start().await);
    let (one, two) = (Issuer::start(&[&key]).await, Issuer::start(&[&key]).await);
    let sections = format!(
        "issuers:\n  one: {{issuer: '{}', audiences: [https://api.example.com]}}\n  \
         two: {{issuer: '{}', audiences: [https://api.example.com]}}\n  \
         named: {{issuer: 'urn:corp', jwks_uri: '{}/jwks', audiences: [https://api.example.com]}}\n\
         resources: {{api: {{url: https://api.example.com}}}}\n",
        one.issuer, two.issuer, one.issuer
    );
    let routes =
        ["path: /both, resource: api, access: {scopes: [a]}", "path: /one, resource: api, access: {issuers: [one]}"];
    let yaml = config(upstream.address, &routes, &sections);
    let (before, rest) = yaml.split_once("oauth:\n").unwrap();
    let (_, after) = rest.split_once("audit:").unwrap();
    let gateway = Gateway::start(&format!("{before}audit:{after}"));
    let client = Client::new(&gateway);
    let document = client.get(WELL_KNOWN).await;
    assert_eq!(document.json()["authorization_servers"], serde_json::json!([one.issuer, two.issuer]));
    assert_eq!(client.get("/.well-known/jwks.json").await.status, 404, "there is no issuer of ours");
    let refused = client.get("/one").await;
    assert!(challenge(&refused).contains("resource_metadata="), "{refused:?}");
    let mut claims = one.claims();
    claims["aud"] = "https://api.example.com".into();
    assert_eq!(client.get_with("/one", &key.sign(&claims)).await.status, 200);
}

#[tokio::test]
async fn a_reload_describes_the_new_scopes() {
    let upstream = Upstream::start().await;
    let yaml = |scope: &str| {
        let route = format!("path: /data, resource: root, access: {{scopes: [{scope}]}}");
        let resources = "resources: {root: {url: https://localhost:8443}}\n";
        config(upstream.address, &[&route], &format!("{OAUTH}{resources}"))
    };
    let gateway = Gateway::start(&yaml("read:data"));
    let client = Client::new(&gateway);
    let before = client.get(WELL_KNOWN).await;
    gateway.reloads(&yaml("write:data"));
    let after = client.get(WELL_KNOWN).await;
    assert_eq!(after.json()["scopes_supported"], serde_json::json!(["write:data"]));
    assert_ne!(before.header("etag"), after.header("etag"));
}
