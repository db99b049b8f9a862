//! `listeners`: sockets, certificates and keys.

use std::path::PathBuf;

use super::super::decode::{OneOrMore, Required};
use super::super::diagnostics::Diagnostic;
use super::super::lint::Lint;
use super::super::raw::listener::{
    RawCertificate, RawClientAuth, RawClientAuthMode, RawListener, RawMinVersion, RawTls,
};
use super::super::source::At;
use super::super::types::{Listener, ListenerKind};
use super::Resolver;
use super::secrets::{WARN_BEFORE, remaining};
use crate::clock::UnixTime;
use crate::pipeline::request::origin_part::BelievedParts;
use crate::server::certificate::{self, CertificateError, CertificateFiles};
use crate::server::mutual_tls::{CertificateDemand, MutualTls};
use crate::server::tls::MinTlsVersion;
use crate::telemetry::error_chain::ErrorChain;

impl Resolver<'_> {
    pub(super) fn listeners(
        &mut self,
        raw: Required<OneOrMore<RawListener>>,
        proxies_are_known: bool,
    ) -> Vec<Listener> {
        let Ok(raw) = raw else {
            return Vec::new();
        };
        let mut listeners: Vec<Listener> = Vec::new();
        for listener in raw.value.items {
            let kind = self.kind(&listener);
            let proxy_protocol = &listener.value.proxy_protocol;
            if proxy_protocol.value && !proxies_are_known {
                let message = "no proxy may send a PROXY header: add the load balancers to `trusted_proxies`";
                self.faults.at(proxy_protocol.span, message);
            }
            let proxy_protocol = proxy_protocol.value;
            let believed = self.believed(&listener.value, proxies_are_known);
            let Ok(address) = listener.value.address else {
                continue;
            };
            if address.value.port() != 0 && listeners.iter().any(|other| other.address == address.value) {
                self.faults.at(address.span, "another listener has this address already");
            }
            listeners.extend(kind.map(|kind| Listener { address: address.value, kind, proxy_protocol, believed }));
        }
        listeners
    }

    fn believed(&mut self, listener: &RawListener, proxies_are_known: bool) -> BelievedParts {
        let mut believed = BelievedParts::default();
        let Some(list) = &listener.believe else { return believed };
        if !proxies_are_known {
            let message = "no proxy is believed: add the load balancers to `trusted_proxies`";
            self.faults.at(list.span, message);
        }
        if listener.redirect_to.is_some() {
            let message = "this listener redirects all requests, however they reached the proxy: remove `believe`";
            self.faults.at(list.span, message);
        }
        for part in &list.value.items {
            if !believed.add(part.value) {
                self.faults.at(part.span, format!("`{}` is listed twice", part.value));
            }
        }
        believed
    }

    fn kind(&mut self, listener: &At<RawListener>) -> Option<ListenerKind> {
        match (&listener.value.tls, &listener.value.redirect_to) {
            (None, None) => Some(ListenerKind::Plain),
            (None, Some(origin)) => Some(ListenerKind::Redirect { origin: origin.value.as_str().to_owned() }),
            (Some(tls), None) => Some(self.tls(&tls.value)),
            (Some(_), Some(origin)) => {
                self.faults.at(origin.span, "only a plain listener redirects: remove `tls` or `redirect_to`");
                None
            }
        }
    }

    fn tls(&mut self, raw: &RawTls) -> ListenerKind {
        let certificates = match &raw.certificates {
            Ok(list) => {
                list.value.items.iter().filter_map(|certificate| self.certificate(&certificate.value)).collect()
            }
            Err(_) => Vec::new(),
        };
        let min_version = match raw.min_version.value {
            RawMinVersion::Tls12 => MinTlsVersion::Tls12,
            RawMinVersion::Tls13 => MinTlsVersion::Tls13,
        };
        let mutual_tls = raw.client_auth.as_ref().and_then(|client_auth| self.mutual_tls(client_auth));
        ListenerKind::Tls { certificates, min_version, mutual_tls }
    }

    fn mutual_tls(&mut self, raw: &At<RawClientAuth>) -> Option<MutualTls> {
        let mode = raw.value.mode.as_ref().map(|mode| mode.as_ref().map(|mode| mode.value));
        let demand = match mode.unwrap_or(Ok(RawClientAuthMode::None)).ok()? {
            RawClientAuthMode::None => {
                if let Some(ca) = &raw.value.ca {
                    let message = "`ca` has no effect with `mode: none`, the default: write `mode: optional` or \
                                   `mode: required`, or remove it";
                    self.faults.at(ca.span, message);
                }
                return None;
            }
            RawClientAuthMode::Optional => CertificateDemand::Optional,
            RawClientAuthMode::Required => CertificateDemand::Required,
        };
        let Some(ca) = &raw.value.ca else {
            let message = "`ca` is missing: name the PEM file of the authorities that issue client certificates";
            self.faults.at(raw.span, message);
            return None;
        };
        let mutual_tls = MutualTls { demand, ca: self.source.locate_content(&ca.value) };
        match mutual_tls.load() {
            Ok(authorities) => {
                self.named.add_file(authorities.certificates.iter().map(|der| &**der));
                self.check_end(ca, authorities.ends_at());
            }
            Err(error) => {
                let message = self.redact_path(ErrorChain(&error).to_string(), ca.span, &ca.value);
                self.faults.at(ca.span, message);
            }
        }
        Some(mutual_tls)
    }

    fn certificate(&mut self, raw: &RawCertificate) -> Option<CertificateFiles> {
        let (cert, key) = (raw.cert.as_ref().ok()?, raw.key.as_ref().ok()?);
        let files = CertificateFiles {
            cert: self.source.locate_content(&cert.value),
            key: self.source.locate_content(&key.value),
            self_signed: raw.self_signed.value,
        };
        if files.self_signed && files.are_missing() {
            let need = "`self_signed` creates it: name an existing pair, or a path on a volume that can be written";
            let cert_can_be_made = self.writable_file(cert, &files.cert, need);
            let _ = cert_can_be_made.and_then(|()| self.writable_file(key, &files.key, need));
            return Some(files);
        }
        match files.load() {
            Ok(pair) => {
                if !files.self_signed {
                    self.named.add_file(pair.cert.iter().map(|der| &**der));
                }
                self.check_end(cert, certificate::ends_at(&pair));
            }
            Err(error) => {
                let one_is_missing = !files.cert.exists() || !files.key.exists();
                let hint = if files.self_signed && one_is_missing {
                    "; `self_signed` creates a pair only if both files are missing"
                } else {
                    ""
                };
                self.certificate_fault(&error, &files, cert, key, hint);
            }
        }
        Some(files)
    }

    /// Reports a certificate that has ended, and warns of one that ends soon. `None` never ends.
    pub(super) fn check_end(&mut self, file: &At<PathBuf>, end: Option<UnixTime>) {
        let Some(end) = end else { return };
        let (left, time, named) = (end.since(self.now), end.to_the_second(), self.quoted(file));
        if end <= self.now {
            let message = format!("the certificate{named} ended at {time}: renew it");
            self.ended_certificates.push(Diagnostic::new(self.source, Some(file.span), message));
        } else if left < WARN_BEFORE {
            let message = format!("the certificate{named} ends at {time}, in {}: renew it", remaining(left));
            self.warn(Lint::EndingCertificate, file.span, message);
        }
    }

    /// Reports a fault of a certificate or its key at the file that causes it.
    pub(super) fn certificate_fault(
        &mut self,
        error: &CertificateError,
        files: &CertificateFiles,
        cert: &At<PathBuf>,
        key: &At<PathBuf>,
        hint: &str,
    ) {
        let span = match error {
            CertificateError::Read { path, .. } | CertificateError::Unusable { path, .. } if *path == files.key => {
                key.span
            }
            CertificateError::NoKey { .. } | CertificateError::KeyMode { .. } | CertificateError::Mismatch { .. } => {
                key.span
            }
            CertificateError::Read { .. }
            | CertificateError::Unusable { .. }
            | CertificateError::Write { .. }
            | CertificateError::NoCertificate { .. }
            | CertificateError::Make(_) => cert.span,
        };
        let message = self.redact_path(format!("{}{hint}", ErrorChain(error)), cert.span, &cert.value);
        let message = self.redact_path(message, key.span, &key.value);
        self.faults.at(span, message);
    }
}
