//! Authenticates the client of a request, by whichever method it uses.
//!
//! Takes presented credentials; gives an [`Authenticated`] client or the reason for the refusal. An unknown client, a
//! wrong credential and a forbidden address take the same time and get the same answer.

mod platform;

use std::sync::Arc;
use std::time::Duration;

use super::back_off::BackOff;
use super::claim::{Claim, ClientFault, Standing};
use super::single_use::{SingleUse, UnrecordedUse};
use super::{
    ClientAuthMethod, ComparedBy, Credential, CredentialVerifier, KeptCredentials, MatchedCredential, Mismatch,
    PresentedCredentials,
};
use crate::clock::{self, UnixTime};
use crate::issuer::client::Client;
use crate::issuer::clients::{Clients, FoundClient};
use crate::issuer::offload::{Busy, Offload};
use crate::issuer::stored_clients::{ClientStoreUnavailable, StoredClients};
use crate::network::{SourceAddress, counted_network};
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::identity::Identity;
use crate::trust::replay::Replay;

#[derive(Debug)]
pub(crate) struct ClientAuthenticator {
    clients: Arc<Clients>,
    verifier: Arc<CredentialVerifier>,
    back_off: Arc<BackOff>,
    replay: Replay,
}

/// An authenticated client.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated<'c> {
    pub(crate) client: FoundClient<'c>,
    pub(crate) method: ClientAuthMethod,
    pub(crate) credential: Credential,
    /// The client must not be served before this is [redeemed](ClientAuthenticator::redeem).
    pub(crate) once: Option<SingleUse>,
}

#[derive(Debug)]
pub(crate) enum ClientRefusal {
    Fault(ClientFault),
    /// Too many comparisons are waiting.
    Busy(Busy),
    ReplayUnavailable,
    /// The database of the clients is unreachable, and the client is not held.
    StoreUnavailable {
        /// As the request names it; not verified.
        client: Option<Identity>,
    },
    /// The keys of the client cannot be fetched now.
    KeysUnavailable {
        /// As the request names it; not verified.
        client: Option<Identity>,
        values: Box<Discrepancy>,
    },
    /// The client is in back-off at this address, and another attempt was already compared within this second.
    TooManyFailures {
        /// As the request names it; not verified.
        client: Option<Identity>,
        wait: Duration,
    },
}

impl ClientAuthenticator {
    pub(crate) fn new(clients: Arc<Clients>, passwords: Offload, replay: Replay) -> Self {
        let verifier = Arc::new(CredentialVerifier::new(passwords));
        Self { clients, verifier, back_off: Arc::new(BackOff::new(clock::instant())), replay }
    }

    /// The same for other clients. Failures that were counted stay counted.
    pub(crate) fn following(&self, clients: Vec<Client>, stored: Option<Arc<StoredClients>>) -> Self {
        Self {
            clients: Arc::new(self.clients.followed_by(clients).with_stored(stored)),
            verifier: Arc::clone(&self.verifier),
            back_off: Arc::clone(&self.back_off),
            replay: self.replay.clone(),
        }
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Says in the fault which certificate is missing, if that is why a client has no credentials. An unknown client
    /// takes the same time.
    pub(crate) fn with_missing_certificate(&self, fault: ClientFault) -> ClientFault {
        let ClientFault::NoCredentials { client: Some(client), values: None } = fault else { return fault };
        let known = self.clients.get(&client).map(|client| &client.credentials);
        let missing = known.or(self.clients.stand_in(&client)).and_then(KeptCredentials::missing_certificate);
        ClientFault::NoCredentials { client: Some(client), values: missing.filter(|_| known.is_some()) }
    }

    pub(crate) async fn authenticate(
        &self,
        presented: PresentedCredentials,
        from: SourceAddress,
        by: ComparedBy<'_>,
    ) -> Result<Authenticated<'_>, ClientRefusal> {
        let method = presented.method();
        let basic = method == ClientAuthMethod::SecretBasic;
        let (id, other_id) = presented.ids();
        let wrong = ClientFault::WrongCredentials { client: id.to_owned(), basic };
        let known = self.named(id, other_id).await;
        let known = known.map_err(|_| ClientRefusal::StoreUnavailable { client: wrong.client() })?;
        let known = known.as_ref();
        // Also looked up for known clients, so that they do not take less time.
        let stand_in = self.clients.stand_in(id);
        let id = id.to_owned();
        let none = KeptCredentials::default();
        let kept = known.map(|client| &client.credentials).or(stand_in).unwrap_or(&none);
        let id = known.map_or(&*id, |client| client.id.as_str());
        let standing = match known {
            Some(client) if client.may_call(from.certain()) => Standing::Good,
            Some(_) => Standing::Elsewhere,
            None => Standing::Unknown,
        };
        let claim = Claim { id, standing, kept, from: from.address };
        let counted = presented.counted(claim.id);
        let pair = self.back_off.pair(&counted, counted_network(from.address));
        self.back_off
            .admit(pair, clock::instant())
            .map_err(|wait| ClientRefusal::TooManyFailures { client: wrong.client(), wait })?;
        let found = self.verifier.matching(claim, presented, by).await;
        let fault = match (found, known, standing) {
            (Ok(MatchedCredential { credential, once }), Some(client), Standing::Good) => {
                self.back_off.succeeded(pair, clock::instant());
                return Ok(Authenticated { client: client.clone(), method, credential, once });
            }
            (Err(Mismatch::Busy(busy)), ..) => return Err(ClientRefusal::Busy(busy)),
            (Err(Mismatch::KeysUnavailable(values)), ..) => {
                return Err(ClientRefusal::KeysUnavailable { client: wrong.client(), values });
            }
            (Ok(_), Some(client), _) => ClientFault::Elsewhere { client: client.id.clone(), basic },
            (Err(Mismatch::Assertion(refused)), ..) => {
                ClientFault::Assertion { client: Some(claim.id.to_owned()), refused }
            }
            (Err(Mismatch::Certificate(values)), ..) => {
                ClientFault::Certificate { client: claim.id.to_owned(), values }
            }
            (Ok(_) | Err(Mismatch::Wrong), ..) => wrong,
        };
        // The right secret from a forbidden address counts as a failure, or the back-off would reveal that it is right.
        if fault.counts() {
            self.back_off.failed(pair, clock::instant());
        }
        Err(ClientRefusal::Fault(fault))
    }

    /// The client with one of these ids, the first before the other.
    async fn named(&self, id: &str, other: Option<&str>) -> Result<Option<FoundClient<'_>>, ClientStoreUnavailable> {
        match (self.clients.find(id).await?, other) {
            (None, Some(other)) if other != id => self.clients.find(other).await,
            (found, _) => Ok(found),
        }
    }

    /// Records the use of a credential that counts once. To be done last, before the client is served.
    pub(crate) async fn redeem(&self, authenticated: &Authenticated<'_>, now: UnixTime) -> Result<(), ClientRefusal> {
        let Some(once) = &authenticated.once else { return Ok(()) };
        once.record(&self.replay, now).await.map_err(|unrecorded| match unrecorded {
            UnrecordedUse::Unavailable => ClientRefusal::ReplayUnavailable,
            UnrecordedUse::Repeated(refused) => {
                let client = Some(authenticated.client.id.as_str().to_owned());
                ClientRefusal::Fault(ClientFault::Assertion { client, refused })
            }
        })
    }
}
