//! `oauth.clients.ID.keys`: the public keys by which clients sign their assertions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use url::Url;

use super::super::lint::Lint;
use super::super::origin::HttpUrl;
use super::super::raw::client_key::RawClientKey;
use super::super::raw::jwk::RawJwk;
use super::super::source::At;
use super::Resolver;
use super::key_sources::DEFAULT_STALE;
use crate::issuer::client_auth::client_keys::{ClientKeySource, ClientKeys, FetchedClientKeys};
use crate::jose::algorithm::Algorithm;
use crate::jose::jwk::{UnusableKey, VerifyingKey};
use crate::jose::key_set::KeySet;
use crate::jose::public_key_file::{PublicKeyFault, public_jwks};
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::fetch::{ClearText, is_loopback, without_bom};
use crate::trust::fetch_access::FetchAccess;
use crate::trust::key_source::{FetchedKeys, KeyFileError, KeySetPlace, LocalKeys};

/// The places of keys that a client may have.
const MAX_PLACES: usize = 8;

/// Why the content of a file is no key of a client.
#[derive(Debug, thiserror::Error)]
enum ClientKeyFileFault {
    #[error(transparent)]
    Read(#[from] KeyFileError),
    #[error("the keys of `{path}` cannot be used: {fault}")]
    Content { path: PathBuf, fault: PublicKeyFault },
    #[error("no key of `{path}` can be used: {reason}")]
    Unusable { path: PathBuf, reason: UnusableKey },
}

impl Resolver<'_> {
    pub(super) fn client_keys(&mut self, client: &At<String>, raw: &[At<RawClientKey>]) -> ClientKeys {
        // As for secrets: only a command that needs everything needs them.
        if !self.needs.is_everything() {
            return ClientKeys::default();
        }
        if let Some(beyond) = raw.get(MAX_PLACES) {
            self.faults
                .at(beyond.span, format!("a client has at most {MAX_PLACES} keys: remove those that are not used"));
        }
        let sources = raw.iter().filter_map(|key| match &key.value {
            RawClientKey::Jwk(jwk) => self.written_key(jwk).map(ClientKeySource::Local),
            RawClientKey::File(file) => self.client_key_file(file).map(ClientKeySource::Local),
            RawClientKey::Uri(uri) => {
                self.client_jwks_uri(client, uri).map(|fetched| ClientKeySource::Fetched(Box::new(fetched)))
            }
        });
        ClientKeys { sources: sources.collect() }
    }

    fn written_key(&mut self, raw: &At<RawJwk>) -> Option<Arc<KeySet>> {
        let key = VerifyingKey::from_jwk(&raw.value.0, &Algorithm::ALL);
        let key = key.map_err(|reason| self.faults.at(raw.span, format!("this key cannot be used: {reason}"))).ok()?;
        Some(Arc::new(KeySet::from_keys(vec![Arc::new(key)])))
    }

    fn client_key_file(&mut self, file: &At<PathBuf>) -> Option<Arc<KeySet>> {
        let path = self.source.locate_content(&file.value);
        let read = LocalKeys::document(&path).map_err(ClientKeyFileFault::from);
        let parsed = read.and_then(|document| {
            self.named.add_file([&document[..]]);
            keys_of(&path, &document)
        });
        match parsed {
            Ok(LocalKeys { keys, left_aside, .. }) => {
                for key in left_aside {
                    let id = key.key_id.as_deref().unwrap_or_default().escape_debug();
                    let message = format!("key `{id}` of this file is not used: {}", key.reason);
                    self.warn(Lint::UnusedKey, file.span, message);
                }
                Some(keys)
            }
            Err(fault) => {
                let message = self.redact_path(ErrorChain(&fault).to_string(), file.span, &file.value);
                self.faults.at(file.span, message);
                None
            }
        }
    }

    fn client_jwks_uri(&mut self, client: &At<String>, uri: &At<HttpUrl>) -> Option<FetchedClientKeys> {
        let url: &Url = uri.value.url();
        if !ClearText::Loopback.permits(url) {
            self.faults.at(uri.span, "expected an https URL; http is allowed on a loopback host only");
            return None;
        }
        if is_loopback(url) && url.scheme() == "http" {
            let name = self.source.quote_key(client.span).unwrap_or_else(|| "this client".to_owned());
            let message = format!("the keys of {name} are fetched in clear text, from this machine");
            self.warn(Lint::ClearTextKeys, uri.span, message);
        }
        Some(FetchedClientKeys::new(FetchedKeys {
            place: KeySetPlace::Uri(url.clone()),
            ca: None,
            max_stale: DEFAULT_STALE,
            clear_text: ClearText::Loopback,
            access: FetchAccess::default(),
        }))
    }
}

/// The keys of a file: PEM, a JWK, or a JWK Set.
fn keys_of(path: &Path, document: &[u8]) -> Result<LocalKeys, ClientKeyFileFault> {
    let path = path.to_owned();
    let jwks = public_jwks(without_bom(document));
    let jwks = jwks.map_err(|fault| ClientKeyFileFault::Content { path: path.clone(), fault })?;
    let set = json!({ "keys": jwks }).to_string();
    LocalKeys::parse(path, set.as_bytes(), &Algorithm::ALL).map_err(|error| match error {
        KeyFileError::Keys { path, left_aside, source } => match left_aside.first() {
            Some(first) => ClientKeyFileFault::Unusable { path, reason: first.reason },
            None => KeyFileError::Keys { path, left_aside, source }.into(),
        },
        error @ (KeyFileError::Io { .. } | KeyFileError::TooLarge { .. }) => error.into(),
    })
}
