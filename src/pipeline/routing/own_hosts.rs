//! The hosts that are ours: a DPoP proof counts only at one of them.
//!
//! `Host` is what the sender says. Without this, a server that a client was lured to could hand on its proof together
//! with the name that the proof is for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::pattern::HostPattern;
use super::resource::ProtectedResources;
use crate::issuer::endpoints::Endpoints;
use crate::oauth::discrepancy::{Discrepancy, one_of, short};
use crate::pipeline::request::authority::Authority;
use crate::server::tls::ServedCertificate;

/// The hosts that a configuration names, and those in the present certificates of its listeners.
#[derive(Debug, Default)]
pub(crate) struct OwnHosts {
    names: BTreeSet<String>,
    certificates: Vec<Arc<ServedCertificate>>,
}

/// The hosts of one request's rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProofHosts<'r> {
    pub(crate) own: &'r OwnHosts,
    /// The hosts of its route.
    pub(crate) of_route: &'r [HostPattern],
}

impl OwnHosts {
    /// `certificates` is `None` where no listener is opened, for a rehearsal: every host is ours then.
    pub(crate) fn new(
        endpoints: Option<&Endpoints>,
        resources: &ProtectedResources,
        certificates: Option<Vec<Arc<ServedCertificate>>>,
    ) -> Self {
        let Some(certificates) = certificates else { return Self::default() };
        let of_issuer = endpoints.into_iter().flat_map(|endpoints| {
            [Some(endpoints.issuer.as_str()), endpoints.mtls_origin.as_deref()].into_iter().flatten()
        });
        let of_resources = resources.all().into_iter().map(|resource| resource.identifier.url.as_str());
        Self { names: of_issuer.chain(of_resources).filter_map(host_of).collect(), certificates }
    }

    fn is_unknown(&self) -> bool {
        self.names.is_empty() && self.certificates.is_empty()
    }

    fn contains(&self, host: &str) -> bool {
        self.names.contains(host) || self.certificates.iter().any(|certificate| certificate.is_valid_for(host))
    }
}

impl ProofHosts<'_> {
    /// Whether this host is ours, in lower case and without port. Where no host is known, every one is.
    pub(crate) fn check(&self, host: &str) -> Result<(), Discrepancy> {
        let Self { own, of_route } = self;
        let is_known = of_route.iter().any(|pattern| pattern.matches(host)) || own.contains(host);
        if is_known || (of_route.is_empty() && own.is_unknown()) {
            return Ok(());
        }
        let of_route: Vec<String> = of_route.iter().map(HostPattern::to_string).collect();
        let names = of_route.iter().map(String::as_str).chain(own.names.iter().map(String::as_str));
        let named = short(&one_of("host", names));
        let wanted = match (own.certificates.is_empty(), of_route.is_empty() && own.names.is_empty()) {
            (true, _) => named,
            (false, true) => "a host in a certificate of a listener".to_owned(),
            (false, false) => format!("{named}, or one in a certificate of a listener"),
        };
        Err(Discrepancy::new(format!("host={}", short(host)), wanted))
    }
}

/// As [`Authority::host`] has it.
fn host_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    Some(Authority::parse(authority.as_bytes(), scheme).ok()?.host().to_owned())
}

#[cfg(test)]
mod tests {
    use rustls::sign::CertifiedKey;

    use super::*;
    use crate::jose::x509::client_certificate;
    use crate::server::certificate::CertificateFiles;

    /// The certificates of two listeners: the self-signed one, and one with these names. Nothing is signed by its key.
    fn served(names: &[&str]) -> Vec<Arc<ServedCertificate>> {
        let folder = tempfile::tempdir().unwrap();
        let [cert, key] = ["a.crt", "a.key"].map(|name| folder.path().join(name));
        let files = CertificateFiles { cert, key, self_signed: true };
        files.make().unwrap();
        let pair = files.load().unwrap();
        let named = client_certificate(["", ""], names, &[], 2030);
        let named = CertifiedKey::new(vec![named.into()], Arc::clone(&pair.key));
        vec![ServedCertificate::new(pair), ServedCertificate::new(Arc::new(named))]
    }

    fn own(urls: &[&str], certificates: Vec<Arc<ServedCertificate>>) -> OwnHosts {
        OwnHosts { names: urls.iter().filter_map(|url| host_of(url)).collect(), certificates }
    }

    #[track_caller]
    fn only(own: &OwnHosts, of_route: &[&str], ours: &[&str], others: &[&str]) {
        let of_route: Vec<HostPattern> = of_route.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
        let hosts = ProofHosts { own, of_route: &of_route };
        for (all, expected) in [(ours, true), (others, false)] {
            for host in all {
                assert_eq!(hosts.check(host).is_ok(), expected, "{host}");
            }
        }
    }

    #[test]
    fn hosts_of_urls_and_routes_are_ours() {
        let urls = ["https://GW.example:8443/tenant", "http://[2001:db8::1]:8080"];
        let ours = ["gw.example", "[2001:db8::1]", "a.example.com", "a.b.example.com"];
        let others = ["evil.example", "x.gw.example", "example.com", "aexample.com", "2001:db8::1", ""];
        only(&own(&urls, Vec::new()), &["*.example.com"], &ours, &others);
    }

    #[test]
    fn names_of_certificates_are_ours_as_in_tls() {
        let certificates = served(&["a.example", "*.b.example"]);
        let ours = ["a.example", "x.b.example", "localhost", "127.0.0.1", "[::1]"];
        let others = ["b.example", "x.y.b.example", "x.a.example", "127.0.0.2", "[::2]", "::", ""];
        only(&own(&[], certificates), &[], &ours, &others);
    }

    #[test]
    fn every_host_counts_where_none_is_known() {
        only(&own(&[], Vec::new()), &[], &["any.example", ""], &[]);
        only(&own(&[], Vec::new()), &["a.example"], &["a.example"], &["any.example"]);
    }

    #[test]
    fn the_hosts_that_are_wanted_are_named() {
        let own = own(&["https://gw.example"], served(&["a.example"]));
        let found = ProofHosts { own: &own, of_route: &[] }.check("evil.example").unwrap_err();
        assert_eq!(
            found.to_string(),
            "found host=evil.example, wanted host=gw.example, or one in a certificate of a listener"
        );
    }
}
