//! `portcullis reload` and the control socket that it talks to.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config_page;
use crate::support::client::request;
use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};
use crate::support::world::config;
use crate::support::{Client, Gateway};

const ROUTE: &str = "name: all, path: /**, access: public, respond: {body: hello}";

fn yaml(sections: &str) -> String {
    config("127.0.0.1:9".parse().unwrap(), &[ROUTE], sections)
}

/// `portcullis reload` in this folder.
fn reload(folder: &Path, arguments: &[&str]) -> Finished {
    run(program(folder).arg("reload").args(arguments))
}

fn write(gateway: &Gateway, yaml: &str) {
    fs::write(gateway.folder.join("gateway.yaml"), yaml).unwrap();
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("state/control.sock")
}

#[tokio::test]
async fn the_command_says_what_the_reload_has_done() {
    let gateway = Gateway::start(&yaml(""));
    let before = config_page(&gateway).await["config"].as_str().unwrap().to_owned();
    let unchanged = reload(&gateway.folder, &[]);
    assert_eq!(unchanged.code, Some(0), "{unchanged:?}");
    assert!(unchanged.stdout.contains(&format!("nothing has changed: {before} is in use")), "{unchanged:?}");
    write(&gateway, &(yaml("") + "# another\n"));
    let done = reload(&gateway.folder, &[]);
    let after = config_page(&gateway).await["config"].as_str().unwrap().to_owned();
    let file = fs::canonicalize(gateway.folder.join("gateway.yaml")).unwrap();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stdout, format!("ok  {before} → {after}  {}\n", file.display()));
    assert_eq!(done.stderr.lines().count(), done.stderr.matches("warning: ").count(), "{done:?}");
    assert_eq!(Client::new(&gateway).get("/").await.status, 200);
}

#[tokio::test]
async fn warnings_of_the_new_configuration_are_shown() {
    let gateway = Gateway::start(&yaml(""));
    write(&gateway, &yaml("rate_limits: {unused: {rate: 1/s, per: address}}"));
    let check = run(program(&gateway.folder).arg("check"));
    let done = reload(&gateway.folder, &[]);
    let warning = check.stderr.lines().find(|line| line.contains("unused")).unwrap_or_else(|| panic!("{check:?}"));
    assert!(done.stderr.contains(warning), "{done:?}");
    let json: Value = serde_json::from_str(&reload(&gateway.folder, &["--format", "json"]).stdout).unwrap();
    assert!(json["warnings"][0]["message"].as_str().unwrap().contains("unused"), "{json}");
}

