//! `portcullis demo`: what it prints is pasted into a shell, and does what it promises.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use serde_json::Value;

use crate::outside::curl_is_there;
use crate::support::Upstream;
use crate::support::command::run;
use crate::support::gateway::{PATIENCE, folder, program};
use crate::support::pages::read;
use crate::support::port::free_port;
use crate::support::schema::SCHEMA;

/// The demo at work. Dropped, it is killed.
struct Demo {
    child: Child,
    folder: PathBuf,
    /// All that it has said when it is ready.
    said: String,
}

impl Demo {
    /// In a folder whose name is not for shells, with the configuration that comes with Portcullis on other ports.
    fn start() -> Self {
        Self::start_with(Some(&config(free_port())))
    }

    /// With this configuration, or in an empty folder. That is also the folder for temporary files.
    fn start_with(yaml: Option<&str>) -> Self {
        let folder = folder().join("it's here");
        fs::create_dir_all(&folder).unwrap();
        if let Some(yaml) = yaml {
            fs::write(folder.join("gateway.yaml"), yaml).unwrap();
        }
        let mut command = program(&folder);
        command.arg("demo").env("TMPDIR", &folder).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut demo = Self { child, folder, said: String::new() };
        while !demo.said.ends_with("Ctrl-C stops it.\n") {
            let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the demo is not ready:\n{}", demo.said));
            demo.said += &format!("{line}\n");
        }
        demo
    }

    /// The lines to paste, each under a comment that says what comes of it.
    fn lines(&self) -> Vec<&str> {
        self.said
            .split("\n\n")
            .filter_map(|part| part.strip_prefix("# ")?.split_once('\n'))
            .map(|(_, line)| line)
            .collect()
    }

    fn audit(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.folder.join("state/audit.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lines.map(|line| (word(&line["gateway.decision"]), word(&line["gateway.reason"]))).collect()
    }

    fn stop(&mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(self.folder.parent().unwrap());
    }
}

/// The shipped configuration on other ports; the public route refuses the sixth call however slowly it comes.
fn config(service: u16) -> String {
    let shipped = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.yaml")).unwrap();
    let mut text = shipped.replace("rate: 5/s", "rate: 5/h");
    for (port, other) in [("8443", free_port()), ("9000", service), ("9901", free_port())] {
        assert!(text.contains(port));
        text = text.replace(port, &other.to_string());
    }
    text
}

#[test]
fn the_five_commands_of_the_demo_work() {
    if !curl_is_there("the lines of the demo") {
        return;
    }
    let mut demo = Demo::start();
    assert!(!demo.said.contains('\u{1b}'), "no colours in a pipe");
    let lines = demo.lines();
    assert_eq!(lines.len(), 5, "{}", demo.said);
    // Pasted one after the other, in a folder that is not the demo's.
    let pasted = lines.join("\necho; echo ======\n");
    let shell = run(Command::new("sh").args(["-c", &pasted]).current_dir("/"));
    assert_eq!((shell.code, &*shell.stderr), (Some(0), ""), "{pasted}\n{}", shell.stdout);
    let told: Vec<&str> = shell.stdout.split("======\n").collect();
    let [token, allowed, nobody, forbidden, limited] = told[..] else { panic!("{}", shell.stdout) };

    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    assert!(
        allowed.starts_with("HTTP/2 200") && allowed.contains("\"the gateway says you are\":\"demo-client\""),
        "{allowed}"
    );
    assert!(nobody.starts_with("HTTP/2 401") && nobody.contains("www-authenticate: Bearer realm="), "{nobody}");
    assert!(forbidden.starts_with("HTTP/2 403") && forbidden.contains("scope=\"orders:write\""), "{forbidden}");
    assert!(limited.contains("HTTP/2 429") && limited.contains("retry-after: "), "{limited}");

    demo.stop();
    let audit = demo.audit();
    for (decision, reason) in
        [("issue", ""), ("allow", ""), ("deny", "no_token"), ("deny", "missing_scope"), ("deny", "rate_limited")]
    {
        assert!(
            audit.iter().any(|(found, why)| found == decision && why == reason),
            "no {decision} {reason}: {audit:?}"
        );
    }
}

/// Keeps a port of the shipped configuration from the demo. If another process has it already, that is as good.
fn hold(port: u16) -> Option<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).ok()
}

#[tokio::test]
async fn a_port_in_use_is_replaced_and_printed() {
    let taken = Upstream::start().await.address;
    let mut demo = Demo::start_with(Some(&config(taken.port())));
    let line = demo.said.lines().find(|line| line.starts_with(&format!("{taken} is taken: 127.0.0.1:"))).unwrap();
    let instead = line.split([' ']).nth(3).unwrap().to_owned();
    assert_ne!(instead, taken.to_string());
    assert!(demo.said.lines().next().unwrap().ends_with(&format!("before http://{instead}")), "{}", demo.said);
    demo.stop();
}

#[test]
fn the_demo_needs_no_folder_and_no_port_of_its_own() {
    let _held = [8443, 9000, 9901].map(hold);
    let mut demo = Demo::start_with(None);
    for port in [8443, 9000, 9901] {
        assert!(demo.said.contains(&format!("127.0.0.1:{port} is taken: 127.0.0.1:")), "{}", demo.said);
    }
    let mut made: Vec<_> = fs::read_dir(&demo.folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let made = made.pop().filter(|_| made.is_empty()).expect("one new folder");
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
    let written = fs::read_to_string(made.join("gateway.yaml")).unwrap();
    assert_eq!(written.lines().next(), Some("# yaml-language-server: $schema=gateway.schema.json"));
    assert!(fs::read_to_string(made.join("gateway.schema.json")).unwrap() == read(SCHEMA), "another schema");
    assert!(!written.contains(":8443") && !written.contains(":9000") && !written.contains(":9901"), "{written}");
    for file in ["certs/localhost.crt", "state/keys", "state/audit.jsonl"] {
        assert!(made.join(file).exists(), "{file}");
    }
    if curl_is_there("the lines of the demo") {
        let pasted = demo.lines()[..3].join("\necho; echo ======\n");
        let shell = run(Command::new("sh").args(["-c", &pasted]).current_dir("/"));
        assert_eq!((shell.code, &*shell.stderr), (Some(0), ""), "{pasted}\n{}", shell.stdout);
        let told: Vec<&str> = shell.stdout.split("======\n").collect();
        assert!(told[1].starts_with("HTTP/2 200") && told[2].starts_with("HTTP/2 401"), "{}", shell.stdout);
    }
    demo.stop();
}

#[test]
fn a_file_that_is_not_there_is_an_error_and_not_the_default() {
    let folder = folder();
    let said = run(program(&folder).args(["demo", "--config", "other.yaml"]));
    assert_eq!((said.code, &*said.stdout), (Some(2), ""));
    assert!(
        said.stderr.contains("cannot read the file: no such file; give its path with --config\n"),
        "{}",
        said.stderr
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn demo_without_a_service_to_play_names_what_is_missing() {
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), "version: 1\nlisteners: [{address: 127.0.0.1:0}]\n").unwrap();
    let said = run(program(&folder).arg("demo"));
    assert_eq!((said.code, &*said.stdout), (Some(2), ""));
    assert!(said.stderr.starts_with("the demo needs an upstream `legacy` on an IP address"), "{}", said.stderr);
    fs::remove_dir_all(folder).unwrap();
}
