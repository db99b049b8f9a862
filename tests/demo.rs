//! `portcullis demo`: what it prints is pasted into a shell, and does what it promises.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use serde_json::Value;

use crate::outside::curl_is_there;
use crate::support::Upstream;
use crate::support::command::run;
use crate::support::gateway::{PATIENCE, folder, program};
use crate::support::port::free_port;

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
        let folder = folder().join("it's here");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("gateway.yaml"), config(free_port())).unwrap();
        let mut child = program(&folder).arg("demo").stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
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

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = Upstream::start().await.address;
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), config(taken.port())).unwrap();
    let said = run(program(&folder).arg("demo"));
    assert_eq!((said.code, &*said.stdout), (Some(2), ""));
    assert!(
        said.stderr.starts_with(&format!(
            "error: cannot start the demo's service on {taken}: another process has the address; change the address of \
             `upstreams.legacy`"
        )),
        "{}",
        said.stderr
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_folder_without_the_configuration_is_told_where_to_go() {
    let folder = folder();
    let said = run(program(&folder).arg("demo"));
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr.contains("cannot read the file: no such file; give its path with --config\n"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.ends_with("run it in that folder, or give the file with --config\n"), "{}", said.stderr);
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
