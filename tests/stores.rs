//! The tables of a database are made by a command, and used in their own version only.

use serde_json::{Value, json};

use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};
use crate::support::postgres::Postgres;
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

/// A folder whose configuration has this database.
fn with_database(url: &str) -> std::path::PathBuf {
    let folder = folder();
    let yaml = format!(
        "version: 1
allow_literal_secrets: true
shared: {{postgres: {{url: \"{url}\"}}}}
listeners: [{{address: 127.0.0.1:0}}]
upstreams: {{x: http://127.0.0.1:1}}
routes: [{{path: /x, upstream: x, access: public}}]
"
    );
    std::fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    folder
}

fn store(folder: &std::path::Path, arguments: &[&str]) -> Finished {
    run(program(folder).arg("store").args(arguments))
}

#[test]
fn tables_are_made_once_and_newer_ones_are_refused() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = with_database(&postgres.url());
    let status = || {
        let done = store(&folder, &["status", "--format", "json"]);
        (done.code, serde_json::from_str::<Value>(&done.stdout).unwrap())
    };
    assert_eq!(status(), (Some(1), json!({"tables": 0, "program": 1})));
    let refused = run(program(&folder).arg("run"));
    assert!(refused.code == Some(2) && refused.stderr.contains("portcullis store migrate"), "{refused:?}");
    assert_eq!(store(&folder, &["migrate"]).stdout, "created the tables of version 1\n");
    assert_eq!(store(&folder, &["migrate"]).stdout, "the tables are of version 1 already\n");
    assert_eq!(status(), (Some(0), json!({"tables": 1, "program": 1})));
    postgres.sql("UPDATE portcullis_version SET version = 2");
    for command in [&["store", "migrate"][..], &["run"]] {
        let refused = run(program(&folder).args(command));
        let says = "are of version 2, and this gateway knows 1: use the newer gateway";
        assert!(refused.code == Some(2) && refused.stderr.contains(says), "{refused:?}");
    }
}

#[test]
fn sqlite_needs_no_migration_by_hand() {
    let folder = with_database("postgres://127.0.0.1:1/x");
    let yaml = "version: 1\nlisteners: [{address: 127.0.0.1:0}]\noauth: {issuer: 'https://a.example.com', audiences: \
                ['https://b.example.com'], clients_in: sqlite}\n";
    std::fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    for verb in ["migrate", "status"] {
        let refused = store(&folder, &[verb]);
        assert!(refused.code == Some(2) && refused.stderr.contains("needs no migration by hand"), "{refused:?}");
    }
}

#[test]
fn migrations_at_the_same_time_make_the_tables_once() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = with_database(&postgres.url());
    let migrated: Vec<Finished> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| store(&folder, &["migrate"]))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(migrated.iter().all(|done| done.code == Some(0)), "{migrated:?}");
    let made = migrated.iter().filter(|done| done.stdout.starts_with("created the tables"));
    assert_eq!(made.count(), 1);
}

#[tokio::test]
async fn a_gateway_logs_a_refused_login_as_an_error() {
    let Some(postgres) = Postgres::start() else { return };
    let upstream = Upstream::start().await;
    let url = postgres.url().replace("p%40ss", "guessed");
    let shared = format!("allow_literal_secrets: true\nshared: {{postgres: {{url: \"{url}\"}}}}\n");
    let gateway = Gateway::start(&config(upstream.address, &["path: /x, access: public"], &shared));
    let line = gateway.log_line("refuses the login: check user, password and database of `shared.postgres.url`");
    assert!(line.contains("ERROR") && line.contains("(`shared.postgres`, localhost:"), "{line}");
    assert!(!gateway.log_text().contains("guessed"), "{}", gateway.log_text());
    let page = Client::plain(gateway.admin.unwrap()).get("/readyz").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(page.contains("the database (`shared.postgres`) was not reachable since the start"), "{page}");
}

#[test]
fn a_database_that_cannot_be_used_is_named_without_secrets() {
    let Some(postgres) = Postgres::start() else { return };
    let wrong = postgres.url().replace("p%40ss", "guessed");
    let nowhere = "postgres://portcullis:guessed%20word@127.0.0.1:1/postgres".to_owned();
    let no_database = postgres.url().replace("/postgres", "/none");
    for (url, says) in [
        (wrong, "refuses the login: password authentication failed; check user, password"),
        (no_database, "refuses the login: database \"none\" does not exist"),
        (
            nowhere,
            "the database (`shared.postgres`, 127.0.0.1:1) is unreachable: error connecting to server: Connection refused",
        ),
    ] {
        let done = store(&with_database(&url), &["migrate"]);
        assert!(done.code == Some(2) && done.stderr.contains(says) && !done.stderr.contains("guessed"), "{done:?}");
    }
}
