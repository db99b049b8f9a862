//! `jwks_uri`, `jwks_file`, `jwks` and the keys beside them: where the keys of an external issuer come from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use url::Url;

use super::super::decode::Required;
use super::super::lint::Lint;
use super::super::needs::Needs;
use super::super::origin::HttpUrl;
use super::super::raw::issuer::RawIssuer;
use super::super::raw::key_source::RawJwks;
use super::super::source::{At, Span};
use super::super::values::ScalarValue as _;
use super::Resolver;
use crate::file_watch::{FileWatch, read_regular};
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::oauth::identity::Identity;
use crate::telemetry::error_chain::{self, ErrorChain};
use crate::trust::fetch::{ClearText, is_loopback};
use crate::trust::key_source::{FetchedKeys, IssuerCa, KeySetPlace, KeySource, LocalKeys};
use crate::upstream::tls;

pub(super) const DEFAULT_STALE: Duration = Duration::from_secs(60 * 60);
const LONGEST_STALE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Resolver<'_> {
    /// The source of an issuer's keys, and the watch of the file that it names. `None` if there is a fault.
    pub(super) fn key_source(
        &mut self,
        name: &At<String>,
        raw: &RawIssuer,
        algorithms: &[Algorithm],
    ) -> Option<(KeySource, Option<FileWatch>)> {
        if let Some(introspection) = &raw.introspection {
            let (endpoint, watch) = self.introspection(name, raw, &introspection.value)?;
            return Some((KeySource::Introspected(Box::new(endpoint)), watch));
        }
        if let Some(spiffe) = &raw.spiffe {
            for (_, span) in key_set_keys(raw) {
                self.faults.at(span, "the keys come from `spiffe.bundle`: remove this");
            }
            let bundle = spiffe.value.bundle.as_ref().ok()?;
            return self.bundle(name, raw, bundle, algorithms);
        }
        if let [(first, _), others @ ..] = &key_set_keys(raw)[..] {
            for (_, span) in others {
                self.faults.at(*span, format!("the keys already come from `{first}`: remove one of the two"));
            }
        }
        if let Some(file) = &raw.jwks_file {
            self.without_fetching(raw, "jwks_file");
            let file = file.as_ref().ok()?;
            return self.key_file(file, algorithms).map(|(keys, watch)| (KeySource::Local(keys), Some(watch)));
        }
        if let Some(jwks) = &raw.jwks {
            self.without_fetching(raw, "jwks");
            let keys = self.configured_keys(&jwks.as_ref().ok()?.value, algorithms)?;
            return Some((KeySource::Local(keys), None));
        }
        let (keys, watch) = self.fetched_keys(name, raw, raw.jwks_uri.as_ref());
        Some((KeySource::Fetched(Box::new(keys?)), watch))
    }

    /// A SPIFFE bundle is a JWK Set, in a file or at a URL.
    fn bundle(
        &mut self,
        name: &At<String>,
        raw: &RawIssuer,
        bundle: &At<String>,
        algorithms: &[Algorithm],
    ) -> Option<(KeySource, Option<FileWatch>)> {
        if !bundle.value.contains("://") {
            self.without_fetching(raw, "spiffe.bundle");
            let file = At { value: PathBuf::from(&bundle.value), span: bundle.span };
            return self.key_file(&file, algorithms).map(|(keys, watch)| (KeySource::Local(keys), Some(watch)));
        }
        let uri = match HttpUrl::parse(&bundle.value) {
            Ok(uri) => At { value: uri, span: bundle.span },
            Err(hint) => {
                let got = self.got(bundle);
                self.faults.at(bundle.span, format!("expected a file, or {}{got}: {hint}", HttpUrl::expected()));
                return None;
            }
        };
        let (keys, watch) = self.fetched_keys(name, raw, Some(&Ok(uri)));
        Some((KeySource::Fetched(Box::new(keys?)), watch))
    }

    /// The keys of a file, and its watch since before it was read.
    pub(super) fn key_file(&mut self, file: &At<PathBuf>, algorithms: &[Algorithm]) -> Option<(LocalKeys, FileWatch)> {
        let path = self.source.locate_content(&file.value);
        let watch = FileWatch::new(vec![path.clone()]);
        let read = LocalKeys::document(&path).and_then(|document| {
            self.named.add_file([&document[..]]);
            LocalKeys::parse(path.clone(), &document, algorithms)
        });
        match read {
            Ok(keys) => {
                for key in &keys.left_aside {
                    let id = key.key_id.as_deref().unwrap_or_default().escape_debug();
                    let message = format!("key `{id}` of this file is not used: {}", key.reason);
                    self.warn(Lint::UnusedKey, file.span, message);
                }
                Some((keys, watch))
            }
            // Other commands, such as a revocation, have to work while the file of one issuer is out of order.
            Err(_) if !self.needs.is_everything() => Some((LocalKeys::unread(path), watch)),
            Err(fault) => {
                let message = self.redact_path(ErrorChain(&fault).to_string(), file.span, &file.value);
                self.faults.at(file.span, message);
                None
            }
        }
    }

    /// The keys of the configuration. One that cannot be used is an error: it has no effect where it stands.
    fn configured_keys(&mut self, jwks: &RawJwks, algorithms: &[Algorithm]) -> Option<LocalKeys> {
        let keys = jwks.keys.as_ref().ok()?;
        let faults = self.faults.count();
        let parse = |keys: Vec<&Value>| {
            let mut left_aside = Vec::new();
            let set = KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), algorithms, &mut left_aside);
            (set, left_aside)
        };
        for key in &keys.value.items {
            let (_, left_aside) = parse(vec![&key.value.0]);
            for left_aside in left_aside {
                self.faults.at(key.span, format!("this key cannot be used: {}", left_aside.reason));
            }
        }
        if self.faults.count() > faults {
            return None;
        }
        let (set, left_aside) = parse(keys.value.items.iter().map(|key| &key.value.0).collect());
        for left_aside in left_aside {
            let id = left_aside.key_id.as_deref().unwrap_or_default().escape_debug();
            self.faults.at(keys.span, format!("the keys with the id `{id}` cannot be used: {}", left_aside.reason));
        }
        match set {
            Ok(set) => Some(LocalKeys { file: None, keys: Arc::new(set), left_aside: Vec::new() }),
            Err(fault) => {
                if self.faults.count() == faults {
                    self.faults.at(keys.span, format!("these keys cannot be used: {fault}"));
                }
                None
            }
        }
    }

    /// Reports the keys that have an effect on fetching only.
    fn without_fetching(&mut self, raw: &RawIssuer, source: &str) {
        let keys: [(&str, Option<Span>); 4] = [
            ("fetch", raw.fetch.as_ref().map(|at| at.span)),
            ("ca", raw.ca.as_ref().map(|at| at.span)),
            ("max_stale", raw.max_stale.as_ref().map(|at| at.span)),
            ("allow_http", raw.allow_http.as_ref().map(|at| at.span)),
        ];
        for (key, span) in keys {
            if let Some(span) = span {
                let message =
                    format!("`{key}` has no effect: with `{source}` nothing is fetched from this issuer; remove it");
                self.faults.at(span, message);
            }
        }
    }

    /// `uri` is the URL of the JWK Set. `None`: it is discovered.
    fn fetched_keys(
        &mut self,
        name: &At<String>,
        raw: &RawIssuer,
        uri: Option<&Required<HttpUrl>>,
    ) -> (Option<FetchedKeys>, Option<FileWatch>) {
        let allow_http = raw.allow_http.as_ref().filter(|allow| allow.value);
        let clear_text = if allow_http.is_some() { ClearText::AnyHost } else { ClearText::Loopback };
        let watch = raw.ca.as_ref().map(|ca| FileWatch::new(vec![self.source.locate(&ca.value)]));
        let ca = raw.ca.as_ref().and_then(|ca| self.issuer_ca(ca));
        let max_stale = raw.max_stale.as_ref().map_or(DEFAULT_STALE, |at| at.value);
        if let Some(at) = raw.max_stale.as_ref().filter(|at| at.value > LONGEST_STALE) {
            let got = self.got(at);
            self.faults.at(at.span, format!("expected at most `7d`{got}: older keys are not used"));
        }
        let (place, first) = match uri {
            Some(uri) => {
                let uri = uri.as_ref().ok().map(|uri| self.jwks_uri(name, uri, clear_text));
                (uri.clone().map(KeySetPlace::Uri), uri)
            }
            None => {
                let issuer = raw.issuer.as_ref().and_then(|issuer| issuer.as_ref().ok());
                (Some(KeySetPlace::Discovered), issuer.and_then(|issuer| self.discovered(issuer, clear_text)))
            }
        };
        if let Some((allow_http, first)) = allow_http.zip(first.as_ref()) {
            self.allow_http(name, allow_http, first);
        }
        let access = raw.fetch.as_ref().map(|fetch| self.fetch_access(fetch, first.as_ref())).unwrap_or_default();
        (place.map(|place| FetchedKeys { place, ca, max_stale, clear_text, access }), watch)
    }

    /// The issuer as the URL of its metadata.
    fn discovered(&mut self, issuer: &At<String>, clear_text: ClearText) -> Option<Url> {
        // A text that is no identity has been reported.
        Identity::parse(&issuer.value).ok()?;
        let url = Url::parse(&issuer.value).ok().filter(|url| clear_text.permits(url));
        if url.is_none() {
            let message = "without `jwks_uri`, `jwks_file` or `jwks` the issuer must be an https URL, for discovery; http is \
                           allowed on a loopback host, and with `allow_http: true`";
            self.faults.at(issuer.span, message);
        }
        url
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
        self.warn(Lint::ClearTextKeys, key.span, message);
    }

    fn jwks_uri(&mut self, name: &At<String>, uri: &At<HttpUrl>, clear_text: ClearText) -> Url {
        let url = uri.value.url();
        if ["*", "{", "}", "%7B", "%7D"].iter().any(|pattern| url.as_str().contains(pattern)) {
            let message = "`*` and `{…}` have no meaning here: all tokens of an entry have the same key set";
            self.faults.at(uri.span, message);
        }
        if !clear_text.permits(url) {
            let message = "expected an https URL; http is allowed on a loopback host, and with `allow_http: true`";
            self.faults.at(uri.span, message);
        } else if is_loopback(url) && url.scheme() == "http" {
            self.warn(
                Lint::ClearTextKeys,
                uri.span,
                format!("the keys of issuer `{}` are fetched in clear text, from this machine", name.value),
            );
        }
        url.clone()
    }

    pub(super) fn issuer_ca(&mut self, file: &At<PathBuf>) -> Option<IssuerCa> {
        let pem = self.certificates(file)?;
        self.check_end(file, tls::last_end(&pem));
        Some(IssuerCa::new(self.source.locate(&file.value), pem))
    }

    /// The certificates of a PEM file. `None` if it cannot be read.
    pub(super) fn certificates(&mut self, file: &At<PathBuf>) -> Option<Vec<u8>> {
        let path = self.source.locate_content(&file.value);
        let named = self.redact_path(format!("`{}`", path.display()), file.span, &file.value);
        let pem = match read_regular(&path) {
            Ok(pem) => pem.to_vec(),
            Err(error) => {
                if self.needs != Needs::REVOCATIONS {
                    self.faults.at(file.span, format!("cannot read {named}: {}", error_chain::reason(&error)));
                }
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

/// Those of `jwks_uri`, `jwks_file` and `jwks` that are set, with their places.
fn key_set_keys(raw: &RawIssuer) -> Vec<(&'static str, Span)> {
    let keys = [
        raw.jwks_uri.as_ref().and_then(|uri| Some(("jwks_uri", uri.as_ref().ok()?.span))),
        raw.jwks_file.as_ref().and_then(|file| Some(("jwks_file", file.as_ref().ok()?.span))),
        raw.jwks.as_ref().and_then(|jwks| Some(("jwks", jwks.as_ref().ok()?.span))),
    ];
    keys.into_iter().flatten().collect()
}
