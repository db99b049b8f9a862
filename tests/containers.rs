//! Containers: secrets with mode 0644 on a read-only tmpfs, volumes of a group, and a root file system that cannot be
//! written. Each refusal names a remedy that works there.
//!
//! Mounts are made in a namespace of their own. Where the system forbids that, these tests only check that a usual disk
//! is judged as before.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Gateway;
use crate::support::authority::Authority;
use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};
use crate::support::world::config;

const ROUTES: [&str; 1] = ["path: /**, access: public, name: all, respond: {body: hello}"];
const NO_TOKENS: &str = "oauth:\n";

/// Runs `check` in a folder after these mounts. `None` if the system forbids mounts.
fn check_with_mounts(folder: &Path, mounts: &str) -> Option<Finished> {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script]).current_dir(folder);
        command
    };
    let can_mount = unshare("mount -t tmpfs none .").output().is_ok_and(|output| output.status.success());
    let program = program(folder);
    let script = format!("{mounts}\nexec {} check", program.get_program().display());
    can_mount.then(|| run(&mut unshare(&script)))
}

fn world(sections: &str) -> PathBuf {
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), config(([127, 0, 0, 1], 9).into(), &ROUTES, sections)).unwrap();
    folder
}

/// A folder `secrets` with a pair of which everyone can read the key.
fn with_open_key() -> PathBuf {
    let listeners = "listeners: [{address: 127.0.0.1:0, tls: {certificates: [{cert: mount/a.crt, key: mount/a.key}]}}]";
    let folder = world(listeners);
    for name in ["secrets", "mount"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    Authority::new().issue(&["localhost"]).write(&folder.join("secrets"), "a");
    fs::set_permissions(folder.join("secrets/a.key"), Permissions::from_mode(0o644)).unwrap();
    folder
}

#[test]
fn an_open_key_is_accepted_on_a_read_only_tmpfs_only() {
    let folder = with_open_key();
    let tmpfs = "mount -t tmpfs none mount\ncp -p secrets/* mount/";
    let read_only_disk = "mount --bind secrets mount\nmount -o remount,bind,ro mount";
    let refusal =
        "`mount/a.key` can be read by everyone (mode 644); set it to 600, or mount it as a secret of the container";
    for (mounts, is_accepted) in [
        (format!("{tmpfs}\nmount -o remount,ro mount"), true),
        (format!("{tmpfs}\nmount -o remount,bind,ro mount"), true),
        (tmpfs.to_owned(), false),
        (read_only_disk.to_owned(), false),
    ] {
        let Some(said) = check_with_mounts(&folder, &mounts) else { break };
        assert_eq!(said.code, Some(if is_accepted { 0 } else { 2 }), "{mounts}: {said:?}");
        assert_eq!(said.stderr.contains(refusal), !is_accepted, "{mounts}: {said:?}");
    }
    fs::remove_dir(folder.join("mount")).unwrap();
    fs::rename(folder.join("secrets"), folder.join("mount")).unwrap();
    let said = run(program(&folder).arg("check"));
    assert!(said.code == Some(2) && said.stderr.contains(refusal), "{said:?}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn volumes_of_the_own_group_are_accepted_and_of_others_never() {
    let listeners = "listeners: [{address: 127.0.0.1:0}]";
    let sections = format!("{listeners}\nstate_directory: volume/state\naudit: {{refusals_per_second: unlimited}}");
    let folder = world(&sections);
    let yaml = fs::read_to_string(folder.join("gateway.yaml")).unwrap();
    let mut gateway = Gateway::start_in(folder, &yaml, &[]);
    assert!(gateway.stop().success());
    let state = gateway.folder.join("volume/state");
    // As Kubernetes does with a volume for `fsGroup` at each start of a pod.
    let open = |others: u32| {
        let folders = [state.clone(), state.join("keys")];
        for folder in &folders {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
            {
                fs::set_permissions(entry, Permissions::from_mode(0o660)).unwrap();
            }
            fs::set_permissions(folder, Permissions::from_mode(0o2770 | others)).unwrap();
        }
    };
    open(0);
    let said = run(program(&gateway.folder).arg("check"));
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = run(program(&gateway.folder).args(["keys", "rotate"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    open(0o002);
    let said = run(program(&gateway.folder).arg("check"));
    assert_eq!(said.code, Some(2), "{said:?}");
    for refusal in
        ["volume/state/keys` can be read by others (mode 772)", "accessible to others (mode 772); set it to 700"]
    {
        assert!(said.stderr.contains(refusal), "{refusal}: {said:?}");
    }
}

/// No user can write to /proc.
#[tokio::test]
async fn a_gateway_that_stores_nothing_starts_on_a_read_only_root() {
    let issuers = "issuers: {corp: {issuer: corp, audiences: [a], jwks_uri: 'http://127.0.0.1:9/keys'}}";
    let listeners = "listeners: [{address: 127.0.0.1:0}]";
    let sections = format!("{listeners}\nstate_directory: /proc/none/state\n{issuers}\naudit: {{file: \"-\"}}\n");
    let yaml = config(([127, 0, 0, 1], 9).into(), &ROUTES, &format!("{sections}{NO_TOKENS}"));
    let yaml = yaml.replace(NO_TOKENS, "");
    let gateway = Gateway::start(&yaml);
    assert_eq!(crate::support::Client::plain(gateway.address()).get("/x").await.status, 200);
    drop(gateway);
    for (change, need) in [
        ("audit: {file: \"-\"}", ""),
        (
            "audit: {file: /proc/none/audit.jsonl}",
            "set `audit.file` to a path on a volume that can be written, or to `-` for standard output",
        ),
        (
            "audit: {file: audit.jsonl}",
            "`audit.file` needs it for the key that signs the log: set `state_directory` to a folder",
        ),
    ] {
        let folder = folder();
        fs::write(folder.join("gateway.yaml"), yaml.replace("audit: {file: \"-\"}", change)).unwrap();
        let said = run(program(&folder).arg("check"));
        assert_eq!(said.code, Some(if need.is_empty() { 0 } else { 2 }), "{said:?}");
        assert!(said.stderr.contains(need), "{change}: {said:?}");
        fs::remove_dir_all(folder).unwrap();
    }
    let folder = world(&format!("{listeners}\nstate_directory: /proc/none/state\n"));
    let said = run(program(&folder).arg("check"));
    assert_eq!(said.code, Some(2), "{said:?}");
    let need = "`oauth` needs it for revocations and signing keys: set `state_directory` to a folder on a volume";
    assert!(said.stderr.contains(need) && said.stderr.ends_with(": 1 problem\n"), "{said:?}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_file_of_a_secret_may_end_as_editors_leave_it() {
    let folder = folder();
    let oauth = |file: &str| {
        let clients = format!("clients: {{app: {{secrets: [{{value: \"${{file:{file}}}\"}}], scopes: [a]}}}}");
        let oauth = format!("oauth: {{issuer: 'https://localhost', audiences: [a], {clients}}}");
        config(([127, 0, 0, 1], 9).into(), &ROUTES, &oauth)
    };
    for (content, fault) in [
        (&b"sixteen-or-more-characters\n\n"[..], ""),
        (b"\xef\xbb\xbfsixteen-or-more-characters\r\n", ""),
        (b"sixteen-or-more\ncharacters", "the file `secret` has several lines or a byte order mark inside"),
        (b"sixteen-or-more\r-characters\n", "has several lines"),
        (b"\xff\xfes\0i\0x\0", "does not hold UTF-8 text"),
        (b"\r\n", "the file `secret` is empty: a secret cannot be"),
    ] {
        fs::write(folder.join("secret"), content).unwrap();
        fs::write(folder.join("gateway.yaml"), oauth("secret")).unwrap();
        let said = run(program(&folder).arg("check"));
        assert_eq!(said.code, Some(if fault.is_empty() { 0 } else { 2 }), "{said:?}");
        assert!(said.stderr.contains(fault) && !said.stderr.contains("sixteen"), "{said:?}");
    }
    fs::remove_dir_all(folder).unwrap();
}
