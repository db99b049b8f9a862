//! `Client-Cert`: the statement of a trusted proxy about one request, and nothing else.

use serde_json::json;

use super::*;
use crate::support::issuer::{Issuer, Key};

/// Behind proxies at these addresses, with a route for tokens of an issuer.
struct Behind {
    mutual: Mutual,
    key: Key,
    issuer: Issuer,
}

impl Behind {
    /// `asks` is the TLS of the listener.
    async fn start(trusted: &str, listener: &str) -> Self {
        let key = Key::new("one", "ES256");
        let issuer = Issuer::start(&[&key]).await;
        let sections = format!(
            "listeners: [{listener}]\ntrusted_proxies: [{trusted}]\n\
             issuers: {{idp: {{issuer: \"{}\", audiences: [https://api.example.com]}}}}",
            issuer.issuer,
        );
        let mutual = Mutual::with_listeners(&["path: /bound, access: {issuers: [idp]}"], &sections).await;
        mutual.gateway.log_line("fetched the JWK Set\",\"issuer.name\":\"idp\"");
        Self { mutual, key, issuer }
    }

    /// A request with a token that is bound to this certificate.
    fn bound_to(&self, issued: &Issued) -> Request<Full<Bytes>> {
        let mut claims = self.issuer.claims();
        claims["cnf"] = json!({"x5t#S256": thumbprint(issued)});
        with_bearer(&self.key.sign(&claims))
    }
}

fn believing() -> String {
    listener("").replace("127.0.0.1:0", "127.0.0.1:0, believe: [client_cert]")
}

#[tokio::test]
async fn a_believed_proxy_states_a_certificate_for_each_request() {
    let behind = Behind::start("127.0.0.0/8", &believing()).await;
    let [one, other] = ["one", "other"].map(|name| behind.mutual.issue(name));
    for alpn in ["http/1.1", "h2"] {
        let mut connection = connect(behind.mutual.asking(), &presenting(None, alpn)).await.unwrap();
        for (stated, expected) in
            [(Some(&one), 200), (None, 401), (Some(&other), 401), (Some(&one), 200), (Some(&one), 200), (None, 401)]
        {
            let mut request = behind.bound_to(&one);
            if let Some(stated) = stated {
                request = with_header(request, "client-cert", &statement(stated));
                request = with_header(request, "client-cert-chain", &statement(&other));
            }
            let answer = connection.send(request).await;
            assert_eq!(answer.status, expected, "{alpn} {answer:?}");
            if expected == 401 {
                let line = behind.mutual.gateway.audit_of(answer.request_id());
                assert_eq!(line["gateway.reason"], "not_proven", "{line}");
            }
        }
    }
    for seen in behind.mutual.upstream.seen() {
        assert!(!seen.headers.keys().any(|name| name.as_str().starts_with("client-cert")), "{:?}", seen.headers);
    }
}

#[tokio::test]
async fn a_broken_statement_is_refused() {
    let behind = Behind::start("127.0.0.0/8", &believing()).await;
    let one = behind.mutual.issue("one");
    let by = presenting(None, "http/1.1");
    for values in
        [vec!["?1".to_owned()], vec![statement(&one), statement(&one)], vec![statement(&one).replace(':', "")]]
    {
        let request =
            values.iter().fold(behind.bound_to(&one), |request, value| with_header(request, "client-cert", value));
        let answer = ask(behind.mutual.asking(), &by, request).await.unwrap();
        assert_eq!(answer.status, 400, "{values:?}");
        let line = behind.mutual.gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.reason"], &line["gateway.rule"]), (&"bad_request".into(), &"client_cert".into()));
    }
}

