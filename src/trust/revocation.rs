//! The rules of revocation: which valid tokens are refused. Pure: no I/O, no clock.
//!
//! An entry revokes one token, or all tokens that an issuer issued to a client or subject before a point in time.
//! Issuers are identified by their `iss`, not by their configured name: renaming an issuer must not make its revoked
//! tokens valid, and a revocation counts for all entries of one `iss`. An issuer with tenants is identified by its
//! template, which stands for all tenants, or by the `iss` of one; a trust domain also by its SPIFFE ID. A token id is
//! stored as a digest, so that neither memory nor file contains a value of a token.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use foldhash::HashMap;
use std::collections::hash_map::Entry as MapEntry;

use super::issuer::{IssuerSettings, Profile};
use crate::clock::UnixTime;
use crate::jose::BASE64URL;
use crate::jose::claims::Claims;
use crate::jose::numeric_date::NumericDate;
use crate::oauth::caller::{Caller, Digest};
use crate::oauth::identity::Identity;
use crate::store::redis_revocations::SharedRevocation;

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RevocationEntry {
    /// `iss`.
    pub(crate) issuer: String,
    pub(crate) target: RevocationTarget,
    /// Seconds since 1970: tokens that were issued earlier are revoked, and tokens without `iat`. `None`: all tokens.
    pub(crate) issued_before: Option<u64>,
    /// Seconds since 1970: all tokens that it applies to have expired by then. `None`: as long as it is in the
    /// configuration.
    pub(crate) expires_at: Option<u64>,
    /// Seconds since 1970.
    pub(crate) made_at: u64,
    /// The client that revoked its own token, for the limit of each client. `None` for an operator or the
    /// configuration.
    pub(crate) revoked_by: Option<String>,
}

/// The tokens of an issuer to which an entry applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RevocationTarget {
    /// One token, by the SHA-256 of its `jti` in base64url.
    Token(String),
    Client(String),
    Subject(String),
    /// All tokens.
    Issuer,
    /// Tokens that another replica has revoked, known only by the digest of its rule.
    Learned(LearnedRule),
}

/// The rule of a revocation that another replica has made. No names are shared, only digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LearnedRule {
    pub(crate) digest: Digest,
    /// Whether it is about one token.
    pub(crate) is_token: bool,
    /// A part of the digest of the client that revoked its own token.
    pub(crate) by: Option<u64>,
}

/// The revocation that applies to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppliedRevocation<'t> {
    pub(crate) tokens: RevokedTokens<'t>,
    /// Seconds since 1970.
    pub(crate) issued_before: Option<u64>,
}

/// The tokens of an issuer that a revocation concerns, by what the token at hand says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RevokedTokens<'t> {
    All,
    OfSubject(&'t str),
    OfClient(&'t str),
    /// The one with this `jti`.
    WithId(&'t str),
}

/// All revocations. Adding never narrows: of two entries for the same target, the wider one applies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revocations {
    rules: HashMap<Digest, RevocationRule>,
    /// The number of rules that each client has made.
    by_client: HashMap<ClientKey, usize>,
}

/// A client that revokes tokens, identified by a part of its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ClientKey(u64);

/// The limit that an entry exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RevocationsFull {
    /// The limit of the client that revokes.
    Share,
    /// The limit on all entries.
    Full,
}

/// `None` is unlimited in both fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RevocationRule {
    issued_before: Option<u64>,
    expires_at: Option<u64>,
    by: Option<ClientKey>,
    is_token: bool,
}

/// The limit on all entries, so that revoking cannot fill memory or disk.
pub(crate) const MAX_ENTRIES: usize = 100_000;
/// The limit for entries of single tokens. The rest is kept for operators, who must be able to revoke all tokens of a
/// client.
pub(crate) const MAX_WITH_TOKENS: usize = 90_000;
/// The limit for each client: a tenth, so that one client cannot use up the limit for all.
pub(crate) const MAX_OF_CLIENT: usize = MAX_WITH_TOKENS / 10;
/// The longest lifetime of own tokens that the configuration allows.
const OWN_TOKENS_LIVE: Duration = Duration::from_secs(24 * 3600);
/// The assumed longest lifetime of the tokens of other issuers, which they choose themselves.
const FOREIGN_TOKENS_LIVE: Duration = Duration::from_secs(30 * 24 * 3600);

