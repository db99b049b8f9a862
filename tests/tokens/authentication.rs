//! Client authentication: every valid form, and every invalid one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::json as value;

use super::{
    CONFIG, Endpoint, GRANT, OTHER_SECRET, SECOND_SECRET, SECRET, SPECIAL_SECRET, by_basic, by_header, form, json,
};
use crate::support::Answer;
use crate::support::client::{request, with_body, with_header};

/// An answer without what differs from one to the next.
pub(super) fn said(answer: &Answer) -> (u16, HeaderMap, String) {
    let mut headers = answer.headers.clone();
    for changing in ["x-request-id", "date", "ratelimit"] {
        headers.remove(changing);
    }
    let body = String::from_utf8_lossy(&answer.body).replace(answer.request_id(), "ID");
    (answer.status, headers, body)
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn basic_bytes(user_and_password: &[u8]) -> Vec<u8> {
    format!("Basic {}", STANDARD.encode(user_and_password)).into_bytes()
}

#[tokio::test]
async fn a_client_may_use_basic_credentials() {
    let endpoint = Endpoint::start();
    endpoint.grants("app", by_basic(form(GRANT), "app", SECRET)).await;
    let lower_case = [b"basic ", &basic_bytes(format!("app:{SECRET}").as_bytes())[6..]].concat();
    endpoint.grants("app", by_header(form(GRANT), &lower_case)).await;
}

#[tokio::test]
async fn basic_credentials_may_be_form_encoded_or_as_they_are() {
    let endpoint = Endpoint::start();
    endpoint.grants("special", by_basic(form(GRANT), "special", &encoded(SPECIAL_SECRET))).await;
    endpoint.grants("special", by_basic(form(GRANT), "special", SPECIAL_SECRET)).await;
    endpoint.grants("app", by_basic(form(GRANT), "%61pp", &encoded(SECRET))).await;
}

#[tokio::test]
async fn a_client_id_may_have_spaces_colons_and_slashes() {
    let ids = ["my app", "urn:example:app", "https://app.example.com/client", "a\"b\\c/d"];
    let quoted = ids.map(|id| value!(id).to_string());
    let client = |id: &String| format!("    {id}: {{secrets: [{{value: '{SECRET}'}}], scopes: [read:data]}}\n");
    let clients: String = quoted.iter().map(client).collect();
    let config = CONFIG.replace("    other:", &format!("{clients}    other:"));
    let access = format!("respond: {{body: hello}}, access: {{clients: [{}]}}", quoted.join(", "));
    let endpoint = Endpoint::configured(&config.replace("upstream: legacy, access: public", &access));
    for id in ids {
        let granted = endpoint.grants(id, by_basic(form(GRANT), &encoded(id), SECRET)).await;
        let token = granted["access_token"].as_str().unwrap();
        let answer = endpoint.client.get_with("/ping", token).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]), "{id}");
        assert_eq!(endpoint.gateway.audit_of(answer.request_id())["oauth.client_id"], id);
        let body = value!({"client_id": id, "client_secret": SECRET}).to_string();
        endpoint.grants(id, json(&body)).await;
    }
    // Not encoded, the id ends at the first colon.
    let plain = by_basic(form(GRANT), "urn:example:app", SECRET);
    endpoint.refuses(plain, 401, "invalid_client", "invalid_client").await;
}

#[tokio::test]
async fn a_client_may_put_its_credentials_into_the_form() {
    let endpoint = Endpoint::start();
    let body = format!("{GRANT}&client_id=app&client_secret={}", encoded(SECRET));
    endpoint.grants("app", form(&body)).await;
    let body = format!("{GRANT}&client_id=special&client_secret={}", encoded(SPECIAL_SECRET));
    endpoint.grants("special", form(&body)).await;
}

#[tokio::test]
async fn json_credentials_may_leave_out_the_grant_type() {
    let endpoint = Endpoint::start();
    endpoint.grants("app", json(&value!({"client_id": "app", "client_secret": SECRET}).to_string())).await;
    endpoint.grants("app", by_basic(json("{}"), "app", SECRET)).await;
}

#[tokio::test]
async fn callers_of_auth0_get_exactly_the_answer_they_know() {
    let endpoint = Endpoint::start();
    let asked = value!({
        "client_id": "app", "client_secret": SECRET, "audience": "https://billing.example.com", "grant_type": "client_credentials",
    });
    let answer = endpoint.grants("app", json(&asked.to_string())).await;
    let mut names: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["access_token", "expires_in", "scope", "token_type"]);
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&"Bearer".into(), &3600.into()));
}

#[tokio::test]
async fn several_secrets_live_at_once() {
    let endpoint = Endpoint::start();
    endpoint.grants("app", by_basic(form(GRANT), "app", SECRET)).await;
    endpoint.grants("app", by_basic(form(GRANT), "app", SECOND_SECRET)).await;
}

