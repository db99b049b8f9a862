//! A snapshot for the command line, which decides as a gateway with this configuration would.
//!
//! Reads keys, clients and revocations from the disk and the database, and fetches the keys of other issuers once. Writes
//! nothing and serves nothing.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::inspected_ring::{self, InspectedRingError};
use super::start_error::StartError;
use super::stored_clients;
use crate::clock::UnixTime;
use crate::config::types::{Config, ExternalIssuer, Oauth};
use crate::issuer::authorization_server::{AuthorizationServer, Offloads};
use crate::issuer::clients::Clients;
use crate::issuer::issuer_keys::IssuerKeys;
use crate::issuer::offload::{self, Offload};
use crate::issuer::ring::Ring;
use crate::issuer::stored_clients::StoredClients;
use crate::jose::key_set::KeySet;
use crate::pipeline::routing::snapshot::{OwnIssuer, Snapshot, SnapshotParts};
use crate::store::settings::PostgresSettings;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::introspection::Introspection;
use crate::trust::issuer::TrustedIssuer;
use crate::trust::key_cache::KeyCache;
use crate::trust::key_source::KeySource;
use crate::trust::refresher;
use crate::trust::replay::Replay;
use crate::trust::revocation_keeper::Keeper;
use crate::trust::revoker::Revoker;
use crate::trust::static_tokens::StaticTokens;
use crate::trust::verify::Trust;

/// The snapshot, and the errors of reading and fetching keys: tokens of these issuers cannot be verified.
pub(crate) async fn snapshot(config: Config, now: UnixTime) -> Result<(Snapshot, Vec<String>), StartError> {
    snapshot_with(config, None, now).await
}

/// The snapshot of a changed configuration. The change may name a place that a token names: nothing is fetched from an
/// issuer that is not known. Such an issuer has no keys.
pub(crate) async fn changed_snapshot(config: Config, known: &Trust, now: UnixTime) -> Result<Snapshot, StartError> {
    snapshot_with(config, Some(known), now).await.map(|(snapshot, _)| snapshot)
}

async fn snapshot_with(
    config: Config,
    known: Option<&Trust>,
    now: UnixTime,
) -> Result<(Snapshot, Vec<String>), StartError> {
    let (keeper, revoker) = Keeper::open(&config.state_directory, &config.revoked, now)?;
    let (mut issuers, mut failures) = (Vec::new(), Vec::new());
    let mut own = None;
    if let Some(oauth) = config.oauth {
        let stored = match oauth.stored.clone() {
            Some(stored) => stored_clients::open_to_inspect(stored, config.shared.postgres.as_ref()).await,
            None => None,
        };
        let ring = match known {
            Some(known) if is_out_of_reach(known, &oauth) => OwnRing::OutOfReach,
            Some(_) | None => OwnRing::read(&oauth, config.shared.postgres.as_ref(), &mut failures).await?,
        };
        let (issuer, server) = own_issuer(oauth, ring, stored, revoker)?;
        issuers.push(Arc::new(issuer));
        own = server;
    }
    for issuer in config.issuers {
        let introspection = match known.and_then(|known| known_issuer(&issuer, known)) {
            // Its answers count for the changed configuration too.
            Some(known) if known.introspection.is_some() => known.introspection.clone(),
            Some(_) | None => Introspection::of(&issuer.settings.name, &issuer.source, &Handle::current()),
        };
        let keys = match known.map(|known| known_keys(&issuer, known)) {
            Some(Some(keys)) => keys,
            None | Some(None) => {
                let (keys, result) = refresher::load_once(&issuer.settings, &issuer.source).await;
                failures.extend(result.err().map(|error| ErrorChain(&error).to_string()));
                Arc::new(keys)
            }
        };
        issuers.push(Arc::new(TrustedIssuer { settings: issuer.settings, keys, introspection }));
    }
    let parts = SnapshotParts {
        config: config.id,
        open_streams: config.reload.open_streams,
        limits: config.limits,
        audit: config.audit.rules,
        trusted_proxies: config.trusted_proxies,
        upstreams: config.upstreams,
        routes: config.routes,
        limit_rates: config.limit_rates,
        leases: None,
        store: None,
        trust: Trust::new(issuers, Arc::clone(keeper.published()))
            .with_static_tokens(StaticTokens::new(config.static_tokens, None)),
        static_token_failures: config.static_token_failures,
        dpop: config.dpop,
        oauth: own,
        resources: config.resources,
        certificates: None,
    };
    Ok((Snapshot::new(parts, None), failures))
}

