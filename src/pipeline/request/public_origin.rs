//! The origin under which the public reaches the gateway: scheme, host and port.
//!
//! It is that of the connection and of the request's own authority, except for the parts that a trusted proxy states
//! and the listener believes ([`BelievedParts`]). It describes the request to upstreams, and shapes answers. Routes and
//! issuers are never chosen by it.
//!
//! A proxy states a part by `Forwarded`, in the element that names the client, or by one `X-Forwarded-*` field with one
//! value. If both state it, they must agree.

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::authority::{Authority, default_port, read_port};
use super::forwarded::{ForwardedElement, client_element};
use super::headers::{X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO};
use super::origin_part::{BelievedParts, OriginFault, OriginPart};
use crate::network::Networks;

/// Scheme, host and port as the public sees them.
#[derive(Debug)]
pub(crate) struct PublicOrigin<'r> {
    pub(crate) scheme: &'static str,
    /// Lower case, without port and trailing dot. Empty for an HTTP/1.0 request that names no host.
    pub(crate) host: &'r str,
    pub(crate) port: u16,
    /// The host as it was written, if the port in it is this port.
    written: Option<&'r HeaderValue>,
}

/// The parts that a trusted proxy has stated, as far as they are believed.
#[derive(Debug)]
pub(crate) struct StatedOrigin {
    pub(crate) scheme: Option<&'static str>,
    authority: Option<Authority>,
    /// Stated apart from the host, or without a host that is believed.
    port: Option<u16>,
}

impl StatedOrigin {
    /// Reads the fields of a trusted proxy. `scheme` is that of its connection. `None` if it states nothing that is
    /// believed.
    pub(crate) fn read(
        headers: &HeaderMap,
        believed: BelievedParts,
        trusted: &Networks,
        scheme: &'static str,
    ) -> Result<Option<Box<Self>>, OriginFault> {
        if !believed.has_origin() {
            return Ok(None);
        }
        let standard = if headers.contains_key(FORWARDED) {
            client_element(headers, trusted)
        } else {
            ForwardedElement::default()
        };
        let plain = |is_believed: bool, name, part| if is_believed { only(headers, &name, part) } else { Ok(None) };
        let plain_scheme = plain(believed.scheme, X_FORWARDED_PROTO, OriginPart::Scheme)?;
        let standard_scheme = standard.proto.filter(|_| believed.scheme);
        let stated_scheme = agreed(OriginPart::Scheme, standard_scheme, plain_scheme, read_scheme)?;
        let read_host = |text: &str| Authority::parse(text.as_bytes(), stated_scheme.unwrap_or(scheme)).ok();
        let plain_host = plain(believed.host, X_FORWARDED_HOST, OriginPart::Host)?;
        let standard_host = standard.host.filter(|_| believed.host);
        let authority = agreed(OriginPart::Host, standard_host, plain_host, read_host)?;
        // `Forwarded` has no parameter for the port: it is a part of the host there.
        let standard_port = match standard.host.filter(|_| believed.port) {
            Some(text) => read_host(text).ok_or(OriginFault::Invalid(OriginPart::Port))?.port(),
            None => None,
        };
        let plain_port = plain(believed.port, X_FORWARDED_PORT, OriginPart::Port)?;
        let plain_port = agreed(OriginPart::Port, None, plain_port, |text| read_port(text).filter(|port| *port != 0))?;
        let port = plain_port.or(standard_port);
        let others = [standard_port, authority.as_ref().and_then(Authority::port)];
        if port.is_some() && others.into_iter().flatten().any(|other| Some(other) != port) {
            return Err(OriginFault::Contradiction(OriginPart::Port));
        }
        let stated = Self { scheme: stated_scheme, authority, port };
        let says_something = stated.scheme.is_some() || stated.authority.is_some() || stated.port.is_some();
        Ok(says_something.then(|| Box::new(stated)))
    }
}

impl<'r> PublicOrigin<'r> {
    /// `scheme` is that of the connection, `authority` that of the request.
    pub(crate) fn new(scheme: &'static str, authority: &'r Authority, stated: Option<&'r StatedOrigin>) -> Self {
        let scheme = stated.and_then(|stated| stated.scheme).unwrap_or(scheme);
        let named = stated.and_then(|stated| stated.authority.as_ref()).unwrap_or(authority);
        let default = default_port(scheme);
        let apart = stated.and_then(|stated| stated.port);
        let port = apart.or(named.port()).unwrap_or(default);
        let is_as_written = apart.is_none() || named.port().unwrap_or(default) == port;
        Self { scheme, host: named.host(), port, written: named.header.as_ref().filter(|_| is_as_written) }
    }

    /// Host and port as a value of `X-Forwarded-Host`. `None` if there is no host.
    pub(crate) fn authority(&self) -> Option<HeaderValue> {
        if let Some(written) = self.written {
            return Some(written.clone());
        }
        if self.host.is_empty() {
            return None;
        }
        let is_default = self.port == default_port(self.scheme);
        let text = if is_default { self.host.to_owned() } else { format!("{}:{}", self.host, self.port) };
        HeaderValue::try_from(text).ok()
    }
}

/// The one value of a field, where it is present.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName, part: OriginPart) -> Result<Option<&'h str>, OriginFault> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| OriginFault::Invalid(part)),
        (Some(_), Some(_)) => Err(OriginFault::Invalid(part)),
    }
}

/// The value of a part, which both fields must agree on if both state it.
fn agreed<T: PartialEq>(
    part: OriginPart,
    standard: Option<&str>,
    plain: Option<&str>,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, OriginFault> {
    let read = |text: Option<&str>| text.map(|text| read(text).ok_or(OriginFault::Invalid(part))).transpose();
    match (read(standard)?, read(plain)?) {
        (Some(standard), Some(plain)) if standard != plain => Err(OriginFault::Contradiction(part)),
        (standard, plain) => Ok(plain.or(standard)),
    }
}

/// Some proxies name the scheme of a WebSocket, which is over the same origin.
fn read_scheme(text: &str) -> Option<&'static str> {
    let is_one_of = |names: [&str; 2]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    if is_one_of(["https", "wss"]) { Some("https") } else { is_one_of(["http", "ws"]).then_some("http") }
}

#[cfg(test)]
mod tests;
