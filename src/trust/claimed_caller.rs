//! The caller that a token claims to be of, for records of refused tokens. Nothing here is verified.
//!
//! Takes the claims of a token. Gives the entry that the token belongs to, as a verified token would, and the client
//! that it names.

use serde_json::{Map, Value};

use super::caller_claims::CLIENT_CLAIMS;
use super::entry_choice::{claimed_entry, issuer};
use super::verify::Trust;
use crate::jose::token::unverified_claims;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;

#[derive(Clone, Debug, Default)]
pub(crate) struct ClaimedCaller {
    pub(crate) issuer: Option<ClaimedIssuer>,
    pub(crate) client: Option<Identity>,
}

#[derive(Clone, Debug)]
pub(crate) enum ClaimedIssuer {
    Configured(IssuerName),
    /// The `iss` of a token that belongs to no entry.
    Unknown(Identity),
}

impl Trust {
    /// The caller that a token names. `None` if its claims cannot be read.
    pub(crate) fn claimed_by(&self, token: &str) -> Option<ClaimedCaller> {
        Some(self.claimed_caller(&unverified_claims(token)?))
    }

    pub(super) fn claimed_caller(&self, claims: &Map<String, Value>) -> ClaimedCaller {
        match claimed_entry(self.issuers(), |issuer| &issuer.settings, claims) {
            Some(entry) => ClaimedCaller::of_entry(&entry.settings.name, claims),
            None => {
                let issuer = issuer(claims).and_then(|iss| self.unknown_issuer(iss));
                ClaimedCaller { issuer, client: claimed_client(claims) }
            }
        }
    }

    fn unknown_issuer(&self, iss: &str) -> Option<ClaimedIssuer> {
        // It would look like the issuer of that name.
        let is_name = self.issuers().iter().any(|known| known.settings.name.as_str() == iss);
        Identity::parse(iss).ok().filter(|_| !is_name).map(ClaimedIssuer::Unknown)
    }
}

/// The client that a token names, if it can be read.
fn claimed_client(claims: &Map<String, Value>) -> Option<Identity> {
    let present = |name: &str| claims.get(name).filter(|value| !value.is_null());
    Identity::parse(CLIENT_CLAIMS.into_iter().find_map(present)?.as_str()?).ok()
}

impl ClaimedCaller {
    /// The caller of a token that belongs to this entry.
    pub(super) fn of_entry(name: &IssuerName, claims: &Map<String, Value>) -> Self {
        Self { issuer: Some(ClaimedIssuer::Configured(name.clone())), client: claimed_client(claims) }
    }
}
