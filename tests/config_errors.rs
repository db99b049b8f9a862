//! A bad configuration is refused before the gateway starts. Each fault is reported with its place, its value and the
//! way out.
//!
//! A case is two files of `bad_configs/`: `NAME.yaml`, and `NAME.txt` with the exact output of the program. After a
//! change of messages, `RENEW=1 cargo test config_errors` writes the texts again; read the diff as a user would.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};

/// The secret in the files of the cases and in their variables. It must never be in the output.
const CANARY: &str = "hunter2";

/// A bad file and the output of the commands.
struct Case {
    name: String,
    check: Finished,
    check_json: Finished,
    run: Finished,
}

/// Every case, run once for all tests.
static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let world = world();
    let before = listing(&world);
    let cases: Vec<Case> = names().into_iter().map(|name| Case::of(&world, name)).collect();
    assert_eq!(listing(&world), before, "`check` and a refused `run` write nothing");
    fs::remove_dir_all(&world).unwrap();
    cases
});

impl Case {
    fn of(world: &Path, name: String) -> Self {
        let file = format!("{name}.yaml");
        let output = |arguments: &[&str]| {
            let mut command = program(world);
            command.args(arguments).args(["--config", &file]);
            // Without the variables of the shell in which the tests run.
            command
                .env_clear()
                .env("SECRET", "hunter2-hunter2-hunter2")
                .env("ANYTHING", "hunter2-hunter2-hunter2")
                .env("SHORT", CANARY)
                .env("FOLDER", "certs")
                .env("HOST", "localhost")
                .env("EMPTY", "");
            run(&mut command)
        };
        let (check, check_json) = (output(&["check"]), output(&["check", "--format", "json"]));
        // If `check` accepts the file, `run` would serve.
        let run = if check.code == Some(2) { output(&["run"]) } else { check.clone() };
        Self { name, check, check_json, run }
    }
}

fn cases_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_configs")
}

