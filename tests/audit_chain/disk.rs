//! Every incident of the file is noticed, requests that can't be recorded are refused, and the log recovers by itself.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;

async fn is_ready(gateway: &Gateway) -> bool {
    Client::plain(gateway.admin.unwrap()).get("/readyz").await.status == 200
}

pub(super) fn limit_file_size(gateway: &Gateway, bytes: &str) {
    let limit = format!("--fsize={bytes}:unlimited");
    assert!(Command::new("prlimit").args(["--pid", &gateway.id().to_string(), &limit]).status().unwrap().success());
}

/// A write that stops half-way through a line, and a signal that would end the process.
#[tokio::test]
async fn a_file_that_cannot_grow_is_noticed_and_no_line_is_lost() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "").await;
    limit_file_size(&gateway, &(fs::metadata(home.log()).unwrap().len() + 100).to_string());
    let refused = client.token("app", SECRET, "").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert_eq!((client.get_with("/data", &token).await.status, is_ready(&gateway).await), (503, false));
    assert_eq!(client.get("/open").await.status, 200);
    limit_file_size(&gateway, "unlimited");
    gateway.log_line("can be written again");
    assert_eq!(client.get_with("/data", &token).await.status, 200);
    client.granted("app", SECRET, "").await;
    stop(gateway).await;
    home.is_sound();
    let of_it: Vec<_> =
        home.lines().into_iter().filter(|line| line["gateway.request_id"] == refused.request_id()).collect();
    let decisions: Vec<_> = of_it.iter().map(|line| line["gateway.decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["issue", "error"], "signed, and not let out");
}

#[tokio::test]
async fn a_file_that_may_not_be_written_any_more_is_noticed() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    let client = Client::new(&gateway);
    client.granted("app", SECRET, "").await;
    fs::set_permissions(home.log(), Permissions::from_mode(0o000)).unwrap();
    gateway.log_line("its owner may not write to it (mode 000)");
    granted_with(&client, 503).await;
    fs::set_permissions(home.log(), Permissions::from_mode(0o600)).unwrap();
    gateway.log_line("can be written again");
    granted_with(&client, 200).await;
    stop(gateway).await;
    home.is_sound();
}

#[tokio::test]
async fn a_pipe_in_place_of_the_file_is_noticed_and_the_chain_goes_on() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    let client = Client::new(&gateway);
    client.granted("app", SECRET, "").await;
    let aside = home.0.join("audit.jsonl.1");
    fs::rename(home.log(), &aside).unwrap();
    assert!(Command::new("mkfifo").arg(home.log()).status().unwrap().success());
    gateway.log_line("it is a pipe or socket, not a file");
    granted_with(&client, 503).await;
    fs::remove_file(home.log()).unwrap();
    granted_with(&client, 200).await;
    stop(gateway).await;
    let before = lines(&aside).pop().unwrap();
    let after = home.lines().remove(0);
    assert_eq!(after["seq"], before["seq"].as_u64().unwrap() + 1);
    assert_eq!(after["prev_hash"], before["hash"]);
    home.is_sound();
}

#[tokio::test]
async fn a_deleted_file_is_noticed_and_found_missing() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    let client = Client::new(&gateway);
    client.granted("app", SECRET, "").await;
    let before = home.lines().pop().unwrap();
    fs::remove_file(home.log()).unwrap();
    gateway.log_line("reopened the audit log");
    client.granted("app", SECRET, "").await;
    stop(gateway).await;
    let after = home.lines().remove(0);
    assert_eq!(after["prev_hash"], before["hash"]);
    let (found, code) = home.verified();
    assert_eq!((&found["integrity"], &found["completeness"], code), (&"intact".into(), &"incomplete".into(), 1));
    assert_eq!(found["missing"][0], serde_json::json!([1, before["seq"]]));
}

#[tokio::test]
async fn a_file_cut_or_written_by_another_process_is_noticed() {
    for (cut, verdict) in [(true, "incomplete"), (false, "complete")] {
        let home = Home::new();
        let (_upstream, gateway) = home.start("file: audit.jsonl").await;
        let client = Client::new(&gateway);
        client.granted("app", SECRET, "").await;
        if cut {
            OpenOptions::new().write(true).open(home.log()).unwrap().set_len(0).unwrap();
        } else {
            let text = fs::read_to_string(home.log()).unwrap();
            fs::write(home.log(), text + "{\"seq\":3,\"gateway.decision\":\"allow\"}\n").unwrap();
        }
        gateway.log_line("another process has altered the audit log");
        client.granted("app", SECRET, "").await;
        stop(gateway).await;
        let altered = home.lines().into_iter().find(|line| line["gateway.event"] == "altered");
        assert!(altered.is_some(), "cut: {cut}");
        let (found, code) = home.verified();
        assert_eq!(
            (&found["completeness"], &found["integrity"], code),
            (&verdict.into(), &if cut { "intact" } else { "broken" }.into(), 1)
        );
    }
}

#[tokio::test]
async fn a_file_that_was_renamed_leaves_one_chain_in_two_files() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    let client = Client::new(&gateway);
    client.granted("app", SECRET, "").await;
    fs::rename(home.log(), home.0.join("audit.jsonl.1")).unwrap();
    gateway.signal("USR1");
    client.granted("app", SECRET, "").await;
    gateway.log_line("reopened the audit log");
    stop(gateway).await;
    home.is_sound();
    // While the gateway was down, too.
    fs::rename(home.log(), home.0.join("audit.jsonl.2")).unwrap();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    stop(gateway).await;
    home.is_sound();
}
