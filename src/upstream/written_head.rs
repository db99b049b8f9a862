//! The head of a request as a server of an upstream gets it, in words, for an operator.
//!
//! It is written by the functions that write it to a connection. Nothing is sent.

use super::connect::target::DialTarget;
use super::fault::UpstreamFault;
use super::http1::exchange::write_head;
use super::protocol::UpstreamProtocol;
use super::request::UpstreamRequest;
use super::server::Server;
use super::service::Upstream;

/// The request line and the fields. The framing of the body is left out: it depends on the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrittenHead {
    pub(crate) request_line: String,
    pub(crate) fields: Vec<(String, String)>,
}

/// Stands for the value of the credential of the upstream.
const CREDENTIAL: &str = "(the credential of the upstream)";
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

impl WrittenHead {
    /// The head that this server of the upstream would get.
    pub(crate) fn of(
        mut request: UpstreamRequest,
        upstream: &Upstream,
        server: &Server,
    ) -> Result<Self, UpstreamFault> {
        let target = DialTarget::new(&upstream.name, server, &upstream.settings);
        let mut head = match server.protocol {
            UpstreamProtocol::Http1 => {
                let mut bytes = Vec::new();
                write_head(&mut bytes, &target, &mut request);
                Self::from_lines(&String::from_utf8_lossy(&bytes))
            }
            UpstreamProtocol::Http2 => {
                let host = text(target.host(&request.host).value().as_bytes());
                let request = request.into_http(&target)?;
                let fields = request.headers().iter();
                let fields = fields.map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())));
                let authority = std::iter::once((":authority".to_owned(), host));
                let request_line = format!("{} {} HTTP/2", request.method(), request.uri());
                Self { request_line, fields: authority.chain(fields).collect() }
            }
        };
        if let Some(credential) = &upstream.settings.authorization {
            head.replace(credential.name().as_str(), CREDENTIAL);
        }
        head.fields.retain(|(name, _)| !FRAMING.contains(&name.as_str()));
        Ok(head)
    }

    /// Replaces the values of a field.
    pub(crate) fn replace(&mut self, name: &str, by: &str) {
        let named = self.fields.iter_mut().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.for_each(|(_, value)| by.clone_into(value));
    }

    fn from_lines(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let request_line = lines.next().unwrap_or_default().to_owned();
        let fields = lines.filter_map(|line| line.split_once(": "));
        Self { request_line, fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