fn files(extension: &str) -> Vec<String> {
    let files = fs::read_dir(cases_folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn names() -> Vec<String> {
    files("yaml")
}

/// A folder with the bad files, and the certificates, keys and secrets that they name.
fn world() -> PathBuf {
    let world = folder();
    for name in names() {
        fs::copy(cases_folder().join(format!("{name}.yaml")), world.join(format!("{name}.yaml"))).unwrap();
    }
    let (good, other) = (pair(), pair());
    let armour = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    for (path, mode, text) in [
        ("certs/good.crt", 0o644, &good.0),
        ("certs/good.key", 0o600, &good.1),
        ("certs/other.key", 0o600, &other.1),
        ("certs/open.key", 0o644, &good.1),
        ("certs/garbage.pem", 0o600, &"not PEM\n".to_owned()),
        ("certs/broken.crt", 0o644, &armour("CERTIFICATE")),
        ("certs/broken.key", 0o600, &armour("PRIVATE KEY")),
        ("keys/loose-folder/RS256.x.pem", 0o600, &good.1),
        ("keys/loose-file/RS256.x.pem", 0o640, &good.1),
        ("keys/garbage/RS256.x.pem", 0o600, &armour("PRIVATE KEY")),
        ("jwks/garbage.json", 0o644, &"{\"keys\": [".to_owned()),
        ("jwks/empty.json", 0o644, &"{\"keys\": []}".to_owned()),
        ("secrets/short", 0o644, &"token\n".to_owned()),
        ("secrets/two-lines", 0o644, &"one\ntwo\n".to_owned()),
        ("secrets/empty", 0o600, &"\n".to_owned()),
        ("short.pem", 0o644, &SHORT_RSA.to_owned()),
        ("large.txt", 0o644, &"x".repeat(64 << 10)),
    ] {
        let path = world.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    for (path, mode) in [("keys/loose-folder", 0o755), ("keys/loose-file", 0o700), ("keys/garbage", 0o700)] {
        fs::set_permissions(world.join(path), Permissions::from_mode(mode)).unwrap();
    }
    world
}

/// A key of 1024 bits.
const SHORT_RSA: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDJN7w9V8ZynOwpjB1S1gLSYNM4
VqrIDFVJxMNv5HtvA1x4jtBDgYAuTVaRnbmp5lUnHWtuOXRByoh+AvQM2CtbaRoa
qsTkjVO7AopBH/q0ZI57eTG/XtuFSUfTw+Tfe5h7nu5fk6uJSOScKc6SN6TO5nwV
pXMFr8p0iX36+Ly89wIDAQAB
-----END PUBLIC KEY-----
";

/// A certificate and its key, in PEM.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Every file below, with its mode, size and time of change.
fn listing(folder: &Path) -> Vec<String> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::metadata(&path).unwrap();
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        listed.push(format!("{} {:o} {} {changed:?}", path.display(), metadata.mode(), metadata.len()));
        if metadata.is_dir() {
            listed.extend(listing(&path));
        }
    }
    listed.sort();
    listed
}

#[test]
fn every_bad_file_gives_exactly_this_output() {
    let renew = std::env::var_os("RENEW").is_some();
    let mut different = String::new();
    for case in &*CASES {
        let path = cases_folder().join(format!("{}.txt", case.name));
        if renew {
            fs::write(&path, &case.check.stderr).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if case.check.stderr != expected {
            different += &format!("--- {}: expected\n{expected}--- found\n{}", case.name, case.check.stderr);
        }
        assert_eq!((case.check.code, &*case.check.stdout), (Some(2), ""), "{}", case.name);
    }
    assert!(different.is_empty(), "{different}RENEW=1 writes the texts again");
    assert_eq!(files("txt"), names());
    assert!(names().len() >= 60);
}

#[test]
fn run_refuses_with_the_output_of_check() {
    for case in &*CASES {
        assert_eq!((case.run.code, &*case.run.stdout), (Some(2), ""), "{}", case.name);
        assert_eq!(case.run.stderr, case.check.stderr, "{}", case.name);
    }
}

#[test]
fn the_json_output_has_the_same_faults() {
    for case in &*CASES {
        assert_eq!((case.check_json.code, &*case.check_json.stderr), (Some(2), ""), "{}", case.name);
        let output: Value = serde_json::from_str(&case.check_json.stdout).unwrap();
        assert_eq!(output["ok"], false, "{}", case.name);
        let problems = output["findings"].as_array().unwrap();
        for problem in problems {
            let (file, message) = (problem["file"].as_str().unwrap(), problem["message"].as_str().unwrap());
            let place = match (&problem["line"], &problem["column"]) {
                (Value::Null, Value::Null) => String::new(),
                (line, column) => format!("{line}:{column}:"),
            };
            let headline = format!("{file}:{place} {message}\n");
            assert!(case.check.stderr.contains(&headline), "{}: {headline}", case.name);
        }
        let summary = format!("{}.yaml: {} problem{}\n", case.name, problems.len(), plural(problems.len()));
        assert!(case.check.stderr.ends_with(&summary), "{}: {summary}", case.name);
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[test]
fn no_secret_is_ever_shown() {
    for case in &*CASES {
        for output in [&case.check, &case.check_json, &case.run] {
            let text = format!("{}{}", output.stdout, output.stderr);
            assert!(!text.contains(CANARY) && !text.contains("PRIVATE KEY"), "{}:\n{text}", case.name);
        }
    }
    let planted = names()
        .into_iter()
        .filter(|name| fs::read_to_string(cases_folder().join(format!("{name}.yaml"))).unwrap().contains(CANARY));
    assert!(planted.count() >= 10, "the secret stands in many wrong places");
}

#[test]
fn messages_are_in_one_style() {
    for case in &*CASES {
        let output: Value = serde_json::from_str(&case.check_json.stdout).unwrap();
        for problem in output["findings"].as_array().unwrap() {
            let message = problem["message"].as_str().unwrap();
            let first = message.chars().next().unwrap();
            assert!(
                !first.is_uppercase() || message.starts_with("YAML") || message.starts_with("CONNECT"),
                "{message}"
            );
            assert!(!message.ends_with(['.', '!', ' ']) && !message.contains("os error"), "{message}");
        }
    }
}

/// The output of `check` for a file of these bytes.
fn check(bytes: &[u8]) -> Finished {
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), bytes).unwrap();
    let output = run(program(&folder).arg("check"));
    fs::remove_dir_all(folder).unwrap();
    output
}

#[track_caller]
fn only_says(bytes: &[u8], message: &str) {
    let output = check(bytes);
    let first = output.stderr.lines().next().unwrap_or_default();
    assert_eq!((output.code, first), (Some(2), message), "{}", output.stderr);
    assert!(output.stderr.ends_with("gateway.yaml: 1 problem\n"), "{}", output.stderr);
}

/// A default has no text in the file, so no text is quoted for it.
#[test]
fn a_default_path_is_named_without_a_quote_of_the_file() {
    let folder = folder();
    fs::write(folder.join("state"), "a file").unwrap();
    let yaml = "version: 1\n\
        listeners: [{address: 127.0.0.1:0, tls: {certificates: [{cert: a.crt, key: a.key, self_signed: true}]}}]\n\
        oauth:\n  issuer: https://localhost\n  audiences: [a]\n  \
        clients: {app: {secrets: [{value: \"${SECRET}\"}], scopes: [a]}}\n\
        upstreams: {legacy: \"http://127.0.0.1:9000\"}\n\
        routes: [{path: /x, upstream: legacy, access: {}}]\n";
    fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    for verb in ["check", "run"] {
        let output = run(program(&folder).arg(verb).env("SECRET", "hunter2-hunter2-hunter2"));
        for expected in [
            "cannot open the audit log `state/audit.jsonl`: a part of the path is a file, not a folder; set `audit.file` to another path",
            "cannot use `state`: ",
        ] {
            assert!(output.stderr.contains(expected), "{expected}: {}", output.stderr);
        }
        assert!(!output.stderr.contains("`version: 1`") && !output.stderr.contains("`issuer:"), "{}", output.stderr);
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn nesting_is_bounded() {
    let place = |column| format!("gateway.yaml:1:{column}: nested too deeply: at most 64 levels");
    only_says(&b"[".repeat(10_000), &place(65));
    only_says(&b"{a: ".repeat(10_000), &place(257));
    only_says(&b"- ".repeat(10_000), &place(129));
}

#[test]
fn aliases_are_not_followed() {
    let bomb = format!("version: &v [{}]\nworkers: [{}]\n", "lol, ".repeat(1000), "*v, ".repeat(100_000));
    let output = check(bomb.as_bytes());
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.ends_with("problems, of which 1000 are shown\n"));
}

#[test]
fn a_file_that_is_not_text_is_refused_with_advice() {
    only_says(b"version: 1\nworkers: \xff\n", "gateway.yaml:2:10: this byte is not UTF-8: save the file as UTF-8");
    only_says(b"\xff\xfev\0e\0", "gateway.yaml:1:1: the file is in UTF-16: save it as UTF-8");
    only_says(
        b"\xef\xbb\xbfversion: 1",
        "gateway.yaml:1:1: the file begins with a byte order mark: save it as UTF-8 without one",
    );
    only_says(b"version: \x1b[31m", "gateway.yaml:1:10: the control character U+001B is not allowed");
}

#[test]
fn a_missing_config_is_named_as_given() {
    let folder = folder();
    for (path, reason) in [("none/gateway.yaml", "no such file; give its path with --config"), (".", "it is a folder")]
    {
        for verb in ["check", "run"] {
            let output = run(program(&folder).args([verb, "--config", path]));
            let expected = format!("{path}: cannot read the file: {reason}\n{path}: 1 problem\n");
            assert_eq!((output.code, output.stderr), (Some(2), expected));
        }
    }
    fs::remove_dir_all(folder).unwrap();
}
