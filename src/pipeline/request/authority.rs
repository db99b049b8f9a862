//! The host that a request names, from `Host`, `:authority` or an absolute target.

use std::cell::{OnceCell, RefCell};
use std::net::Ipv6Addr;
use std::rc::Rc;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderValue, Version};

use super::ambiguous::Ambiguous;
use crate::http1::target::RequestTarget;
use crate::server::received_request::ReceivedHead;
use crate::upstream::host::HostField;

/// The host that the client addresses.
#[derive(Debug)]
pub(crate) struct Authority {
    /// As it was sent, in a copy of its own: the original holds on to the buffer that it was read into.
    /// `None` for an HTTP/1.0 request that names no host. Routes with `hosts` do not take it.
    pub(crate) header: Option<HeaderValue>,
    /// Lower case, without port and trailing dot.
    host: Box<str>,
    /// As it was sent.
    port: Option<u16>,
    default_port: u16,
    canonical: OnceCell<Option<Arc<HostField>>>,
}

/// Longer hosts don't exist in the DNS.
const MAX_HOST_BYTES: usize = 255;

impl Authority {
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    /// The field `Host` with this host in lower case, and with its port unless that is the default one.
    pub(crate) fn canonical(&self) -> Option<Arc<HostField>> {
        let canonical = || {
            self.header.as_ref()?;
            let port = self.port.filter(|port| *port != self.default_port);
            let text = port.map_or_else(|| self.host.to_string(), |port| format!("{}:{port}", self.host));
            Some(Arc::new(HostField::new(HeaderValue::try_from(text).ok()?)))
        };
        self.canonical.get_or_init(canonical).clone()
    }

    /// The host that a request names (RFC 9112 §3.2). `last` is that of the connection's last request, which is not
    /// read again.
    pub(crate) fn of(
        head: &ReceivedHead,
        scheme: &str,
        last: &RefCell<Option<Rc<Self>>>,
    ) -> Result<Rc<Self>, Ambiguous> {
        let named = named_host(head, scheme)?;
        let is_same = |last: &&Rc<Self>| last.header.as_ref().map(HeaderValue::as_bytes) == named;
        if let Some(last) = last.borrow().as_ref().filter(is_same) {
            return Ok(Rc::clone(last));
        }
        let read = Rc::new(match named {
            Some(named) => Self::parse(named, scheme)?,
            None => Self {
                header: None,
                host: "".into(),
                port: None,
                default_port: default_port(scheme),
                canonical: OnceCell::new(),
            },
        });
        last.replace(Some(Rc::clone(&read)));
        Ok(read)
    }

    /// `scheme` decides which port is the default one.
    pub(crate) fn parse(named: &[u8], scheme: &str) -> Result<Self, Ambiguous> {
        let text = std::str::from_utf8(named).map_err(|_| Ambiguous::Host)?;
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => {
                address.parse::<Ipv6Addr>().map_err(|_| Ambiguous::Host)?;
                (&text[..address.len() + 2], port)
            }
            None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
        };
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':').and_then(read_port).ok_or(Ambiguous::Host)?),
        };
        let legal_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'[' | b']' | b':');
        let bracketed = host.starts_with('[');
        let legal = host.bytes().all(legal_host) && (bracketed || !host.contains(['[', ']', ':']));
        if host.is_empty() || host.len() > MAX_HOST_BYTES || !legal {
            return Err(Ambiguous::Host);
        }
        if !bracketed && host.strip_suffix('.').unwrap_or(host).split('.').any(str::is_empty) {
            return Err(Ambiguous::Host);
        }
        let lower = host.to_ascii_lowercase();
        let host = lower.strip_suffix('.').unwrap_or(&lower);
        let header = HeaderValue::from_bytes(named).map_err(|_| Ambiguous::Host)?;
        let default_port = default_port(scheme);
        Ok(Self { host: host.into(), header: Some(header), port, default_port, canonical: OnceCell::new() })
    }
}

/// The same host and port.
impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        let port = |authority: &Self| authority.port.unwrap_or(authority.default_port);
        self.host == other.host && port(self) == port(other)
    }
}

pub(crate) fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

pub(crate) fn read_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The one host of a request, from `Host`, from `:authority` or from an absolute target. If two of them are present,
/// they must name the same host and port (RFC 9112 §3.2.2). Only HTTP/1.0 requests may name none.
fn named_host<'h>(head: &'h ReceivedHead, scheme: &str) -> Result<Option<&'h [u8]>, Ambiguous> {
    let mut fields = head.headers.get_all(HOST).iter();
    let field = fields.next().map(HeaderValue::as_bytes);
    if fields.next().is_some() {
        return Err(Ambiguous::Host);
    }
    let target = match &head.target {
        RequestTarget::Absolute { authority, .. } | RequestTarget::Authority(authority) => Some(&authority[..]),
        RequestTarget::Origin(_) | RequestTarget::Asterisk => None,
    };
    match (target, field) {
        (Some(target), Some(field)) if !is_same_authority(target, field, scheme) => Err(Ambiguous::Host),
        (_, Some(named)) => Ok(Some(named)),
        // Over HTTP/1.1, `Host` is required beside an absolute target too.
        (_, None) if head.version == Version::HTTP_11 => Err(Ambiguous::Host),
        (Some(named), None) => Ok(Some(named)),
        (None, None) if head.version == Version::HTTP_10 => Ok(None),
        (None, None) => Err(Ambiguous::Host),
    }
}

/// A missing port is the default port of the scheme.
fn is_same_authority(left: &[u8], right: &[u8], scheme: &str) -> bool {
    let default: &[u8] = if scheme == "https" { b":443" } else { b":80" };
    let without_default =
        |authority: &'_ [u8]| authority.strip_suffix(default).unwrap_or(authority).to_ascii_lowercase();
    left.eq_ignore_ascii_case(right) || without_default(left) == without_default(right)
}
