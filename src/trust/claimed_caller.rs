//! The caller that a token claims to be of, for records of refused tokens. Nothing here is verified.
//!
//! Takes the claims of a token. Gives the entry that the token belongs to, as a verified token would, and the client
//! that it names.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::caller_claims::CLIENT_CLAIMS;
use super::entry_choice::{claimed_entry, issuer};
use super::issuer::TrustedIssuer;
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

impl ClaimedCaller {
    /// The caller that these claims name. `issuers` are all entries.
    pub(super) fn of(claims: &Map<String, Value>, issuers: &[Arc<TrustedIssuer>]) -> Self {
        match claimed_entry(issuers, |issuer| &issuer.settings, claims) {
            Some(entry) => Self::of_entry(&entry.settings.name, claims),
            None => {
                let issuer = issuer(claims).and_then(|iss| unknown_issuer(iss, issuers));
                Self { issuer, client: claimed_client(claims) }
            }
        }
    }

    /// The caller of a token that belongs to this entry.
    pub(super) fn of_entry(name: &IssuerName, claims: &Map<String, Value>) -> Self {
        Self { issuer: Some(ClaimedIssuer::Configured(name.clone())), client: claimed_client(claims) }
    }
}

fn unknown_issuer(iss: &str, issuers: &[Arc<TrustedIssuer>]) -> Option<ClaimedIssuer> {
    // It would look like the issuer of that name.
    let is_name = issuers.iter().any(|known| known.settings.name.as_str() == iss);
    Identity::parse(iss).ok().filter(|_| !is_name).map(ClaimedIssuer::Unknown)
}

/// The client that a token names, if it can be read.
fn claimed_client(claims: &Map<String, Value>) -> Option<Identity> {
    let present = |name: &str| claims.get(name).filter(|value| !value.is_null());
    Identity::parse(CLIENT_CLAIMS.into_iter().find_map(present)?.as_str()?).ok()
}
