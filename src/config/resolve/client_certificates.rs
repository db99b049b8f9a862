//! `oauth.clients.ID.certificates`: the names of a client's certificates.

use super::super::decode::OneOrMore;
use super::super::origin::UrlOrigin;
use super::super::raw::certificate_name::RawCertificateName;
use super::super::raw::oauth::RawOauth;
use super::super::source::At;
use super::Resolver;
use crate::issuer::client_auth::certificate::CertificateName;
use crate::jose::distinguished_name::DistinguishedName;

impl Resolver<'_> {
    /// The origin of the endpoints for clients with certificates.
    pub(super) fn mtls_origin(&mut self, origin: &At<UrlOrigin>, raw: &RawOauth, takes_certificates: bool) {
        let issuer = raw.issuer.as_ref().ok().map(|issuer| issuer.value.url().origin());
        let got = self.got(origin);
        if origin.value.url().scheme() != "https" {
            self.faults.at(origin.span, format!("expected an https origin{got}: certificates are presented over TLS"));
        } else if issuer.is_some_and(|issuer| issuer == origin.value.url().origin()) {
            let message = "clients with certificates use the origin of the issuer already: remove `mtls_origin`";
            self.faults.at(origin.span, message);
        } else if !takes_certificates {
            let message = "no listener takes client certificates: add `tls.client_auth` to the listener of this origin, or \
                           behind a proxy that terminates TLS, `believe: [client_cert]`";
            self.faults.at(origin.span, message);
        }
    }

    pub(super) fn certificate_names(
        &mut self,
        raw: Option<&At<OneOrMore<RawCertificateName>>>,
    ) -> Vec<CertificateName> {
        let mut names: Vec<CertificateName> = Vec::new();
        for item in raw.map(|list| &list.value.items[..]).unwrap_or_default() {
            let Some(name) = self.certificate_name(&item.value) else { continue };
            if names.contains(&name) {
                self.faults.at(item.span, "this name is listed twice");
            }
            names.push(name);
        }
        names
    }

    fn certificate_name(&mut self, raw: &RawCertificateName) -> Option<CertificateName> {
        match raw {
            RawCertificateName::SubjectDn(text) => match DistinguishedName::parse(&text.value) {
                Ok(name) => Some(CertificateName::SubjectDn(name)),
                Err(fault) => {
                    self.faults.at(text.span, fault.to_string());
                    None
                }
            },
            RawCertificateName::SanDns(text) => {
                let label = |label: &str| {
                    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
                };
                if text.value.split('.').all(label) {
                    return Some(CertificateName::SanDns(text.value.to_ascii_lowercase()));
                }
                let got = self.got(text);
                self.faults
                    .at(text.span, format!("expected one DNS name such as `app.example.com`{got}; no wildcards"));
                None
            }
            RawCertificateName::SanUri(text) => {
                let is_uri =
                    text.value.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
                if is_uri && text.value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*') {
                    return Some(CertificateName::SanUri(text.value.clone()));
                }
                let got = self.got(text);
                let message = format!("expected one URI such as `spiffe://example.com/app`{got}; no wildcards");
                self.faults.at(text.span, message);
                None
            }
        }
    }
}
