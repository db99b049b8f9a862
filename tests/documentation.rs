//! The pages of README.md and docs/ are true: examples are run, names exist, and the form is held.
//!
//! The conventions for examples are in docs/README.md, under "How these pages are tested".

use std::collections::BTreeSet;
use std::env::join_paths;
use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::support::command::{Finished, run};
use crate::support::examples::{check, complete};
use crate::support::gateway::{folder, program};
use crate::support::issuer::Key;
use crate::support::pages::{Page, ROOT, files, pages, read};
use crate::support::{Client, Gateway, Issuer};

/// Groups of verbs: the next word belongs to the verb.
const GROUPS: [&str; 4] = ["audit", "client", "keys", "token"];

/// These serve until they are stopped.
const SERVING: [&str; 2] = ["demo", "run"];

const SECRET: &str = "correct horse battery staple";

#[test]
fn every_page_is_linked_from_the_nearest_index() {
    let pages = pages();
    for page in pages.iter().filter(|page| page.name.starts_with("docs/") && page.name != "docs/README.md") {
        let is_index = |folder: &Path| pages.iter().find(|index| Path::new(&index.name) == folder.join("README.md"));
        let above = Path::new(&page.name).ancestors().skip(1);
        let index = above.filter_map(is_index).find(|index| index.name != page.name).unwrap();
        let link = format!("]({})", page.name.trim_start_matches(index.name.trim_end_matches("README.md")));
        assert!(index.text.contains(&link), "{} has no link to {}", index.name, page.name);
    }
}

