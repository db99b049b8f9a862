//! Completeness is judged by the lines that should be there, and not by those that are left.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;

/// A stopped gateway's log in several files, the first of which is still there.
pub(super) async fn rotated() -> Home {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl, rotate: {size: 8KiB}").await;
    let mut connection = Client::new(&gateway).connect().await;
    // A batch holds so many lines at most; each round ends with one that is flushed.
    for _ in 0..8 {
        for _ in 0..10 {
            assert_eq!(connection.send(request("GET", "/open")).await.status, 200);
        }
        Client::new(&gateway).granted("app", SECRET, "").await;
    }
    stop(gateway).await;
    home.is_sound();
    assert!(home.aside().len() >= 3, "{:?}", home.aside());
    home
}

impl Home {
    /// The rotated files, in order.
    fn aside(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        let is_aside = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("audit.jsonl.0") && !name.ends_with(".checkpoints")
        };
        let mut files: Vec<PathBuf> = files.filter(is_aside).collect();
        files.sort();
        files
    }

    /// Verified after this was done to it, and put right again.
    #[track_caller]
    fn is_incomplete_after(&self, what: &str, harm: impl FnOnce(&Self)) -> Value {
        let kept: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        harm(self);
        let (found, code) = self.verified();
        assert_eq!(
            (&found["integrity"], &found["completeness"], code),
            (&json!("intact"), &json!("incomplete"), 1),
            "{what}: {found:#}"
        );
        for entry in fs::read_dir(&self.0).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !kept.iter().any(|(name, _)| *name == path) {
                fs::remove_file(path).unwrap();
            }
        }
        kept.into_iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        self.is_sound();
        found
    }
}

fn checkpoints(file: &Path) -> PathBuf {
    format!("{}.checkpoints", file.display()).into()
}

fn sequence(line: &Value) -> u64 {
    line["seq"].as_u64().unwrap()
}

#[tokio::test]
async fn lines_that_a_checkpoint_knows_of_and_no_file_has_are_missing() {
    let home = rotated().await;
    let aside = home.aside();
    let (first, oldest) = (sequence(&home.lines()[0]), lines(&aside[0]));
    let last = sequence(home.lines().last().unwrap());
    let emptied = home.is_incomplete_after("the current log emptied", |home| fs::write(home.log(), "").unwrap());
    assert_eq!(emptied["missing"], json!([[first, last]]));
    let deleted = home.is_incomplete_after("the current log deleted", |home| fs::remove_file(home.log()).unwrap());
    assert_eq!(deleted["missing"], json!([[first, last]]));
    let old = home.is_incomplete_after("the oldest deleted", |_| fs::remove_file(&aside[0]).unwrap());
    assert_eq!(old["missing"], json!([[1, sequence(oldest.last().unwrap())]]));
    home.is_incomplete_after("one in the middle deleted", |_| fs::remove_file(&aside[1]).unwrap());
    home.is_incomplete_after("every file deleted", |home| {
        aside.iter().chain([&home.log()]).for_each(|file| fs::remove_file(file).unwrap());
    });
}

