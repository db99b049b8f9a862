//! A flood of refusals can neither fill the disk nor displace mandatory lines.

use super::disk::limit_file_size;
use super::*;
use crate::support::client::with_token;

#[tokio::test]
async fn a_flood_of_unauthenticated_refusals_is_counted_without_loss() {
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
    home.is_sound();
}

/// How many decisions with this reason or decision have a line, and how many are counted in folded ones.
fn counted(lines: &[Value], member: &str, name: &str) -> (usize, u64) {
    let singly = lines.iter().filter(|line| line[format!("gateway.{member}")] == name).count();
    let folded = lines.iter().filter_map(|line| line[format!("gateway.folded.{member}.{name}")].as_u64()).sum();
    (singly, folded)
}

#[tokio::test]
async fn an_unwritable_log_counts_every_decision_in_lines_and_metrics() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "scope=read:data").await;
    let mut connection = client.connect().await;
    let size = fs::metadata(home.log()).unwrap().len();
    limit_file_size(&gateway, &(size + 100).to_string());
    granted_with(&client, 503).await;
    for _ in 0..30 {
        // A known caller is refused, and a public route answers.
        assert_eq!(connection.send(with_token(request("GET", "/write"), &token)).await.status, 403);
        assert_eq!(connection.send(request("GET", "/open")).await.status, 200);
    }
    gateway.log_line("the audit log takes lines too slowly");
    let metrics = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let count = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    assert!(count("portcullis_audit_folded_total") >= 60 && count("portcullis_audit_dropped_total") >= 60, "{metrics}");
    limit_file_size(&gateway, "unlimited");
    granted_with(&client, 200).await;
    stop(gateway).await;
    let lines = home.lines();
    for (member, name) in [("reason", "missing_scope"), ("decision", "allow")] {
        let (singly, folded) = counted(&lines, member, name);
        assert_eq!(singly as u64 + folded, 30, "{name}: {singly} lines");
        assert!(folded > 0, "{name}");
    }
    home.is_sound();
}

#[tokio::test]
async fn every_refusal_of_a_known_client_has_its_line() {
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