#[tokio::test]
async fn a_statement_that_is_not_believed_is_removed() {
    for (trusted, listener) in [("10.0.0.0/8", believing()), ("127.0.0.0/8", listener(""))] {
        let behind = Behind::start(trusted, &listener).await;
        let one = behind.mutual.issue("one");
        let by = presenting(None, "http/1.1");
        let request = with_header(behind.bound_to(&one), "client-cert", &statement(&one));
        assert_eq!(ask(behind.mutual.asking(), &by, request).await.unwrap().status, 401, "{trusted}");
        // Not even read: a token of another kind passes, and the service sees nothing of it.
        let bearer = with_bearer(&behind.key.sign(&behind.issuer.claims()));
        let bearer = with_header(bearer, "client-cert", "no certificate");
        let bearer = with_header(bearer, "client-cert-chain", "no certificate");
        assert_eq!(ask(behind.mutual.asking(), &by, bearer).await.unwrap().status, 200, "{trusted}");
        let seen = behind.mutual.upstream.only();
        assert!(!seen.headers.keys().any(|name| name.as_str().starts_with("client-cert")), "{:?}", seen.headers);
        let bearer = with_bearer(&behind.key.sign(&behind.issuer.claims()));
        let disguised = with_header(bearer, "client_cert", &statement(&one));
        assert_eq!(ask(behind.mutual.asking(), &by, disguised).await.unwrap().status, 400, "{trusted}");
    }
}

#[tokio::test]
async fn the_certificate_of_a_proxy_proves_nothing_about_its_clients() {
    let (direct, proxied) = ("10.0.0.0/8", "127.0.0.0/8");
    for (trusted, expected) in [(direct, 200), (proxied, 401)] {
        let behind = Behind::start(trusted, &asking("required")).await;
        let proxy = behind.mutual.issue("proxy");
        let answer = ask(behind.mutual.asking(), &presenting(&proxy, "h2"), behind.bound_to(&proxy)).await.unwrap();
        assert_eq!(answer.status, expected, "{trusted}");
    }
}

#[tokio::test]
async fn a_stated_certificate_that_has_ended_proves_nothing() {
    let behind = Behind::start("127.0.0.0/8", &believing()).await;
    let ended = behind.mutual.authority.issue_expired(&["a"]);
    for alpn in ["http/1.1", "h2"] {
        let request = with_header(behind.bound_to(&ended), "client-cert", &statement(&ended));
        let answer = ask(behind.mutual.asking(), &presenting(None, alpn), request).await.unwrap();
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(behind.mutual.gateway.audit_of(answer.request_id())["gateway.reason"], "not_proven");
    }
}

#[tokio::test]
async fn open_connections_of_a_proxy_follow_believe() {
    let behind = Behind::start("127.0.0.0/8", &believing()).await;
    let one = behind.mutual.issue("one");
    let yaml = behind.mutual.yaml();
    let mut connections = Vec::new();
    for alpn in ["http/1.1", "h2"] {
        connections.push(connect(behind.mutual.asking(), &presenting(None, alpn)).await.unwrap());
    }
    for (believed, expected) in [("[client_cert]", 200), ("[scheme]", 401), ("[scheme, client_cert]", 200)] {
        behind.mutual.gateway.reloads(&yaml.replace("[client_cert]", believed));
        for connection in &mut connections {
            let request = with_header(behind.bound_to(&one), "client-cert", &statement(&one));
            assert_eq!(connection.send(request).await.status, expected, "{believed}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_loses_trust_is_no_client_by_its_certificate() {
    let behind = Behind::start("127.0.0.0/8", &asking("required")).await;
    let proxy = behind.mutual.issue("proxy");
    let yaml = behind.mutual.yaml();
    for alpn in ["http/1.1", "h2"] {
        behind.mutual.gateway.reload(&yaml);
        let mut connection = connect(behind.mutual.asking(), &presenting(&proxy, alpn)).await.unwrap();
        assert_eq!(connection.send(behind.bound_to(&proxy)).await.status, 401);
        behind.mutual.gateway.reloads(&yaml.replace("127.0.0.0/8", "10.0.0.0/8"));
        assert_eq!(connection.send(behind.bound_to(&proxy)).await.status, 401, "{alpn}");
        // A connection from now on is that of a client.
        let mut direct = connect(behind.mutual.asking(), &presenting(&proxy, alpn)).await.unwrap();
        assert_eq!(direct.send(behind.bound_to(&proxy)).await.status, 200, "{alpn}");
    }
}
