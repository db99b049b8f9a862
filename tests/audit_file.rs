//! The audit log on disk: requests that can't be recorded are refused, a moved file is replaced by a new one, and no
//! line is lost.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::client::request;
use crate::support::command::run;
use crate::support::gateway::{folder, program};
use crate::support::wire::within;
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

const ROUTES: [&str; 2] = ["name: open, path: /open, access: public", "name: data, path: /data, access: {}"];
const FULL: &str = "cannot write the audit log";

async fn start(folder: &Path, audit: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let yaml = config(upstream.address, &ROUTES, &format!("audit: {{{audit}}}"));
    let gateway = Gateway::start_in(folder.to_owned(), &yaml, &[]);
    (upstream, gateway)
}

/// A token, granted while the log could be written; the keys stay in the folder.
async fn token(folder: &Path) -> String {
    let (_upstream, mut gateway) = start(folder, "file: before.jsonl").await;
    let token = Client::new(&gateway).granted("app", SECRET, "").await;
    gateway.stop();
    // The folder goes with its gateway; the next one needs it.
    std::mem::forget(gateway);
    token
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The line of this answer is in this file, once it has been written.
async fn is_in(path: PathBuf, answer: &Answer) {
    let id = answer.request_id();
    let written = || lines(&path).iter().any(|line| line["gateway.request_id"] == id);
    within(async {
        while !written() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_refuses_audited_requests_and_answers_the_rest() {
    let folder = folder();
    let token = token(&folder).await;
    let (upstream, gateway) = start(&folder, "file: /dev/full").await;
    gateway.log_line(FULL);
    for client in gateway.both() {
        for refused in [client.get_with("/data", &token).await, client.token("app", SECRET, "").await] {
            assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
            assert_eq!(refused.json()["error"], "temporarily_unavailable");
        }
        assert_eq!(client.get("/data").await.status, 401);
        assert_eq!(client.get("/open").await.status, 200);
        assert_eq!(client.get("/.well-known/jwks.json").await.status, 200);
        assert_eq!(client.get("/.well-known/oauth-authorization-server").await.status, 200);
    }
    let admin = Client::plain(gateway.admin.unwrap());
    assert_eq!((admin.get("/livez").await.status, admin.get("/readyz").await.status), (200, 503));
    let metrics = String::from_utf8(admin.get("/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.contains("\nportcullis_audit_broken 1"), "{metrics}");
    let refusals = metrics.lines().find(|line| line.contains("reason=\"audit_unavailable\"") && line.contains("data"));
    assert!(refusals.unwrap().ends_with(" 2"), "{metrics}");
    assert!(upstream.seen().iter().all(|seen| seen.target == "/open"));
}

#[tokio::test]
async fn with_on_failure_drop_losses_are_counted_and_all_is_answered() {
    let folder = folder();
    let token = token(&folder).await;
    let (_upstream, gateway) = start(&folder, "file: /dev/full, on_failure: drop").await;
    gateway.log_line("`drop`");
    gateway.log_line(FULL);
    for client in gateway.both() {
        assert_eq!(client.get_with("/data", &token).await.status, 200);
        assert_eq!(client.token("app", SECRET, "").await.status, 200);
    }
    let metrics = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("portcullis_audit_dropped_total ")).unwrap();
    assert!(dropped.parse::<u64>().unwrap() >= 4, "{metrics}");
}

#[tokio::test]
async fn a_disk_with_room_again_is_written_to_and_no_line_is_lost() {
    let folder = folder();
    let token = token(&folder).await;
    let path = folder.join("audit.jsonl");
    symlink("/dev/full", &path).unwrap();
    let (_upstream, gateway) = start(&folder, "file: audit.jsonl").await;
    gateway.log_line(FULL);
    let client = Client::new(&gateway);
    assert_eq!(client.get_with("/data", &token).await.status, 503);
    fs::remove_file(&path).unwrap();
    gateway.log_line("can be written again");
    let answer = client.get_with("/data", &token).await;
    assert_eq!(answer.status, 200);
    is_in(path.clone(), &answer).await;
    assert_eq!(Client::plain(gateway.admin.unwrap()).get("/readyz").await.status, 200);
    let lines = lines(&path);
    assert_eq!(lines[0]["gateway.event"], "start");
    assert!(lines.iter().zip(1..).all(|(line, number)| line["seq"] == number), "{lines:?}");
}

#[tokio::test]
async fn a_renamed_or_deleted_file_is_recreated_and_numbers_continue() {
    let folder = folder();
    let (_upstream, gateway) = start(&folder, "file: logs/audit.jsonl").await;
    let (path, rotated) = (folder.join("logs/audit.jsonl"), folder.join("logs/audit.1"));
    let client = Client::new(&gateway);
    is_in(path.clone(), &client.get("/open").await).await;
    fs::rename(&path, &rotated).unwrap();
    gateway.log_line("reopened the audit log");
    is_in(path.clone(), &client.get("/open").await).await;
    let last = lines(&rotated).last().unwrap()["seq"].as_u64().unwrap();
    assert_eq!(lines(&path)[0]["seq"], last + 1);
    fs::remove_dir_all(folder.join("logs")).unwrap();
    let made = async {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    };
    within(made).await;
    is_in(path, &client.get("/open").await).await;
}

#[tokio::test]
async fn a_disk_smaller_than_the_rotated_files_is_reported() {
    let folder = folder();
    let (_upstream, gateway) = start(&folder, "file: audit.jsonl, rotate: {size: 1024GiB, keep: 999}").await;
    let logged = gateway.log_line("the disk cannot hold the audit log: 1024000.0 GiB by audit.rotate.size and");
    assert!(logged.contains("iB free or taken by it") && logged.contains("WARN"), "{logged}");
    let (_upstream, gateway) = start(&folder, "file: small.jsonl, rotate: {size: 8KiB, keep: 1}").await;
    assert!(!gateway.log_text().contains("cannot hold"), "{}", gateway.log_text());
}

#[tokio::test]
async fn sigusr1_reopens_the_file() {
    let folder = folder();
    let (_upstream, gateway) = start(&folder, "file: audit.jsonl").await;
    let path = folder.join("audit.jsonl");
    is_in(path.clone(), &Client::new(&gateway).get("/open").await).await;
    gateway.signal("USR1");
    gateway.log_line("reopened the audit log");
    is_in(path.clone(), &Client::new(&gateway).get("/open").await).await;
    assert!(lines(&path).iter().zip(1..).all(|(line, number)| line["seq"] == number));
}

#[tokio::test]
async fn a_locked_file_and_a_pipe_refuse_the_start() {
    let folder = folder();
    let (upstream, _gateway) = start(&folder, "file: audit.jsonl").await;
    assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    for (file, why) in [
        ("audit.jsonl", "another process writes to it; a previous gateway may still run or drain"),
        ("pipe", "it is a pipe or socket, not a file"),
    ] {
        let yaml = config(upstream.address, &ROUTES, &format!("audit: {{file: {file}}}"));
        fs::write(folder.join("second.yaml"), yaml).unwrap();
        let refused = run(program(&folder).args(["run", "--config", "second.yaml"]));
        assert_eq!(refused.code, Some(2));
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
}

/// Writing to a full pipe without a reader neither succeeds nor fails.
#[tokio::test]
async fn a_stuck_sink_is_noticed_and_does_not_delay_the_stop() {
    let upstream = Upstream::start().await;
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), config(upstream.address, &ROUTES, "audit: {file: \"-\"}")).unwrap();
    let mut gateway = Gateway::start_deaf(folder);
    let client = Client::new(&gateway);
    let mut connection = client.connect().await;
    while client.token("app", SECRET, "").await.status != 503 {
        for _ in 0..100 {
            assert_eq!(connection.send(request("GET", "/open")).await.status, 200);
        }
    }
    gateway.log_line("cannot write the audit log");
    assert!(gateway.stop().success());
}

#[tokio::test]
async fn numbers_continue_over_restarts_and_the_file_is_private() {
    let folder = folder();
    for run in 0..2 {
        let (_upstream, mut gateway) = start(&folder, "file: audit.jsonl").await;
        assert_eq!(Client::new(&gateway).get("/open").await.status, 200);
        assert!(gateway.stop().success());
        let lines = lines(&folder.join("audit.jsonl"));
        // The first run has made a signing key, besides.
        assert_eq!(lines.len(), 3 * (run + 1) + 1);
        assert!(lines.iter().zip(1..).all(|(line, number)| line["seq"] == number), "{lines:?}");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(folder.join("audit.jsonl")).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        std::mem::forget(gateway);
    }
    fs::remove_dir_all(folder).unwrap();
}