#[tokio::test]
async fn every_error_is_printed_as_check_prints_it() {
    let gateway = Gateway::start(&yaml(""));
    let before = config_page(&gateway).await["config"].clone();
    for broken in [
        yaml("surprise: 1\nlimits: {uri_bytes: many}"),
        yaml("") + "routes: [\n",
        "state_directory: state\nroutes: [".to_owned(),
        String::new(),
    ] {
        write(&gateway, &broken);
        let (check, refused) = (run(program(&gateway.folder).arg("check")), reload(&gateway.folder, &[]));
        assert_eq!((check.code, refused.code), (Some(2), Some(2)), "{check:?} {refused:?}");
        assert!(refused.stderr.starts_with(&check.stderr), "{check:?} {refused:?}");
        assert!(refused.stderr.contains(&format!("is not in use: {} stays", before.as_str().unwrap())), "{refused:?}");
        assert_eq!(Client::new(&gateway).get("/").await.status, 200);
        let [check, refused] = ["check", "reload"].map(|verb| {
            let said = run(program(&gateway.folder).args([verb, "--format", "json"]));
            serde_json::from_str::<Value>(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"))
        });
        assert_eq!((&refused["ok"], &refused["config"]), (&json!(false), &before));
        let place = |problem: &Value| ["file", "line", "column", "message"].map(|name| problem[name].clone());
        let of_check: Vec<_> = check["findings"].as_array().unwrap().iter().map(place).collect();
        let of_reload: Vec<_> = refused["problems"].as_array().unwrap().iter().map(place).collect();
        assert_eq!(of_check, of_reload);
    }
    write(&gateway, &yaml("workers: 2"));
    let refused = reload(&gateway.folder, &[]);
    assert!(
        refused.code == Some(2) && refused.stderr.contains("gateway.yaml: `workers` needs a restart"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_gateway_is_found_by_its_state_directory() {
    let state = folder();
    let gateway = Gateway::start(&yaml(&format!("state_directory: {}", state.display())));
    assert_eq!(reload(&gateway.folder, &[]).code, Some(0));
    let elsewhere = folder();
    let done = reload(&elsewhere, &["--state-directory", state.to_str().unwrap()]);
    assert_eq!((done.code, done.stderr.contains("was started with")), (Some(0), false), "{done:?}");
    fs::write(elsewhere.join("other.yaml"), format!("state_directory: {}\nroutes: [", state.display())).unwrap();
    let done = reload(&elsewhere, &["--config", "other.yaml"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let file = gateway.folder.join("gateway.yaml");
    assert!(done.stderr.contains(&format!("started with {}, not with other.yaml", file.display())), "{done:?}");
    let nobody = reload(&elsewhere, &[]);
    assert_eq!(nobody.code, Some(2));
    assert!(nobody.stderr.starts_with("error: no gateway listens at state/control.sock"), "{nobody:?}");
    fs::write(elsewhere.join("gateway.yaml"), "state_directory: \"${PORTCULLIS_TEST_UNSET}\"\n").unwrap();
    let unknown = reload(&elsewhere, &["--format", "json"]);
    let json: Value = serde_json::from_str(&unknown.stdout).unwrap();
    assert!(unknown.code == Some(2) && json["error"].as_str().unwrap().contains("PORTCULLIS_TEST_UNSET"), "{json}");
}

#[tokio::test]
async fn the_socket_is_private_and_ends_with_the_gateway() {
    let mut gateway = Gateway::start(&yaml(""));
    let path = socket(&gateway.folder);
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o7777, 0o600);
    assert!(gateway.stop().success());
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_a_dead_gateway_left_is_replaced() {
    let folder = folder();
    let yaml = yaml("");
    let mut killed = Gateway::start_in(folder.clone(), &yaml, &[]);
    killed.signal("KILL");
    killed.wait();
    assert!(socket(&folder).exists());
    assert_eq!(reload(&folder, &[]).code, Some(2));
    let _gateway = Gateway::start_in(folder.clone(), &yaml, &[]);
    assert_eq!(reload(&folder, &[]).code, Some(0));
}

#[tokio::test]
async fn the_socket_of_a_living_gateway_is_never_taken() {
    let state = folder();
    let yaml = yaml(&format!("state_directory: {}", state.display()));
    let [mut first, second] = [Gateway::start(&yaml), Gateway::start(&yaml)];
    second.log_line("another gateway has the control socket");
    let answered = |gateway: &Gateway| {
        let json: Value = serde_json::from_str(&reload(&gateway.folder, &["--format", "json"]).stdout).unwrap();
        json["file"] == *gateway.folder.join("gateway.yaml").to_str().unwrap()
    };
    assert!(answered(&first) && !answered(&second));
    assert!(first.stop().success());
    second.log_line("this gateway has the control socket now");
    assert!(answered(&second));
}

#[tokio::test]
async fn other_requests_are_refused_and_long_ones_cut() {
    let gateway = Gateway::start(&yaml(""));
    let ask = |line: &str| {
        let mut stream = UnixStream::connect(socket(&gateway.folder)).unwrap();
        let mut answer = String::new();
        let _ = stream.write_all(line.as_bytes());
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    for unknown in ["stop\n", "reload now\n", "\n"] {
        let answer: Value = serde_json::from_str(&ask(unknown)).unwrap();
        assert_eq!(answer["ok"], json!(false), "{unknown}");
    }
    assert!(!ask(&"reload".repeat(10_000)).contains("\"ok\":true"));
    // More connections than are served at once, which say nothing: they are closed in time.
    let silent: Vec<_> = (0..12).map(|_| UnixStream::connect(socket(&gateway.folder)).unwrap()).collect();
    assert!(ask("reload\n").contains("\"ok\":true"));
    drop(silent);
    assert_eq!(Client::new(&gateway).connect().await.send(request("GET", "/")).await.status, 200);
}
