//! The other end of a connection, and the listener by which it came.
//!
//! Each request of a trusted proxy has a [`Peer`] of its own, which is the client that the proxy names. Limits, the
//! audit log and the upstream use its address in both cases.

mod present_settings;

use std::net::IpAddr;
use std::rc::Rc;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderValue};

use super::authority::Authority;
use super::client_cert::stated_certificate;
use super::connection_cache::{ConnectionCache, KnownForwarding};
use super::forwarded;
use super::headers::{FieldFault, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REAL_IP};
use super::in_flight::{InFlightByAddress, InFlightCounter};
use super::origin_part::{BelievedParts, OriginFault};
use super::public_origin::{PublicOrigin, StatedOrigin};
use crate::http1::field_block::FieldBlock;
use crate::jose::client_certificate::ClientCertificate;
use crate::network::{Networks, SourceAddress};
use crate::server::listener::ListenerId;
use crate::server::mutual_tls::TlsClient;
use crate::server::proxy_header::ProxyHeader;

/// The facts of one connection, or of one request that came through a proxy, with the header values that follow from
/// them.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The address to which limits and address rules apply.
    pub(crate) address: IpAddr,
    pub(crate) address_trust: AddressTrust,
    pub(crate) listener: ListenerId,
    pub(crate) listener_mode: ListenerMode,
    /// The parts of the public origin that a trusted proxy may state.
    pub(crate) believed: BelievedParts,
    /// The other end is a proxy that is trusted to name its clients.
    pub(crate) is_proxy: bool,
    /// The count of the requests from its address; `None` where they are not counted.
    pub(crate) in_flight: Option<Rc<InFlightCounter>>,
    /// `X-Forwarded-For`: the client first.
    pub(crate) forwarded_for: HeaderValue,
    pub(crate) cache: Rc<ConnectionCache>,
    /// The believed statement of a proxy about the public origin.
    pub(crate) stated: Result<Option<Box<StatedOrigin>>, OriginFault>,
    /// The client certificate of the request: that of a direct client's connection, or the one that a trusted proxy has
    /// stated. The certificate of a proxy itself proves nothing about its clients.
    pub(crate) certificate: Result<Option<Rc<ClientCertificate>>, FieldFault>,
    /// The other end of the TLS connection, where the listener asks for client certificates.
    tls_client: Option<TlsClient>,
    /// The client and every proxy behind it, where these are more than `address`.
    hops: Vec<IpAddr>,
    /// The other end of the socket, where `address` is another.
    socket: Option<Rc<str>>,
    /// The other end of the socket, if it was a trusted proxy when the connection began.
    trusted_proxy: Option<IpAddr>,
}

/// How certain it is that a request comes from the address that it counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressTrust {
    Certain,
    /// The address is that of a proxy, which could not name its client.
    Uncertain,
    /// The proxy names two different clients.
    Contradicted,
}

/// The purpose of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenerMode {
    Tls,
    /// Routes in clear text; token requests only where the traffic stays on the machine.
    Plain {
        loopback: bool,
    },
    /// Answers nothing but 308 to this origin.
    Redirect {
        origin: String,
    },
}

impl Peer {
    /// The other end of a connection.
    pub(crate) fn new(address: IpAddr, listener_mode: ListenerMode, trusted: &Networks) -> Self {
        let is_proxy = trusted.contains(address);
        Self {
            address,
            address_trust: AddressTrust::Certain,
            listener: ListenerId(0),
            listener_mode,
            believed: BelievedParts::default(),
            is_proxy,
            in_flight: None,
            forwarded_for: joined(&[address]),
            cache: Rc::default(),
            stated: Ok(None),
            certificate: Ok(None),
            tls_client: None,
            hops: Vec::new(),
            socket: None,
            trusted_proxy: is_proxy.then_some(address),
        }
    }

    /// The client that the proxy at the other end has named in a PROXY header.
    pub(crate) fn from_proxy_header(
        socket: IpAddr,
        by: ProxyHeader,
        listener_mode: ListenerMode,
        trusted: &Networks,
    ) -> Self {
        match by {
            ProxyHeader::Itself => Self::new(socket, listener_mode, trusted),
            ProxyHeader::Client(address) => Self {
                trusted_proxy: Some(socket),
                socket: (address != socket).then(|| socket.to_string().into()),
                ..Self::new(address, listener_mode, trusted)
            },
            // The requests of this connection are not the proxy's own.
            ProxyHeader::Unknown => {
                let unknown = Self::new(socket, listener_mode, trusted);
                Self { address_trust: AddressTrust::Uncertain, is_proxy: false, ..unknown }
            }
        }
    }

