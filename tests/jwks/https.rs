//! Issuers are fetched from over TLS, and from nobody else in their name.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio_rustls::TlsAcceptor;

use super::{World, set, token};
use crate::support::issuer::Key;
use crate::support::upstream::listen;

/// An issuer behind a certificate of its own for this name; its address and the certificate.
async fn issuer(key: &Key, name: &str) -> (SocketAddr, String) {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let private = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], private).unwrap();
    let (acceptor, keys) = (TlsAcceptor::from(Arc::new(config)), set(&[key.jwk()]));
    let address = listen(move |stream| {
        let (acceptor, keys) = (acceptor.clone(), keys.clone());
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request: Request<Incoming>| {
                let body = answer(&request, &keys);
                async { Ok::<_, Infallible>(Response::new(body)) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    (address, cert.pem())
}

fn answer(request: &Request<Incoming>, keys: &str) -> Full<Bytes> {
    if request.uri().path() == "/jwks" {
        return Full::from(keys.to_owned());
    }
    let origin = format!("https://{}", request.headers()["host"].to_str().unwrap());
    Full::from(json!({"issuer": origin, "jwks_uri": format!("{origin}/jwks")}).to_string())
}

#[tokio::test]
async fn an_issuer_with_a_certificate_of_its_own_is_trusted_by_it() {
    let key = Key::new("k1", "ES256");
    let (address, certificate) = issuer(&key, "localhost").await;
    let iss = format!("https://localhost:{}", address.port());
    let line = format!("corp: {{issuer: \"{iss}\", ca: corp.pem}}");
    let world = World::trusting_beside(&[("corp.pem", &certificate)], &[line]).await;
    world.accepts(&token(&key, &iss)).await;
}

#[tokio::test]
async fn an_issuer_with_an_untrusted_certificate_is_unreachable() {
    let key = Key::new("k1", "ES256");
    let (address, _) = issuer(&key, "localhost").await;
    let (elsewhere, misnamed) = issuer(&key, "elsewhere.example").await;
    let (_, another) = issuer(&key, "localhost").await;
    let lines = [
        format!("unknown: {{issuer: \"https://localhost:{}\"}}", address.port()),
        format!("another: {{issuer: \"https://127.0.0.1:{}\", ca: another.pem}}", address.port()),
        format!("misnamed: {{issuer: \"https://localhost:{}\", ca: misnamed.pem}}", elsewhere.port()),
    ];
    let files = [("another.pem", &*another), ("misnamed.pem", &misnamed)];
    let world = World::trusting_beside(&files, &lines).await;
    for (name, host, port) in
        [("unknown", "localhost", address), ("another", "127.0.0.1", address), ("misnamed", "localhost", elsewhere)]
    {
        let log = world.failed(name);
        assert!(log.contains("certificate"), "{log}");
        world.refuses(&token(&key, &format!("https://{host}:{}", port.port())), 503, "keys_unavailable").await;
    }
}

#[tokio::test]
async fn a_new_ca_of_an_issuer_verifies_the_next_fetch() {
    let key = Key::new("k1", "ES256");
    let (address, certificate) = issuer(&key, "localhost").await;
    let (_, another) = issuer(&key, "localhost").await;
    let iss = format!("https://localhost:{}", address.port());
    let line = format!("corp: {{issuer: \"{iss}\", ca: corp.pem}}");
    let world = World::trusting_beside(&[("corp.pem", &another)], &[line]).await;
    world.failed("corp");
    std::fs::write(world.gateway.folder.join("corp.pem"), certificate).unwrap();
    world.gateway.log_line("a changed certificate is in use for new connections");
    world.fetched("corp");
    world.accepts(&token(&key, &iss)).await;
}
