//! Proofs of attackers: for other requests, other tokens, by other keys, at other times, and used again.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rustls::version::TLS13;
use serde_json::{Value, json};

use super::{ANY, CLIENTS, TOKEN_URL, World, token_request};
use crate::support::authority::Authority;
use crate::support::client::{request, with_header};
use crate::support::gateway::folder;
use crate::support::issuer::{Key, now};
use crate::support::proof::{Proof, public, with_proof};
use crate::support::world::config;
use crate::support::{Answer, Client, Gateway, Upstream};
use crate::tls::{client, handshake};

const URL: &str = "https://localhost/any/a";

/// Proofs that differ from a good one in one part.
fn hostile<'k>(key: &'k Key, url: &str, method: &str, good: &dyn Fn() -> Proof<'k>) -> Vec<(&'static str, String)> {
    let other = Key::new("other", "ES256");
    let with_jwk = |name: &str, value: Value| {
        let mut jwk = public(key);
        jwk[name] = value;
        good().with_header("jwk", jwk).sign()
    };
    let unsigned = |text: String| format!("{}.", text.rsplit_once('.').unwrap().0);
    vec![
        ("method", good().with("htm", if method == "GET" { "POST" } else { "GET" }).sign()),
        ("case of the method", good().with("htm", method.to_ascii_lowercase()).sign()),
        ("scheme", good().with("htu", url.replace("https", "http")).sign()),
        ("host", good().with("htu", url.replace("localhost", "elsewhere")).sign()),
        ("port", good().with("htu", url.replace("localhost", "localhost:8443")).sign()),
        ("path", good().with("htu", format!("{url}/b")).sign()),
        ("case of the path", good().with("htu", url.replace("/any", "/ANY").replace("/oauth", "/OAUTH")).sign()),
        ("no URL", good().with("htu", Value::Null).sign()),
        ("type", good().with_header("typ", "JWT").sign()),
        ("none", unsigned(good().with_header("alg", "none").sign())),
        ("HMAC", good().with_header("alg", "HS256").sign()),
        ("algorithm of another key", good().with_header("alg", "RS256").sign()),
        ("crit", good().with_header("crit", json!(["exp"])).sign()),
        ("private member", with_jwk("d", json!("AAAA"))),
        ("key of another", good().with_header("jwk", public(&other)).sign()),
        ("no key", good().with_header("jwk", Value::Null).sign()),
        ("old", good().with("iat", now() - 62).sign()),
        ("ahead", good().with("iat", now() + 40).sign()),
        ("no time", good().with("iat", Value::Null).sign()),
        ("no id", good().with("jti", Value::Null).sign()),
        ("long id", good().with("jti", "x".repeat(257)).sign()),
        ("no signature", unsigned(good().sign())),
        ("nothing", String::new()),
        ("not a proof", "a.b.c".to_owned()),
        ("two in one field", format!("{}, {}", good().sign(), good().sign())),
    ]
}

#[tokio::test]
async fn hostile_proofs_open_no_route() {
    let world = World::start(&[ANY], "").await;
    let token = world.bound_token().await;
    let good = || world.proof("GET", "/any/a", &token);
    let mut cases = hostile(&world.key, URL, "GET", &good);
    let other = Key::new("other", "ES256");
    cases.extend([
        ("another key", Proof::new(&other, "GET", URL).of(&token).sign()),
        ("no digest", good().with("ath", Value::Null).sign()),
        ("digest of another token", good().of("other").sign()),
        ("padded digest", good().with("ath", format!("{}=", crate::support::proof::hash(&token))).sign()),
        ("proof of the token request", Proof::new(&world.key, "POST", TOKEN_URL).sign()),
    ]);
    for client in world.gateway.both() {
        for (name, proof) in &cases {
            let answer = client.send(with_proof(request("GET", "/any/a?query"), &token, proof)).await;
            assert_eq!((answer.status, world.reason(&answer)), (401, "invalid_proof".to_owned()), "{name}");
            assert_eq!(answer.json()["error"], "invalid_dpop_proof", "{name}");
            let challenge = answer.header("www-authenticate");
            assert!(challenge.starts_with("DPoP ") && challenge.contains("error=\"invalid_dpop_proof\""), "{name}");
        }
        let twice = with_header(with_proof(request("GET", "/any/a"), &token, &good().sign()), "dpop", &good().sign());
        world.is_refused(&client.send(twice).await, 401, "invalid_dpop_proof", "invalid_proof");
        let fine = with_proof(request("GET", "/any/a?query"), &token, &good().sign());
        assert_eq!(client.send(fine).await.status, 200);
    }
    assert_eq!(world.upstream.seen().len(), 2);
}

