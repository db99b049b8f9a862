//! `portcullis diff`: exit code 0 if access does not widen, 1 if it does or may, 2 for a faulty file; and its three
//! forms of output. The changes themselves are tested beside the comparison.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::command::{Finished, run_with};
use crate::support::gateway::{folder, program};

const OLD: &str = "version: 1
listeners: [{address: 127.0.0.1:8080}]
audit: {file: \"-\"}
allow_literal_secrets: true
oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  clients:
    billing: {secrets: [{value: correct horse battery staple}], scopes: [read, write]}
upstreams: {legacy: 'http://127.0.0.1:9'}
routes:
  - {path: /invoices/**, methods: [GET], upstream: legacy, access: {scopes: [read]}}
  - {path: /admin/**, upstream: legacy, access: {scopes: [write]}}
";

/// A folder with the file above, and a new one in which a text is replaced.
fn changed(from: &str, to: &str) -> PathBuf {
    let folder = folder();
    assert_eq!(OLD.matches(from).count(), 1, "{from}");
    fs::write(folder.join("old.yaml"), OLD).unwrap();
    fs::write(folder.join("new.yaml"), OLD.replace(from, to)).unwrap();
    folder
}

fn diff(folder: &Path, arguments: &[&str], input: &str) -> Finished {
    run_with(program(folder).arg("diff").args(arguments), input)
}

#[track_caller]
fn says(folder: &Path, arguments: &[&str], code: i32, stdout: &str) {
    let said = diff(folder, arguments, "");
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (Some(code), stdout, ""));
}

#[test]
fn access_that_widens_is_exit_code_1_with_its_place() {
    let folder = changed("access: {scopes: [write]}", "access: public");
    let text = "new.yaml:13:5: wider: route /admin/** becomes public\n1 wider, 0 narrower, 0 changed\n";
    says(&folder, &["old.yaml", "new.yaml"], 1, text);
    let text = "old.yaml:13:5: narrower: route /admin/** is no longer public: it needs the scope `write`\n\
        0 wider, 1 narrower, 0 changed\n";
    says(&folder, &["new.yaml", "old.yaml"], 0, text);
    says(&folder, &["old.yaml", "old.yaml"], 0, "no change of access\n");
}

#[test]
fn a_removed_entry_has_its_place_in_the_old_file() {
    let folder = changed("  - {path: /admin/**, upstream: legacy, access: {scopes: [write]}}\n", "");
    let text = "old.yaml:13:5: narrower: route /admin/** is removed: /admin/**\n0 wider, 1 narrower, 0 changed\n";
    says(&folder, &["old.yaml", "new.yaml"], 0, text);
}

#[test]
fn programs_and_github_get_each_change_with_its_place() {
    let folder = changed("scopes: [read, write]", "scopes: [read, write, \"100%\"]");
    let said = diff(&folder, &["old.yaml", "new.yaml", "--format", "json"], "");
    let expected = json!({
        "widens": true, "wider": 1, "narrower": 0, "changed": 0,
        "changes": [{"direction": "wider", "message": "client `billing` may now have `100%`", "file": "new.yaml",
            "line": 9, "column": 5}],
    });
    assert_eq!((said.code, serde_json::from_str::<Value>(&said.stdout).unwrap()), (Some(1), expected));
    let line = "::error file=new.yaml,line=9,col=5,title=Access widens::client `billing` may now have `100%25`\n";
    says(&folder, &["old.yaml", "new.yaml", "--format", "github"], 1, line);
    let line =
        "::notice file=old.yaml,line=9,col=5,title=Access narrows::client `billing` may no longer have `100%25`\n";
    says(&folder, &["new.yaml", "old.yaml", "--format", "github"], 0, line);
}

#[test]
fn one_of_the_files_can_be_standard_input() {
    let folder = changed("access: {scopes: [write]}", "access: public");
    let said = diff(&folder, &["-", "new.yaml"], OLD);
    assert_eq!((said.code, said.stdout.contains("new.yaml:13:5: wider")), (Some(1), true), "{said:?}");
    let said = diff(&folder, &["new.yaml", "-"], OLD);
    assert_eq!((said.code, said.stdout.contains("-:13:5: narrower")), (Some(0), true), "{said:?}");
    let said = diff(&folder, &["-", "-"], OLD);
    assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{said:?}");
}

#[test]
fn a_file_with_faults_is_exit_code_2() {
    let folder = changed("access: {scopes: [write]}", "acess: public");
    for (old, new) in [("old.yaml", "new.yaml"), ("new.yaml", "old.yaml")] {
        let said = diff(&folder, &[old, new], "");
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{said:?}");
        assert!(said.stderr.contains("new.yaml:13:") && said.stderr.contains("did you mean `access`?"), "{said:?}");
    }
    let said = diff(&folder, &["old.yaml", "missing.yaml"], "");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.stderr.contains("missing.yaml: cannot read the file"), "{said:?}");
}