#[tokio::test]
async fn the_same_client_id_in_header_and_body_is_fine() {
    let endpoint = Endpoint::start();
    endpoint.grants("app", by_basic(form(&format!("{GRANT}&client_id=app")), "app", SECRET)).await;
}

#[tokio::test]
async fn a_wrong_secret_is_challenged_by_basic_and_not_in_the_body() {
    let endpoint = Endpoint::start();
    for wrong in ["not the right secret", &SECRET[1..], &format!("{SECRET} "), &SECRET.to_uppercase(), OTHER_SECRET] {
        let answer =
            endpoint.refuses(by_basic(form(GRANT), "app", wrong), 401, "invalid_client", "invalid_client").await;
        assert_eq!(answer.header("www-authenticate"), "Basic realm=\"portcullis\"");
        let body = format!("{GRANT}&client_id=app&client_secret={}", encoded(wrong));
        let answer = endpoint.refuses(form(&body), 401, "invalid_client", "invalid_client").await;
        assert!(!answer.headers.contains_key("www-authenticate"), "{answer:?}");
    }
}

#[tokio::test]
async fn refusals_do_not_tell_which_clients_exist() {
    let endpoint = Endpoint::start();
    let unknown =
        endpoint.refuses(by_basic(form(GRANT), "nobody", SECRET), 401, "invalid_client", "invalid_client").await;
    let wrong =
        endpoint.refuses(by_basic(form(GRANT), "app", OTHER_SECRET), 401, "invalid_client", "invalid_client").await;
    assert_eq!(said(&unknown), said(&wrong));
    let posted = |id| format!("{GRANT}&client_id={id}&client_secret=no+secret+of+anyone");
    let unknown = endpoint.refuses(form(&posted("nobody")), 401, "invalid_client", "invalid_client").await;
    let wrong = endpoint.refuses(form(&posted("app")), 401, "invalid_client", "invalid_client").await;
    assert_eq!(said(&unknown), said(&wrong));
    let posted = |id| json(&value!({"client_id": id, "client_secret": "no secret of anyone"}).to_string());
    let unknown = endpoint.refuses(posted("nobody"), 401, "invalid_client", "invalid_client").await;
    let wrong = endpoint.refuses(posted("app"), 401, "invalid_client", "invalid_client").await;
    assert_eq!(said(&unknown), said(&wrong));
}

#[tokio::test]
async fn a_refused_client_is_audited_as_it_claimed_to_be() {
    let endpoint = Endpoint::start();
    for id in ["app", "nobody"] {
        let answer = endpoint.client.send(by_basic(form(GRANT), id, OTHER_SECRET)).await;
        let line = endpoint.gateway.audit_of(answer.request_id());
        assert_eq!((&line["oauth.client_id"], &line["oauth.verified"]), (&id.into(), &false.into()), "{line}");
    }
}

