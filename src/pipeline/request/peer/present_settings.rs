//! The facts that still count of a connection that is older than the settings of its listener, or whose certificate has
//! ended.

use std::rc::Rc;

use super::Peer;
use crate::clock::UnixTime;
use crate::oauth::confirmation::Thumbprint;
use crate::pipeline::request::origin_part::BelievedParts;
use crate::server::mutual_tls::TlsClient;

impl Peer {
    /// The thumbprint of the client certificate, unless that has ended since the handshake.
    pub(crate) fn thumbprint(&self, now: UnixTime) -> Option<Thumbprint> {
        let certificate = self.certificate().filter(|certificate| !certificate.has_ended(now));
        certificate.map(|certificate| certificate.thumbprint)
    }

    /// Whether the present settings of the listener may make another peer of this one.
    pub(crate) fn follows_listener(&self) -> bool {
        self.is_proxy || self.certificate().is_some()
    }

    /// The other end of a connection under settings of the listener that are newer than the connection. `None`: they
    /// change nothing. `accepts`: whether the listener would let the client of the TLS connection in.
    pub(crate) fn under(&self, believed: BelievedParts, accepts: impl FnOnce(&TlsClient) -> bool) -> Option<Self> {
        let tls_client = self.tls_client.as_ref().filter(|client| accepts(client));
        if self.believed == believed && tls_client.is_some() == self.tls_client.is_some() {
            return None;
        }
        let same = Self {
            address: self.address,
            address_trust: self.address_trust,
            listener: self.listener,
            listener_mode: self.listener_mode.clone(),
            believed,
            is_proxy: self.is_proxy,
            in_flight: self.in_flight.clone(),
            forwarded_for: self.forwarded_for.clone(),
            cache: Rc::clone(&self.cache),
            stated: Ok(None),
            certificate: Ok(None),
            tls_client: None,
            hops: Vec::new(),
            socket: self.socket.clone(),
            trusted_proxy: self.trusted_proxy,
        };
        Some(same.with_tls_client(tls_client.cloned()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ListenerMode;
    use super::*;
    use crate::jose::client_certificate::ClientCertificate;
    use crate::jose::x509::client_certificate;
    use crate::network::Networks;

    #[test]
    fn a_certificate_that_has_ended_proves_nothing() {
        let certificate = ClientCertificate::read(&client_certificate(["", "a"], &[], &[], 2021)).unwrap();
        let direct = Peer::new("10.0.0.1".parse().unwrap(), ListenerMode::Tls, &Networks::default());
        let peer = Peer { certificate: Ok(Some(Rc::new(certificate.clone()))), ..direct };
        let proven = |at| peer.thumbprint(UnixTime::parse(at).unwrap());
        assert_eq!(proven("2021-01-01T00:00:00Z"), Some(certificate.thumbprint));
        assert_eq!(proven("2021-01-01T00:00:01Z"), None);
    }
}
