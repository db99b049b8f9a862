//! A flood of refusals can neither fill the disk nor hide what must be recorded.

use super::*;
use crate::support::client::with_token;

#[tokio::test]
async fn strangers_refused_in_floods_are_counted_and_none_is_forgotten() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl, refusals_per_second: 20").await;
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "").await;
    let mut connection = client.connect().await;
    let (mut refused, mut protected) = (0, Vec::new());
    for round in 0..20 {
        for path in ["/none", "/data"].into_iter().cycle().take(50) {
            assert!(matches!(connection.send(request("GET", path)).await.status, 401 | 404));
            refused += 1;
        }
        assert_eq!(connection.send(with_token(request("GET", "/data"), "x")).await.status, 401);
        refused += 1;
        if round % 5 == 0 {
            let answer = connection.send(with_token(request("GET", "/data"), &token)).await;
            assert_eq!(answer.status, 200);
            protected.push(answer.request_id().to_owned());
        }
    }
    stop(gateway).await;
    let lines = home.lines();
    let singly = lines.iter().filter(|line| line["gateway.decision"] == "deny").count() as u64;
    let folded: Vec<_> = lines.iter().filter(|line| line["gateway.event"] == "refusals_folded").collect();
    let counted: u64 = folded.iter().map(|line| line["gateway.folded.count"].as_u64().unwrap()).sum();
    assert_eq!(singly + counted, refused);
    assert!(counted > singly, "{singly} lines, {counted} counted");
    for line in folded {
        let reasons = ["no_route", "no_token", "malformed"]
            .map(|reason| line[format!("gateway.folded.reason.{reason}")].as_u64());
        assert_eq!(reasons.into_iter().flatten().sum::<u64>(), line["gateway.folded.count"], "{line}");
        assert_eq!(line["client.address"], "127.0.0.1");
        assert!(line["gateway.folded.first"].as_str() <= line["gateway.folded.last"].as_str());
    }
    for id in protected {
        assert!(lines.iter().any(|line| line["gateway.request_id"] == id && line["gateway.decision"] == "allow"));
    }
    home.is_believed();
}

#[tokio::test]
async fn a_client_of_ours_that_is_refused_is_told_each_time() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl, refusals_per_second: 1").await;
    let client = Client::new(&gateway);
    for _ in 0..10 {
        assert_eq!(client.token("other", SECRET, "scope=write:data").await.status, 400);
    }
    stop(gateway).await;
    let refused = home.lines().iter().filter(|line| line["gateway.reason"] == "invalid_scope").count();
    assert_eq!(refused, 10);
}
