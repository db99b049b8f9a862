//! `tls_client_auth`: clients that the names of their certificates authenticate (RFC 8705 §2.1).

use super::*;

const SECRET: &str = "correct horse battery staple";

/// Clients by each kind of name, and one with a secret.
const OAUTH: &str = r#"oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {algorithm: ES256}
  token_endpoint: {rate_limits: [{rate: 10000/s, per: address}]}
  clients:
    by-uri: {certificates: [{san_uri: "spiffe://example.com/app"}], scopes: [read:data]}
    by-dns: {certificates: [{san_dns: other.example.com}, {san_dns: App.example.com}], scopes: [read:data]}
    by-dn: {certificates: [{subject_dn: "CN=app, O=Example"}], scopes: [read:data]}
    elsewhere: {certificates: [{san_dns: app.example.com}], scopes: [read:data], allow_from: [10.0.0.0/8]}
    both: {certificates: [{san_dns: app.example.com}], secrets: [{value: correct horse battery staple}], scopes: [read:data]}
    by-secret: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}
"#;

async fn start() -> Mutual {
    Mutual::with("optional", &["path: /bound, access: {scopes: [read:data]}"], OAUTH).await
}

async fn token(mutual: &Mutual, by: &Arc<ClientConfig>, parameters: &str) -> Answer {
    ask(mutual.asking(), by, token_request(parameters)).await.unwrap()
}

#[tokio::test]
async fn each_kind_of_name_authenticates_its_client() {
    let mutual = start().await;
    let app = mutual.issue("app");
    for alpn in ["http/1.1", "h2"] {
        let by = presenting(&app, alpn);
        for client in ["by-uri", "by-dns", "by-dn", "both"] {
            let answer = token(&mutual, &by, &format!("client_id={client}")).await;
            assert_eq!(answer.status, 200, "{client} {answer:?}");
            assert_eq!(answer.json()["token_type"], "Bearer");
            let line = mutual.gateway.audit_of(answer.request_id());
            assert_eq!(
                (&line["oauth.client_id"], &line["gateway.decision"]),
                (&client.into(), &"issue".into()),
                "{line}"
            );
            assert_eq!(line["oauth.auth_method"], "tls_client_auth", "{line}");
        }
    }
}

