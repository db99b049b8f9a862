//! `oauth`: our own authorization server and its clients.

mod key_ring;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::super::decode::Named;
use super::super::lint::Lint;
use super::super::origin::IssuerUrl;
use super::super::raw::claim::RawClaim;
use super::super::raw::oauth::{ClientsIn, RawClient, RawOauth, RawTokenEndpoint};
use super::super::source::At;
use super::super::suggest;
use super::super::types::{Listener, Oauth};
use super::super::values::Period;
use super::federation::{FederatedIssuers, subject_places};
use super::rate_limits::CountedAt;
use super::stored_clients::ClientEntryRules;
use super::{Resolved, Resolver};
use crate::issuer::authorization_server::ServerSettings;
use crate::issuer::client::{self, Client};
use crate::issuer::endpoints::Endpoints;
use crate::issuer::grant::REGISTERED_CLAIMS;
use crate::jose::algorithm::{Algorithm, ED25519};
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::pipeline::routing::pattern::PathPattern;
use crate::pipeline::routing::rate_limit::{ClientLimits, LimitRate, RateLimit};
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::fetch::is_loopback;
use crate::trust::issuer::{IssuerSettings, Profile, TokenTypes};
use crate::trust::request_key::RequestKey;
use crate::trust::scope_claim::ScopeClaim;
use crate::trust::token_origin::TokenOrigin;

const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
pub(super) const DEFAULT_TTL: Duration = Duration::from_secs(3600);

