use super::*;
use crate::clock::UnixTime;
use crate::trust::example::NOW;

const CACHE: Duration = Duration::from_secs(30);

fn read(body: &str) -> Result<TokenAnswer, IntrospectionResult> {
    let read = TokenAnswer::read(body.as_bytes().to_vec(), CACHE, UnixTime::from_seconds(NOW), Instant::now());
    read.map_err(|(result, _)| result)
}

#[tokio::test(start_paused = true)]
async fn only_a_boolean_tells_whether_a_token_is_active() {
    assert!(matches!(read(r#"{"active":true}"#), Ok(TokenAnswer::Active(_))));
    assert!(matches!(read(r#"{"active":false,"exp":"x"}"#), Ok(TokenAnswer::Inactive)));
    for bad in [
        "",
        "{}",
        "[]",
        "true",
        r#"{"active":"true"}"#,
        r#"{"active":1}"#,
        r#"{"active":null}"#,
        r#"{"active":[true]}"#,
        r#"{"active":true,"active":false}"#,
        r#"{"active":true"#,
    ] {
        assert_eq!(read(bad).unwrap_err(), IntrospectionResult::Malformed, "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_for_the_cache_time_and_not_beyond_exp() {
    for (exp, counts) in [("", 30), (r#","exp":1800000010"#, 10), (r#","exp":1800000600"#, 30), (r#","exp":7"#, 0)] {
        let answer = read(&format!(r#"{{"active":true{exp}}}"#));
        let Ok(TokenAnswer::Active(active)) = answer else { panic!("{exp}") };
        assert_eq!(active.until, Instant::now() + Duration::from_secs(counts), "{exp}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_without_exp_ends_with_its_answer() {
    let Ok(TokenAnswer::Active(active)) = read(r#"{"active":true,"sub":"s"}"#) else { panic!("it is active") };
    assert_eq!(active.claims().unwrap().expires_at, NOW + 30);
}

#[tokio::test]
async fn a_command_that_only_rehearses_asks_nothing() {
    let offline = Arc::new(Introspection::offline(IssuerName::new("corp")));
    assert!(offline.ask("a-token", None).await.is_err() && !offline.knows("a-token"));
}
