//! TLS towards clients: versions, certificates by name, protocols by agreement, sessions that are taken up again.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, ProtocolVersion, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::gateway::folder;
use crate::support::wire::Wire;
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

/// Takes any certificate, so that the test can look at the one that was shown.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

pub(crate) fn client(versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anything));
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

pub(crate) async fn handshake(
    to: SocketAddr,
    config: impl Into<Arc<ClientConfig>>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(config.into()).connect(name, TcpStream::connect(to).await?).await
}

/// With these TLS settings on its one listener, and `/**` open.
async fn gateway(tls: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let certificates = "certificates: [{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}]";
    let gateway = Gateway::open(
        upstream.address,
        &format!("workers: 2\nlisteners: [{{address: 127.0.0.1:0, tls: {{{certificates}{tls}}}}}]"),
    );
    (upstream, gateway)
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken() {
    let (_upstream, gateway) = gateway("").await;
    for (version, spoken) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let stream = handshake(gateway.address(), client(&[version], &[]), "localhost").await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(spoken));
    }
}

#[tokio::test]
async fn min_version_1_3_refuses_1_2() {
    let (_upstream, gateway) = gateway(", min_version: \"1.3\"").await;
    assert!(handshake(gateway.address(), client(&[&TLS12], &[]), "localhost").await.is_err());
    assert!(handshake(gateway.address(), client(&[&TLS13], &[]), "localhost").await.is_ok());
}

#[tokio::test]
async fn invalid_tls_gets_an_alert_and_reaches_no_upstream() {
    let (upstream, gateway) = gateway("").await;
    let old = |version: [u8; 2]| {
        let hello = [&version[..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
        [&[22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8][..], &hello].concat()
    };
    let hellos = [
        old([3, 0]),
        old([3, 1]),
        old([3, 2]),
        vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        vec![22, 3, 1, 0xff, 0xff, 1],
    ];
    for hello in hellos {
        let mut wire = Wire::new(Client::plain(gateway.address()).tcp().await.unwrap());
        wire.send(&hello).await;
        let said = wire.rest().await;
        assert!(said.is_empty() || said[0] == 21, "{said:?} to {hello:?}");
    }
    assert_eq!(upstream.seen().len(), 0);
    assert_eq!(Client::new(&gateway).get("/canary").await.status, 200);
}

#[tokio::test]
async fn a_hello_may_come_byte_by_byte() {
    let (_upstream, gateway) = gateway("").await;
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::new(client(&[&TLS13], &[])), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    let records: Vec<u8> = hello[5..].iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect();
    for bytes in [&hello, &records] {
        let mut wire = Wire::new(Client::plain(gateway.address()).tcp().await.unwrap());
        for byte in bytes {
            wire.send([*byte]).await;
        }
        let first = crate::support::wire::within(wire.take(1)).await;
        assert!(first == [22] || first == [21], "{first:?}");
    }
    assert_eq!(Client::new(&gateway).get("/canary").await.status, 200);
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name_the_first_is_the_default() {
    let folder = folder();
    let mut shown = Vec::new();
    for (file, names) in [("one", &["one.example", "uno.example"][..]), ("two", &["two.example", "*.two.example"])] {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        fs::write(folder.join(format!("{file}.crt")), certificate.pem()).unwrap();
        let path = folder.join(format!("{file}.key"));
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        shown.push(certificate.der().clone());
    }
    let upstream = Upstream::start().await;
    let pairs = "certificates: [{cert: one.crt, key: one.key}, {cert: two.crt, key: two.key}]";
    let listeners = format!("listeners: [{{address: 127.0.0.1:0, tls: {{{pairs}}}}}]");
    let yaml = config(upstream.address, &["path: /**, access: public"], &listeners);
    let gateway = Gateway::start_in(folder, &yaml, &[]);
    for (name, expected) in [
        ("one.example", 0),
        ("uno.example", 0),
        ("two.example", 1),
        ("TWO.example", 1),
        ("a.two.example", 1),
        ("a.b.two.example", 0),
        ("unknown.example", 0),
        ("127.0.0.1", 0),
    ] {
        for version in [&TLS12, &TLS13] {
            let stream = handshake(gateway.address(), client(&[version], &[]), name).await.unwrap();
            assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], shown[expected], "{name}");
        }
    }
    let mut nameless = client(&[&TLS13], &[]);
    nameless.enable_sni = false;
    let stream = handshake(gateway.address(), nameless, "two.example").await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], shown[0]);
}

