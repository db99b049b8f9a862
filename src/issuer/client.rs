//! A client that may request tokens.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value};

use super::client_auth::KeptCredentials;
use crate::network::Networks;
use crate::oauth::bound::TokenBinding;
use crate::oauth::identity::Identity;
use crate::oauth::scope::ScopeSet;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
