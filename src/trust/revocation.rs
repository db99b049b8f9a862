//! Which tokens are good no longer, although their signature and their time are: pure rules, no I/O, no clock.
//!
//! Takes entries, one token's or all that an issuer gave to a client or subject before a point in time; says of a token whether one
//! concerns it. Issuers go by their `iss`, not by the name that a configuration gives them: renaming one must not make its
//! revoked tokens good. A token id is kept as its digest, so that neither memory nor file tells what could be replayed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use foldhash::HashMap;
use std::collections::hash_map::Entry as MapEntry;

use super::issuer::{IssuerSettings, Profile};
use crate::clock::UnixTime;
use crate::jose::BASE64URL;
use crate::jose::claims::Claims;
use crate::oauth::caller::{Caller, Digest};

/// One revocation, as it is decided and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RevocationEntry {
    /// `iss`.
    pub(crate) issuer: String,
    pub(crate) target: RevocationTarget,
    /// Seconds since 1970: what was issued earlier is revoked, and what does not say when. `None`: whatever its time.
    pub(crate) issued_before: Option<u64>,
    /// Seconds since 1970, when no token that it concerns can be alive. `None`: as long as the configuration says it.
    pub(crate) expires_at: Option<u64>,
    /// Seconds since 1970.
    pub(crate) made_at: u64,
    /// The client that revoked a token of its own; `None` for an operator or the configuration. Counts against its share.
    pub(crate) revoked_by: Option<String>,
}

/// What is revoked of an issuer's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RevocationTarget {
    /// One token, by the SHA-256 of its `jti` in base64url.
    Token(String),
    Client(String),
    Subject(String),
    /// All of them.
    Issuer,
}

/// All that is revoked. What is added is never narrowed: of two entries about the same, the wider holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revocations {
    rules: HashMap<Digest, RevocationRule>,
    /// How many of the rules each client has made.
    by_client: HashMap<ClientKey, usize>,
}

/// A client that revokes, by a part of its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ClientKey(u64);

/// Why there is no place for another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RevocationsFull {
    /// The client that revokes has used its share.
    Share,
    /// All places are taken.
    Full,
}

/// What all workers see. A token that has passed one version is looked at again only under another.
#[derive(Debug, Default)]
pub(crate) struct PublishedRevocations {
    version: AtomicU64,
    current: ArcSwap<Revocations>,
    /// Revocations that found no place.
    refused: AtomicU64,
}

/// `None` is without end in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RevocationRule {
    issued_before: Option<u64>,
    expires_at: Option<u64>,
    by: Option<ClientKey>,
}

/// In all, so that nobody can fill memory or disk by revoking.
pub(crate) const MAX_ENTRIES: usize = 100_000;
/// Beyond, single tokens find no place, and whoever must stop a client that has revoked so many still can.
pub(crate) const MAX_WITH_TOKENS: usize = 90_000;
/// What one client may revoke: a tenth, so that none takes the places of all others.
pub(crate) const MAX_OF_CLIENT: usize = MAX_WITH_TOKENS / 10;
/// Our tokens live 24 h at most, whatever the configuration has said since.
const OWN_TOKENS_LIVE: Duration = Duration::from_secs(24 * 3600);
/// How long other issuers' tokens live is theirs to say; longer than this is not heard of.
const FOREIGN_TOKENS_LIVE: Duration = Duration::from_secs(30 * 24 * 3600);

impl RevocationEntry {
    /// One token whose claims are at hand; `None` without a `jti`, by which alone it could be told from others.
    pub(crate) fn token(issuer: &IssuerSettings, claims: &Claims, now: UnixTime) -> Option<Self> {
        let expires_at = claims.expires_at.saturating_add(issuer.clock_skew.as_secs());
        let target = RevocationTarget::token(claims.token_id.as_deref()?);
        Some(Self { expires_at: Some(expires_at), ..Self::lasting(issuer, target, None, now) })
    }

    /// Anything else. It lasts until every token that it concerns must have expired.
    pub(crate) fn lasting(
        issuer: &IssuerSettings,
        target: RevocationTarget,
        issued_before: Option<UnixTime>,
        now: UnixTime,
    ) -> Self {
        let tokens_live = match issuer.profile {
            Profile::Own => OWN_TOKENS_LIVE,
            Profile::External => FOREIGN_TOKENS_LIVE,
        };
        let last_issued = issued_before.map_or(now, |time| time.max(now));
        Self {
            issuer: issuer.issuer.as_str().to_owned(),
            target,
            issued_before: issued_before.map(seconds_rounded_up),
            expires_at: Some(last_issued.plus(tokens_live).plus(issuer.clock_skew).seconds()),
            made_at: now.seconds(),
            revoked_by: None,
        }
    }

    /// As long as the configuration says so.
    pub(crate) fn standing(issuer: &IssuerSettings, target: RevocationTarget, issued_before: Option<UnixTime>) -> Self {
        Self {
            issuer: issuer.issuer.as_str().to_owned(),
            target,
            issued_before: issued_before.map(seconds_rounded_up),
            expires_at: None,
            made_at: 0,
            revoked_by: None,
        }
    }

    fn rule(&self) -> RevocationRule {
        let by = self.revoked_by.as_deref().map(|client| ClientKey(key(&self.issuer, CLIENT, client).0 as u64));
        RevocationRule { issued_before: self.issued_before, expires_at: self.expires_at, by }
    }