#[tokio::test]
async fn hostile_proofs_get_no_token() {
    let world = World::start(&[ANY], "").await;
    let good = || Proof::new(&world.key, "POST", TOKEN_URL);
    let cases = hostile(&world.key, TOKEN_URL, "POST", &good);
    for client in world.gateway.both() {
        for (name, proof) in &cases {
            let answer = client.send(token_request("app", &[proof])).await;
            assert_eq!((answer.status, world.reason(&answer)), (400, "invalid_proof".to_owned()), "{name}");
            assert_eq!(answer.json()["error"], "invalid_dpop_proof", "{name}");
        }
        let answer = client.send(token_request("app", &[&good().sign(), &good().sign()])).await;
        world.is_refused(&answer, 400, "invalid_dpop_proof", "invalid_proof");
        assert_eq!(client.send(token_request("app", &[&good().sign()])).await.status, 200);
    }
}

#[tokio::test]
async fn a_proof_counts_once_in_all_workers_and_over_reloads() {
    let yaml = |address, more: &str| config(address, &[ANY], &format!("{CLIENTS}{more}\nworkers: 4"));
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&yaml(upstream.address, ""));
    let world = World { upstream, gateway, key: Key::new("k", "ES256") };
    let token = world.bound_token().await;
    let proof = world.proof("GET", "/any/a", &token).sign();
    let of_token = Proof::new(&world.key, "POST", TOKEN_URL).sign();
    let [http1, http2] = world.gateway.both();
    let asked = || with_proof(request("GET", "/any/a"), &token, &proof);
    assert_eq!(http1.send(asked()).await.status, 200);
    assert_eq!(http1.send(token_request("app", &[&of_token])).await.status, 200);
    let replayed = async |more: &str| {
        if !more.is_empty() {
            world.gateway.reloads(&yaml(world.upstream.address, more));
        }
        for client in [&http1, &http2].into_iter().cycle().take(8) {
            world.is_refused(&client.send(asked()).await, 401, "invalid_dpop_proof", "proof_replayed");
        }
        let answer = http2.send(token_request("app", &[&of_token])).await;
        world.is_refused(&answer, 400, "invalid_dpop_proof", "proof_replayed");
    };
    replayed("").await;
    replayed("  dpop: {max_age: 5m}\n").await;
    replayed("  dpop: {max_age: 2m}\n").await;
    let again = world.proof("GET", "/any/a", &token).sign();
    assert_eq!(http1.send(with_proof(request("GET", "/any/a"), &token, &again)).await.status, 200);
}

#[tokio::test]
async fn a_proof_may_be_as_old_as_the_configuration_says() {
    let world = World::start(&[ANY], "  dpop: {max_age: 5m}\n").await;
    let token = world.bound_token().await;
    let client = Client::new(&world.gateway);
    for (issued, status) in [(now() - 280, 200), (now() - 310, 401), (now() + 20, 200)] {
        let proof = world.proof("GET", "/any/a", &token).with("iat", issued).sign();
        assert_eq!(client.send(with_proof(request("GET", "/any/a"), &token, &proof)).await.status, status);
    }
}