impl Resolver<'_> {
    pub(super) fn oauth(
        &mut self,
        raw: RawOauth,
        state_directory: &At<PathBuf>,
        (issuers, federated, takes_certificates): (&[String], &FederatedIssuers, bool),
    ) -> Resolved<Oauth> {
        if let Some(origin) = &raw.mtls_origin {
            self.mtls_origin(origin, &raw, takes_certificates);
        }
        let mut endpoints = endpoints(&raw);
        endpoints.takes_certificates = takes_certificates;
        let issuer = raw.issuer.map(|issuer| self.own_issuer(&issuer));
        let audiences = raw.audiences.map(|list| self.texts(&list.value));
        let ttl = raw.token_ttl.map_or(DEFAULT_TTL, |ttl| self.ttl(&ttl));
        if let Some(path) = &raw.token_endpoint.path {
            self.token_path(path, &endpoints);
        }
        let json_requests = raw.token_endpoint.json_requests.value;
        let token_limits = self.token_limits(raw.token_endpoint);
        let known = audiences.as_deref().unwrap_or_default();
        let known = (known, audiences.is_ok());
        let client_names: Vec<String> = raw.clients.entries.iter().map(|(name, _)| name.value.clone()).collect();
        let clients_in = raw.clients_in;
        let entries = ClientEntryRules::new(known.0, ttl, (issuers, federated));
        let stored = self.stored_clients(&clients_in, state_directory, entries);
        let (clients, client_limits) = self.clients(raw.clients, known, ttl, (issuers, federated));
        let longest_ttl = clients.iter().map(|client| client.token_ttl).max().unwrap_or(ttl).max(ttl);
        let ring = self.ring(&raw.signing_keys, state_directory, longest_ttl);
        // Not every command uses the audiences. If they are missing where they are used, there is a fault.
        let audiences = audiences.unwrap_or_default();
        issuer?;
        let trust = IssuerSettings {
            name: IssuerName::own(),
            issuer: Identity::parse(&endpoints.issuer).map_err(|fault| self.faults.of_file(fault.to_string()))?,
            origin: TokenOrigin::Issuer,
            token_field: None,
            subject_claims: vec!["sub".to_owned()],
            audiences: AcceptedAudiences::listed(audiences),
            // Keys of an earlier algorithm are trusted until their last token has expired.
            algorithms: Algorithm::SIGNING.to_vec(),
            types: TokenTypes { named: vec!["at+jwt".to_owned()], absent: false },
            clock_skew: Duration::from_secs(30),
            scope_claim: ScopeClaim::Auto,
            allow_scopes: None,
            profile: Profile::Own,
        };
        let introspecting =
            self.own_introspection(raw.introspection.as_ref(), (&client_names, clients_in.value == ClientsIn::File));
        let server = ServerSettings { endpoints, json_requests, introspecting };
        Ok(Oauth { server, trust, ring, clients, stored, token_limits, client_limits })
    }

    pub(super) fn warn_of_no_token_listener(&mut self, raw: &RawOauth, listeners: &[Listener]) {
        if let (Ok(issuer), false) =
            (&raw.issuer, listeners.is_empty() || listeners.iter().any(Listener::serves_tokens))
        {
            let message = "no listener can serve the token endpoint: token requests in clear text are refused with 403, unless \
                 the listener has a loopback address; add a listener with `tls`, or behind a load balancer that \
                 terminates TLS, `believe: [scheme]`";
            self.warn(Lint::NoTokenListener, issuer.span, message);
        }
    }

    fn own_issuer(&mut self, issuer: &At<IssuerUrl>) {
        let url = issuer.value.url();
        if url.scheme() != "https" && !is_loopback(url) {
            let got = self.got(issuer);
            self.faults.at(issuer.span, format!("expected an https URL{got}; http is allowed on a loopback host only"));
        }
    }

    pub(super) fn ttl(&mut self, ttl: &At<Period>) -> Duration {
        if ttl.value.get().subsec_nanos() != 0 {
            self.faults.at(ttl.span, "expected whole seconds, at least `1s`");
        }
        if ttl.value.get() > MAX_TTL {
            let got = self.got(ttl);
            self.faults.at(ttl.span, format!("expected at most `24h`{got}"));
        }
        ttl.value.get()
    }

    /// The algorithm of the gateway's own keys.
    pub(super) fn signing_algorithm(&mut self, name: &At<String>) -> Option<Algorithm> {
        let known = Algorithm::from_signing_name(&name.value);
        let names = Algorithm::SIGNING.map(Algorithm::as_str);
        match Algorithm::from_name(&name.value) {
            Some(_) if known.is_some() => {}
            None => self.unknown_algorithm(name, &names),
            Some(other) => {
                let quoted = self.quoted(name);
                let message = if name.value == ED25519 {
                    format!("write `{other}`: that is the `alg` of the gateway's own tokens with an Ed25519 key")
                } else {
                    let names = names.join(", ");
                    format!(
                        "the gateway does not sign with{quoted}, which not every verifier knows: choose one of {names}"
                    )
                };
                self.faults.at(name.span, message);
            }
        }
        known
    }

    /// The algorithm of an issuer's keys.
    pub(super) fn algorithm(&mut self, name: &At<String>) -> Option<Algorithm> {
        let known = Algorithm::from_name(&name.value);
        if known.is_none() {
            self.unknown_algorithm(name, &Algorithm::ALL.map(Algorithm::as_str));
        }
        known
    }

    fn unknown_algorithm(&mut self, name: &At<String>, known: &[&str]) {
        let why = match name.value.as_str() {
            "none" => ": unsigned tokens are never accepted",
            hmac if hmac.starts_with("HS") => ": only asymmetric algorithms are accepted",
            _ => "",
        };
        let quoted = self.quoted(name);
        let meant = if why.is_empty() { name.value.as_str() } else { "" };
        let suggestion = suggest::suggestion(meant, known);
        self.faults.at(name.span, format!("unknown algorithm{quoted}{why}{suggestion}"));
    }

    fn token_path(&mut self, path: &At<String>, endpoints: &Endpoints) {
        match PathPattern::parse(&path.value) {
            Ok(pattern) if !pattern.is_literal() || path.value == "/" => {
                self.faults.at(path.span, "expected one path such as `/oauth/token`, without placeholders");
            }
            Ok(_) if endpoints.collide() => {
                self.faults.at(path.span, "another built-in endpoint has this path: choose another");
            }
            Ok(_) => {}
            Err(fault) => {
                self.faults.at(path.span, fault.to_string());
            }
        }
    }

    fn token_limits(&mut self, raw: RawTokenEndpoint) -> Vec<RateLimit> {
        let Some(list) = raw.rate_limits else {
            let rate = LimitRate { over_replicas: self.has_shared_store, ..DEFAULT_TOKEN_RATE };
            return vec![self.rate_limit("address".to_owned(), rate, RequestKey::Address)];
        };
        if list.value.is_empty() {
            let message = "no rate limit at the token endpoint: client secrets can be guessed at any rate; remove `rate_limits` for the default";
            self.warn(Lint::UnlimitedTokenEndpoint, list.span, message);
        }
        self.rate_limits(&list.value, CountedAt::TokenEndpoint)
    }

    pub(super) fn clients(
        &mut self,
        raw: Named<RawClient>,
        (known, all_known): (&[String], bool),
        ttl: Duration,
        (issuers, federated): (&[String], &FederatedIssuers),
    ) -> (Vec<Client>, ClientLimits) {
        let (mut clients, mut limits) = (Vec::with_capacity(raw.entries.len()), ClientLimits::default());
        let mut subjects = Vec::new();
        for (name, client) in raw.entries {
            let id = self.client_id(&name, issuers);
            let Ok(client) = client else { continue };
            let client = client.value;
            let credentials = self.credentials(&name, &client, federated);
            subjects.extend(subject_places(client.federation()));
            let scopes = client.scopes.map(|list| self.scopes(&list.value)).unwrap_or_default();
            let audiences = match client.audiences {
                Some(list) => {
                    for audience in
                        list.value.items.iter().filter(|audience| all_known && !known.contains(&audience.value))
                    {
                        let names: Vec<&str> = known.iter().map(String::as_str).collect();
                        let suggestion = suggest::suggestion(&audience.value, &names);
                        let quoted = self.quoted(audience);
                        self.faults.at(audience.span, format!("unknown audience{quoted}{suggestion}"));
                    }
                    self.texts(&list.value)
                }
                None => known.to_vec(),
            };
            let token_ttl = client.token_ttl.map_or(ttl, |ttl| self.ttl(&ttl));
            let claims = self.claims(client.claims);
            let (allow_from, bound) = (self.networks(client.allow_from), client.bound.value);
            let client_limits = self.client_limits(&client.rate_limits);
            if let Some(id) = id.as_ref().filter(|_| !client_limits.is_empty()) {
                limits.insert(id.clone(), client_limits);
            }
            let client = |id| Client { id, credentials, scopes, audiences, token_ttl, claims, allow_from, bound };
            clients.extend(id.map(client));
        }
        self.overlapping_federation(&clients, &subjects);
        (clients, limits)
    }

    fn client_id(&mut self, name: &At<String>, issuers: &[String]) -> Option<Identity> {
        if name.value.split_once('/').is_some_and(|(issuer, _)| issuers.iter().any(|known| known == issuer)) {
            let message = "the part before `/` is the name of an issuer, and `access.clients` names the clients of that issuer like this: choose another id";
            self.faults.at(name.span, message);
        }
        client::parse_id(&name.value).map_err(|fault| self.faults.at(name.span, fault.to_string())).ok()
    }

    fn claims(&mut self, raw: Named<RawClaim>) -> Map<String, Value> {
        let mut claims = Map::new();
        for (name, claim) in raw.entries {
            if REGISTERED_CLAIMS.contains(&name.value.as_str()) {
                self.faults.at(name.span, format!("the claim `{}` is set by the gateway: remove it", name.value));
            }
            let Ok(claim) = claim else { continue };
            let mut values: Vec<Value> = claim.value.values.items.iter().map(|value| value.value.to_json()).collect();
            let value = if claim.value.is_list { Value::Array(values) } else { values.pop().unwrap_or(Value::Null) };
            claims.insert(name.value, value);
        }
        claims
    }
}

const DEFAULT_TOKEN_RATE: LimitRate = {
    let (Some(amount), Some(burst)) = (std::num::NonZeroU32::new(20), std::num::NonZeroU32::new(40)) else {
        unreachable!()
    };
    LimitRate { amount, period: Duration::from_secs(1), burst, over_replicas: false }
};

/// Of an issuer that cannot be read, which is reported elsewhere, the paths are those of an origin.
pub(super) fn endpoints(raw: &RawOauth) -> Endpoints {
    let issuer = raw.issuer.as_ref().map_or("", |issuer| issuer.value.as_str());
    let token_path = raw.token_endpoint.path.as_ref().map(|path| path.value.as_str());
    let mut endpoints = Endpoints::new(issuer, token_path);
    endpoints.mtls_origin = raw.mtls_origin.as_ref().map(|origin| origin.value.as_str().to_owned());
    if raw.introspection.is_some() { endpoints.with_introspection() } else { endpoints }
}