#[tokio::test]
async fn a_chain_without_beginning_or_current_file_is_incomplete() {
    let home = rotated().await;
    let aside = home.aside();
    let both = |file: &Path| {
        fs::remove_file(checkpoints(file)).unwrap();
        fs::remove_file(file).unwrap();
    };
    home.is_incomplete_after("the oldest and its checkpoints deleted", |_| both(&aside[0]));
    home.is_incomplete_after("the current log and its checkpoints deleted", |home| both(&home.log()));
    home.is_incomplete_after("the current log emptied and its checkpoints deleted", |home| {
        both(&home.log());
        fs::write(home.log(), "").unwrap();
    });
    let unsigned = home.is_incomplete_after("checkpoints in the middle deleted", |_| {
        fs::remove_file(checkpoints(&aside[1])).unwrap();
    });
    let lines = lines(&aside[1]);
    assert_eq!(
        unsigned["checkpoints"]["unsigned"],
        json!([[sequence(&lines[0]), sequence(lines.last().unwrap())]]),
        "{unsigned:#}"
    );
    home.is_incomplete_after("the first checkpoints deleted", |_| fs::remove_file(checkpoints(&aside[0])).unwrap());
    let from = (sequence(&lines[0])).to_string();
    both(&aside[0]);
    let said = home.run(&["audit", "verify", "--from", &from]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[tokio::test]
async fn a_compressed_file_is_named_and_its_lines_are_missing() {
    let home = rotated().await;
    let file = home.aside().remove(1);
    let compressed = format!("{}.gz", file.display());
    fs::write(&compressed, b"\x1f\x8b\x08\x00 not read any further").unwrap();
    fs::remove_file(&file).unwrap();
    let said = home.run(&["audit", "verify"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let name = Path::new(&compressed).file_name().unwrap().to_str().unwrap();
    assert!(said.stderr.contains(name) && said.stderr.contains("decompress"), "{said:?}");
    let said = home.run(&["audit", "query", "--decision", "issue"]);
    assert!(said.stderr.contains(name) && said.stderr.contains("are in no file"), "{said:?}");
}

#[tokio::test]
async fn files_given_twice_or_copied_are_no_fault() {
    let home = rotated().await;
    let mut arguments =
        vec!["audit".to_owned(), "verify".to_owned(), "--key".to_owned(), "state/audit-key.pub".to_owned()];
    for entry in fs::read_dir(&home.0).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("audit.jsonl") {
            arguments.extend([name.clone(), name]);
        }
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = home.run(&arguments);
    assert_eq!(said.code, Some(0), "{said:?}");
    fs::copy(&home.aside()[0], home.0.join("audit.jsonl.bak")).unwrap();
    home.is_sound();
    let text = fs::read_to_string(home.0.join("audit.jsonl.bak")).unwrap();
    fs::write(home.0.join("audit.jsonl.bak"), text.replacen("200", "201", 1)).unwrap();
    assert_eq!(home.verified().1, 1, "another file for the same lines");
}

#[tokio::test]
async fn the_logs_of_two_instances_are_two_chains_with_a_verdict_each() {
    let (one, two) = (rotated().await, rotated().await);
    for home in [&one, &two] {
        // Where `verify` looks for the key of files that it is given.
        fs::copy(home.0.join("state/audit-key.pub"), home.0.join("audit-key.pub")).unwrap();
    }
    let files = || -> Vec<String> {
        let of = |home: &Home| home.aside().into_iter().chain([home.log()]).collect::<Vec<_>>();
        [of(&one), of(&two)].concat().into_iter().map(|path| path.display().to_string()).collect()
    };
    let verified = || {
        let files = files();
        let arguments = ["audit", "verify", "--format", "json"].into_iter().chain(files.iter().map(String::as_str));
        let said = one.run(&arguments.collect::<Vec<_>>());
        let found: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        (found, said.code.unwrap())
    };
    let (found, code) = verified();
    assert_eq!((found["chains"].as_array().map(Vec::len), code), (Some(2), 0), "{found:#}");
    fs::remove_file(&two.aside()[0]).unwrap();
    let (found, code) = verified();
    let verdicts: Vec<_> = found["chains"].as_array().unwrap().iter().map(|chain| &chain["completeness"]).collect();
    assert_eq!((verdicts, code), (vec![&json!("complete"), &json!("incomplete")], 1), "{found:#}");
}

#[tokio::test]
async fn lines_cut_off_while_the_gateway_was_stopped_are_named() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    Client::new(&gateway).granted("app", SECRET, "").await;
    stop(gateway).await;
    let text = fs::read_to_string(home.log()).unwrap();
    let kept: Vec<&str> = text.split_inclusive('\n').take(1).collect();
    let cut = text.lines().count();
    fs::write(home.log(), kept.concat()).unwrap();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    gateway.log_line("lines of the audit log are missing");
    stop(gateway).await;
    let said = home.run(&["audit", "verify"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for expected in [
        format!("audit.jsonl:2: lines 2 to {cut} are missing before this line"),
        "integrity  intact".to_owned(),
        "completeness  INCOMPLETE".to_owned(),
        format!("missing  lines 2 to {cut}: the gateway has recorded the loss"),
    ] {
        assert!(said.stdout.contains(&expected), "{expected}: {said:?}");
    }
}

#[tokio::test]
async fn a_log_deleted_while_the_gateway_was_stopped_is_named() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    stop(gateway).await;
    let cut = home.lines().len();
    fs::remove_file(home.log()).unwrap();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    gateway.log_line("lines of the audit log are missing");
    stop(gateway).await;
    let said = home.run(&["audit", "verify"]);
    let expected = format!("lines 1 to {cut} are missing: a checkpoint covers them");
    assert!(said.code == Some(1) && said.stdout.starts_with(&expected), "{expected}: {said:?}");
    fs::remove_file(checkpoints(&home.log())).unwrap();
    let said = home.run(&["audit", "verify"]);
    assert!(said.stdout.contains("no line that is left says that rotation removed them"), "{said:?}");
}

/// Appends a line whose hash is right, as a process that can write the file but has no key does.
fn append_forged(log: &Path, members: &str) -> u64 {
    let text = fs::read_to_string(log).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let number = sequence(&last) + 1;
    let body = format!("{{\"seq\":{number},\"time\":{},{members}", last["time"]);
    let previous = last["hash"].as_str().unwrap();
    let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, format!("{previous}{body}").as_bytes()));
    fs::write(log, format!("{text}{body},\"hash\":\"{hash}\"}}\n")).unwrap();
    number
}

#[tokio::test]
async fn a_forged_removed_line_is_ignored_after_the_next_start_too() {
    let home = rotated().await;
    let oldest = home.aside().remove(0);
    let last_removed = sequence(lines(&oldest).last().unwrap());
    fs::remove_file(checkpoints(&oldest)).unwrap();
    fs::remove_file(&oldest).unwrap();
    let file = oldest.file_name().unwrap().to_str().unwrap();
    let forged = append_forged(
        &home.log(),
        &format!("\"gateway.event\":\"removed\",\"gateway.config\":\"x\",\"gateway.file\":\"{file}\""),
    );
    let is_found = || {
        let (found, code) = home.verified();
        assert_eq!(
            (&found["integrity"], &found["completeness"], code),
            (&json!("intact"), &json!("incomplete"), 1),
            "{found:#}"
        );
        assert_eq!(found["missing"], json!([[1, last_removed]]));
        assert_eq!((&found["removed_up_to"], &found["unconfirmed"][0]["line"]), (&json!(0), &json!(forged)));
        let said = home.run(&["audit", "verify"]).stdout;
        let expected = format!(
            "line {forged} states that rotation removed the lines up to {last_removed}; no checkpoint confirms it"
        );
        assert!(said.contains(&expected), "{said}");
    };
    is_found();
    let (_upstream, gateway) = home.start("file: audit.jsonl, rotate: {size: 8KiB}").await;
    gateway.log_line("of the audit log have no checkpoint");
    stop(gateway).await;
    is_found();
}

#[tokio::test]
async fn a_forged_missing_or_recovered_line_is_not_believed() {
    let home = rotated().await;
    let loss = "\"gateway.event\":\"missing\",\"gateway.missing_from\":1,\"gateway.missing_up_to\":2";
    let crash = "\"gateway.event\":\"recovered\",\"gateway.cut_bytes\":9";
    let forged = [loss, crash].map(|members| append_forged(&home.log(), members));
    let (found, _) = home.verified();
    assert_eq!((&found["recorded_missing"], &found["recovered"]), (&json!([]), &json!(0)), "{found:#}");
    let unconfirmed: Vec<_> = found["unconfirmed"].as_array().unwrap().iter().map(|one| one["line"].as_u64()).collect();
    assert_eq!(unconfirmed, forged.map(Some));
}