impl RevocationEntry {
    /// Revokes one token. `None` if it has no `jti`, which is needed to identify it.
    pub(crate) fn token(issuer: &IssuerSettings, claims: &Claims, now: UnixTime) -> Option<Self> {
        let expires_at = claims.expires_at.saturating_add(issuer.clock_skew.as_secs());
        let target = RevocationTarget::token(claims.token_id.as_deref()?);
        let issuer_of_token = issuer.tenant_of(claims).map_or(&issuer.issuer, |tenant| tenant.issuer);
        let issuer_of_token = issuer_of_token.as_str().to_owned();
        let lasting = Self::lasting(issuer, target, None, now);
        Some(Self { issuer: issuer_of_token, expires_at: Some(expires_at), ..lasting })
    }

    /// Revokes several tokens. The entry lasts until all of them must have expired.
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

    /// An entry of the configuration. It lasts as long as it is configured.
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
        let by = || self.revoked_by.as_deref().map(|client| ClientKey(key(&self.issuer, CLIENT, client).0 as u64));
        let (is_token, by) = match &self.target {
            RevocationTarget::Token(_) => (true, by()),
            RevocationTarget::Client(_) | RevocationTarget::Subject(_) | RevocationTarget::Issuer => (false, by()),
            RevocationTarget::Learned(rule) => (rule.is_token, rule.by.map(ClientKey)),
        };
        RevocationRule { issued_before: self.issued_before, expires_at: self.expires_at, by, is_token }
    }

    fn key(&self) -> Digest {
        match &self.target {
            RevocationTarget::Token(token) => key(&self.issuer, TOKEN, token),
            RevocationTarget::Client(client) => key(&self.issuer, CLIENT, client),
            RevocationTarget::Subject(subject) => key(&self.issuer, SUBJECT, subject),
            RevocationTarget::Issuer => key(&self.issuer, ISSUER, ""),
            RevocationTarget::Learned(rule) => rule.digest,
        }
    }

    /// The form in which replicas share it. `None` for a rule of the configuration, and for one that was shared.
    pub(super) fn to_share(&self) -> Option<SharedRevocation> {
        if self.is_learned() { None } else { self.rule().to_share(self.key()) }
    }

    pub(super) fn is_learned(&self) -> bool {
        matches!(self.target, RevocationTarget::Learned(_))
    }

    /// A revocation that another replica has made.
    pub(super) fn learned(shared: &SharedRevocation, now: UnixTime) -> Self {
        let SharedRevocation { digest, is_token, issued_before, expires_at, by } = *shared;
        Self {
            issuer: String::new(),
            target: RevocationTarget::Learned(LearnedRule { digest, is_token, by }),
            issued_before,
            expires_at: Some(expires_at),
            made_at: now.seconds(),
            revoked_by: None,
        }
    }

    pub(crate) fn is_live(&self, now: UnixTime) -> bool {
        self.rule().is_live(now)
    }
}

/// The earliest `issued_before` that covers all tokens issued until now. The tokens of another issuer have the time of
/// its clock, which may be ahead by its clock skew. Own tokens have the time of this clock, in whole seconds.
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

impl RevokedTokens<'_> {
    fn key(self, issuer: &str) -> Digest {
        match self {
            Self::All => key(issuer, ISSUER, ""),
            Self::OfSubject(subject) => key(issuer, SUBJECT, subject),
            Self::OfClient(client) => key(issuer, CLIENT, client),
            Self::WithId(token_id) => key(issuer, TOKEN, &token_digest(token_id)),
        }
    }
}

