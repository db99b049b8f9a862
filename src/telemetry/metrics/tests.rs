use super::*;

#[test]
fn reports_are_summed_and_labels_escaped() {
    let labels =
        DecisionLabels { http_route: "a\"b\n".to_owned(), issuer: String::new(), decision: "issue", reason: "" };
    let mut durations = Histogram::default();
    durations.observe(Duration::from_millis(7));
    let duration_labels =
        DurationLabels { http_route: "r".to_owned(), http_request_method: "GET", http_response_status_code: 200 };
    let report = WorkerReport {
        decisions: vec![(labels, 2)],
        durations: vec![(duration_labels, durations)],
        ..WorkerReport::default()
    };
    let text = page(vec![report.clone(), report], Process::default()).unwrap();
    assert!(
        text.contains(r#"portcullis_auth_decisions_total{http_route="a\"b\n",issuer="",decision="issue",reason=""} 4"#),
        "{text}"
    );
    assert!(text.contains("portcullis_tokens_issued_total 4"), "{text}");
    let bucket = r#"http_server_request_duration_seconds_bucket{le="0.01",http_route="r",http_request_method="GET",http_response_status_code="200"} 2"#;
    assert!(text.contains(bucket), "{text}");
    assert!(
        text.contains(r#"le="0.005",http_route="r",http_request_method="GET",http_response_status_code="200"} 0"#),
        "{text}"
    );
}
