//! The facts of a real gateway that a rehearsal may use: the keys and revocations on this machine, and the own keys and
//! the caller in a database.
//!
//! Nothing is fetched from other issuers, and nothing is written.

use std::sync::Arc;

use foldhash::HashMap;
use serde_json::Value;

use crate::app::{inspected_ring, stored_clients};
use crate::clock;
use crate::config::types::{Config, ExternalIssuer};
use crate::issuer::client::Client;
use crate::issuer::stored_clients::ClientStoreUnavailable;
use crate::jose::algorithm::Algorithm;
use crate::jose::claims::Claims;
use crate::jose::key_set::KeySet;
use crate::jose::token::Unverified;
use crate::oauth::caller::IssuerName;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::key_set_file::KeySetFile;
use crate::trust::key_source::{KeySource, LocalKeys};
use crate::trust::published_revocations::PublishedRevocations;
use crate::trust::revocation_keeper::Keeper;

#[derive(Debug)]
pub(crate) struct KeptFacts {
    /// The keys of issuers. An issuer that is not among them has the key of the rehearsal.
    pub(crate) keys: HashMap<IssuerName, Arc<KeySet>>,
    /// `None`: only those of the configuration.
    pub(crate) revocations: Option<Arc<PublishedRevocations>>,
    /// The caller, if it is a client in the database.
    pub(crate) stored_client: Option<Client>,
    /// Of the key of the rehearsal.
    pub(crate) algorithm: Algorithm,
    /// A real token is judged: issuers accept no algorithm but their own.
    pub(crate) has_real_token: bool,
    /// The issuers whose keys are not on this machine, each with the reason.
    pub(crate) lacking: HashMap<IssuerName, String>,
    /// Facts that could not be read, with the consequences.
    pub(crate) remarks: Vec<String>,
}

impl Default for KeptFacts {
    fn default() -> Self {
        // Making such a key is fast.
        let algorithm = Algorithm::Es256;
        let (keys, lacking) = (HashMap::default(), HashMap::default());
        let (revocations, stored_client) = (None, None);
        Self { keys, revocations, stored_client, algorithm, has_real_token: false, lacking, remarks: Vec::new() }
    }
}

impl KeptFacts {
    /// For tokens that are made for the rehearsal: the key has an algorithm that the issuer accepts. `None`: our own.
    pub(crate) fn for_made_token(config: &Config, issuer: Option<&str>) -> Self {
        let settings = match issuer {
            None => config.oauth.as_ref().map(|oauth| &oauth.trust),
            Some(name) => {
                let found = config.issuers.iter().find(|issuer| issuer.settings.name.as_str() == name);
                found.map(|issuer| &issuer.settings)
            }
        };
        let mut facts = Self::default();
        let accepted = settings.map_or(&[][..], |settings| &settings.algorithms);
        if !accepted.contains(&facts.algorithm) {
            let fits = accepted.iter().find(|algorithm| Algorithm::SIGNING.contains(algorithm));
            facts.algorithm = fits.copied().unwrap_or(facts.algorithm);
        }
        facts.read_revocations(config);
        facts
    }

    /// For a real token: all keys that are on this machine.
    pub(crate) fn for_token(config: &Config, token: &str) -> Self {
        let mut facts = Self { has_real_token: true, ..Self::default() };
        if let Ok(unverified) = Unverified::parse(token)
            && Algorithm::SIGNING.contains(&unverified.header.algorithm)
        {
            facts.algorithm = unverified.header.algorithm;
            facts.read_client_of(config, &unverified.claims);
        }
        if config.oauth.is_some() {
            match inspected_ring::read_now(config).map(|ring| ring.map(|ring| ring.verifying_keys())) {
                Ok(Some(Ok(keys))) => facts.has(IssuerName::own(), Arc::new(keys)),
                Ok(None) => facts.lacks(&IssuerName::own(), "there is no signing key yet"),
                Ok(Some(Err(error))) => facts.lacks(&IssuerName::own(), &ErrorChain(&error).to_string()),
                Err(error) => facts.lacks(&IssuerName::own(), &ErrorChain(&error).to_string()),
            }
        }
        config.issuers.iter().for_each(|issuer| facts.read_issuer(config, issuer));
        facts.read_revocations(config);
        facts
    }

    /// Looks up the client in the database, unless the configuration has it.
    pub(crate) fn read_client(&mut self, config: &Config, id: &str) -> Result<(), ClientStoreUnavailable> {
        let mut configured = config.oauth.iter().flat_map(|oauth| &oauth.clients);
        if !configured.any(|client| client.id.as_str() == id) {
            self.stored_client = stored_clients::look_up_now(config, id)?;
        }
        Ok(())
    }

    /// Of a token that says it is ours.
    fn read_client_of(&mut self, config: &Config, claims: &Claims) {
        let is_own =
            config.oauth.as_ref().is_some_and(|oauth| claims.issuer.as_deref() == Some(oauth.trust.issuer.as_str()));
        let Some(id) = claims.all.get("client_id").and_then(Value::as_str).filter(|_| is_own) else { return };
        if let Err(error) = self.read_client(config, id) {
            self.remarks.push(format!("client `{id}` was not looked up: {error}"));
        }
    }

    fn read_issuer(&mut self, config: &Config, issuer: &ExternalIssuer) {
        let (settings, name) = (&issuer.settings, &issuer.settings.name);
        match &issuer.source {
            KeySource::Local(LocalKeys { file: Some(file), keys, .. }) if keys.len() == 0 => {
                match LocalKeys::read(file.clone(), &settings.algorithms) {
                    Ok(read) => self.has(name.clone(), read.keys),
                    Err(error) => self.lacks(name, &ErrorChain(&error).to_string()),
                }
            }
            KeySource::Local(LocalKeys { keys, .. }) => self.has(name.clone(), Arc::clone(keys)),
            KeySource::Introspected(_) => self.lacks(name, "its introspection endpoint is not asked"),
            KeySource::Fetched(source) => {
                match KeySetFile::of(&config.state_directory, name).load(settings, source, clock::now()) {
                    Ok(Some(kept)) => self.has(name.clone(), Arc::new(kept.keys)),
                    Ok(None) => self.lacks(name, "no gateway has kept them here"),
                    Err(error) => self.lacks(name, &ErrorChain(&error).to_string()),
                }
            }
        }
    }

    fn read_revocations(&mut self, config: &Config) {
        match Keeper::open(&config.state_directory, &config.revoked, clock::now()) {
            Ok((keeper, _)) => self.revocations = Some(Arc::clone(keeper.published())),
            Err(error) => {
                let error = ErrorChain(&error);
                self.remarks.push(format!("revocations not checked but those of the configuration: {error}"));
            }
        }
    }

    fn has(&mut self, name: IssuerName, keys: Arc<KeySet>) {
        self.keys.insert(name, keys);
    }

    fn lacks(&mut self, name: &IssuerName, why: &str) {
        self.lacking.insert(name.clone(), why.to_owned());
    }
}
