//! The clients that may request tokens: those of the configuration and those of a database.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::hmac;
use foldhash::quality::RandomState;

use super::client::{Client, parse_id};
use super::client_auth::federation::index::FederationIndex;
use super::client_auth::secret::hash::{ClientSecret, SecretHash};
use super::client_auth::secret::kept_secret::{KeptSecret, Validity};
use super::client_auth::{ClientAuthMethod, KeptCredentials};
use super::stored_clients::held::StoredClient;
use super::stored_clients::{ClientStoreUnavailable, StoredClients};
use crate::oauth::identity::Identity;
use crate::oauth::scope::ScopeSet;
use crate::trust::token_client::{ClientEntry, TokenClient};
use crate::trust::verify::Verified;

/// All clients. For an unknown client id, the credentials of another client are compared, so that it takes the same
/// time.
#[derive(Debug)]
pub(crate) struct Clients {
    all: Vec<Client>,
    by_id: HashMap<Identity, usize, RandomState>,
    federation: FederationIndex,
    /// Unique within this process.
    number: u64,
    /// The clients in the database. A client of `all` with the same id takes precedence.
    stored: Option<Arc<StoredClients>>,
    /// Compared for an unknown id, if all clients may be in the database.
    stored_stand_in: KeptCredentials,
    /// Random for each process: the client whose credentials are compared for an unknown id cannot be predicted.
    stand_in_key: hmac::Key,
}

/// A client of the configuration or of the database.
#[derive(Clone, Debug)]
pub(crate) enum FoundClient<'c> {
    Configured(&'c Client),
    Stored(Arc<StoredClient>),
}

/// The client to which an own token was issued.
#[derive(Debug)]
pub(crate) enum ClientOfToken<'c> {
    Configured(&'c Client),
    Stored(Arc<TokenClient>),
    /// There is none.
    Unknown,
    /// The database has to be asked.
    NotHeld,
}

impl ClientOfToken<'_> {
    /// `None` if the client is not known.
    pub(crate) fn may_call(&self, from: Option<IpAddr>) -> Option<bool> {
        match self {
            Self::Configured(client) => Some(client.may_call(from)),
            Self::Stored(client) => Some(client.may_call(from)),
            Self::Unknown | Self::NotHeld => None,
        }
    }
}

impl Deref for FoundClient<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        match self {
            Self::Configured(client) => client,
            Self::Stored(stored) => &stored.client,
        }
    }
}

