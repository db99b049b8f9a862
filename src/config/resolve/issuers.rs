//! `issuers`: the external issuers whose tokens are accepted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use super::super::decode::{Named, OneOrMore};
use super::super::origin::HttpUrl;
use super::super::raw::issuer::RawIssuer;
use super::super::source::At;
use super::super::types::{ExternalIssuer, Oauth};
use super::{Resolved, Resolver};
use crate::file_watch::{FileWatch, read_regular};
use crate::jose::algorithm::Algorithm;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::telemetry::error_chain;
use crate::trust::fetch::{ClearText, is_loopback};
use crate::trust::issuer::{IssuerCa, IssuerSettings, KeySource, Profile, TokenTypes};
use crate::trust::scope_claim::ScopeClaim;
use crate::upstream::tls;

const MAX_SKEW: Duration = Duration::from_secs(120);
const LONGEST_STALE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Resolver<'_> {
    pub(super) fn issuers(&mut self, raw: Named<RawIssuer>, oauth: Option<&Resolved<Oauth>>) -> Vec<ExternalIssuer> {
        let mut seen: HashMap<String, Option<usize>> = HashMap::new();
        if let Some(Ok(oauth)) = oauth {
            seen.insert(oauth.server.issuer.clone(), None);
        }
        let mut issuers = Vec::new();
        for (name, issuer) in raw.entries {
            self.issuer_name(&name);
            let Ok(issuer) = issuer else { continue };
            if let Ok(iss) = &issuer.value.issuer {
                let line = self.source.line(iss.span);
                match seen.insert(iss.value.clone(), Some(line)) {
                    Some(Some(first)) => {
                        self.faults.at(iss.span, format!("this issuer is listed twice, first at line {first}"));
                    }
                    Some(None) => {
                        self.faults.at(iss.span, "this is our own issuer, which is trusted as `self`: remove it");
                    }
                    None => {}
                }
            }
            issuers.extend(self.issuer(&name, issuer.value));
        }
        issuers
    }

    fn issuer_name(&mut self, name: &At<String>) {
        if name.value == IssuerName::OWN {
            self.faults.at(name.span, "`self` is the name of our own issuer: choose another");
        } else if name.value.contains(['/', '"', '\\']) || name.value.chars().any(char::is_control) {
            self.faults.at(name.span, "expected a name without `/`, quotes and control characters");
        }
    }

    fn issuer(&mut self, name: &At<String>, raw: RawIssuer) -> Option<ExternalIssuer> {
        let discovered = raw.jwks_uri.is_none();
        let clear_text = if raw.allow_http.value { ClearText::AnyHost } else { ClearText::Loopback };
        let jwks_uri = raw.jwks_uri.and_then(Result::ok).map(|uri| self.jwks_uri(name, &uri, clear_text));
        let ca_watch = raw.ca.as_ref().map(|ca| FileWatch::new(vec![self.source.locate(&ca.value)]));
        let ca = raw.ca.as_ref().and_then(|ca| self.issuer_ca(ca));
        let algorithms = raw.algorithms.map_or_else(|| Algorithm::ALL.to_vec(), |list| self.algorithms(&list.value));
        let audiences = raw.audiences.map(|list| self.texts(&list.value));
        let allow_scopes = raw.allow_scopes.map(|list| self.scopes(&list.value));
        let types = raw.types.map_or_else(default_types, |list| types(&list.value));
        if raw.clock_skew.value > MAX_SKEW {
            let got = self.got(&raw.clock_skew);
            self.faults.at(raw.clock_skew.span, format!("expected a clock skew of at most `120s`{got}"));
        }
        if raw.max_stale.value > LONGEST_STALE {
            let got = self.got(&raw.max_stale);
            self.faults.at(raw.max_stale.span, format!("expected at most `7d`{got}: older keys are not used"));
        }
        let issuer = raw.issuer.ok()?;
        let Ok(iss) = Identity::parse(&issuer.value) else {
            self.faults.at(issuer.span, "an issuer is 1 to 1024 bytes without control characters");
            return None;
        };
        let issuer_url = Url::parse(&issuer.value).ok().filter(|_| discovered);
        if discovered && !issuer_url.as_ref().is_some_and(|url| clear_text.permits(url)) {
            let message = "without `jwks_uri` the issuer must be an https URL, for discovery; http is allowed on a loopback host, and with `allow_http: true`";
            self.faults.at(issuer.span, message);
        }
        if raw.allow_http.value
            && let Some(first) = issuer_url.as_ref().or(jwks_uri.as_ref())
        {
            self.allow_http(name, &raw.allow_http, first);
        }
        let scope_claim = match raw.scope_claim.value.as_str() {
            "auto" => ScopeClaim::Auto,
            name => ScopeClaim::Named(name.to_owned()),
        };
        let settings = IssuerSettings {
            name: IssuerName::new(&name.value),
            issuer: iss,
            audiences: audiences.ok()?,
            algorithms,
            types,
            clock_skew: raw.clock_skew.value,
            scope_claim,
            allow_scopes,
            profile: Profile::External,
        };
        let source = KeySource { jwks_uri, ca, max_stale: raw.max_stale.value, clear_text };
        Some(ExternalIssuer { settings, source, ca_watch })
    }

    /// `first` is the first document that is fetched.
    fn allow_http(&mut self, name: &At<String>, key: &At<bool>, first: &Url) {
        if first.scheme() == "https" {
            self.faults.at(key.span, "the documents of this issuer are fetched over https: remove `allow_http`");
            return;
        }
        let message = format!(
            "the keys of issuer `{}` are fetched in clear text: a machine on the way can replace them and so forge tokens; \
             use https outside of a trusted network",
            name.value
        );
        self.warn(key.span, message);
    }

    fn jwks_uri(&mut self, name: &At<String>, uri: &At<HttpUrl>, clear_text: ClearText) -> Url {
        let url = uri.value.url();
        if !clear_text.permits(url) {
            let message = "expected an https URL; http is allowed on a loopback host, and with `allow_http: true`";
            self.faults.at(uri.span, message);
        } else if is_loopback(url) && url.scheme() == "http" {
            self.warn(
                uri.span,
                format!("the keys of issuer `{}` are fetched in clear text, from this machine", name.value),
            );
        }
        url.clone()
    }

    fn algorithms(&mut self, list: &OneOrMore<String>) -> Vec<Algorithm> {
        list.items.iter().filter_map(|name| self.algorithm(name)).collect()
    }

    fn issuer_ca(&mut self, file: &At<PathBuf>) -> Option<IssuerCa> {
        let pem = self.certificates(file)?;
        self.check_end(file, tls::last_end(&pem));
        Some(IssuerCa::new(self.source.locate(&file.value), pem))
    }

    /// The certificates of a PEM file. `None` if it cannot be read.
    pub(super) fn certificates(&mut self, file: &At<PathBuf>) -> Option<Vec<u8>> {
        let path = self.source.locate(&file.value);
        let named = self.redact_path(format!("`{}`", path.display()), file.span, &file.value);
        let pem = match read_regular(&path) {
            Ok(pem) => pem.to_vec(),
            Err(error) => {
                self.faults.at(file.span, format!("cannot read {named}: {}", error_chain::reason(&error)));
                return None;
            }
        };
        self.named.add_file([&pem[..]]);
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        if !certificates.is_ok_and(|list| !list.is_empty()) {
            self.faults.at(file.span, format!("{named} holds no certificate in PEM"));
        }
        Some(pem)
    }
}

fn default_types() -> TokenTypes {
    TokenTypes { named: vec!["at+jwt".to_owned(), "jwt".to_owned()], absent: true }
}

fn types(list: &OneOrMore<String>) -> TokenTypes {
    let names = list.items.iter().map(|name| name.value.to_ascii_lowercase());
    let (absent, named): (Vec<_>, Vec<_>) = names.partition(|name| name == "absent");
    let short = |name: String| name.strip_prefix("application/").map_or(name.clone(), str::to_owned);
    TokenTypes { named: named.into_iter().map(short).collect(), absent: !absent.is_empty() }
}