    /// The peer of a connection whose proxy is not trusted any more: the proxy itself, whatever it said about clients.
    /// A certificate of the connection was never meant to make the proxy a client.
    pub(crate) fn without_trust(&self, trusted: &Networks) -> Option<Self> {
        let socket = self.trusted_proxy.filter(|proxy| !trusted.contains(*proxy))?;
        let listener_mode = self.listener_mode.clone();
        Some(Self { listener: self.listener, ..Self::new(socket, listener_mode, trusted) })
    }

    /// The same with the client of its TLS connection.
    pub(crate) fn with_tls_client(self, tls_client: Option<TlsClient>) -> Self {
        let own = tls_client.as_ref().filter(|_| !self.is_proxy).and_then(|client| client.certificate.clone());
        Self { certificate: Ok(own), tls_client, ..self }
    }

    /// The client certificate of the request.
    pub(crate) fn certificate(&self) -> Option<&Rc<ClientCertificate>> {
        self.certificate.as_ref().ok().and_then(Option::as_ref)
    }

    /// Whether a client with a certificate asks for another host than the one that it has opened the connection for. The
    /// connections of a proxy are for many hosts.
    pub(crate) fn is_misdirected(&self, host: &str) -> bool {
        let with_certificate = self.tls_client.as_ref().filter(|client| client.certificate.is_some() && !self.is_proxy);
        let server_name = with_certificate.and_then(|client| client.server_name.as_deref());
        server_name.is_some_and(|name| !host.is_empty() && name.trim_end_matches('.') != host)
    }

    /// The client that this proxy names in a request with these headers.
    pub(crate) fn with_forwarded(&self, headers: &HeaderMap, trusted: &Networks) -> Self {
        let (mut hops, address_trust) = match forwarded::chain(headers, trusted) {
            Ok(chain) if chain.is_certain => (chain.hops, self.address_trust),
            Ok(chain) => (chain.hops, AddressTrust::Uncertain),
            Err(forwarded::Contradiction) => (Vec::new(), AddressTrust::Contradicted),
        };
        hops.push(self.address);
        let address = hops.first().copied().unwrap_or(self.address);
        let own_socket = || Rc::from(self.text());
        let certificate =
            if self.believed.client_certificate { stated_certificate(headers, &self.cache) } else { Ok(None) };
        Self {
            address,
            address_trust,
            listener: self.listener,
            listener_mode: self.listener_mode.clone(),
            believed: self.believed,
            is_proxy: true,
            in_flight: None,
            forwarded_for: joined(&hops),
            cache: Rc::clone(&self.cache),
            stated: StatedOrigin::read(headers, self.believed, trusted, self.scheme()),
            socket: self.socket.clone().or_else(|| (address != self.address).then(own_socket)),
            certificate,
            tls_client: self.tls_client.clone(),
            trusted_proxy: self.trusted_proxy,
            hops,
        }
    }

    /// Counts the peer's requests together with others of its address. A trusted proxy's own requests are not counted:
    /// they cannot be distinguished from requests for clients that the proxy does not name.
    pub(crate) fn counted_in(mut self, in_flight: &Rc<InFlightByAddress>, trusted: &Networks) -> Rc<Self> {
        let exempt = self.address_trust == AddressTrust::Certain && trusted.contains(self.address);
        self.in_flight = (!exempt).then(|| in_flight.counter_of(self.address));
        Rc::new(self)
    }

    pub(crate) fn source_address(&self) -> SourceAddress {
        SourceAddress { address: self.address, is_certain: self.address_trust == AddressTrust::Certain }
    }

    /// Whether all requests of an HTTP/1.1 connection come from one client. Those of a proxy come from many.
    pub(crate) fn is_direct_client(&self) -> bool {
        !self.is_proxy && self.address_trust == AddressTrust::Certain
    }