#[tokio::test]
async fn a_request_without_credentials_is_refused_without_a_challenge() {
    let endpoint = Endpoint::start();
    let no_secret = format!("{GRANT}&client_id=app");
    let empty_secret = format!("{GRANT}&client_id=app&client_secret=");
    let no_id = format!("{GRANT}&client_secret={}", encoded(SECRET));
    for request in [form(GRANT), form(&no_secret), form(&empty_secret), form(&no_id), json("{}")] {
        let answer = endpoint.refuses(request, 401, "invalid_client", "invalid_client").await;
        assert!(!answer.headers.contains_key("www-authenticate"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_malformed_basic_header_is_refused_with_a_challenge() {
    let endpoint = Endpoint::start();
    let good = basic_bytes(format!("app:{SECRET}").as_bytes());
    let mut values: Vec<Vec<u8>> =
        [&b"app"[..], b":", b"app:", b":secret", b"app:a\0b", b"app:\xff\xfe", b""].map(basic_bytes).into();
    values
        .extend([&b"Basic"[..], b"Basic !!!", b"Bearer abc", b"Digest x=y", b"Basicabc", b"\xff"].map(<[u8]>::to_vec));
    values.push([&good, &b"!"[..]].concat());
    values.push([&good, &b", Bearer abc"[..]].concat());
    for value in values {
        let answer = endpoint.refuses(by_header(form(GRANT), &value), 401, "invalid_client", "invalid_client").await;
        assert_eq!(answer.header("www-authenticate"), "Basic realm=\"portcullis\"", "{value:?}");
    }
}

#[tokio::test]
async fn more_than_one_way_at_once_is_refused() {
    let endpoint = Endpoint::start();
    let secret_too = format!("{GRANT}&client_secret={}", encoded(SECRET));
    let both_too = format!("{GRANT}&client_id=app&client_secret={}", encoded(SECRET));
    let other_id = format!("{GRANT}&client_id=other");
    let json_too = value!({"client_id": "app", "client_secret": SECRET}).to_string();
    for request in [
        by_basic(form(&secret_too), "app", SECRET),
        by_basic(form(&both_too), "app", SECRET),
        by_basic(form(&other_id), "app", SECRET),
        by_basic(json(&json_too), "app", SECRET),
        by_basic(by_basic(form(GRANT), "app", SECRET), "app", SECRET),
        by_header(by_basic(form(GRANT), "app", SECRET), b"Bearer abc"),
    ] {
        endpoint.refuses(request, 400, "invalid_request", "invalid_request").await;
    }
}

#[tokio::test]
async fn credentials_in_the_query_string_are_refused_and_never_logged() {
    let endpoint = Endpoint::start();
    let posted = |query: &str, body: &str| {
        let request = request("POST", &format!("/oauth/token?{query}"));
        with_body(with_header(request, "content-type", "application/x-www-form-urlencoded"), body.to_owned())
    };
    let all = format!("{GRANT}&client_id=app&client_secret={}", encoded(SECRET));
    for query in [&all, "client_secret=x", "client_id=app", "a=b&client%5Fsecret=x"] {
        let asked = by_basic(posted(query, GRANT), "app", SECRET);
        endpoint.refuses(asked, 400, "invalid_request", "invalid_request").await;
    }
    // Other parameters of the query mean nothing: these scopes are not asked for.
    let answer = endpoint.grants("app", by_basic(posted("scope=read:data&tenant=x", GRANT), "app", SECRET)).await;
    assert_eq!(answer["scope"], "read:data write:data");
}

#[tokio::test]
async fn a_client_that_keeps_failing_waits_and_others_do_not() {
    let endpoint = Endpoint::start();
    for id in ["app", "nobody"] {
        let mut statuses = Vec::new();
        while statuses.last() != Some(&429) {
            assert!(statuses.len() < 50, "{id}: {statuses:?}");
            let answer = endpoint.client.send(by_basic(form(GRANT), id, OTHER_SECRET)).await;
            statuses.push(answer.status);
            if answer.status == 429 {
                assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0, "{answer:?}");
                assert_eq!(answer.json()["error"], "rate_limited");
                assert_eq!(answer.headers.get("ratelimit"), None, "the rate limit has room");
                let line = endpoint.gateway.audit_of(answer.request_id());
                assert_eq!(
                    (&line["gateway.decision"], &line["gateway.reason"]),
                    (&"deny".into(), &"too_many_failures".into())
                );
                assert_eq!((&line["oauth.client_id"], &line["oauth.verified"]), (&id.into(), &false.into()), "{line}");
            }
        }
        assert!(statuses.iter().filter(|status| **status == 401).count() >= 10, "{id}: {statuses:?}");
    }
    endpoint.grants("other", by_basic(form(GRANT), "other", OTHER_SECRET)).await;
}

/// Wrong secrets until the first is refused unseen; how many were compared.
async fn into_back_off(endpoint: &Endpoint, id: &str) -> usize {
    for compared in 0..50 {
        if endpoint.client.send(by_basic(form(GRANT), id, OTHER_SECRET)).await.status == 429 {
            return compared;
        }
    }
    panic!("{id} never waits");
}

#[tokio::test]
async fn in_back_off_a_right_secret_waits_its_turn_of_one_a_second() {
    let endpoint = Endpoint::start();
    let mut refused = None;
    // An attempt at the first instant of another second has its turn: then the pair has succeeded, and it begins anew.
    for _ in 0..20 {
        assert!(into_back_off(&endpoint, "app").await >= 10);
        let answer = endpoint.client.send(by_basic(form(GRANT), "app", SECRET)).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let refused = refused.expect("a right secret is never made to wait");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0, "{refused:?}");
    assert_eq!(refused.json()["error"], "rate_limited");
    assert_eq!(endpoint.gateway.audit_of(refused.request_id())["gateway.reason"], "too_many_failures");
    let begun = std::time::Instant::now();
    while endpoint.client.send(by_basic(form(GRANT), "app", SECRET)).await.status != 200 {
        assert!(begun.elapsed() < crate::support::gateway::PATIENCE, "it never has its turn");
    }
}

#[tokio::test]
async fn during_back_off_no_more_than_one_guess_a_second_is_compared() {
    let endpoint = Endpoint::start();
    for id in ["app", "nobody"] {
        into_back_off(&endpoint, id).await;
        let begun = std::time::Instant::now();
        let mut compared = 0;
        for _ in 0..300 {
            let answer = endpoint.client.send(by_basic(form(GRANT), id, OTHER_SECRET)).await;
            assert!([401, 429].contains(&answer.status), "{answer:?}");
            compared += u64::from(answer.status == 401);
        }
        let seconds = begun.elapsed().as_secs();
        assert!(compared <= seconds + 2, "{id}: {compared} in {seconds} s");
    }
}
