//! The parameters of a token request: all that RFC 6749 allows; others are refused.

use serde_json::json as value;

use super::{CONFIG, Endpoint, GRANT, SECRET, TokenRequest, by_basic, form, json};
use crate::support::Client;
use crate::support::client::{request, with_body, with_header};

/// By the client `app`.
fn asks(parameters: &str) -> TokenRequest {
    by_basic(form(parameters), "app", SECRET)
}

fn asks_json(body: &str) -> TokenRequest {
    by_basic(json(body), "app", SECRET)
}

async fn each_is_refused(requests: impl IntoIterator<Item = TokenRequest>, error: &str, reason: &str) {
    let endpoint = Endpoint::start();
    for request in requests {
        endpoint.refuses(request, 400, error, reason).await;
    }
}

#[tokio::test]
async fn a_repeated_parameter_is_refused() {
    let names = ["grant_type=client_credentials", "client_id=app", "scope=read:data", "client_secret=x"];
    let forms = names.map(|pair| asks(&format!("{GRANT}&{pair}&{pair}")));
    let jsons = [r#"{"scope":"read:data","scope":"read:data"}"#, r#"{"x":1,"x":1}"#].map(asks_json);
    each_is_refused(forms.into_iter().chain(jsons), "invalid_request", "invalid_request").await;
}

#[tokio::test]
async fn json_that_is_no_object_of_strings_is_refused() {
    let bodies = [
        "",
        "[]",
        "7",
        "null",
        "{} {}",
        "{\"scope\":\"read:data\"",
        "\u{feff}{}",
        r#"{"scope":7}"#,
        r#"{"scope":[]}"#,
        r#"{"scope":["read:data",7]}"#,
        r#"{"scope":["read:data write:data"]}"#,
        r#"{"resource":[[]]}"#,
        r#"{"grant_type":["client_credentials"]}"#,
        r#"{"grant_type":true}"#,
        r#"{"client_id":7}"#,
        r#"{"client_secret":{}}"#,
    ];
    each_is_refused(bodies.map(asks_json), "invalid_request", "invalid_request").await;
}

#[tokio::test]
async fn a_form_must_name_its_grant_type() {
    let forms = ["", "grant_type=", "grant_type", "scope=read:data"].map(asks);
    each_is_refused(forms, "invalid_request", "invalid_request").await;
}

#[tokio::test]
async fn other_grants_are_unsupported() {
    let grants = ["password", "authorization_code", "refresh_token", "Client_Credentials", "client_credentials%20"];
    let forms = grants.map(|grant| asks(&format!("grant_type={grant}")));
    let jsons = [asks_json(r#"{"grant_type":"password"}"#)];
    each_is_refused(forms.into_iter().chain(jsons), "unsupported_grant_type", "unsupported_grant").await;
}

#[tokio::test]
async fn a_scope_that_is_unknown_or_malformed_is_refused_not_narrowed() {
    let scopes = [
        "admin",
        "read:data admin",
        "READ:DATA",
        "read",
        "read:data*",
        "read:data  write:data",
        " read:data",
        "read:data ",
        "read:data,write:data",
        "read:\"data",
        "read:\\data",
        "re\u{430}d:data",
        &"read:data ".repeat(500),
        &"x".repeat(5000),
    ];
    let forms = scopes.map(|scope| {
        asks(&format!("{GRANT}&scope={}", form_urlencoded::byte_serialize(scope.as_bytes()).collect::<String>()))
    });
    each_is_refused(forms, "invalid_scope", "invalid_scope").await;
}

#[tokio::test]
async fn an_audience_outside_the_clients_is_an_invalid_target() {
    let audiences = ["https://elsewhere.example.com", "https://api.example.com/", "https://secret.example.com"];
    let forms = audiences.map(|audience| asks(&format!("{GRANT}&audience={audience}")));
    let resources = audiences.map(|audience| asks(&format!("{GRANT}&resource={audience}")));
    each_is_refused(forms.into_iter().chain(resources), "invalid_target", "invalid_target").await;
}

#[tokio::test]
async fn each_of_several_resources_must_be_the_clients() {
    let both = "resource=https://api.example.com&audience=https://secret.example.com";
    let list = r#"{"resource":["https://secret.example.com","https://api.example.com"]}"#;
    each_is_refused([asks(&format!("{GRANT}&{both}")), asks_json(list)], "invalid_target", "invalid_target").await;
}

#[tokio::test]
async fn a_refused_scope_is_named_to_its_client_only() {
    let endpoint = Endpoint::start();
    let asked = || form(&format!("{GRANT}&scope=read:data+admin:all"));
    let answer = endpoint.refuses(by_basic(asked(), "app", SECRET), 400, "invalid_scope", "invalid_scope").await;
    assert_eq!(answer.json()["error_description"], "the scope admin:all is not allowed for this client");
    let answer = endpoint.refuses(by_basic(asked(), "app", "wrong"), 401, "invalid_client", "invalid_client").await;
    assert!(!answer.json().to_string().contains("admin"), "{answer:?}");
}

#[tokio::test]
async fn a_refused_grant_is_recorded_with_found_and_wanted() {
    let endpoint = Endpoint::start();
    let audiences = "https://api.example.com https://billing.example.com";
    for (asked, found, wanted) in [
        ("scope=admin:all", "admin:all", "read:data write:data"),
        ("scope=%22", "a malformed scope", "read:data write:data"),
        ("resource=https://secret.example.com", "https://secret.example.com", audiences),
    ] {
        let answer = endpoint.client.send(asks(&format!("{GRANT}&{asked}"))).await;
        let line = endpoint.gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.found"], &line["gateway.wanted"]), (&found.into(), &wanted.into()), "{line}");
    }
}

#[tokio::test]
async fn json_sent_as_a_form_is_told_its_content_type() {
    let endpoint = Endpoint::start();
    let asked = asks(&value!({"grant_type": "client_credentials", "scope": "read:data"}).to_string());
    let answer = endpoint.refuses(asked, 400, "invalid_request", "invalid_request").await;
    let hint = "the body is JSON, but Content-Type names a form: send Content-Type application/json";
    assert_eq!(answer.json()["error_description"], hint);
}

#[tokio::test]
async fn a_line_break_at_the_end_of_a_form_is_ignored() {
    let endpoint = Endpoint::start();
    for end in ["\r\n", "\n"] {
        let parameters = format!("{GRANT}&client_id=app&scope=read:data&client_secret={SECRET}{end}");
        let answer = endpoint.grants("app", form(&parameters)).await;
        assert_eq!(answer["scope"], "read:data");
    }
}

#[tokio::test]
async fn a_client_that_asks_for_too_much_is_known_in_the_audit_log() {
    let endpoint = Endpoint::start();
    for asked in ["scope=admin", "audience=https://elsewhere.example.com"] {
        let answer = endpoint.client.send(asks(&format!("{GRANT}&{asked}"))).await;
        let line = endpoint.gateway.audit_of(answer.request_id());
        assert_eq!((&line["oauth.client_id"], &line["oauth.issuer"]), (&"app".into(), &"self".into()), "{line}");
        assert!(line.get("oauth.verified").is_none(), "{line}");
    }
}

#[tokio::test]
async fn unknown_parameters_are_ignored_and_empty_ones_omitted() {
    let endpoint = Endpoint::start();
    let answer = endpoint.grants("app", asks(&format!("{GRANT}&scope=&audience=&x=1&x=2&y"))).await;
    assert_eq!(answer["scope"], "read:data write:data");
    let asked = value!({"scope": "", "audience": null, "x": [1, {"y": 2}]}).to_string();
    let answer = endpoint.grants("app", asks_json(&asked)).await;
    assert_eq!(answer["scope"], "read:data write:data");
}

#[tokio::test]
async fn only_post_is_taken() {
    let endpoint = Endpoint::start();
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let answer = endpoint.client.send(by_basic(request(method, "/oauth/token"), "app", SECRET)).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method}");
        let line = endpoint.gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.reason"], &line["http.route"]), (&"method_not_allowed".into(), &"(token)".into()));
    }
}

#[tokio::test]
async fn only_forms_and_json_are_read() {
    let endpoint = Endpoint::start();
    let posted = || by_basic(with_body(request("POST", "/oauth/token"), GRANT), "app", SECRET);
    endpoint.refuses(posted(), 415, "invalid_request", "invalid_request").await;
    for other in ["text/plain", "multipart/form-data; boundary=x", "application/jsonx", "application/xml", ""] {
        let asked = with_header(posted(), "content-type", other);
        endpoint.refuses(asked, 415, "invalid_request", "invalid_request").await;
    }
    for form in ["application/x-www-form-urlencoded;charset=UTF-8", "Application/X-WWW-Form-URLEncoded"] {
        endpoint.grants("app", with_header(posted(), "content-type", form)).await;
    }
}

#[tokio::test]
async fn json_is_not_read_where_it_is_switched_off() {
    let endpoint =
        Endpoint::configured(&CONFIG.replace("token_endpoint: {", "token_endpoint: {json_requests: false, "));
    endpoint.refuses(asks_json("{}"), 415, "invalid_request", "invalid_request").await;
    endpoint.grants("app", asks(GRANT)).await;
}

#[tokio::test]
async fn a_body_over_16_kib_is_refused() {
    let endpoint = Endpoint::start();
    let padded = |bytes: usize| format!("{GRANT}&x={}", "x".repeat(bytes - GRANT.len() - 3));
    endpoint.grants("app", asks(&padded(16 * 1024))).await;
    for body in [padded(16 * 1024 + 1), "a=b&".repeat(10_000)] {
        endpoint.refuses(asks(&body), 413, "invalid_request", "too_large").await;
    }
}

#[tokio::test]
async fn a_caller_over_its_limit_gets_retry_after() {
    let endpoint = Endpoint::configured(&CONFIG.replace("rate: 10000/s", "rate: 2/h"));
    endpoint.grants("app", asks(GRANT)).await;
    endpoint.refuses(by_basic(form(GRANT), "app", "a wrong secret"), 401, "invalid_client", "invalid_client").await;
    let answer = endpoint.refuses(asks(GRANT), 429, "rate_limited", "rate_limited").await;
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=1800).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn tokens_are_granted_over_http2_too() {
    let endpoint = Endpoint::start();
    let endpoint = Endpoint { client: Client::http2(&endpoint.gateway), ..endpoint };
    endpoint.grants("app", asks(GRANT)).await;
    endpoint.refuses(asks("grant_type=password"), 400, "unsupported_grant_type", "unsupported_grant").await;
}