    /// `address` as text.
    pub(crate) fn text(&self) -> &str {
        let all = self.forwarded_for.to_str().unwrap_or_default();
        if self.hops.is_empty() { all } else { all.split(',').next().unwrap_or_default() }
    }

    /// The other end of the socket as text, where that is another address.
    pub(crate) fn socket(&self) -> Option<&str> {
        self.socket.as_deref()
    }

    /// The fields by which upstreams know from where a request comes, for which host, and how.
    pub(crate) fn forwarding_fields(&self, authority: &Rc<Authority>) -> Rc<FieldBlock> {
        if !self.hops.is_empty() {
            // The requests of a proxy's connection come from different clients.
            return Rc::new(self.make_forwarding_fields(authority));
        }
        let mut last = self.cache.last_forwarding.borrow_mut();
        let is_same = |known: &&KnownForwarding| Rc::ptr_eq(&known.authority, authority);
        if let Some(known) = last.as_ref().filter(is_same) {
            return Rc::clone(&known.fields);
        }
        let fields = Rc::new(self.make_forwarding_fields(authority));
        *last = Some(KnownForwarding { authority: Rc::clone(authority), fields: Rc::clone(&fields) });
        fields
    }

    fn make_forwarding_fields(&self, authority: &Authority) -> FieldBlock {
        let origin = self.public_origin(authority);
        let host = origin.authority();
        let forwarded = self.make_forwarded(host.as_ref(), origin.scheme);
        let forwarded = forwarded.unwrap_or_else(|| HeaderValue::from_static("for=unknown"));
        let port = match origin.port {
            443 => HeaderValue::from_static("443"),
            80 => HeaderValue::from_static("80"),
            port => port.into(),
        };
        let client = if self.hops.is_empty() { self.forwarded_for.clone() } else { joined(&[self.address]) };
        let mut fields = vec![
            (X_FORWARDED_FOR, self.forwarded_for.clone()),
            (X_FORWARDED_PROTO, HeaderValue::from_static(origin.scheme)),
            (X_FORWARDED_PORT, port),
            (X_REAL_IP, client),
        ];
        fields.extend(host.map(|host| (X_FORWARDED_HOST, host)));
        fields.push((FORWARDED, forwarded));
        FieldBlock::new(fields)
    }

    /// `Forwarded` (RFC 7239 §4). Host and scheme belong to one element only, because some services read the first of
    /// them and others the last: to the client's if a proxy has stated them, else to that of the socket's other end.
    fn make_forwarded(&self, host: Option<&HeaderValue>, scheme: &str) -> Option<HeaderValue> {
        let node = |address: &IpAddr| match address {
            IpAddr::V4(v4) => format!("for={v4}"),
            IpAddr::V6(v6) => format!("for=\"[{v6}]\""),
        };
        // A host with a port or brackets is no token and must be quoted; it was checked to have no quote in it.
        let host = match host {
            Some(host) => format!(";host=\"{}\"", host.to_str().ok()?),
            None => String::new(),
        };
        let hops = if self.hops.is_empty() { std::slice::from_ref(&self.address) } else { &self.hops };
        let described = if matches!(self.stated, Ok(Some(_))) { 0 } else { hops.len() - 1 };
        let mut elements: Vec<String> = hops.iter().map(node).collect();
        elements[described] += &format!("{host};proto={scheme}");
        HeaderValue::try_from(elements.join(", ")).ok()
    }

    /// The origin under which the public sees a request with this authority. The URL of a DPoP proof
    /// is compared with it.
    pub(crate) fn public_origin<'r>(&'r self, authority: &'r Authority) -> PublicOrigin<'r> {
        PublicOrigin::new(self.scheme(), authority, self.stated())
    }

    /// Whether the caller's credentials have crossed no network in clear text, as far as the gateway knows: the network
    /// before a proxy, if that states the scheme, or else before the gateway.
    pub(crate) fn keeps_secrets(&self) -> bool {
        match self.stated().and_then(|stated| stated.scheme) {
            Some(scheme) => scheme == "https",
            None => self.listener_mode != ListenerMode::Plain { loopback: false },
        }
    }

    fn stated(&self) -> Option<&StatedOrigin> {
        self.stated.as_ref().ok().and_then(Option::as_deref)
    }

