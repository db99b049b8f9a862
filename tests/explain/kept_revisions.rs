//! The configurations that were in use are kept, without their secrets.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::gateway::folder;
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

const SECRETS: [&str; 4] = [SECRET, "service-secret-1", "secret-of-a-header", "secret-in-a-comment"];
const OPEN: &str = "path: /open, access: public, headers: {set: {X-Key: secret-of-a-header}}";

fn yaml(upstream: &Upstream, sections: &str) -> String {
    let server = upstream.address;
    let upstreams = format!(
        "upstreams: {{legacy: {{servers: [\"http://{server}\"], authorization: {{bearer: service-secret-1}}}}}}"
    );
    config(server, &[OPEN], &format!("# secret-in-a-comment\n{upstreams}\n{sections}"))
}

fn kept(gateway: &Gateway) -> Vec<(String, String)> {
    let folder = gateway.folder.join("state/configs");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
    let read = files.map(|entry| {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
    });
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    read.collect()
}

fn has(kept: &[(String, String)], revision: &Value) -> bool {
    kept.iter().any(|(name, _)| *name == format!("{}.yaml", revision.as_str().unwrap()))
}

#[tokio::test]
async fn each_revision_in_use_is_kept_without_its_secrets() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&yaml(&upstream, ""));
    let started = gateway.audit_line(|line| line["gateway.event"] == "start")["gateway.config"].clone();
    gateway.reloads(&yaml(&upstream, "# another\n"));
    let reloaded = gateway.audit_line(|line| line["gateway.event"] == "reload")["gateway.config"].clone();
    gateway.refuses_reload("version: 1\nsurprise: 1\n", "surprise");
    let kept = kept(&gateway);
    assert!(kept.len() == 2 && has(&kept, &started) && has(&kept, &reloaded), "{kept:?}");
    for (name, text) in &kept {
        SECRETS.iter().for_each(|secret| assert!(!text.contains(secret), "{secret} in {name}:\n{text}"));
        assert!(text.contains("path: /open") && text.contains("X-Key: masked"), "{text}");
    }
}

#[tokio::test]
async fn a_revision_that_cannot_be_kept_stops_nothing() {
    let upstream = Upstream::start().await;
    let folder = folder();
    fs::create_dir_all(folder.join("state")).unwrap();
    fs::write(folder.join("state/configs"), "in the way").unwrap();
    let gateway = Gateway::start_in(folder, &yaml(&upstream, ""), &[]);
    gateway.log_line("cannot keep the configuration in `");
    assert_eq!(Client::new(&gateway).get("/open").await.status, 200);
}

#[tokio::test]
async fn a_revision_that_no_line_names_is_removed() {
    let upstream = Upstream::start().await;
    let yaml = yaml(&upstream, "audit: {file: audit.jsonl}");
    let mut gateway = Gateway::start(&yaml);
    assert_eq!(Client::new(&gateway).get("/open").await.status, 200);
    gateway.stop();
    let folder = gateway.folder.clone();
    let kept = fs::read_dir(folder.join("state/configs")).unwrap().next().unwrap().unwrap();
    let kept = fs::read_to_string(kept.path()).unwrap();
    for (name, days) in [("aaaaaaaaaaaa", 1), ("bbbbbbbbbbbb", 2)] {
        let path = folder.join(format!("state/configs/{name}.yaml"));
        fs::write(&path, &kept).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400)).unwrap();
    }
    let gateway = Gateway::start_in(folder, &yaml, &[]);
    let left = fs::read_dir(gateway.folder.join("state/configs")).unwrap();
    let left: Vec<String> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!left.contains(&"aaaaaaaaaaaa.yaml".to_owned()) && !left.is_empty(), "{left:?}");
}
