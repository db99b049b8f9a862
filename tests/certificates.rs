//! Certificates change while the gateway runs: a new one is used for new connections within seconds, and one that
//! cannot be used changes nothing. The end of each is known before it comes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::TLS13;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::authority::{Authority, Issued, listen_by_tls};
use crate::support::command::run;
use crate::support::gateway::{PATIENCE, folder, program};
use crate::support::wire::Wire;
use crate::support::world::config;
use crate::support::{Client, Gateway};
use crate::tls::{client, handshake};

const NOWHERE: &str = "127.0.0.1:9";

/// With one listener that shows `certs/a.crt`.
fn yaml() -> String {
    let listeners = "listeners: [{address: 127.0.0.1:0, tls: {certificates: [{cert: certs/a.crt, key: certs/a.key}]}}]";
    config(NOWHERE.parse().unwrap(), &["path: /**, access: public, name: all, respond: {body: hello}"], listeners)
}

fn showing(issued: &Issued) -> Gateway {
    let folder = folder();
    fs::create_dir(folder.join("certs")).unwrap();
    issued.write(&folder.join("certs"), "a");
    Gateway::start_in(folder, &yaml(), &[])
}

/// The certificate that a new handshake shows.
async fn shown(gateway: &Gateway) -> CertificateDer<'static> {
    let stream = handshake(gateway.address(), client(&[&TLS13], &[]), "localhost").await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn is_shown_soon(gateway: &Gateway, issued: &Issued) {
    let begun = Instant::now();
    let wanted = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    while shown(gateway).await != wanted {
        assert!(begun.elapsed() < PATIENCE, "the new certificate is not shown:\n{}", gateway.log_text());
    }
}

