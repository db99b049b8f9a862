//! `portcullis check --connect` reports the connection to each server and issuer, or its fault and the remedy.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use http::Response;
use http_body_util::Full;
use serde_json::Value;

use crate::support::authority::{Authority, Issued, listen_by_tls};
use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};
use crate::support::issuer::Key;
use crate::support::secure::{Secure, Tunnels};
use crate::support::upstream::{by_http2, listen};
use crate::support::wire::{RawUpstream, Wire};
use crate::support::world::config;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// The command's output with these upstreams and sections, and files `NAME.crt`.
fn checked(upstreams: &str, files: &[(&str, &str)], arguments: &[&str], sections: &str) -> Finished {
    let folder = folder();
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
    }
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let sections = format!("upstreams: {{{upstreams}}}\n{sections}");
    fs::write(
        folder.join("gateway.yaml"),
        config(nowhere, &["path: /**, access: public, respond: {body: x}"], &sections),
    )
    .unwrap();
    let output = run(program(&folder).args(["check", "--connect"]).args(arguments));
    fs::remove_dir_all(&folder).unwrap();
    output
}

fn connections(output: &Finished) -> Vec<Value> {
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    report["connections"].as_array().unwrap().clone()
}

async fn tls_service(issued: &Issued) -> SocketAddr {
    listen_by_tls(issued.config(&[b"http/1.1"], None), |stream| async move {
        let mut wire = Wire::new(stream);
        if wire.head().await.is_some() {
            wire.send(OK).await;
            wire.rest().await;
        }
    })
    .await
}

#[tokio::test]
async fn reachable_servers_are_reported_with_their_connection() {
    let authority = Authority::new();
    let tls = tls_service(&authority.issue(&["localhost"])).await;
    let clear = RawUpstream::saying("HTTP/1.0 404 Not Found\r\n\r\n").await;
    let http2 = by_http2(|_| async { Response::new(Full::<bytes::Bytes>::default()) }).await;
    let upstreams = format!(
        "a: {{servers: [\"https://localhost:{}\"], tls: {{ca: ca.crt}}}}, b: \"http://{}\", \
         c: {{servers: [\"http://{http2}\"], protocol: http2}}",
        tls.port(),
        clear.address
    );
    let output = checked(&upstreams, &[("ca.crt", &authority.certificate)], &["--format", "json"], "");
    assert_eq!(output.code, Some(0), "{output:?}");
    let [a, b, c] = &connections(&output)[..] else { panic!("{output:?}") };
    assert_eq!((a["upstream"].as_str(), a["ok"].as_bool()), (Some("a"), Some(true)));
    assert_eq!(a["server"], format!("https://localhost:{}", tls.port()));
    assert!(a["address"].as_str().unwrap().ends_with(&format!(":{}", tls.port())), "{a}");
    assert_eq!((a["tls"].as_str(), a["http"].as_str()), (Some("TLS 1.3"), Some("HTTP/1.1")));
    assert!(a["certificate"].is_string() && a["days_left"].as_u64() > Some(1000), "{a}");
    assert_eq!((b["http"].as_str(), &b["tls"]), (Some("HTTP/1.0"), &Value::Null));
    assert_eq!((c["http"].as_str(), c["address"].as_str()), (Some("HTTP/2"), Some(&*http2.to_string())));
    let text = checked(&upstreams, &[("ca.crt", &authority.certificate)], &[], "").stdout;
    for part in ["CONNECTIONS", "TLS 1.3", " days", "clear text", "HTTP/1.0", "HTTP/2", " ms"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "coloured in a pipe: {text:?}");
}

/// A server that cannot be used gives exit code 1, a reason and the key to correct.
fn fails(upstream: &str, files: &[(&str, &str)], reason: &str, remedy: &str) {
    let output = checked(&format!("a: {upstream}"), files, &["--format", "json"], "");
    assert_eq!(output.code, Some(1), "{output:?}");
    let found = &connections(&output)[0];
    let has = |member: &str, text: &str| found[member].as_str().is_some_and(|found| found.contains(text));
    assert!(has("reason", reason) && has("remedy", remedy) && found["ok"] == false, "{found}");
    let text = checked(&format!("a: {upstream}"), files, &[], "");
    assert_eq!(text.code, Some(1), "{text:?}");
    assert!(text.stdout.contains(reason) && text.stdout.contains(remedy), "{text:?}");
}

