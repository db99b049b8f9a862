//! Decides when signing keys are made, begin to sign, and are removed. Pure, so that tests can run a year of rotations
//! in milliseconds.
//!
//! A key is published before it signs, for longer than a verifier may cache an older JWK Set. It stays published until
//! the last token that it signed has expired.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::jose::algorithm::Algorithm;

/// The configured rules for keys and tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RotationRules {
    pub(crate) algorithm: Algorithm,
    /// `None`: only by hand.
    pub(crate) rotate_every: Option<Duration>,
    /// The longest lifetime of any client's tokens.
    pub(crate) longest_ttl: Duration,
    /// Whether the end of a key is fixed at its creation, because a gateway may not learn of the next key.
    pub(crate) fixed_ends: bool,
}

/// The metadata of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRecord {
    pub(crate) key_id: String,
    /// Of a key that has the name of an operator's file as its id. `None`: the key id is the thumbprint.
    pub(crate) thumbprint: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) made_at: UnixTime,
    pub(crate) signs_from: UnixTime,
    pub(crate) signs_until: SigningEnd,
    /// The longest lifetime of the tokens that it has signed.
    pub(crate) token_ttl: Duration,
    /// The time for which verifiers may cache a JWK Set without its successor.
    pub(crate) max_age: Duration,
}

/// The end of the interval in which a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SigningEnd {
    /// When the next key signs. All gateways that use the key know the next one at the same time.
    WithNext,
    At(UnixTime),
    /// When it is retired by hand.
    Never,
}

/// A step that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Make {
        signs_from: UnixTime,
    },
    /// The lifetime of tokens or the cache time is now longer than when the key was made.
    Lengthen {
        key_id: String,
    },
    Remove {
        key_id: String,
    },
}

/// A key with a later time was made with a wrong clock.
const CLOCK_STEP: Duration = Duration::from_secs(60);
/// Verifiers could not follow shorter intervals.
pub(crate) const SHORTEST_ROTATION: Duration = Duration::from_secs(5);
/// Some verifiers read no more keys from a JWK Set.
pub(crate) const MAX_PUBLISHED: u64 = 64;
/// Far more than any change needs.
const MAX_STEPS: usize = 256;
const MIN_MAX_AGE: Duration = Duration::from_secs(1);
const MAX_MAX_AGE: Duration = Duration::from_secs(300);
/// PyJWT and jose refetch for a missing key every 30 seconds at most.
const VERIFIER_RETRY: Duration = Duration::from_secs(35);
/// The time to make and write a key, and for other processes to read it.
const MIN_SLACK: Duration = Duration::from_secs(3);
/// A key with a fixed end may sign for this time after the next key is due to sign, in case that key cannot be created
/// or read. At most the interval of rotation.
const LONGEST_RESERVE: Duration = Duration::from_secs(24 * 3600);
/// The tolerance for differences between the clocks of the gateway and of verifiers.
const AFTER_EXPIRY: Duration = Duration::from_secs(90);

impl KeyRecord {
    /// RFC 7638.
    pub(crate) fn thumbprint(&self) -> &str {
        self.thumbprint.as_deref().unwrap_or(&self.key_id)
    }

    /// The ids under which it is published. A key with a name is published under its thumbprint too: tokens may have
    /// that key id, from a gateway that has used the same key without its name.
    pub(crate) fn key_ids(&self) -> impl Iterator<Item = &str> {
        [self.key_id.as_str()].into_iter().chain(self.thumbprint.as_deref())
    }

    /// Whether its fixed end has come.
    fn is_over(&self, now: UnixTime) -> bool {
        match self.signs_until {
            SigningEnd::At(end) => end <= now,
            SigningEnd::WithNext | SigningEnd::Never => false,
        }
    }

    /// Extends the times to those of the rules. Never shortens them.
    pub(crate) fn lengthen(&mut self, rules: &RotationRules) {
        self.token_ttl = self.token_ttl.max(rules.longest_ttl);
        self.max_age = self.max_age.max(rules.max_age());
    }
}

impl RotationRules {
    /// The time for which verifiers may cache the JWK Set.
    pub(crate) fn max_age(&self) -> Duration {
        self.rotate_every.map_or(MAX_MAX_AGE, |every| (every / 10).clamp(MIN_MAX_AGE, MAX_MAX_AGE))
    }

    /// The time for which a key is published before it signs. Longer than verifiers may cache the JWK Set and, if the
    /// interval allows it, longer than common verifiers wait before they refetch for a missing key.
    pub(crate) fn lead(&self) -> Duration {
        let room = self.rotate_every.map_or(VERIFIER_RETRY, |every| every * 4 / 5);
        (self.max_age() + (self.max_age() / 2).max(MIN_SLACK)).max(room.min(VERIFIER_RETRY))
    }

    /// The end of a key that signs from this time.
    pub(crate) fn signing_end(&self, signs_from: UnixTime) -> SigningEnd {
        match self.rotate_every {
            _ if !self.fixed_ends => SigningEnd::WithNext,
            Some(every) => SigningEnd::At(signs_from.plus(every + self.reserve())),
            None => SigningEnd::Never,
        }
    }

    fn reserve(&self) -> Duration {
        self.rotate_every.filter(|_| self.fixed_ends).unwrap_or_default().min(LONGEST_RESERVE)
    }

    /// The maximum number of published keys, if none are made by hand.
    pub(crate) fn published(&self) -> u64 {
        let Some(every) = self.rotate_every else { return 2 };
        let lives = self.lead() + self.reserve() + self.longest_ttl + AFTER_EXPIRY;
        lives.as_secs().div_ceil(every.as_secs().max(1)) + 2
    }
}