async fn metrics(gateway: &Gateway) -> String {
    let answer = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The value of this metric of a file.
async fn metric(gateway: &Gateway, name: &str, file: &str) -> Option<f64> {
    let (text, line) = (metrics(gateway).await, format!("portcullis_certificate_{name}{{file=\"{file}\"}} "));
    text.lines().find_map(|found| found.strip_prefix(&line)).map(|value| value.parse().unwrap())
}

async fn is_reloaded(gateway: &Gateway, file: &str, expected: f64) {
    let begun = Instant::now();
    while metric(gateway, "last_reload_successful", file).await != Some(expected) {
        assert!(begun.elapsed() < PATIENCE, "not seen:\n{}", gateway.log_text());
    }
}

#[tokio::test]
async fn a_new_certificate_serves_new_handshakes_without_a_restart() {
    let authority = Authority::new();
    let gateway = showing(&authority.issue(&["localhost"]));
    let mut kept = Wire::new(handshake(gateway.address(), client(&[&TLS13], &[]), "localhost").await.unwrap());
    // Replaced as a whole, then written in place.
    let renewed = authority.issue(&["localhost"]);
    renewed.write(&gateway.folder, "new");
    for name in ["crt", "key"] {
        fs::rename(gateway.folder.join(format!("new.{name}")), gateway.folder.join(format!("certs/a.{name}"))).unwrap();
    }
    is_shown_soon(&gateway, &renewed).await;
    let again = authority.issue(&["localhost"]);
    again.write(&gateway.folder.join("certs"), "a");
    is_shown_soon(&gateway, &again).await;
    gateway.log_line("a changed certificate is in use for new connections");
    kept.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(kept.answer().await.unwrap().status, 200, "open connections stay");
}

#[tokio::test]
async fn the_swap_of_a_mounted_secret_is_seen() {
    let authority = Authority::new();
    let folder = folder();
    let volume = folder.join("certs");
    let version = |name: &str, issued: &Issued| {
        fs::create_dir_all(volume.join(name)).unwrap();
        issued.write(&volume.join(name), "a");
    };
    version("..one", &authority.issue(&["localhost"]));
    symlink("..one", volume.join("..data")).unwrap();
    for name in ["a.crt", "a.key"] {
        symlink(Path::new("..data").join(name), volume.join(name)).unwrap();
    }
    let gateway = Gateway::start_in(folder.clone(), &yaml(), &[]);
    let renewed = authority.issue(&["localhost"]);
    version("..two", &renewed);
    symlink("..two", volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    fs::remove_dir_all(volume.join("..one")).unwrap();
    is_shown_soon(&gateway, &renewed).await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_leaves_the_old_one() {
    let authority = Authority::new();
    let first = authority.issue(&["localhost"]);
    let gateway = showing(&first);
    is_reloaded(&gateway, "certs/a.crt", 1.0).await;
    let (cert, key) = (gateway.folder.join("certs/a.crt"), gateway.folder.join("certs/a.key"));
    let other = authority.issue(&["localhost"]);
    for (file, content, fault) in [
        (&cert, &*other.certificate, "is not the one of the certificate"),
        (&cert, "garbage", "holds no certificate in PEM"),
        (&key, "garbage", "holds no certificate in PEM"),
        (&cert, &*first.certificate, "holds no private key in PEM"),
    ] {
        fs::write(file, content).unwrap();
        let line = gateway.log_line(fault);
        assert!(line.contains("the previous one stays in use") && line.contains("certs/a.crt"), "{line}");
        is_reloaded(&gateway, "certs/a.crt", 0.0).await;
        is_shown_soon(&gateway, &first).await;
    }
    let expired = authority.issue_expired(&["localhost"]);
    expired.write(&gateway.folder.join("certs"), "a");
    gateway.log_line("ended at 2021-01-01T00:00:00Z");
    is_shown_soon(&gateway, &first).await;
    fs::write(&cert, &other.certificate).unwrap();
    fs::write(&key, &other.key).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    gateway.log_line("can be read by everyone (mode 644)");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    is_shown_soon(&gateway, &other).await;
    is_reloaded(&gateway, "certs/a.crt", 1.0).await;
}

/// Waiting for the writer of a pipe would end the watch of all certificates, and a device has no end.
#[tokio::test]
async fn a_file_without_an_end_does_not_end_the_watch() {
    let authority = Authority::new();
    let gateway = showing(&authority.issue(&["localhost"]));
    for file in ["a.key", "a.crt"] {
        let path = gateway.folder.join("certs").join(file);
        let devices: [&dyn Fn(); 2] =
            [&|| assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&path).status().unwrap().success()), &|| {
                symlink("/dev/null", &path).unwrap()
            }];
        for put in devices {
            fs::remove_file(&path).unwrap();
            put();
            gateway.log_line("not a regular file");
            fs::remove_file(&path).unwrap();
            let renewed = authority.issue(&["localhost"]);
            renewed.write(&gateway.folder.join("certs"), "a");
            is_shown_soon(&gateway, &renewed).await;
        }
    }
}

#[tokio::test]
async fn a_new_ca_of_an_upstream_verifies_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = new.issue(&["localhost"]).config(&[b"http/1.1"], None);
    let service = listen_by_tls(tls, |stream| async move {
        let mut wire = Wire::new(stream);
        while wire.head().await.is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let folder = folder();
    fs::write(folder.join("ca.crt"), &old.certificate).unwrap();
    let upstreams =
        format!("upstreams: {{legacy: {{servers: [\"https://localhost:{}\"], tls: {{ca: ca.crt}}}}}}", service.port());
    let yaml = config(NOWHERE.parse().unwrap(), &["path: /**, access: public, name: all"], &upstreams);
    let gateway = Gateway::start_in(folder, &yaml, &[]);
    let client = Client::new(&gateway);
    assert_eq!(client.get("/x").await.status, 502);
    fs::write(gateway.folder.join("ca.crt"), "garbage").unwrap();
    gateway.log_line("`ca.crt` holds no certificate in PEM");
    is_reloaded(&gateway, "ca.crt", 0.0).await;
    fs::write(gateway.folder.join("ca.crt"), &new.certificate).unwrap();
    is_reloaded(&gateway, "ca.crt", 1.0).await;
    assert_eq!(client.get("/x").await.status, 200);
}

/// `check` of a folder whose listener shows this certificate.
fn checked(issued: &Issued, arguments: &[&str]) -> (PathBuf, crate::support::command::Finished) {
    let folder = folder();
    fs::create_dir(folder.join("certs")).unwrap();
    issued.write(&folder.join("certs"), "a");
    fs::write(folder.join("gateway.yaml"), yaml()).unwrap();
    let said = run(program(&folder).arg("check").args(arguments));
    (folder, said)
}

#[tokio::test]
async fn the_end_of_a_certificate_is_reported_in_time() {
    let authority = Authority::new();
    for (days, warned) in [(10, true), (40, false)] {
        let issued = authority.issue_for_days(&["localhost"], days);
        let (folder, said) = checked(&issued, &[]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let is_warned = said.stderr.starts_with("warning: gateway.yaml:")
            && said.stderr.contains("certificate `certs/a.crt` ends at 20");
        assert_eq!(is_warned, warned, "{said:?}");
        let gateway = Gateway::start_in(folder, &yaml(), &[]);
        assert_eq!(gateway.log_text().contains("certificate `certs/a.crt` ends at 20"), warned);
        let end = metric(&gateway, "expiry_timestamp_seconds", "certs/a.crt").await.unwrap();
        let left = end - crate::support::issuer::now() as f64;
        assert!((left / 86_400.0 - days as f64).abs() <= 1.0, "{left} s");
    }
}

#[tokio::test]
async fn an_ended_certificate_is_an_error_of_check_and_still_served() {
    let authority = Authority::new();
    let issued = authority.issue_expired(&["localhost"]);
    let (other, said) = checked(&issued, &["--format", "json"]);
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, &found["ok"], found["findings"].as_array().unwrap().len()), (Some(1), &json!(false), 1));
    let message = "the certificate `certs/a.crt` ended at 2021-01-01T00:00:00Z: renew it";
    let finding = &found["findings"][0];
    assert_eq!((&finding["level"], &finding["message"]), (&json!("error"), &json!(message)), "{said:?}");
    fs::remove_dir_all(other).unwrap();
    let (folder, said) = checked(&issued, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.starts_with("error: gateway.yaml:") && said.stdout.starts_with("not ok  "), "{said:?}");
    let gateway = Gateway::start_in(folder, &yaml(), &[]);
    gateway.log_line(message);
    // Any certificate is better than the old one.
    let again = authority.issue_expired(&["localhost"]);
    again.write(&gateway.folder.join("certs"), "a");
    is_shown_soon(&gateway, &again).await;
}