    /// The scheme of the connection.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.listener_mode {
            ListenerMode::Tls => "https",
            ListenerMode::Plain { .. } | ListenerMode::Redirect { .. } => "http",
        }
    }
}

/// Addresses are always header values.
fn joined(addresses: &[IpAddr]) -> HeaderValue {
    let text: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    HeaderValue::try_from(text.join(", ")).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    /// `Forwarded`, `X-Forwarded-Host`, `-Proto`, `-Port` and `X-Real-IP` of a request for this host.
    fn fields(peer: &Peer, host: &str) -> [String; 5] {
        let block = peer.make_forwarding_fields(&Authority::parse(host.as_bytes(), "").unwrap());
        let value =
            |name| block.fields().iter().find(|(field, _)| *field == name).unwrap().1.to_str().unwrap().to_owned();
        [FORWARDED, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_FORWARDED_PORT, X_REAL_IP].map(value)
    }

    #[test]
    fn forwarding_fields_name_client_host_and_protocol() {
        let v4 = Peer::new("10.0.0.1".parse().unwrap(), ListenerMode::Tls, &Networks::default());
        let forwarded = "for=10.0.0.1;host=\"A.example:8443\";proto=https";
        assert_eq!(fields(&v4, "A.example:8443"), [forwarded, "A.example:8443", "https", "8443", "10.0.0.1"]);
        assert_eq!(fields(&v4, "b"), ["for=10.0.0.1;host=\"b\";proto=https", "b", "https", "443", "10.0.0.1"]);
        assert_eq!(v4.make_forwarded(None, "https").unwrap(), "for=10.0.0.1;proto=https");
        let plain = ListenerMode::Plain { loopback: false };
        let v6 = Peer::new("2001:db8::1".parse().unwrap(), plain, &Networks::default());
        let forwarded = "for=\"[2001:db8::1]\";host=\"b\";proto=http";
        assert_eq!(fields(&v6, "b"), [forwarded, "b", "http", "80", "2001:db8::1"]);
    }

    #[test]
    fn a_proxied_request_is_its_clients_and_lists_the_proxies() {
        let trusted: Networks = [Network::parse("10.0.0.0/8").unwrap()].into_iter().collect();
        let proxy = Peer::new("10.0.0.1".parse().unwrap(), ListenerMode::Tls, &trusted);
        let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, "2001:db8::1, 10.0.0.2".parse().unwrap())]);
        let client = proxy.with_forwarded(&headers, &trusted);
        assert_eq!((client.text(), client.socket()), ("2001:db8::1", Some("10.0.0.1")));
        assert_eq!(client.forwarded_for, "2001:db8::1, 10.0.0.2, 10.0.0.1");
        let forwarded = "for=\"[2001:db8::1]\", for=10.0.0.2, for=10.0.0.1;host=\"a\";proto=https";
        assert_eq!(fields(&client, "a"), [forwarded, "a", "https", "443", "2001:db8::1"]);
        let itself = proxy.with_forwarded(&HeaderMap::new(), &trusted);
        assert_eq!((itself.text(), itself.socket(), itself.address_trust), ("10.0.0.1", None, AddressTrust::Certain));
    }

    #[test]
    fn a_stated_origin_describes_the_element_of_the_client() {
        let trusted: Networks = [Network::parse("10.0.0.0/8").unwrap()].into_iter().collect();
        let mode = ListenerMode::Plain { loopback: false };
        let believed = BelievedParts { scheme: true, host: true, port: true, client_certificate: false };
        let proxy = Peer { believed, ..Peer::new("10.0.0.1".parse().unwrap(), mode, &trusted) };
        let headers = HeaderMap::from_iter([
            (X_FORWARDED_FOR, HeaderValue::from_static("unknown, 10.0.0.2")),
            (X_FORWARDED_PROTO, HeaderValue::from_static("https")),
        ]);
        let client = proxy.with_forwarded(&headers, &trusted);
        // The client is not known: the proxy counts in its place, as everywhere.
        let forwarded = "for=10.0.0.2;host=\"a\";proto=https, for=10.0.0.1";
        assert_eq!(fields(&client, "a"), [forwarded, "a", "https", "443", "10.0.0.2"]);
        assert!(client.keeps_secrets() && !proxy.keeps_secrets());
        assert_eq!(client.scheme(), "http");
    }
}