    fn key(&self) -> Digest {
        match &self.target {
            RevocationTarget::Token(token) => key(&self.issuer, TOKEN, token),
            RevocationTarget::Client(client) => key(&self.issuer, CLIENT, client),
            RevocationTarget::Subject(subject) => key(&self.issuer, SUBJECT, subject),
            RevocationTarget::Issuer => key(&self.issuer, ISSUER, ""),
        }
    }

    pub(crate) fn is_live(&self, now: UnixTime) -> bool {
        self.rule().is_live(now)
    }
}

/// The first moment for `issued_before` that leaves out nothing issued until now. An issuer's tokens are dated by its own clock,
/// which may be ahead of ours by the leeway that it has; our own tokens by this one, in whole seconds.
pub(crate) fn after_all_issued_by(issuer: &IssuerSettings, now: UnixTime) -> UnixTime {
    let ahead = match issuer.profile {
        Profile::Own => Duration::ZERO,
        Profile::External => issuer.clock_skew,
    };
    UnixTime::from_seconds(now.plus(ahead).seconds() + 1)
}

impl RevocationTarget {
    /// The token with this `jti`.
    pub(crate) fn token(token_id: &str) -> Self {
        Self::Token(token_digest(token_id))
    }
}

impl Revocations {
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether a token's issuer, client, subject or id are concerned.
    pub(crate) fn applies_to(&self, issuer: &IssuerSettings, caller: &Caller, claims: &Claims) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let issuer = issuer.issuer.as_str();
        let concerns = |kind, name: &str| {
            self.rules.get(&key(issuer, kind, name)).is_some_and(|rule| rule.concerns(claims.issued_at))
        };
        concerns(ISSUER, "")
            || concerns(SUBJECT, caller.subject.as_str())
            || caller.client.as_ref().is_some_and(|client| concerns(CLIENT, client.as_str()))
            || claims.token_id.as_deref().is_some_and(|token_id| concerns(TOKEN, &token_digest(token_id)))
    }

    /// True if adding this entry would change nothing.
    pub(crate) fn cover(&self, entry: &RevocationEntry) -> bool {
        self.rules.get(&entry.key()).is_some_and(|rule| rule.or(entry.rule()) == *rule)
    }

    /// `None` if there is a place for this entry, or it needs none of its own.
    pub(crate) fn lack_place_for(&self, entry: &RevocationEntry) -> Option<RevocationsFull> {
        let most = match entry.target {
            RevocationTarget::Token(_) => MAX_WITH_TOKENS,
            RevocationTarget::Client(_) | RevocationTarget::Subject(_) | RevocationTarget::Issuer => MAX_ENTRIES,
        };
        let made = entry.rule().by.and_then(|client| self.by_client.get(&client)).copied().unwrap_or_default();
        let lack = match (self.rules.len() >= most, made >= MAX_OF_CLIENT) {
            (true, _) => RevocationsFull::Full,
            (false, true) => RevocationsFull::Share,
            (false, false) => return None,
        };
        (!self.rules.contains_key(&entry.key())).then_some(lack)
    }

    pub(crate) fn add(&mut self, entry: &RevocationEntry) {
        let added = entry.rule();
        match self.rules.entry(entry.key()) {
            MapEntry::Occupied(mut known) => {
                let wider = known.get().or(added);
                known.insert(wider);
            }
            MapEntry::Vacant(free) => {
                free.insert(added);
                if let Some(client) = added.by {
                    *self.by_client.entry(client).or_default() += 1;
                }
            }
        }
    }

    pub(crate) fn forget_expired(&mut self, now: UnixTime) {
        self.rules.retain(|_, rule| rule.is_live(now));
        self.by_client.clear();
        for client in self.rules.values().filter_map(|rule| rule.by) {
            *self.by_client.entry(client).or_default() += 1;
        }
    }

    pub(crate) fn has_expired(&self, now: UnixTime) -> bool {
        self.rules.values().any(|rule| !rule.is_live(now))
    }
}

impl PublishedRevocations {
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<Revocations>> {
        self.current.load()
    }

    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The version follows what it counts: who reads it first finds at least that in `current`.
    pub(super) fn publish(&self, revocations: Arc<Revocations>) {
        self.current.store(revocations);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// For a tool that judges once.
impl From<Revocations> for PublishedRevocations {
    fn from(revocations: Revocations) -> Self {
        Self { current: ArcSwap::from_pointee(revocations), ..Self::default() }
    }
}

impl RevocationRule {
    fn concerns(self, issued_at: Option<u64>) -> bool {
        match (self.issued_before, issued_at) {
            (None, _) | (Some(_), None) => true,
            (Some(before), Some(issued)) => issued < before,
        }
    }

    fn is_live(self, now: UnixTime) -> bool {
        self.expires_at.is_none_or(|end| now.seconds() < end)
    }

    /// What either says, for as long as either does.
    fn or(self, other: Self) -> Self {
        let later = |one: Option<u64>, other: Option<u64>| Some(one?.max(other?));
        Self {
            issued_before: later(self.issued_before, other.issued_before),
            expires_at: later(self.expires_at, other.expires_at),
            by: self.by,
        }
    }
}

const TOKEN: &str = "token";
const CLIENT: &str = "client";
const SUBJECT: &str = "subject";
const ISSUER: &str = "issuer";

fn key(issuer: &str, kind: &str, name: &str) -> Digest {
    Digest::of(&[issuer, kind, name])
}

fn token_digest(token_id: &str) -> String {
    BASE64URL.encode(digest(&SHA256, token_id.as_bytes()))
}

/// What was issued within a second is dated by its beginning.
fn seconds_rounded_up(time: UnixTime) -> u64 {
    time.plus(Duration::from_millis(999)).seconds()
}

#[cfg(test)]
mod tests;