/// The number of entries of the JWK Set.
pub(crate) fn published(records: &[KeyRecord]) -> u64 {
    records.iter().map(|record| record.key_ids().count() as u64).sum()
}

/// The key that signs at `now`: the latest whose time has come and is not over. `None`: none may sign. Without fixed ends
/// there is always one, also if the clock was set back.
pub(crate) fn signer(records: &[KeyRecord], now: UnixTime) -> Option<&KeyRecord> {
    let ordered = by_signing_time(records);
    let begun = ordered.iter().rev().find(|record| record.signs_from <= now && !record.is_over(now));
    let first = || ordered.iter().find(|record| record.signs_until == SigningEnd::WithNext);
    begun.or_else(first).copied()
}

/// The time at which a former signing key is removed. `None` if it has no end yet.
pub(crate) fn retires_at(records: &[KeyRecord], key_id: &str) -> Option<UnixTime> {
    let ordered = by_signing_time(records);
    let at = ordered.iter().position(|record| record.key_id == key_id)?;
    let end = match ordered[at].signs_until {
        SigningEnd::WithNext => ordered.get(at + 1)?.signs_from,
        SigningEnd::At(end) => end,
        SigningEnd::Never => return None,
    };
    Some(end.plus(ordered[at].token_ttl + AFTER_EXPIRY))
}

/// The first step that is due, if any.
pub(crate) fn next_step(records: &[KeyRecord], rules: &RotationRules, now: UnixTime) -> Option<Step> {
    let ordered = by_signing_time(records);
    // A full ring waits until a key is removed.
    if published(records) < MAX_PUBLISHED
        && let Some(signs_from) = due(&ordered, rules, now)
    {
        return Some(Step::Make { signs_from });
    }
    let signs_on = |record: &KeyRecord| match record.signs_until {
        SigningEnd::WithNext => !is_succeeded(&ordered, record, now),
        SigningEnd::At(_) | SigningEnd::Never => !record.is_over(now),
    };
    let shorter = |record: &KeyRecord| record.token_ttl < rules.longest_ttl || record.max_age < rules.max_age();
    if let Some(record) = ordered.iter().find(|record| signs_on(record) && shorter(record)) {
        return Some(Step::Lengthen { key_id: record.key_id.clone() });
    }
    let over = |record: &&&KeyRecord| retires_at(records, &record.key_id).is_some_and(|at| at <= now);
    ordered.iter().find(over).map(|record| Step::Remove { key_id: record.key_id.clone() })
}

/// Takes every step that is due. `make` makes a key that signs from a time. Returns the removed records.
pub(crate) fn take_due_steps<E>(
    records: &mut Vec<KeyRecord>,
    rules: &RotationRules,
    now: UnixTime,
    mut make: impl FnMut(UnixTime) -> Result<KeyRecord, E>,
) -> Result<Vec<KeyRecord>, E> {
    let mut removed = Vec::new();
    for _ in 0..MAX_STEPS {
        match next_step(records, rules, now) {
            None => break,
            Some(Step::Make { signs_from }) => records.push(make(signs_from)?),
            Some(Step::Lengthen { key_id }) => {
                records.iter_mut().filter(|record| record.key_id == key_id).for_each(|record| record.lengthen(rules));
            }
            Some(Step::Remove { key_id }) => removed.extend(records.extract_if(.., |record| record.key_id == key_id)),
        }
    }
    Ok(removed)
}

/// The time from which a key that has to be made now will sign. `None` if no key has to be made.
fn due(ordered: &[&KeyRecord], rules: &RotationRules, now: UnixTime) -> Option<UnixTime> {
    // A key that was made with a clock ahead must not count as a rotation.
    let Some(newest) = ordered.iter().rev().find(|record| record.made_at <= now.plus(CLOCK_STEP)) else {
        return Some(now);
    };
    // The cache time is the one of the last publisher, whose rules may have been different.
    let published_first = now.plus(rules.lead().max(newest.max_age * 3 / 2));
    // All have ended: tokens of an unpublished key are better than none, and verifiers fetch it when they see them.
    if ordered.iter().all(|record| record.is_over(now)) {
        return Some(now);
    }
    if newest.algorithm != rules.algorithm {
        // A key that does not sign yet comes first. So gateways with different rules, during a rollout, do not make one
        // key after the other.
        return (newest.signs_from <= now).then_some(published_first);
    }
    let due = newest.signs_from.plus(rules.rotate_every?);
    (due <= published_first).then(|| due.max(published_first))
}

/// The time from which a key that is made by hand now will sign: at once, or as soon as verifiers can know it.
pub(crate) fn signs_from(records: &[KeyRecord], rules: &RotationRules, now: UnixTime, at_once: bool) -> UnixTime {
    if at_once || records.is_empty() { now } else { now.plus(rules.lead()) }
}

/// Sorted by the time from which they sign.
fn by_signing_time(records: &[KeyRecord]) -> Vec<&KeyRecord> {
    let mut ordered: Vec<_> = records.iter().collect();
    // A stable sort: of two keys with the same second, the one made later comes later.
    ordered.sort_by_key(|record| record.signs_from);
    ordered
}

fn is_succeeded(ordered: &[&KeyRecord], record: &KeyRecord, now: UnixTime) -> bool {
    let next = ordered.iter().skip_while(|other| other.key_id != record.key_id).nth(1);
    next.is_some_and(|next| next.signs_from <= now)
}

#[cfg(test)]
mod tests;
