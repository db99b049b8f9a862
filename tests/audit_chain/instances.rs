//! The logs of several instances: several chains, whichever folder, key or name they share.

use super::*;

/// A gateway that has run once, with its log at this path.
async fn ran(home: &Home, log: &str) {
    let (_upstream, gateway) = home.start(&format!("file: {log}")).await;
    Client::new(&gateway).granted("app", SECRET, "").await;
    stop(gateway).await;
}

#[tokio::test]
async fn only_the_instance_that_lacks_its_log_is_incomplete() {
    let home = Home::new();
    ran(&home, "la/audit.jsonl").await;
    ran(&home, "lb/audit.jsonl").await;
    fs::remove_file(home.0.join("lb/audit.jsonl")).unwrap();
    let said = home.run(&[
        "audit",
        "verify",
        "--format",
        "json",
        "--key",
        "state/audit-key.pub",
        "la/audit.jsonl",
        "la/audit.jsonl.checkpoints",
        "lb/audit.jsonl.checkpoints",
    ]);
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    let chains = found["chains"].as_array().unwrap_or_else(|| panic!("{found:#}"));
    let verdicts: Vec<_> = chains.iter().map(|chain| chain["completeness"].as_str().unwrap()).collect();
    assert_eq!((&found["integrity"], verdicts), (&"intact".into(), vec!["complete", "incomplete"]), "{found:#}");
}

#[tokio::test]
async fn archived_checkpoints_belong_to_the_log_whose_lines_they_sign() {
    let home = Home::new();
    ran(&home, "la/audit.jsonl").await;
    ran(&home, "lb/audit.jsonl").await;
    for name in ["la", "lb"] {
        fs::rename(home.0.join(name).join("audit.jsonl.checkpoints"), home.0.join(format!("kept-{name}.checkpoints")))
            .unwrap();
    }
    let said = home.run(&[
        "audit",
        "verify",
        "--format",
        "json",
        "--key",
        "state/audit-key.pub",
        "kept-lb.checkpoints",
        "la/audit.jsonl",
        "lb/audit.jsonl",
        "kept-la.checkpoints",
    ]);
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((found["chains"].as_array().map(Vec::len), said.code), (Some(2), Some(0)), "{found:#}");
}

#[tokio::test]
async fn a_log_whose_name_begins_with_anothers_is_another_chain() {
    let home = Home::new();
    ran(&home, "audit.jsonl.b").await;
    ran(&home, "audit.jsonl").await;
    home.is_sound();
    let said = home.run(&["audit", "verify"]);
    assert!(said.stderr.contains("`audit.jsonl.b` is not read, because it is another log"), "{said:?}");
    let shown = home.run(&["audit", "query", "--format", "json"]);
    assert_eq!(shown.stdout.lines().count(), home.lines().len(), "{shown:?}");
    let given = home.run(&[
        "audit",
        "verify",
        "--format",
        "json",
        "--key",
        "state/audit-key.pub",
        "audit.jsonl",
        "audit.jsonl.b",
    ]);
    let found: Value = serde_json::from_str(&given.stdout).unwrap();
    assert_eq!((found["chains"].as_array().map(Vec::len), given.code), (Some(2), Some(0)), "{found:#}");
}

#[tokio::test]
async fn the_lines_of_several_instances_are_shown_by_time() {
    let home = Home::new();
    ran(&home, "la/audit.jsonl").await;
    ran(&home, "lb/audit.jsonl").await;
    ran(&home, "la/audit.jsonl").await;
    let files = ["la/audit.jsonl", "lb/audit.jsonl"];
    let shown = home.run(&[&["audit", "query", "--format", "json"][..], &files].concat());
    let numbers = |text: &str| -> Vec<u64> {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["seq"].as_u64().unwrap()).collect()
    };
    let all = numbers(&shown.stdout);
    let [of_one, of_two] = files.map(|file| lines(&home.0.join(file)).len() as u64);
    // The first run of one, then two, then the second run of one.
    let first_run = all.iter().skip(1).position(|number| *number == 1).unwrap() as u64 + 1;
    let expected: Vec<u64> = (1..=first_run).chain(1..=of_two).chain(first_run + 1..=of_one).collect();
    assert_eq!(all, expected, "{shown:?}");
    let last = home.run(&[&["audit", "tail", "-n", "6", "--format", "json"][..], &files].concat());
    assert_eq!(numbers(&last.stdout), all[all.len() - 6..], "{last:?}");
}