impl Revocations {
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// The revocation of a token, by its issuer, client, subject or id. Its own `iss` and `sub` count whatever the entry
    /// says of them now: the revocation may have been made for another entry or by an earlier configuration.
    pub(crate) fn applying_to<'t>(
        &self,
        issuer: &IssuerSettings,
        caller: &'t Caller,
        claims: &'t Claims,
    ) -> Option<AppliedRevocation<'t>> {
        if self.rules.is_empty() {
            return None;
        }
        let configured = issuer.issuer.as_str();
        let others = [issuer.other_name(claims).map(Identity::as_str), claims.issuer.as_deref()];
        let others = others.into_iter().flatten().filter(|other| *other != configured);
        let names: Vec<&str> = others.chain([configured]).collect();
        let applying = |tokens: RevokedTokens<'t>| {
            let mut rules = names.iter().filter_map(|name| self.rules.get(&tokens.key(name)));
            let rule = rules.find(|rule| rule.concerns(claims.issued_at))?;
            Some(AppliedRevocation { tokens, issued_before: rule.issued_before })
        };
        let subjects = [caller.subject.as_ref().map(Identity::as_str), claims.subject.as_deref()];
        let of_subject =
            || subjects.into_iter().flatten().find_map(|subject| applying(RevokedTokens::OfSubject(subject)));
        let of_client = || applying(RevokedTokens::OfClient(caller.client.as_ref()?.as_str()));
        let of_token = || applying(RevokedTokens::WithId(claims.token_id.as_deref()?));
        applying(RevokedTokens::All).or_else(of_subject).or_else(of_client).or_else(of_token)
    }

    /// True if adding this entry changes nothing.
    pub(crate) fn cover(&self, entry: &RevocationEntry) -> bool {
        self.rules.get(&entry.key()).is_some_and(|rule| rule.or(entry.rule()) == *rule)
    }

    /// Whether a rule of the configuration applies to the same tokens. It applies as long as it is configured only.
    pub(crate) fn has_standing(&self, entry: &RevocationEntry) -> bool {
        self.rules.get(&entry.key()).is_some_and(|rule| rule.expires_at.is_none())
    }

    /// The limit that this entry would exceed, if any.
    pub(crate) fn full_for(&self, entry: &RevocationEntry) -> Option<RevocationsFull> {
        let most = if entry.rule().is_token { MAX_WITH_TOKENS } else { MAX_ENTRIES };
        let made = entry.rule().by.and_then(|client| self.by_client.get(&client)).copied().unwrap_or_default();
        let full = match (self.rules.len() >= most, made >= MAX_OF_CLIENT) {
            (true, _) => RevocationsFull::Full,
            (false, true) => RevocationsFull::Share,
            (false, false) => return None,
        };
        (!self.rules.contains_key(&entry.key())).then_some(full)
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

    /// The rules to share with the other replicas: all but those of the configuration.
    pub(super) fn to_share(&self) -> impl Iterator<Item = SharedRevocation> {
        self.rules.iter().filter_map(|(key, rule)| rule.to_share(*key))
    }

    pub(super) fn covers(&self, shared: &SharedRevocation) -> bool {
        let rule = RevocationRule {
            issued_before: shared.issued_before,
            expires_at: Some(shared.expires_at),
            by: shared.by.map(ClientKey),
            is_token: shared.is_token,
        };
        self.rules.get(&shared.digest).is_some_and(|known| known.or(rule) == *known)
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

impl RevocationRule {
    fn concerns(self, issued_at: Option<NumericDate>) -> bool {
        match (self.issued_before, issued_at) {
            (None, _) | (Some(_), None) => true,
            (Some(before), Some(issued)) => issued.rounded_down() < before,
        }
    }

    fn to_share(self, digest: Digest) -> Option<SharedRevocation> {
        let Self { issued_before, expires_at, by, is_token } = self;
        Some(SharedRevocation { digest, is_token, issued_before, expires_at: expires_at?, by: by.map(|by| by.0) })
    }

    fn is_live(self, now: UnixTime) -> bool {
        self.expires_at.is_none_or(|end| now.seconds() < end)
    }

    /// The union of both rules.
    fn or(self, other: Self) -> Self {
        let later = |one: Option<u64>, other: Option<u64>| Some(one?.max(other?));
        Self {
            issued_before: later(self.issued_before, other.issued_before),
            expires_at: later(self.expires_at, other.expires_at),
            by: self.by,
            is_token: self.is_token,
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

/// The times of tokens are rounded down to whole seconds, so that a limit has to be rounded up.
fn seconds_rounded_up(time: UnixTime) -> u64 {
    time.plus(Duration::from_millis(999)).seconds()
}

#[cfg(test)]
mod tests;