#[test]
fn lines_and_tables_keep_their_width() {
    let mut wrong = Vec::new();
    for page in pages() {
        for (number, line) in page.prose() {
            let (is_row, length) = (line.trim_start().starts_with('|'), line.chars().count());
            if length > if is_row { 160 } else { 120 } {
                wrong.push(format!("{}:{number}: {length} columns", page.name));
            }
            if is_row && cells(line).any(|cell| sentences(cell) > 2) {
                wrong.push(format!("{}:{number}: a cell has more than two sentences", page.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_configuration_of_the_pages_has_no_findings() {
    let mut checked = 0;
    // The examples of lints are run with them, in `lints.rs`.
    for page in pages().iter().filter(|page| page.name != "docs/reference/lints.md") {
        for block in page.blocks().iter().filter(|block| block.language == "yaml") {
            let (folder, said) = check(&complete(&block.text), &[]);
            let result = (said.code, &*said.stderr);
            assert_eq!(result, (Some(0), ""), "{}:{}\n{}", page.name, block.line, said.stderr);
            fs::remove_dir_all(folder).unwrap();
            checked += 1;
        }
    }
    assert!(checked >= 8, "{checked}");
}

#[test]
fn the_readme_shows_what_check_prints() {
    let page = Page::new("README.md".to_owned());
    let blocks = page.blocks();
    let at = blocks.iter().position(|block| block.language == "yaml").unwrap();
    let shown = blocks[at + 1].text.strip_prefix("$ portcullis check\n").unwrap();
    let (folder, said) = check(&blocks[at].text, &[]);
    assert_eq!(
        without_id(shown),
        without_id(&said.stdout),
        "README.md:{} is not what `check` prints",
        blocks[at + 1].line
    );
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_pages_works() {
    let mut worked = 0;
    for page in pages() {
        let commands: Vec<(usize, String)> = page.commands().into_iter().filter(|(_, command)| ends(command)).collect();
        if commands.is_empty() {
            continue;
        }
        let example = Example::start().await;
        for (number, command) in commands {
            let said = example.run(&command);
            // The request that is explained was refused.
            let expected = if command.contains("explain --request-id") { 1 } else { 0 };
            assert_eq!(said.code, Some(expected), "{}:{number}: {command}\n{}{}", page.name, said.stdout, said.stderr);
            worked += 1;
        }
    }
    assert!(worked >= 25, "{worked}");
}

#[test]
fn every_verb_and_option_of_the_pages_exists() {
    let folder = folder();
    let mut asked = BTreeSet::new();
    for page in pages() {
        let commands = page.commands().into_iter().chain(page.spans());
        for (number, command) in commands {
            let Some((verb, options)) = verb_and_options(&command) else { continue };
            let said = run(program(&folder).args(&verb).arg("--help"));
            assert_eq!(said.code, Some(0), "{}:{number}: {command}\n{}", page.name, said.stderr);
            for option in options {
                assert!(said.stdout.contains(&option), "{}:{number}: {verb:?} has no {option}", page.name);
            }
            asked.insert(verb);
        }
    }
    assert!(asked.len() >= 12, "{asked:?}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn every_reason_rule_and_metric_is_documented() {
    let reasons = read("docs/reference/answers.md");
    let source = read("src/audit/reason.rs");
    let names: Vec<&str> = source.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(reasons.contains(&format!("| `{name}` |")), "docs/reference/answers.md lacks the reason {name}");
    }
    let files_with_rules =
        ["http1/fault.rs", "pipeline/request/ambiguous.rs", "pipeline/answer/broken_rule.rs", "upstream/tls_fault.rs"];
    for file in files_with_rules {
        let source = read(&format!("src/{file}"));
        let quoted = source.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
        let names: Vec<&str> = quoted.filter(|name| !name.contains(' ')).collect();
        assert!(names.len() > 5, "{file}: {names:?}");
        for name in names {
            assert!(reasons.contains(&format!("`{name}`")), "docs/reference/answers.md lacks the rule {name}");
        }
    }
    let metrics = read("docs/reference/metrics.md");
    let sources: String =
        files(Path::new(ROOT).join("src")).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let is_name = |name: &&str| name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    let quoted = sources.split("\"portcullis_").skip(1).filter_map(|rest| rest.split('"').next());
    let names: BTreeSet<&str> = quoted.filter(is_name).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(metrics.contains(&format!("`portcullis_{name}")), "docs/reference/metrics.md lacks portcullis_{name}");
    }
}

fn cells(row: &str) -> impl Iterator<Item = &str> {
    row.split(" | ")
}

/// A sentence ends at a full stop before a space and a capital letter or code.
fn sentences(cell: &str) -> usize {
    let starts = |rest: &str| rest.starts_with(|first: char| first.is_uppercase() || first == '`');
    1 + cell.match_indices(". ").filter(|(at, _)| starts(&cell[at + 2..])).count()
}

/// The first line without the id of the configuration, which is a hash of the file.
fn without_id(printed: &str) -> String {
    let (first, rest) = printed.split_once('\n').unwrap();
    format!("{}\n{}", first.split(" (").next().unwrap(), rest.trim_end())
}

/// False for commands that serve until they are stopped.
fn ends(command: &str) -> bool {
    verb_and_options(command).is_some_and(|(verb, _)| !SERVING.contains(&verb[0].as_str()))
}

/// The verb, such as `audit verify`, and the options that are given to it.
fn verb_and_options(command: &str) -> Option<(Vec<String>, Vec<String>)> {
    let (_, arguments) = command.split_once("portcullis ")?;
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let length = if GROUPS.contains(words.first()?) { 2 } else { 1 };
    let verb = words.iter().take(length).map(|word| (*word).to_owned());
    let verb: Vec<String> = verb.filter(|word| !word.starts_with('-')).collect();
    let options = words.iter().filter(|word| word.starts_with('-') && **word != "-").map(|word| (*word).to_owned());
    (!verb.is_empty()).then(|| (verb, options.collect()))
}

/// A gateway at work, with the names that the pages use, for commands beside it.
struct Example {
    gateway: Gateway,
    token: String,
    request_id: String,
    // Its keys are fetched by commands.
    _issuer: Issuer,
}

impl Example {
    async fn start() -> Self {
        let issuer = Issuer::start(&[&Key::new("k1", "ES256")]).await;
        let yaml = format!(
            r#"
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:0
    tls: {{certificates: [{{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}}]}}
allow_literal_secrets: true
oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: ES256}}
  clients:
    billing: {{secrets: [{{value: {SECRET}}}], scopes: [invoices:read, invoices:write]}}
issuers: {{auth0: {{issuer: '{}', audiences: [https://api.example.com], allow_scopes: [invoices:read]}}}}
routes:
  - {{name: read-invoices, path: /invoices/**, methods: [GET], respond: {{body: '[]'}}, access: {{scopes: [invoices:read]}}}}
  - {{name: write-invoices, path: /invoices/**, methods: [POST], respond: {{}}, access: {{scopes: [invoices:write]}}}}
tests:
  - {{name: billing, as: {{client: billing}}, allowed: [GET /invoices/7, POST /invoices]}}
"#,
            issuer.issuer
        );
        let gateway = Gateway::start_in(folder(), &yaml, &[]);
        let client = Client::new(&gateway);
        let token = client.granted("billing", SECRET, "").await;
        let request_id = client.get("/invoices").await.request_id().to_owned();
        Self { gateway, token, request_id, _issuer: issuer }
    }

    /// In a shell, with the program on its path and the variables of the pages set.
    fn run(&self, command: &str) -> Finished {
        let program = program(&self.gateway.folder);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = [Path::new(program.get_program()).parent().unwrap().to_owned()];
        let path = join_paths(folders.into_iter().chain(std::env::split_paths(&path))).unwrap();
        let part = |at: usize| -> Value {
            let part = self.token.split('.').nth(at).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(&self.gateway.folder).env("PATH", path);
        shell.envs([("TOKEN", &*self.token), ("SECRET", SECRET), ("REQUEST_ID", &*self.request_id)]);
        shell.env("KEY", "state/audit-key.pub");
        shell.env("KID", part(0)["kid"].as_str().unwrap()).env("JTI", part(1)["jti"].as_str().unwrap());
        run(&mut shell)
    }
}
