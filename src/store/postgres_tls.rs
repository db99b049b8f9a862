//! TLS of the connection to PostgreSQL, by rustls.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512, digest};
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::jose::certificate_facts;

#[derive(Clone)]
pub(super) struct PostgresTls(pub(super) Arc<ClientConfig>);

pub(super) struct PostgresTlsTo {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// A connection after its handshake.
pub(super) struct PostgresTlsStream<S>(TlsStream<S>);

/// Signature algorithms by their object ids, with the digest that RFC 5929 §4.1 assigns to them.
const ECDSA_OR_RSA_384: [&[u8]; 2] = [b"\x2a\x86\x48\xce\x3d\x04\x03\x03", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c"];
const ECDSA_OR_RSA_512: [&[u8]; 2] = [b"\x2a\x86\x48\xce\x3d\x04\x03\x04", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d"];
const ECDSA_OR_RSA_256: [&[u8]; 4] = [
    b"\x2a\x86\x48\xce\x3d\x04\x03\x02",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b",
    // SHA-1, for which SHA-256 is used.
    b"\x2a\x86\x48\xce\x3d\x04\x01",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05",
];

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for PostgresTls {
    type Stream = PostgresTlsStream<S>;
    type TlsConnect = PostgresTlsTo;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<PostgresTlsTo, InvalidDnsNameError> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        Ok(PostgresTlsTo { config: Arc::clone(&self.0), name })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for PostgresTlsTo {
    type Stream = PostgresTlsStream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<PostgresTlsStream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let Self { config, name } = self;
        Box::pin(async move { Ok(PostgresTlsStream(TlsConnector::from(config).connect(name, stream).await?)) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for PostgresTlsStream<S> {
    /// The digest of the server's certificate, which binds the password exchange (SCRAM) to this server.
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.0.get_ref().1.peer_certificates();
        let bound = certificates.and_then(<[_]>::first).and_then(|certificate| {
            let algorithm = binding_digest(certificate_facts::signature_algorithm(certificate)?)?;
            Some(digest(algorithm, certificate).as_ref().to_vec())
        });
        bound.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// `None`: no digest is defined, as for Ed25519.
fn binding_digest(signature_algorithm: &[u8]) -> Option<&'static digest::Algorithm> {
    match signature_algorithm {
        id if ECDSA_OR_RSA_256.contains(&id) => Some(&SHA256),
        id if ECDSA_OR_RSA_384.contains(&id) => Some(&SHA384),
        id if ECDSA_OR_RSA_512.contains(&id) => Some(&SHA512),
        _ => None,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PostgresTlsStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, to)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for PostgresTlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
