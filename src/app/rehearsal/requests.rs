//! Requests of a rehearsal, read as the server reads them from a connection of HTTP/1.1.

use std::net::IpAddr;
use std::rc::Rc;

use bytes::BytesMut;
use http::Extensions;

use super::RehearsedRequest;
use crate::http1::fault::WireFault;
use crate::http1::framing::BodyLength;
use crate::http1::head_scan::HeadScan;
use crate::http1::request_head::{HeadLimits, RequestHead, read_request};
use crate::jose::client_certificate::ClientCertificate;
use crate::network::Networks;
use crate::oauth::confirmation::Thumbprint;
use crate::pipeline::request::peer::{ListenerMode, Peer};
use crate::server::limits::Limits;
use crate::server::received_request::ReceivedHead;

/// A request in words, before it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestText<'t> {
    pub(crate) method: &'t str,
    /// A path with its query, as on the request line.
    pub(crate) target: &'t str,
    pub(crate) host: &'t str,
    pub(crate) from: IpAddr,
    /// By TLS, or in clear text.
    pub(crate) is_https: bool,
    /// Names and values, without `Host`.
    pub(crate) fields: &'t [(String, String)],
}

impl RehearsedRequest {
    /// Reads the request under these limits, from a peer that may be a trusted proxy.
    pub(super) fn read(text: &RequestText<'_>, limits: &Limits, trusted: &Networks) -> Result<Self, WireFault> {
        let RequestText { method, target, host, from, is_https, fields } = *text;
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in fields {
            // A line break would begin another field.
            if name.contains(['\r', '\n', ':']) || value.contains(['\r', '\n']) {
                return Err(WireFault::FieldLine);
            }
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let bounds =
            HeadLimits { target_bytes: limits.uri_bytes, bytes: limits.header_bytes, fields: limits.header_count };
        let mut buffer = BytesMut::from(head.as_bytes());
        let read = read_request(&mut HeadScan::default(), &mut buffer, &bounds)?;
        let RequestHead { method, target, version, headers, body, .. } = read.ok_or(WireFault::RequestLine)?;
        let mode = if is_https { ListenerMode::Tls } else { ListenerMode::Plain { loopback: from.is_loopback() } };
        let peer = Peer::new(from, mode, trusted);
        let peer = if peer.is_proxy { peer.with_forwarded(&headers, trusted) } else { peer };
        Ok(Self {
            head: ReceivedHead { method, target, version, headers, extensions: Extensions::new() },
            peer: Rc::new(peer),
            has_body: body != BodyLength::None,
        })
    }

    /// The same from a client with this certificate. One in clear text can have none, but by a proxy.
    pub(crate) fn with_certificate(mut self, thumbprint: Thumbprint) -> Self {
        if let Some(peer) = Rc::get_mut(&mut self.peer)
            && (peer.is_proxy || peer.listener_mode == ListenerMode::Tls)
            && matches!(peer.certificate, Ok(None))
        {
            peer.certificate = Ok(Some(Rc::new(ClientCertificate::with_thumbprint(thumbprint))));
        }
        self
    }
}