#[tokio::test]
async fn proofs_name_the_url_that_a_believed_proxy_states() {
    const TLS: &str = "tls: {certificates: [{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}]}";
    for (believe, public, status) in [
        ("believe: [scheme, host, port]", "https://api.example:8443", 200),
        ("proxy_protocol: false", "https://localhost", 200),
    ] {
        let listeners =
            format!("listeners: [{{address: 127.0.0.1:0, {TLS}, {believe}}}]\ntrusted_proxies: [127.0.0.1]\n");
        let resource = "resources: {api: {url: \"https://api.example:8443/own\"}}\n";
        let routes = [ANY, "path: /own, access: {}, resource: api"];
        let world = World::start(&routes, &format!("{listeners}{resource}")).await;
        let stated = |asked| {
            let asked = with_header(asked, "x-forwarded-for", "192.0.2.7");
            let asked = with_header(asked, "x-forwarded-proto", "https");
            with_header(asked, "x-forwarded-host", "api.example:8443")
        };
        let client = Client::new(&world.gateway);
        let proof = Proof::new(&world.key, "POST", &format!("{public}/oauth/token")).sign();
        let granted: Answer = client.send(stated(token_request("app", &[&proof]))).await;
        assert_eq!(granted.status, status, "{granted:?}");
        let token = granted.json()["access_token"].as_str().unwrap().to_owned();
        for (url, expected) in [
            (format!("{public}/any/a"), 200),
            ("https://localhost:8443/any/a".to_owned(), 401),
            ("https://elsewhere/any/a".to_owned(), 401),
            (if believe.contains("host") { URL } else { "https://api.example:8443/any/a" }.to_owned(), 401),
        ] {
            let proof = Proof::new(&world.key, "GET", &url).of(&token).sign();
            let answer = client.send(stated(with_proof(request("GET", "/any/a"), &token, &proof))).await;
            assert_eq!(answer.status, expected, "{believe} {url}: {answer:?}");
        }
    }
}

/// A request for this host.
fn at(host: &str, mut asked: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    *asked.uri_mut() = format!("https://{host}{}", asked.uri().path()).parse().unwrap();
    asked.headers_mut().insert("host", host.parse().unwrap());
    asked
}

#[tokio::test]
async fn a_proof_for_a_host_of_others_is_refused() {
    let folder = folder();
    Authority::new().issue(&["localhost", "*.wild.example", "127.0.0.1"]).write(&folder, "served");
    let sections = format!(
        "listeners: [{{address: 127.0.0.1:0, tls: {{certificates: [{{cert: served.crt, key: served.key}}]}}}}]\n\
         resources: {{api: {{url: \"https://resource.example/own\"}}}}\n{}",
        CLIENTS.replace("issuer: https://localhost:8443", "issuer: https://issuer.example"),
    );
    let routes = [
        ANY,
        "path: /own, access: {}, resource: api",
        "path: /any/**, hosts: [\"*.route.example\", route.example], access: {}",
    ];
    let (upstream, key) = (Upstream::start().await, Key::new("k", "ES256"));
    let gateway = Gateway::start_in(folder, &config(upstream.address, &routes, &sections), &[]);
    let connect = async |alpn| {
        let stream = handshake(gateway.address(), client(&[&TLS13], &[alpn]), "localhost").await.unwrap();
        Client::over::<Full<Bytes>>(stream).await.unwrap()
    };
    for alpn in ["http/1.1", "h2"] {
        let mut connection = connect(alpn).await;
        let proof = |host: &str| Proof::new(&key, "POST", &format!("https://{host}/oauth/token")).sign();
        let mut token = String::new();
        for host in ["issuer.example", "localhost", "a.wild.example", "127.0.0.1", "resource.example"] {
            let answer = connection.send(at(host, token_request("app", &[&proof(host)]))).await;
            assert_eq!(answer.status, 200, "{host} {answer:?}");
            token = answer.json()["access_token"].as_str().unwrap().to_owned();
        }
        for host in ["evil.example", "route.example", "wild.example", "a.b.wild.example", "127.0.0.2"] {
            let answer = connection.send(at(host, token_request("app", &[&proof(host)]))).await;
            assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_dpop_proof")), "{host}");
        }
        for (host, expected) in [
            ("issuer.example", 200),
            ("Resource.example:8443", 200),
            ("a.wild.example", 200),
            ("route.example", 200),
            ("a.route.example", 200),
            ("evil.example", 401),
            ("issuer.example.evil.example", 401),
        ] {
            let proof = Proof::new(&key, "GET", &format!("https://{host}/any/a")).of(&token).sign();
            let answer = connection.send(at(host, with_proof(request("GET", "/any/a"), &token, &proof))).await;
            assert_eq!(answer.status, expected, "{host} {answer:?}");
            if host == "evil.example" {
                let line = gateway.audit_of(answer.request_id());
                assert_eq!(line["gateway.reason"], "invalid_proof");
                assert_eq!(line["gateway.found"], "host=evil.example");
                let wanted = "host=issuer.example|resource.example, or one in a certificate of a listener";
                assert_eq!(line["gateway.wanted"], wanted);
            }
        }
    }
    assert_eq!(upstream.seen().len(), 10);
}
