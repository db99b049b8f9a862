//! An audit log that can be trusted: changes are found, incidents are recorded, and acknowledged decisions are there.

mod command;
mod completeness;
mod disk;
mod flood;
mod instances;
mod reading;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::client::request;
use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};
use crate::support::wire::within;
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

const ROUTES: [&str; 3] = [
    "name: open, path: /open, access: public",
    "name: data, path: /data, access: {}",
    "name: write, path: /write, access: {scopes: [write:data]}",
];

/// A folder that outlives the gateways in it.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

impl Home {
    fn new() -> Self {
        Self(folder())
    }

    async fn start(&self, audit: &str) -> (Upstream, Gateway) {
        let upstream = Upstream::start().await;
        let yaml = config(upstream.address, &ROUTES, &format!("audit: {{{audit}}}"));
        (upstream, Gateway::start_in(self.0.clone(), &yaml, &[]))
    }

    fn log(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }

    fn lines(&self) -> Vec<Value> {
        lines(&self.log())
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        run(program(&self.0).args(arguments))
    }

    /// The findings of `audit verify`, and its exit code.
    fn verified(&self) -> (Value, i32) {
        let said = self.run(&["audit", "verify", "--format", "json"]);
        let found = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        (found, said.code.unwrap())
    }

    #[track_caller]
    fn is_sound(&self) {
        let (found, code) = self.verified();
        assert_eq!(
            (&found["integrity"], &found["completeness"], code),
            (&"intact".into(), &"complete".into(), 0),
            "{found:#}"
        );
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// Ends it as a power failure would, except for the disk.
fn kill(mut gateway: Gateway) {
    gateway.signal("KILL");
    gateway.wait();
    // The folder is still needed.
    std::mem::forget(gateway);
}

/// Beside the clients, which have connections to close.
async fn stop(mut gateway: Gateway) {
    let stopped = tokio::task::spawn_blocking(move || {
        assert!(gateway.stop().success());
        std::mem::forget(gateway);
    });
    stopped.await.unwrap();
}

/// Asks for tokens until this is the answer.
async fn granted_with(client: &Client, status: u16) {
    within(async { while client.token("app", SECRET, "").await.status != status {} }).await;
}

#[tokio::test]
async fn a_granted_token_and_its_line_are_on_disk_before_the_answer() {
    let home = Home::new();
    for round in 0..5 {
        let (_upstream, gateway) = home.start("file: audit.jsonl").await;
        let client = Client::http2(&gateway);
        let answers = grants(&client, 20).await;
        let written = fs::read_to_string(home.log()).unwrap();
        kill(gateway);
        assert!(answers.iter().all(|answer| answer.status == 200));
        for answer in &answers {
            assert!(written.contains(answer.request_id()), "round {round}: {written}");
        }
    }
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    stop(gateway).await;
    home.is_sound();
    let grants = home.lines().iter().filter(|line| line["gateway.decision"] == "issue").count();
    assert_eq!(grants, 100, "one line each");
}

/// Asks for so many tokens at once.
async fn grants(client: &Client, count: usize) -> Vec<Answer> {
    let mut asking = JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        asking.spawn(async move { client.token("app", SECRET, "").await });
    }
    asking.join_all().await
}

#[tokio::test]
async fn with_sync_all_a_protected_answer_waits_for_its_one_line() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl, sync: all").await;
    for client in gateway.both() {
        let token = client.granted("app", SECRET, "").await;
        let answer = client.get_with("/data", &token).await;
        let written = fs::read_to_string(home.log()).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(written.matches(answer.request_id()).count(), 1, "{written}");
    }
    stop(gateway).await;
    assert_eq!(home.lines().iter().filter(|line| line["http.route"] == "data").count(), 2);
    home.is_sound();
}

#[tokio::test]
async fn with_sync_none_a_grant_does_not_wait() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl, sync: none").await;
    let answer = Client::new(&gateway).token("app", SECRET, "").await;
    assert_eq!(answer.status, 200);
    stop(gateway).await;
    assert!(fs::read_to_string(home.log()).unwrap().contains(answer.request_id()));
    home.is_sound();
}