#[tokio::test]
async fn the_protocol_is_agreed_and_http2_comes_first() {
    let (_upstream, gateway) = gateway("").await;
    for (offered, agreed) in [
        (&["http/1.1", "h2"][..], Some(&b"h2"[..])),
        (&["h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        (&["spdy/3", "http/1.1"], Some(b"http/1.1")),
        (&["http/1.0"], Some(b"http/1.0")),
        (&[], None),
    ] {
        let stream = handshake(gateway.address(), client(&[&TLS13], offered), "localhost").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed, "{offered:?}");
    }
    assert!(handshake(gateway.address(), client(&[&TLS13], &["spdy/3"]), "localhost").await.is_err());
}

#[tokio::test]
async fn without_agreement_it_is_http_1_and_http2_is_not_guessed() {
    let (upstream, gateway) = gateway("").await;
    for offered in [&[][..], &["http/1.1"]] {
        let connect = || handshake(gateway.address(), client(&[&TLS13], offered), "localhost");
        let mut wire = Wire::new(connect().await.unwrap());
        wire.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(wire.answer().await.unwrap().status, 200);
        let mut wire = Wire::new(connect().await.unwrap());
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        let said = String::from_utf8_lossy(&wire.rest().await).into_owned();
        assert!(said.starts_with("HTTP/1.1 505 "), "{said:?}");
    }
    let mut wire = Wire::new(handshake(gateway.address(), client(&[&TLS13], &["h2"]), "localhost").await.unwrap());
    wire.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!String::from_utf8_lossy(&wire.rest().await).contains("HTTP/1.1"));
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_session_is_taken_up_again_on_whichever_worker() {
    let (_upstream, gateway) = gateway("").await;
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(client(&[version], &[]));
        let mut kinds = Vec::new();
        for _ in 0..12 {
            let mut wire = Wire::new(handshake(gateway.address(), Arc::clone(&config), "localhost").await.unwrap());
            kinds.push(wire.stream.get_ref().1.handshake_kind().unwrap());
            // A ticket comes with or before the first answer.
            wire.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(wire.answer().await.unwrap().status, 200);
        }
        let fresh = kinds.iter().position(|kind| *kind != HandshakeKind::Resumed);
        assert_eq!((fresh, &kinds[1..]), (Some(0), &[HandshakeKind::Resumed; 11][..]));
    }
}

#[tokio::test]
async fn early_data_is_never_offered() {
    let (_upstream, gateway) = gateway("").await;
    let mut config = client(&[&TLS13], &[]);
    config.enable_early_data = true;
    let config = Arc::new(config);
    let mut wire = Wire::new(handshake(gateway.address(), Arc::clone(&config), "localhost").await.unwrap());
    wire.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    let mut next = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    assert!(next.early_data().is_none());
}

#[tokio::test]
async fn an_unknown_server_name_gets_the_default_certificate() {
    let (upstream, gateway) = gateway("").await;
    for name in [
        &b"local\0host"[..],
        b"LOCALHOST.",
        b"localhost.",
        b"..........",
        b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7\xf6",
        b"a/b?c#d e@",
    ] {
        let stand_in = "x".repeat(name.len());
        let host = ServerName::try_from(stand_in.clone()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(client(&[&TLS13], &[])), host).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        let at = hello.windows(name.len()).position(|window| window == stand_in.as_bytes()).unwrap();
        hello[at..at + name.len()].copy_from_slice(name);
        let mut wire = Wire::new(Client::plain(gateway.address()).tcp().await.unwrap());
        wire.send(&hello).await;
        let first = crate::support::wire::within(wire.take(1)).await;
        assert!(first == [22] || first == [21], "{first:?} to {name:?}");
    }
    assert_eq!(Client::new(&gateway).get("/canary").await.status, 200);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn ten_thousand_key_updates_cost_little_and_harm_no_client() {
    let (_upstream, gateway) = gateway("").await;
    let mut wire = Wire::new(handshake(gateway.address(), client(&[&TLS13], &[]), "localhost").await.unwrap());
    wire.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    for number in 0..10_000 {
        if wire.stream.get_mut().1.refresh_traffic_keys().is_err() {
            break;
        }
        wire.send("").await;
        if number % 2000 == 0 {
            assert_eq!(Client::new(&gateway).get("/canary").await.status, 200);
        }
    }
    wire.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(wire.answer().await.is_none_or(|answer| answer.status == 200));
    assert!(gateway.peak_memory() < 256 << 20);
    assert_eq!(Client::new(&gateway).get("/canary").await.status, 200);
}

/// A hello in the middle of a session asks for a new handshake, which TLS 1.2 has and we have not.
#[tokio::test]
async fn renegotiation_is_refused() {
    let (upstream, gateway) = gateway("").await;
    let mut wire = Wire::new(handshake(gateway.address(), client(&[&TLS12], &[]), "localhost").await.unwrap());
    wire.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    let mut again =
        ClientConnection::new(Arc::new(client(&[&TLS12], &[])), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut hello = Vec::new();
    again.write_tls(&mut hello).unwrap();
    // In clear text, where an encrypted record is due: as much as can be said without the session's keys.
    let mut bare = Wire::new(wire.stream.into_inner().0);
    bare.send(&hello).await;
    let said = bare.rest().await;
    assert!(said.is_empty() || said[0] == 21 || said[0] == 23, "{said:?}");
    assert_eq!(upstream.seen().len(), 1);
}
