//! The JWK Sets of clients: fetched in the background, and taken over by the next configuration.

use std::sync::Arc;
use std::time::Duration;

use super::background;
use super::tasks::{Task, TaskSubject};
use crate::issuer::authorization_server::AuthorizationServer;
use crate::issuer::client::Client;
use crate::issuer::client_auth::client_keys::FetchedClientKeys;
use crate::jose::algorithm::Algorithm;
use crate::oauth::caller::IssuerName;
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::issuer::{IssuerSettings, Profile, TokenTypes};
use crate::trust::scope_claim::ScopeClaim;
use crate::trust::token_origin::TokenOrigin;

/// Sets that the configuration before fetches from the same place for the same client live on.
pub(super) fn take_over(clients: &mut [Client], before: &AuthorizationServer) {
    for client in clients.iter_mut().filter(|client| client.credentials.keys.fetched().next().is_some()) {
        if let Some(known) = before.clients().find(|known| known.id == client.id) {
            client.credentials.keys.take_over(&known.credentials.keys);
        }
    }
}

/// The tasks that keep the sets fresh.
pub(super) fn tasks(server: &AuthorizationServer) -> impl Iterator<Item = Task> {
    server.clients().flat_map(|client| client.credentials.keys.fetched().map(|fetched| task(client, fetched)))
}

fn task(client: &Client, FetchedClientKeys { source, cache, number }: &FetchedClientKeys) -> Task {
    let refresh = background::refresh_keys(settings(client), source.clone(), None, Arc::clone(cache));
    Task::new(TaskSubject::ClientKeys(*number), refresh)
}

/// A client is the issuer of its own assertions (RFC 7523 §3).
fn settings(client: &Client) -> IssuerSettings {
    IssuerSettings {
        name: IssuerName::new(client.id.as_str()),
        issuer: client.id.clone(),
        origin: TokenOrigin::Issuer,
        token_field: None,
        subject_claims: vec!["sub".to_owned()],
        audiences: AcceptedAudiences::listed(Vec::new()),
        algorithms: Algorithm::ALL.to_vec(),
        types: TokenTypes { named: Vec::new(), absent: true },
        clock_skew: Duration::from_secs(30),
        scope_claim: ScopeClaim::Auto,
        allow_scopes: None,
        profile: Profile::External,
    }
}