/// The keys of an issuer of a changed configuration. `None` if they must be loaded, because other ones are usable now.
fn known_keys(issuer: &ExternalIssuer, known: &Trust) -> Option<Arc<KeyCache>> {
    if matches!(issuer.source, KeySource::Local(_) | KeySource::Introspected(_)) {
        return None;
    }
    let Some(same) = known_issuer(issuer, known) else {
        return Some(Arc::new(KeyCache::own(KeySet::default())));
    };
    let must_fetch =
        same.settings.algorithms != issuer.settings.algorithms && same.settings.issuer == issuer.settings.issuer;
    (!must_fetch).then(|| Arc::clone(&same.keys))
}

fn known_issuer<'t>(issuer: &ExternalIssuer, known: &'t Trust) -> Option<&'t Arc<TrustedIssuer>> {
    known.issuers().iter().find(|known| known.settings.name == issuer.settings.name)
}

/// The own keys, as far as they are known.
enum OwnRing {
    Read(Ring),
    /// Before the first start there is no signing key, so there are neither own tokens nor a server to issue them.
    None,
    /// They are in a database that cannot be read.
    OutOfReach,
}

impl OwnRing {
    /// Without the database the tokens of other issuers can be judged.
    async fn read(
        oauth: &Oauth,
        postgres: Option<&PostgresSettings>,
        failures: &mut Vec<String>,
    ) -> Result<Self, StartError> {
        match inspected_ring::read(&oauth.ring, postgres).await {
            Ok(ring) => Ok(ring.map_or(Self::None, Self::Read)),
            Err(InspectedRingError::Files(error)) => Err(error.into()),
            Err(error) => {
                failures.push(format!("own tokens cannot be judged: {}", ErrorChain(&error)));
                Ok(Self::OutOfReach)
            }
        }
    }
}

/// Whether the keys of the database could not be read for the configuration before a change.
fn is_out_of_reach(known: &Trust, oauth: &Oauth) -> bool {
    let own = known.issuers().iter().find(|issuer| issuer.settings.name == oauth.trust.name);
    oauth.ring.wrapping_keys.is_some() && own.is_some_and(|own| own.keys.keys().len() == 0)
}

fn own_issuer(
    oauth: Oauth,
    ring: OwnRing,
    stored: Option<Arc<StoredClients>>,
    revoker: Revoker,
) -> Result<(TrustedIssuer, Option<OwnIssuer>), StartError> {
    let without_server = |keys| (TrustedIssuer { settings: oauth.trust.clone(), keys, introspection: None }, None);
    let ring = match ring {
        OwnRing::Read(ring) => ring,
        OwnRing::None => return Ok(without_server(Arc::new(KeyCache::own(KeySet::default())))),
        OwnRing::OutOfReach => return Ok(without_server(Arc::new(KeyCache::out_of_reach()))),
    };
    let keys = Arc::new(KeyCache::own(ring.verifying_keys()?));
    let offloads = Offloads {
        signatures: Offload::new(Handle::current(), offload::SIGNATURES),
        passwords: Offload::new(Handle::current(), offload::PASSWORDS),
    };
    let signing = IssuerKeys::new(ring, oauth.ring.rules.max_age());
    let server = AuthorizationServer::new(
        oauth.server,
        Arc::new(Clients::new(oauth.clients).with_stored(stored)),
        signing,
        offloads,
        Replay::without_keeper(),
    );
    let Oauth { token_limits, client_limits, .. } = oauth;
    let own = OwnIssuer { server: Arc::new(server), token_limits, client_limits, revoker };
    Ok((TrustedIssuer { settings: oauth.trust, keys, introspection: None }, Some(own)))
}