#[tokio::test]
async fn a_line_torn_by_a_crash_is_recovered_and_is_no_tampering() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    Client::new(&gateway).granted("app", SECRET, "").await;
    kill(gateway);
    let mut text = fs::read_to_string(home.log()).unwrap();
    text.push_str("{\"seq\":3,\"time\":\"2026-");
    fs::write(home.log(), text).unwrap();
    let (found, code) = home.verified();
    assert_eq!((&found["integrity"], &found["torn"]["bytes"], code), (&"intact".into(), &22.into(), 0), "{found:#}");
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    gateway.log_line("a crash has torn the last line");
    stop(gateway).await;
    home.is_sound();
    assert_eq!(home.verified().0["recovered"], 1);
    let recovered = home.lines().into_iter().find(|line| line["gateway.event"] == "recovered").unwrap();
    assert_eq!(
        (&recovered["gateway.cut_bytes"], recovered["gateway.cut"].as_str()),
        (&22.into(), Some("{\"seq\":3,\"time\":\"2026-"))
    );
}

#[tokio::test]
async fn a_file_that_ends_with_zeros_is_renamed_and_no_number_reused() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    Client::new(&gateway).granted("app", SECRET, "").await;
    stop(gateway).await;
    let last = home.lines().last().unwrap()["seq"].as_u64().unwrap();
    let mut damaged = fs::read(home.log()).unwrap();
    damaged.resize(damaged.len() + 300_000, 0);
    fs::write(home.log(), damaged).unwrap();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    gateway.log_line("the file is renamed and kept as it is");
    stop(gateway).await;
    let lines = home.lines();
    assert_eq!(lines[0]["seq"], last + 1, "{}", lines[0]);
    assert!(lines.iter().any(|line| line["gateway.event"] == "damaged"));
    assert!(lines.iter().all(|line| line["gateway.event"] != "missing"), "they are in the damaged file");
}

#[tokio::test]
async fn full_files_are_rotated_and_the_rest_is_one_chain() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl, rotate: {size: 8KiB, keep: 3}").await;
    let mut connection = Client::new(&gateway).connect().await;
    let last = home.0.join("audit.jsonl.000000000001");
    for _ in 0..20 {
        for _ in 0..15 {
            assert_eq!(connection.send(request("GET", "/open")).await.status, 200);
        }
        Client::new(&gateway).granted("app", SECRET, "").await;
    }
    stop(gateway).await;
    let mut names: Vec<String> = fs::read_dir(&home.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("audit.jsonl."))
        .collect();
    names.sort();
    assert_eq!(names.len(), 7, "three files and four of checkpoints: {names:?}");
    assert!(!names[0].starts_with(last.file_name().unwrap().to_str().unwrap()), "the first are gone: {names:?}");
    for name in &names {
        assert!(fs::metadata(home.0.join(name)).unwrap().len() < 12 * 1024);
    }
    home.is_sound();
    assert!(home.verified().0["first"].as_u64().unwrap() > 50);
}

#[tokio::test]
async fn the_checkpoint_key_is_generated_once_logged_and_private() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = Home::new();
    let (upstream, gateway) = home.start("file: audit.jsonl").await;
    let logged: Value = serde_json::from_str(&gateway.log_line("checkpoints of the audit log are signed")).unwrap();
    stop(gateway).await;
    let (found, _) = home.verified();
    assert_eq!(logged["key"], found["checkpoints"]["key"]);
    let key = home.0.join("state/audit-key.pem");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(home.0.join("gateway.yaml"), config(upstream.address, &ROUTES, "audit: {file: audit.jsonl}")).unwrap();
    for verb in ["run", "check"] {
        let refused = home.run(&[verb]);
        assert_eq!(refused.code, Some(2));
        let why = "`state/audit-key.pem` can be read by others (mode 644); set it to 600";
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn lines_on_standard_output_are_chained_and_not_signed() {
    let home = Home::new();
    let upstream = Upstream::start().await;
    let yaml = config(upstream.address, &ROUTES, "");
    let mut gateway = Gateway::start_in(home.0.clone(), &yaml, &[]);
    assert_eq!(Client::new(&gateway).get("/open").await.status, 200);
    gateway.stop();
    gateway.audit_line(|line| line["gateway.event"] == "stop");
    fs::write(home.log(), gateway.audit_text() + "\n").unwrap();
    std::mem::forget(gateway);
    let unsigned = home.run(&["audit", "verify", "audit.jsonl"]);
    assert_eq!(unsigned.code, Some(1));
    assert!(unsigned.stdout.contains("unknown: no line is signed"), "{unsigned:?}");
    let said = home.run(&["audit", "verify", "--no-checkpoints", "audit.jsonl"]);
    assert_eq!((said.code, said.stdout.contains("intact  4 lines, 1 to 4")), (Some(0), true), "{said:?}");
}