#[tokio::test]
async fn unusable_servers_are_reported_with_reason_and_remedy() {
    let authority = Authority::new();
    let ca = [("ca.crt", authority.certificate.as_str())];
    let https =
        |address: SocketAddr| format!("{{servers: [\"https://localhost:{}\"], tls: {{ca: ca.crt}}}}", address.port());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fails(&format!("\"http://{free}\""), &[], "refused", "that the server runs");
    let other = tls_service(&authority.issue(&["other.internal"])).await;
    fails(&https(other), &ca, "for `other.internal`, not for `localhost`", "`tls.server_name`");
    let unknown = tls_service(&Authority::new().issue(&["localhost"])).await;
    fails(&https(unknown), &ca, "an authority that is not trusted", "`tls.ca`");
    let expired = tls_service(&authority.issue_expired(&["localhost"])).await;
    fails(&https(expired), &ca, "has expired", "renew");
    let asking = authority.issue(&["localhost"]).config(&[b"http/1.1"], Some(&Authority::new()));
    let asking = listen_by_tls(asking, |_| async {}).await;
    fails(&https(asking), &ca, "asks for a client certificate", "`tls.client_cert`");
    let garbage = RawUpstream::saying("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    fails(&format!("\"http://{}\"", garbage.address), &[], "no HTTP answer", "`https://`");
    let clear = listen(|mut stream| async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let _ = stream.read(&mut [0; 2048]).await;
        let _ = stream.write_all(OK.as_bytes()).await;
    })
    .await;
    fails(&https(clear), &ca, "does not speak TLS", "`http://`");
}

#[tokio::test]
async fn issuers_are_reported_with_their_keys_or_their_fault() {
    let key = Key::new("one", "ES256");
    let jwks = format!("{{\"keys\":[{}]}}", key.jwk());
    let body = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{jwks}", jwks.len());
    let good = RawUpstream::start(move |mut wire, head| {
        let body = body.clone();
        Box::pin(async move {
            let only_head = head.starts_with("HEAD ");
            wire.send(if only_head { body.split_inclusive("\r\n\r\n").next().unwrap() } else { &body }).await;
        })
    })
    .await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let issuer = |name: &str, address: SocketAddr| {
        format!(
            "  {name}: {{issuer: \"https://{name}.example\", jwks_uri: \"http://{address}/jwks\", audiences: [a]}}\n"
        )
    };
    let sections = format!("issuers:\n{}{}", issuer("good", good.address), issuer("gone", free));
    let output = checked("", &[], &["--format", "json"], &sections);
    assert_eq!(output.code, Some(1), "{output:?}");
    let found = connections(&output);
    let of = |name: &str| found.iter().find(|each| each["issuer"] == name).unwrap();
    assert_eq!((&of("good")["ok"], &of("good")["keys"]), (&true.into(), &1.into()));
    assert!(of("gone")["remedy"].as_str().unwrap().contains("`jwks_uri`"), "{}", of("gone"));
}

#[tokio::test]
async fn an_issuer_is_reached_by_http2_or_through_its_proxy() {
    let (authority, key) = (Authority::new(), Key::new("one", "ES256"));
    let keys = format!("{{\"keys\":[{}]}}", key.jwk());
    let issuer = Secure::start(&authority, "localhost", &[b"h2"], move |_| (200, keys.clone())).await;
    let proxy = Tunnels::to(issuer.address).listen().await;
    let file = folder().join("ca.crt");
    fs::write(&file, &authority.certificate).unwrap();
    let line = |name: &str, fetch: &str| {
        let (port, ca) = (issuer.address.port(), file.display());
        format!(
            "  {name}: {{issuer: {name}, audiences: [a], jwks_uri: \"https://localhost:{port}/jwks\", ca: {ca}{fetch}}}\n"
        )
    };
    let local = format!("  local: {{issuer: local, audiences: [a], jwks: {{keys: [{}]}}}}\n", key.jwk());
    let proxied = line("proxied", &format!(", fetch: {{proxy: \"http://{proxy}\"}}"));
    let sections = format!("issuers:\n{}{proxied}{local}", line("direct", ""));
    let output = checked("", &[], &["--format", "json"], &sections);
    assert_eq!(output.code, Some(0), "{output:?}");
    let [direct, proxied] = &connections(&output)[..] else { panic!("{output:?}") };
    assert_eq!((&direct["issuer"], &direct["http"], &direct["keys"]), (&"direct".into(), &"HTTP/2".into(), &1.into()));
    assert_eq!(
        (&proxied["issuer"], &proxied["address"], &proxied["keys"]),
        (&"proxied".into(), &Value::Null, &1.into())
    );
    let output = checked("", &[], &[], &sections);
    assert!(output.stdout.contains("through its proxy  1 key\n"), "{output:?}");
}
