//! State is in one place, and belongs to the user that runs the gateway, also if root runs a command beside it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use crate::support::Gateway;
use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};
use crate::support::world::config;

const ROUTES: [&str; 1] = ["path: /data, access: {}, name: data, respond: {body: hello}"];

/// With the defaults of `audit`.
fn yaml(sections: &str) -> String {
    config(([127, 0, 0, 1], 9).into(), &ROUTES, &format!("audit: {{}}\n{sections}\n"))
}

#[track_caller]
fn says(folder: &Path, arguments: &[&str]) -> Finished {
    run(program(folder).args(arguments))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn log_and_keys_are_below_the_state_directory_by_default() {
    let mut gateway = Gateway::start(&yaml("state_directory: data"));
    assert!(gateway.stop().success());
    assert!(!gateway.folder.join("state").exists());
    let found = names(&gateway.folder.join("data"));
    for name in ["audit-key.pem", "audit.jsonl", "keys", "revocations.jsonl"] {
        assert!(found.iter().any(|found| found == name), "{name}: {found:?}");
    }
    let said = says(&gateway.folder, &["keys", "list"]);
    assert!(said.stdout.contains("signing"), "{said:?}");
    let said = says(&gateway.folder, &["audit", "tail"]);
    assert!(said.stdout.contains("start"), "{said:?}");
}

#[test]
fn state_at_the_earlier_default_is_not_left_behind() {
    let mut gateway = Gateway::start(&yaml(""));
    assert!(gateway.stop().success());
    let folder = &gateway.folder;
    fs::write(folder.join("gateway.yaml"), yaml("state_directory: data")).unwrap();
    let keys = "the signing keys are at `state/keys`, the earlier default, and the present one, `data/keys`, has none: \
        move the files there, or set `oauth.signing_keys.directory: state/keys`";
    let log = "the audit log is at `state/audit.jsonl`, the earlier default, and the present one, `data/audit.jsonl`, has \
        none: move the files there, or set `audit.file: state/audit.jsonl`";
    for (arguments, expected) in [
        (&["check"][..], &[keys, log][..]),
        (&["run"], &[keys, log]),
        (&["keys", "list"], &[keys]),
        (&["audit", "tail"], &[log]),
        (&["token", "revoke", "--client", "app"], &[]),
    ] {
        let said = says(folder, arguments);
        assert_eq!(said.code, Some(if expected.is_empty() { 0 } else { 2 }), "{arguments:?}: {said:?}");
        for text in [keys, log] {
            assert_eq!(said.stderr.contains(text), expected.contains(&text), "{arguments:?}: {said:?}");
        }
    }
    fs::rename(folder.join("state/keys"), folder.join("data/keys")).unwrap();
    let said = says(folder, &["check"]);
    assert!(said.stderr.contains(log) && !said.stderr.contains(keys), "{said:?}");
    let oauth_and_log = yaml("state_directory: data").replace("audit: {}", "audit: {file: state/audit.jsonl}");
    fs::write(folder.join("gateway.yaml"), oauth_and_log).unwrap();
    let said = says(folder, &["check"]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// Only root can give files away: without it, this checks that the commands work.
#[test]
fn files_made_by_a_command_of_root_belong_to_the_service() {
    let folder = folder();
    let is_root = fs::metadata(&folder).unwrap().uid() == 0;
    fs::create_dir(folder.join("service")).unwrap();
    if is_root {
        chown(folder.join("service"), Some(12_345), Some(12_346)).unwrap();
    }
    fs::write(folder.join("gateway.yaml"), yaml("state_directory: service/state")).unwrap();
    for arguments in [&["token", "revoke", "--client", "app"][..], &["keys", "rotate"], &["keys", "rotate", "--now"]] {
        let said = says(&folder, arguments);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    let mut made: Vec<PathBuf> = vec![folder.join("service/state")];
    let mut at = 0;
    while let Some(path) = made.get(at).cloned() {
        if path.is_dir() {
            made.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let owner = fs::metadata(&path).unwrap();
        assert!(!is_root || (owner.uid(), owner.gid()) == (12_345, 12_346), "{}", path.display());
        at += 1;
    }
    assert!(made.len() >= 7, "{made:?}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn commands_write_through_no_symbolic_link() {
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), yaml("")).unwrap();
    assert_eq!(says(&folder, &["keys", "rotate"]).code, Some(0));
    fs::write(folder.join("precious"), "precious").unwrap();
    fs::set_permissions(folder.join("precious"), Permissions::from_mode(0o600)).unwrap();
    let state = folder.join("state");
    fs::remove_file(state.join("keys/ring.lock")).unwrap();
    for name in ["revocations.jsonl", "keys/ring.json.new", "keys/ring.lock"] {
        symlink(folder.join("precious"), state.join(name)).unwrap();
    }
    for (arguments, file) in
        [(&["token", "revoke", "--client", "app"][..], "revocations.jsonl"), (&["keys", "rotate"], "ring.lock")]
    {
        let said = says(&folder, arguments);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.stderr.contains(file) && said.stderr.contains("symbolic link"), "{said:?}");
    }
    fs::remove_file(state.join("keys/ring.lock")).unwrap();
    assert_eq!(says(&folder, &["keys", "rotate"]).code, Some(0));
    assert_eq!(fs::read_to_string(folder.join("precious")).unwrap(), "precious");
    fs::remove_dir_all(folder).unwrap();
}

/// As in a shell without the variables of the service.
#[test]
fn a_variable_that_is_not_set_stops_no_command_without_need() {
    let sections = "listeners: [{address: '${A}', tls: {certificates: [{cert: '${B}', key: '${C}'}]}}]
upstreams: {legacy: '${D}'}
admin: {address: '${E}'}
trusted_proxies: ['${F}']
limits: {connections: '${G}'}
oauth:
  issuer: ISSUER
  audiences: ['${H}']
  signing_keys: {algorithm: ES256}
  token_endpoint: {path: '${I}'}
  clients:
    app: {secrets: [{hash: '${file:secret}'}, {value: short}], scopes: ['${J}'], allow_from: ['${K}'], claims: {a: '${L}'}}
";
    let folder = folder();
    let mut gateway = Gateway::start_in(folder, &yaml(""), &[]);
    assert!(gateway.stop().success());
    let write = |issuer: &str| {
        let text = yaml(sections).replace("ISSUER", issuer).replace("allow_literal_secrets: true\n", "");
        fs::write(gateway.folder.join("gateway.yaml"), text).unwrap();
    };
    write("'${UNSET}'");
    fs::write(gateway.folder.join("secret"), "several\nlines\n").unwrap();
    for arguments in
        [&["keys", "list"][..], &["keys", "rotate"], &["audit", "tail"], &["audit", "query"], &["audit", "verify"]]
    {
        let said = says(&gateway.folder, arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
    }
    let said = says(&gateway.folder, &["token", "revoke", "--client", "app"]);
    assert!(said.code == Some(2) && said.stderr.contains("the variable `UNSET` is not set"), "{said:?}");
    write("https://localhost:8443");
    let said = says(&gateway.folder, &["token", "revoke", "--client", "app"]);
    assert_eq!(said.code, Some(0), "{said:?}");
}
