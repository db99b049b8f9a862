//! The clients that may request tokens.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use foldhash::quality::RandomState;
use serde_json::{Map, Value};

use super::client_auth::federation::index::FederationIndex;
use super::client_auth::{ClientAuthMethod, KeptCredentials};
use crate::network::Networks;
use crate::oauth::bound::TokenBinding;
use crate::oauth::identity::Identity;
use crate::oauth::scope::ScopeSet;
use crate::trust::verify::{ClientEntry, Verified};

/// A client as configured.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: Identity,
    pub(crate) credentials: KeptCredentials,
    /// All scopes that it may request; never empty.
    pub(crate) scopes: ScopeSet,
    /// The first is the default; never empty.
    pub(crate) audiences: Vec<String>,
    pub(crate) token_ttl: Duration,
    /// Added to its tokens. Contains no registered claim name.
    pub(crate) claims: Map<String, Value>,
    /// The addresses from which it may call; `None` for any.
    pub(crate) allow_from: Option<Networks>,
    /// The binding that its tokens get when they are issued.
    pub(crate) bound: TokenBinding,
}

/// All clients. For an unknown client id, the credentials of another client are compared, so that it takes the same
/// time.
#[derive(Debug)]
pub(crate) struct Clients {
    all: Vec<Client>,
    by_id: HashMap<Identity, usize, RandomState>,
    federation: FederationIndex,
    /// Unique within this process.
    number: u64,
    /// Random for each process: the client whose credentials are compared for an unknown id cannot be predicted.
    stand_in_key: hmac::Key,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a client id is printable ASCII, 1024 characters at most")]
pub(crate) struct InvalidClientId;

/// `VSCHAR` (RFC 6749 §A.1). A `:` in it must be encoded in Basic credentials, as RFC 6749 §2.3.1 has it.
pub(crate) fn parse_id(text: &str) -> Result<Identity, InvalidClientId> {
    let id = Some(text).filter(|text| text.bytes().all(|byte| matches!(byte, 0x20..=0x7E)));
    id.and_then(|text| Identity::parse(text).ok()).ok_or(InvalidClientId)
}

impl Client {
    /// `None` is an uncertain address.
    pub(crate) fn may_call(&self, from: Option<IpAddr>) -> bool {
        let inside = |networks: &Networks| from.is_some_and(|address| networks.contains(address));
        self.allow_from.as_ref().is_none_or(inside)
    }
}

impl Clients {
    pub(crate) fn new(clients: Vec<Client>) -> Self {
        // If the random generator fails, the key is zero. Then only the timing of unknown ids can be predicted.
        let mut key = [0; 32];
        let _ = aws_lc_rs::rand::fill(&mut key);
        Self::with_key(clients, hmac::Key::new(hmac::HMAC_SHA256, &key))
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
        Self { all: clients, by_id, federation, number, stand_in_key }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Client> {
        self.all.iter()
    }

    /// The scopes of all clients. `None` if they are more than one set can have.
    pub(crate) fn scopes(&self) -> Option<ScopeSet> {
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
        let used: Vec<_> = self.all.iter().flat_map(|client| client.credentials.methods()).collect();
        let methods: Vec<_> = ClientAuthMethod::ALL.iter().copied().filter(|method| used.contains(method)).collect();
        if methods.is_empty() { vec![ClientAuthMethod::SecretBasic, ClientAuthMethod::SecretPost] } else { methods }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Client> {
        self.all.get(*self.by_id.get(id)?)
    }

    /// The client to which an own token was issued. `None` if it is not configured; then the token is refused. The
    /// client is looked up once for each token and table; after that it costs one comparison.
    pub(crate) fn of_token(&self, own: &Verified) -> Option<&Client> {
        let token = own.token()?;
        let index = match token.client_entry.get() {
            Some(entry) if entry.table == self.number => entry.index,
            Some(_) | None => {
                let index = *self.by_id.get(own.caller.client.as_ref()?.as_str())?;
                token.client_entry.set(Some(ClientEntry { table: self.number, index }));
                index
            }
        };
        self.all.get(index)
    }

    /// The credentials to compare for an unknown id. Always the same for the same id; the result is ignored.
    pub(crate) fn stand_in(&self, id: &str) -> Option<&KeptCredentials> {
        let tag = hmac::sign(&self.stand_in_key, id.as_bytes());
        let index = tag.as_ref()[..8].iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        self.all.get(index % self.all.len().max(1)).map(|client| &client.credentials)
    }
}

#[cfg(test)]
mod tests {
    use super::super::client_auth::secret::hash::{ClientSecret, SecretHash};
    use super::super::client_auth::secret::kept_secret::{KeptSecret, Validity};
    use super::*;

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
    fn a_client_id_is_vschar() {
        for id in [
            "app",
            "my app",
            "urn:example:app",
            "https://app.example.com/client",
            " ",
            "~!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}",
        ] {
            assert_eq!(parse_id(id).unwrap().as_str(), id);
        }
        for id in ["", "a\tb", "a\nb", "\u{7f}", "\u{fc}", &"a".repeat(1025)] {
            assert_eq!(parse_id(id).err(), Some(InvalidClientId), "{id:?}");
        }
    }

    #[test]
    fn a_cached_token_loses_its_client_with_its_client_table() {
        let hash = || SecretHash::of(&ClientSecret::new("a".to_owned()));
        let clients = |ids: &[&str]| Clients::new(ids.iter().map(|id| client(id, hash())).collect());
        let (old, new) = (clients(&["a", "b"]), clients(&["b", "c"]));
        let [a, b] = ["a", "b"].map(Verified::own);
        let found = |table: &Clients, token| table.of_token(token).map(|client| client.id.as_str().to_owned());
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