impl Clients {
    pub(crate) fn new(clients: Vec<Client>) -> Self {
        // If the random generator fails, the key is zero. Then only the timing of unknown ids can be predicted.
        let mut key = [0; 32];
        let _ = aws_lc_rs::rand::fill(&mut key);
        Self::with_key(clients, hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    pub(crate) fn with_stored(self, stored: Option<Arc<StoredClients>>) -> Self {
        Self { stored, ..self }
    }

    /// The table that replaces this one. Secrets that have matched need no slow hash again.
    pub(crate) fn followed_by(&self, clients: Vec<Client>) -> Self {
        for client in &clients {
            if let Some(before) = self.get(client.id.as_str()) {
                client.credentials.take_over(&before.credentials);
            }
        }
        Self::with_key(clients, self.stand_in_key.clone())
    }

    fn with_key(clients: Vec<Client>, stand_in_key: hmac::Key) -> Self {
        let by_id = clients.iter().enumerate().map(|(index, client)| (client.id.clone(), index)).collect();
        static TABLES: AtomicU64 = AtomicU64::new(0);
        let number = TABLES.fetch_add(1, Ordering::Relaxed);
        let federation =
            FederationIndex::new(clients.iter().map(|client| (&client.id, &*client.credentials.federation)));
        // The hash of no known secret, as fast as those of secrets that `portcullis client new` makes.
        let hash = SecretHash::of(&ClientSecret::new(format!("{number}")));
        let secrets = vec![KeptSecret::new(hash, Validity::default())];
        let stored_stand_in = KeptCredentials { secrets, ..KeptCredentials::default() };
        Self { all: clients, by_id, federation, number, stored: None, stored_stand_in, stand_in_key }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Client> {
        self.all.iter()
    }

    /// The scopes of all clients. `None` if one set cannot have them all, or if clients are in a database.
    pub(crate) fn scopes(&self) -> Option<ScopeSet> {
        if self.stored.is_some() {
            return None;
        }
        let mut all: Vec<&str> =
            self.all.iter().flat_map(|client| client.scopes.iter()).map(|scope| scope.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        ScopeSet::from_list(all.into_iter()).ok()
    }

    /// The issuers and subjects of all platform tokens.
    pub(crate) fn federation(&self) -> &FederationIndex {
        &self.federation
    }

    /// The ways to authenticate that some client has, in the order of the metadata; never empty.
    pub(crate) fn methods(&self) -> Vec<ClientAuthMethod> {
        if self.stored.is_some() {
            return ClientAuthMethod::ALL.to_vec();
        }
        let used: Vec<_> = self.all.iter().flat_map(|client| client.credentials.methods()).collect();
        let methods: Vec<_> = ClientAuthMethod::ALL.iter().copied().filter(|method| used.contains(method)).collect();
        if methods.is_empty() { vec![ClientAuthMethod::SecretBasic, ClientAuthMethod::SecretPost] } else { methods }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Client> {
        self.all.get(*self.by_id.get(id)?)
    }

    /// The clients in the database.
    pub(crate) fn stored(&self) -> Option<&Arc<StoredClients>> {
        self.stored.as_ref()
    }

    /// The client with this id, in the configuration or the database.
    pub(crate) async fn find(&self, id: &str) -> Result<Option<FoundClient<'_>>, ClientStoreUnavailable> {
        match (self.get(id), &self.stored) {
            (Some(client), _) => Ok(Some(FoundClient::Configured(client))),
            // No row has such an id.
            (None, Some(stored)) if parse_id(id).is_ok() => Ok(stored.find(id).await?.map(FoundClient::Stored)),
            (None, _) => Ok(None),
        }
    }

    /// The client to which an own token was issued. If there is none, the token is refused. The client is looked up once
    /// for each token and table; after that it costs one comparison.
    pub(crate) fn of_token(&self, own: &Verified) -> ClientOfToken<'_> {
        let Some(token) = own.token() else { return ClientOfToken::Unknown };
        if let Some(stored) = &self.stored
            && let Some(known) = &*token.stored_client.borrow()
            && known.table == stored.number
            && known.is_current()
        {
            return ClientOfToken::Stored(Arc::clone(known));
        }
        let index = match token.client_entry.get() {
            Some(entry) if entry.table == self.number => Some(entry.index),
            Some(_) | None => own.caller.client.as_ref().and_then(|id| self.by_id.get(id.as_str())).copied(),
        };
        let Some(index) = index else { return self.stored_of_token(own) };
        token.client_entry.set(Some(ClientEntry { table: self.number, index }));
        self.all.get(index).map_or(ClientOfToken::Unknown, ClientOfToken::Configured)
    }

    /// Looks up the client of a token for which [`of_token`](Self::of_token) has [`NotHeld`](ClientOfToken::NotHeld).
    /// False if there is none.
    pub(crate) async fn look_up_of_token(&self, own: &Verified) -> Result<bool, ClientStoreUnavailable> {
        let (Some(stored), Some(id)) = (&self.stored, &own.caller.client) else { return Ok(false) };
        let found = stored.find(id.as_str()).await?;
        if let (Some(found), Some(token)) = (&found, own.token()) {
            token.stored_client.replace(Some(Arc::clone(&found.token_client)));
        }
        Ok(found.is_some())
    }

    fn stored_of_token(&self, own: &Verified) -> ClientOfToken<'_> {
        let (Some(stored), Some(id), Some(token)) = (&self.stored, &own.caller.client, own.token()) else {
            return ClientOfToken::Unknown;
        };
        let Some(held) = stored.held(id.as_str()) else { return ClientOfToken::NotHeld };
        token.stored_client.replace(Some(Arc::clone(&held.token_client)));
        ClientOfToken::Stored(Arc::clone(&held.token_client))
    }

    /// The credentials to compare for an unknown id. Always the same for the same id; the result is ignored.
    pub(crate) fn stand_in(&self, id: &str) -> Option<&KeptCredentials> {
        let tag = hmac::sign(&self.stand_in_key, id.as_bytes());
        let index = tag.as_ref()[..8].iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        // The clients in the database take part as one.
        let kinds = self.all.len() + usize::from(self.stored.is_some());
        let configured = self.all.get(index % kinds.max(1)).map(|client| &client.credentials);
        configured.or(self.stored.as_ref().map(|_| &self.stored_stand_in))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Map;

    use super::*;
    use crate::oauth::bound::TokenBinding;

    fn client(id: &str, hash: SecretHash) -> Client {
        Client {
            id: Identity::parse(id).unwrap(),
            credentials: KeptCredentials {
                secrets: vec![KeptSecret::new(hash, Validity::default())],
                ..KeptCredentials::default()
            },
            scopes: ScopeSet::parse("a").unwrap(),
            audiences: vec!["x".to_owned()],
            token_ttl: Duration::from_secs(60),
            claims: Map::new(),
            allow_from: None,
            bound: TokenBinding::None,
        }
    }

    #[test]
    fn a_cached_token_loses_its_client_with_its_client_table() {
        let hash = || SecretHash::of(&ClientSecret::new("a".to_owned()));
        let clients = |ids: &[&str]| Clients::new(ids.iter().map(|id| client(id, hash())).collect());
        let (old, new) = (clients(&["a", "b"]), clients(&["b", "c"]));
        let [a, b] = ["a", "b"].map(Verified::own);
        let found = |table: &Clients, token| match table.of_token(token) {
            ClientOfToken::Configured(client) => Some(client.id.as_str().to_owned()),
            ClientOfToken::Stored(_) | ClientOfToken::Unknown | ClientOfToken::NotHeld => None,
        };
        // Alternately, since requests of two snapshots may be in flight.
        for _ in 0..2 {
            assert_eq!((found(&old, &a), found(&old, &b)), (Some("a".to_owned()), Some("b".to_owned())));
            assert_eq!((found(&new, &a), found(&new, &b)), (None, Some("b".to_owned())));
        }
    }

    #[test]
    fn an_unknown_client_takes_the_same_time_as_a_known_one() {
        let fast = SecretHash::of(&ClientSecret::new("a".to_owned()));
        let slow = SecretHash::parse(
            "$argon2id$v=19$m=65536,t=3,p=1$c3RhbmRpbnN0YW5kaW4$WJFsLoqoN0XzXBSWVT2kE3xKs8tqpqbe3KBKuyDpXKE",
        );
        let clients = Clients::new(vec![client("a", slow.unwrap()), client("b", fast)]);
        let secrets = |id: &str| &clients.stand_in(id).unwrap().secrets;
        let slow = (0..1000).filter(|n| secrets(&n.to_string())[0].hash.is_slow()).count();
        assert!((350..650).contains(&slow), "{slow}");
        assert_eq!(secrets("x").as_ptr(), secrets("x").as_ptr());
        assert!(Clients::new(Vec::new()).stand_in("x").is_none());
    }
}
