//! `reload.watch`: changed files are taken into use without a signal, whole, and once.

use std::fs;
use std::os::unix::fs::symlink;

use super::metric;
use crate::support::command::run;
use crate::support::gateway::program;
use crate::support::world::config;
use crate::support::{Client, Gateway};

/// With a route that answers with the content of a file.
fn yaml(watch: &str, more: &str) -> String {
    let route = "name: all, path: /**, access: public, respond: {body: \"${file:body.txt}\"}";
    config("127.0.0.1:9".parse().unwrap(), &[route], &format!("{watch}\n{more}"))
}

const WATCH: &str = "reload: {watch: true}";
const RELOADED: &str = "the configuration was reloaded";
const REFUSED: &str = "the configuration was not reloaded";

fn started(yaml: &str) -> Gateway {
    let folder = crate::support::gateway::folder();
    fs::write(folder.join("body.txt"), "one").unwrap();
    Gateway::start_in(folder, yaml, &[])
}

/// Waits for as many log lines with this text.
#[track_caller]
fn waits(gateway: &Gateway, text: &str, count: usize) {
    let begun = std::time::Instant::now();
    while gateway.log_text().matches(text).count() < count {
        assert!(begun.elapsed() < crate::support::gateway::PATIENCE, "{}", gateway.log_text());
        std::thread::yield_now();
    }
}

async fn body(gateway: &Gateway) -> String {
    String::from_utf8(Client::new(gateway).get("/").await.body.to_vec()).unwrap()
}

async fn counts(gateway: &Gateway) -> (Option<f64>, Option<f64>) {
    let of = async |result: &str| metric(gateway, "portcullis_config_reloads_total", &[result]).await;
    (of("\"ok\"").await, of("\"refused\"").await)
}

#[tokio::test]
async fn changed_files_are_taken_into_use() {
    let gateway = started(&yaml(WATCH, ""));
    assert_eq!(body(&gateway).await, "one");
    fs::write(gateway.folder.join("body.txt"), "two").unwrap();
    waits(&gateway, RELOADED, 1);
    assert_eq!(body(&gateway).await, "two");
    // As an orchestrator replaces a file: by a link to another one.
    fs::write(gateway.folder.join("three.yaml"), yaml(WATCH, "").replace("body.txt", "three.txt")).unwrap();
    fs::write(gateway.folder.join("three.txt"), "three").unwrap();
    symlink("three.yaml", gateway.folder.join("link")).unwrap();
    fs::rename(gateway.folder.join("link"), gateway.folder.join("gateway.yaml")).unwrap();
    waits(&gateway, RELOADED, 2);
    assert_eq!(body(&gateway).await, "three");
    // The files of the new configuration are watched, and no others.
    fs::write(gateway.folder.join("body.txt"), "none").unwrap();
    fs::write(gateway.folder.join("three.txt"), "four").unwrap();
    waits(&gateway, RELOADED, 3);
    assert_eq!((body(&gateway).await, counts(&gateway).await.0), ("four".to_owned(), Some(3.0)));
}

#[tokio::test]
async fn a_refused_configuration_is_tried_once_until_it_changes() {
    let gateway = started(&yaml(WATCH, ""));
    let whole = yaml(WATCH, "").replace("body.txt", "later.txt");
    fs::write(gateway.folder.join("gateway.yaml"), &whole[..whole.len() / 2]).unwrap();
    waits(&gateway, REFUSED, 1);
    fs::write(gateway.folder.join("gateway.yaml"), &whole).unwrap();
    waits(&gateway, REFUSED, 2);
    gateway.log_line("later.txt");
    assert_eq!(body(&gateway).await, "one");
    // The file that was missing is watched too.
    fs::write(gateway.folder.join("later.txt"), "later").unwrap();
    waits(&gateway, RELOADED, 1);
    assert_eq!(body(&gateway).await, "later");
    assert_eq!(counts(&gateway).await, (Some(1.0), Some(2.0)));
}

#[tokio::test]
async fn a_reload_that_was_asked_for_is_not_done_again() {
    let gateway = started(&yaml(WATCH, ""));
    for number in 0..3 {
        fs::write(gateway.folder.join("gateway.yaml"), yaml(WATCH, &format!("# {number}"))).unwrap();
        assert_eq!(run(program(&gateway.folder).arg("reload")).code, Some(0));
    }
    fs::write(gateway.folder.join("body.txt"), "two").unwrap();
    waits(&gateway, RELOADED, 4);
    assert_eq!(counts(&gateway).await, (Some(4.0), Some(0.0)));
}

#[tokio::test]
async fn watching_begins_and_ends_with_a_reload() {
    let gateway = started(&yaml("", ""));
    gateway.reloads(&yaml(WATCH, ""));
    fs::write(gateway.folder.join("body.txt"), "two").unwrap();
    waits(&gateway, RELOADED, 2);
    fs::write(gateway.folder.join("gateway.yaml"), yaml("reload: {watch: false}", "")).unwrap();
    waits(&gateway, RELOADED, 3);
    fs::write(gateway.folder.join("body.txt"), "three").unwrap();
    gateway.reload_file();
    assert_eq!((body(&gateway).await, counts(&gateway).await), ("three".to_owned(), (Some(4.0), Some(0.0))));
}