#[tokio::test]
async fn wrong_certificates_and_unknown_clients_look_the_same() {
    let mutual = start().await;
    let (app, other) = (mutual.issue("app"), mutual.issue("another"));
    let mut answers = Vec::new();
    for (issued, client, reason) in [
        (&other, "by-uri", "invalid_client"),
        (&other, "by-dns", "invalid_client"),
        (&other, "by-dn", "invalid_client"),
        (&app, "by-secret", "invalid_client"),
        (&app, "nobody", "invalid_client"),
        (&app, "elsewhere", "address_not_allowed"),
    ] {
        let answer = token(&mutual, &presenting(issued, "h2"), &format!("client_id={client}")).await;
        assert_eq!(answer.status, 401, "{client}");
        assert!(!answer.headers.contains_key("www-authenticate"), "{client}");
        let line = mutual.gateway.audit_of(answer.request_id());
        assert_eq!(line["gateway.reason"], reason, "{line}");
        let mut body = answer.json();
        body["request_id"] = "".into();
        answers.push(body);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let line =
        mutual.gateway.audit_line(|line| line["gateway.found"].to_string().contains("spiffe://example.com/another"));
    assert_eq!(line["gateway.wanted"], "a certificate with a name of `certificates`");
    assert!(line["gateway.found"].as_str().unwrap().contains("subject_dn=CN=another,O=Example"), "{line}");
}

#[tokio::test]
async fn wrong_certificates_are_delayed_like_wrong_secrets() {
    let mutual = start().await;
    let by = presenting(&mutual.issue("another"), "h2");
    let mut connection = connect(mutual.asking(), &by).await.unwrap();
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(connection.send(token_request("client_id=by-uri")).await.status);
    }
    assert!(statuses.contains(&429) && statuses[0] == 401, "{statuses:?}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_not_authenticated() {
    let mutual = start().await;
    for to in [mutual.asking(), mutual.other()] {
        let answer = ask(to, &presenting(None, "h2"), token_request("client_id=by-uri")).await.unwrap();
        assert_eq!((answer.status, &answer.json()["error"]), (401, &"invalid_client".into()));
        let line = mutual.gateway.audit_of(answer.request_id());
        let values = (&line["gateway.found"], &line["gateway.wanted"]);
        let wanted = "a certificate with san_uri=spiffe://example.com/app";
        assert_eq!(values, (&"no client certificate".into(), &wanted.into()), "{line}");
    }
    let mut unknown = Vec::new();
    for client in ["by-uri", "both", "by-secret", "nobody"] {
        let parameters = format!("client_id={client}");
        let answer = ask(mutual.other(), &presenting(None, "h2"), token_request(&parameters)).await.unwrap();
        let line = mutual.gateway.audit_of(answer.request_id());
        assert_eq!(line.get("gateway.found").is_some(), client == "by-uri", "{line}");
        let mut body = answer.json();
        body["request_id"] = "".into();
        unknown.push((answer.status, body));
    }
    assert!(unknown.iter().all(|answer| *answer == unknown[0]), "{unknown:?}");
    let app = mutual.issue("app");
    let answer = ask(mutual.other(), &presenting(&app, "h2"), token_request("client_id=by-uri")).await.unwrap();
    assert_eq!(answer.status, 401, "that listener does not ask for it");
    let answer = token(&mutual, &presenting(&app, "h2"), "scope=read:data").await;
    assert_eq!(answer.status, 401, "the request names no client");
}

#[tokio::test]
async fn a_certificate_beside_a_secret_is_not_a_second_way() {
    let mutual = start().await;
    let by = presenting(&mutual.issue("app"), "http/1.1");
    let secret = SECRET.replace(' ', "%20");
    let answer = token(&mutual, &by, &format!("client_id=by-secret&client_secret={secret}")).await;
    let token_of_secret = access_token(&answer);
    // The client has to bind nothing, so that its token is good at every listener.
    assert_eq!(ask(mutual.other(), &by, with_bearer(&token_of_secret)).await.unwrap().status, 200);
    let answer = token(&mutual, &by, "client_id=both&client_secret=wrong%20horse%20battery%20staple").await;
    assert_eq!(answer.status, 401, "the certificate does not help a wrong secret");
}

#[tokio::test]
async fn a_token_is_revoked_by_its_client_with_the_certificate() {
    let mutual = start().await;
    let (app, other) = (mutual.issue("app"), mutual.issue("another"));
    let by = presenting(&app, "h2");
    let token = access_token(&token(&mutual, &by, "client_id=by-uri").await);
    let revoke = || {
        let mut request = token_request(&format!("client_id=by-uri&token={token}"));
        *request.uri_mut() = "https://localhost/oauth/revoke".parse().unwrap();
        request
    };
    assert_eq!(ask(mutual.asking(), &presenting(&other, "h2"), revoke()).await.unwrap().status, 401);
    assert_eq!(ask(mutual.asking(), &by, with_bearer(&token)).await.unwrap().status, 200);
    assert_eq!(ask(mutual.asking(), &by, revoke()).await.unwrap().status, 200);
    assert_eq!(ask(mutual.asking(), &by, with_bearer(&token)).await.unwrap().status, 401);
}

#[tokio::test]
async fn a_believed_proxy_states_the_certificate_of_a_client() {
    let listener = listener("").replace("127.0.0.1:0", "127.0.0.1:0, believe: [client_cert]");
    let sections = format!("listeners: [{listener}]\ntrusted_proxies: [127.0.0.0/8]\n{OAUTH}");
    let mutual = Mutual::with_listeners(&["path: /bound, access: {scopes: [read:data]}"], &sections).await;
    let (app, other) = (mutual.issue("app"), mutual.issue("another"));
    let mut connection = connect(mutual.asking(), &presenting(None, "http/1.1")).await.unwrap();
    let stating = |issued| with_header(token_request("client_id=by-dn"), "client-cert", &statement(issued));
    assert_eq!(connection.send(stating(&other)).await.status, 401);
    let token = access_token(&connection.send(stating(&app)).await);
    assert_eq!(connection.send(token_request("client_id=by-dn")).await.status, 401, "nothing is kept");
    assert_eq!(connection.send(with_bearer(&token)).await.status, 401);
    assert_eq!(connection.send(with_header(with_bearer(&token), "client-cert", &statement(&app))).await.status, 200);
    let expired = mutual.authority.issue_expired(&["app.example.com"]);
    let request = with_header(token_request("client_id=by-dns"), "client-cert", &statement(&expired));
    assert_eq!(connection.send(request).await.status, 401, "the certificate has ended");
}

#[tokio::test]
async fn the_metadata_names_certificates_where_they_are_taken() {
    let mutual = Mutual::with(
        "optional",
        &["path: /x, access: public"],
        &OAUTH.replacen("\n", "\n  mtls_origin: https://mtls.example.com\n", 1),
    )
    .await;
    let path = "/.well-known/oauth-authorization-server";
    let metadata = ask(mutual.other(), &presenting(None, "h2"), request("GET", path)).await.unwrap().json();
    assert_eq!(metadata["tls_client_certificate_bound_access_tokens"], true);
    let methods = metadata["token_endpoint_auth_methods_supported"].as_array().unwrap();
    assert!(methods.contains(&"tls_client_auth".into()), "{methods:?}");
    assert_eq!(metadata["token_endpoint"], "https://localhost:8443/oauth/token");
    assert_eq!(
        metadata["mtls_endpoint_aliases"],
        serde_json::json!({
            "token_endpoint": "https://mtls.example.com/oauth/token",
            "revocation_endpoint": "https://mtls.example.com/oauth/revoke",
        })
    );
    let gateway = Gateway::before("127.0.0.1:9".parse().unwrap(), &["path: /x, access: public"]);
    let metadata = Client::new(&gateway).get(path).await.json();
    for member in ["tls_client_certificate_bound_access_tokens", "mtls_endpoint_aliases"] {
        assert!(metadata.get(member).is_none(), "{member}");
    }
    assert!(!metadata["token_endpoint_auth_methods_supported"].to_string().contains("tls_client_auth"));
}
