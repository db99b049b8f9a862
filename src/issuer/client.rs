//! The clients that may ask us for tokens.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::hmac;
use foldhash::quality::RandomState;
use serde_json::{Map, Value};

use super::secret::{ClientSecret, SecretHash};
use crate::oauth::identity::Identity;
use crate::oauth::scope::ScopeSet;

/// A client as configured.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: Identity,
    /// Several may live at once, so that one can be replaced without downtime.
    pub(crate) secrets: Vec<SecretHash>,
    /// All that it may ask for; never empty.
    pub(crate) scopes: ScopeSet,
    /// The first is the default; never empty.
    pub(crate) audiences: Vec<String>,
    pub(crate) token_ttl: Duration,
    /// Added to its tokens; none of the registered names.
    pub(crate) claims: Map<String, Value>,
}

/// All clients, and the stand-ins that unknown ones are compared with.
#[derive(Debug)]
pub(crate) struct Clients {
    by_id: HashMap<Identity, Client, RandomState>,
    /// The hash kinds of all clients, so that a stand-in is as likely slow as a real client.
    slow: usize,
    /// Of this process alone: which unknown ids look slow can't be foretold.
    stand_in_key: hmac::Key,
    stand_ins: StandIns,
}

#[derive(Debug)]
struct StandIns {
    fast: Vec<SecretHash>,
    slow: Vec<SecretHash>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a client id is printable ASCII without space, `/` and `:`, 1024 characters at most")]
pub(crate) struct InvalidClientId;

/// Narrower than RFC 6749 §A.1: `ISSUER/ID` names the clients of other issuers, and `:` ends the id in Basic credentials.
pub(crate) fn parse_id(text: &str) -> Result<Identity, InvalidClientId> {
    let legal = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    let id = Some(text).filter(|text| text.bytes().all(legal));
    id.and_then(|text| Identity::parse(text).ok()).ok_or(InvalidClientId)
}

/// Of nothing that anyone could present: 19 MiB, 2 passes, as OWASP recommends.
const SLOW_STAND_IN: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c3RhbmRpbnN0YW5kaW4$WJFsLoqoN0XzXBSWVT2kE3xKs8tqpqbe3KBKuyDpXKE";

impl Clients {
    pub(crate) fn new(clients: Vec<Client>) -> Self {
        let slow = clients.iter().filter(|client| client.secrets.iter().any(SecretHash::is_slow)).count();
        let by_id = clients.into_iter().map(|client| (client.id.clone(), client)).collect();
        // A failing random generator leaves zeros, which costs a timing hint and nothing else.
        let mut key = [0; 32];
        let _ = aws_lc_rs::rand::fill(&mut key);
        let fast = SecretHash::of(&ClientSecret::new(String::new()));
        let stand_ins = StandIns { fast: vec![fast], slow: SecretHash::parse(SLOW_STAND_IN).into_iter().collect() };
        Self { by_id, slow, stand_in_key: hmac::Key::new(hmac::HMAC_SHA256, &key), stand_ins }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Client> {
        self.by_id.get(id)
    }

    /// The hashes to compare with where no client has this id; comparing them costs what a real client's would.
    pub(crate) fn stand_in(&self, id: &str) -> &[SecretHash] {
        let tag = hmac::sign(&self.stand_in_key, id.as_bytes());
        let lot = tag.as_ref()[..8].iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        let looks_slow = lot % self.by_id.len().max(1) < self.slow;
        if looks_slow { &self.stand_ins.slow } else { &self.stand_ins.fast }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: &str, hash: SecretHash) -> Client {
        Client {
            id: Identity::parse(id).unwrap(),
            secrets: vec![hash],
            scopes: ScopeSet::parse("a").unwrap(),
            audiences: vec!["x".to_owned()],
            token_ttl: Duration::from_secs(60),
            claims: Map::new(),
        }
    }

    #[test]
    fn an_unknown_client_costs_what_a_known_one_does() {
        let fast = || SecretHash::of(&ClientSecret::new("a".to_owned()));
        let slow = || SecretHash::parse(SLOW_STAND_IN).unwrap();
        let all_fast = Clients::new(vec![client("a", fast()), client("b", fast())]);
        assert!((0..100).all(|n| !all_fast.stand_in(&n.to_string())[0].is_slow()));
        let all_slow = Clients::new(vec![client("a", slow())]);
        assert!((0..100).all(|n| all_slow.stand_in(&n.to_string())[0].is_slow()));
        let mixed = Clients::new(vec![client("a", slow()), client("b", fast())]);
        let slow = (0..1000).filter(|n| mixed.stand_in(&n.to_string())[0].is_slow()).count();
        assert!((350..650).contains(&slow), "{slow}");
    }
}
