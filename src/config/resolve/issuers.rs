//! `issuers`: the external issuers whose tokens are accepted.

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
use super::issuer_choice::EntryClaim;
use super::{Resolved, Resolver};
use crate::file_watch::{FileWatch, read_regular};
use crate::jose::algorithm::Algorithm;
use crate::oauth::caller::IssuerName;
use crate::telemetry::error_chain;
use crate::trust::fetch::{ClearText, is_loopback};
use crate::trust::issuer::{IssuerCa, IssuerSettings, KeySource, Profile, TokenTypes};
use crate::trust::scope_claim::ScopeClaim;
use crate::upstream::tls;

const MAX_SKEW: Duration = Duration::from_secs(120);
const LONGEST_STALE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Resolver<'_> {
    pub(super) fn issuers(&mut self, raw: Named<RawIssuer>, oauth: Option<&Resolved<Oauth>>) -> Vec<ExternalIssuer> {
        let own = oauth.and_then(|oauth| oauth.as_ref().ok()).map(|oauth| oauth.server.issuer.as_str());
        let (mut issuers, mut claims) = (Vec::new(), Vec::new());
        for (name, issuer) in raw.entries {
            self.issuer_name(&name);
            let Ok(issuer) = issuer else { continue };
            issuers.extend(self.issuer(&name, issuer.value, &mut claims));
        }
        self.check_shared_issuers(&claims, own);
        issuers
    }

    fn issuer_name(&mut self, name: &At<String>) {
        if name.value == IssuerName::OWN {
            self.faults.at(name.span, "`self` is the name of our own issuer: choose another");
        } else if name.value.contains(['/', '"', '\\']) || name.value.chars().any(char::is_control) {
            self.faults.at(name.span, "expected a name without `/`, quotes and control characters");
        }
    }

    fn issuer(&mut self, name: &At<String>, raw: RawIssuer, claims: &mut Vec<EntryClaim>) -> Option<ExternalIssuer> {
        let discovered = raw.jwks_uri.is_none();
        let clear_text = if raw.allow_http.value { ClearText::AnyHost } else { ClearText::Loopback };
        let jwks_uri = raw.jwks_uri.and_then(Result::ok).map(|uri| self.jwks_uri(name, &uri, clear_text));
        let ca_watch = raw.ca.as_ref().map(|ca| FileWatch::new(vec![self.source.locate(&ca.value)]));
        let ca = raw.ca.as_ref().and_then(|ca| self.issuer_ca(ca));
        let algorithms = raw.algorithms.map_or_else(|| Algorithm::ALL.to_vec(), |list| self.algorithms(&list.value));
        let audiences = raw.audiences.map(|list| self.literals(&list.value, "`aud` is compared exactly"));
        if let Some(list) = &raw.allow_scopes {
            let reason = "scopes are compared exactly";
            list.value.items.iter().for_each(|scope| self.must_be_literal(scope, reason));
        }
        let allow_scopes = raw.allow_scopes.map(|list| self.scopes(&list.value));
        let token_field = raw.token_header.as_ref().and_then(|name| self.token_field(name));
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
        let (iss, origin) = self.token_origin(&issuer, raw.tenants.as_ref())?;
        if let Ok(audiences) = &audiences {
            claims.push(EntryClaim::new(name, issuer.clone(), &origin, audiences.clone()));
        }
        let issuer_url = Url::parse(origin.discovered_at(&iss).as_str()).ok().filter(|_| discovered);
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
            origin,
            token_field,
            audiences: audiences.ok()?.into_iter().map(|audience| audience.value).collect(),
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
        if url.as_str().contains(['*', '{', '}']) || ["%7B", "%7D"].iter().any(|brace| url.as_str().contains(brace)) {
            self.faults
                .at(uri.span, "`*` and `{…}` have no meaning here: all tokens of an entry have the same key set");
        }
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
