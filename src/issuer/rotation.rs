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
}

/// The metadata of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRecord {
    pub(crate) key_id: String,
    /// Of a key that has the name of an operator's file as its id. `None`: the key id is the thumbprint.
    pub(crate) thumbprint: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) made_at: UnixTime,
    /// It signs from this time until the next key does.
    pub(crate) signs_from: UnixTime,
    /// The longest lifetime of the tokens that it has signed.
    pub(crate) token_ttl: Duration,
    /// The time for which verifiers may cache a JWK Set without its successor.
    pub(crate) max_age: Duration,
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
const MIN_MAX_AGE: Duration = Duration::from_secs(1);
const MAX_MAX_AGE: Duration = Duration::from_secs(300);
/// PyJWT and jose refetch for a missing key every 30 seconds at most.
const VERIFIER_RETRY: Duration = Duration::from_secs(35);
/// The time to make and write a key, and for other processes to read it.
const MIN_SLACK: Duration = Duration::from_secs(3);
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

    /// The maximum number of published keys, if none are made by hand.
    pub(crate) fn published(&self) -> u64 {
        let Some(every) = self.rotate_every else { return 2 };
        let lives = self.lead() + self.longest_ttl + AFTER_EXPIRY;
        lives.as_secs().div_ceil(every.as_secs().max(1)) + 2
    }
}

/// The number of entries of the JWK Set.
pub(crate) fn published(records: &[KeyRecord]) -> u64 {
    records.iter().map(|record| record.key_ids().count() as u64).sum()
}

/// The key that signs at `now`: the latest whose time has come, or else the earliest.
pub(crate) fn signer(records: &[KeyRecord], now: UnixTime) -> Option<&KeyRecord> {
    let begun = by_signing_time(records).into_iter().rev().find(|record| record.signs_from <= now);
    begun.or_else(|| by_signing_time(records).into_iter().next())
}

/// The time at which a former signing key is removed. `None` if it signs, or does not sign yet.
pub(crate) fn retires_at(records: &[KeyRecord], key_id: &str) -> Option<UnixTime> {
    let ordered = by_signing_time(records);
    let at = ordered.iter().position(|record| record.key_id == key_id)?;
    Some(ordered.get(at + 1)?.signs_from.plus(ordered[at].token_ttl + AFTER_EXPIRY))
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
    let signs_on = |record: &KeyRecord| !is_succeeded(&ordered, record, now);
    let shorter = |record: &KeyRecord| record.token_ttl < rules.longest_ttl || record.max_age < rules.max_age();
    if let Some(record) = ordered.iter().find(|record| signs_on(record) && shorter(record)) {
        return Some(Step::Lengthen { key_id: record.key_id.clone() });
    }
    let over = |record: &&&KeyRecord| retires_at(records, &record.key_id).is_some_and(|at| at <= now);
    ordered.iter().find(over).map(|record| Step::Remove { key_id: record.key_id.clone() })
}

/// The time from which a key that has to be made now will sign. `None` if no key has to be made.
fn due(ordered: &[&KeyRecord], rules: &RotationRules, now: UnixTime) -> Option<UnixTime> {
    // A key that was made with a clock ahead must not count as a rotation.
    let Some(newest) = ordered.iter().rev().find(|record| record.made_at <= now.plus(CLOCK_STEP)) else {
        return Some(now);
    };
    // The cache time is the one of the last publisher, whose rules may have been different.
    let published_first = now.plus(rules.lead().max(newest.max_age * 3 / 2));
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
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn rules(rotate_every: Option<Duration>) -> RotationRules {
        RotationRules { algorithm: Algorithm::Es256, rotate_every, longest_ttl: HOUR }
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(1_800_000_000 + seconds)
    }

    /// Does what is due, as the store would; gives how many keys were made.
    fn tend(records: &mut Vec<KeyRecord>, rules: &RotationRules, now: UnixTime) -> usize {
        let mut made = 0;
        while let Some(step) = next_step(records, rules, now) {
            match step {
                Step::Make { signs_from } => {
                    made += 1;
                    let key_id = format!("{}-{made}", now.seconds());
                    let (algorithm, token_ttl, max_age) = (rules.algorithm, rules.longest_ttl, rules.max_age());
                    let thumbprint = None;
                    records.push(KeyRecord {
                        key_id,
                        thumbprint,
                        algorithm,
                        made_at: now,
                        signs_from,
                        token_ttl,
                        max_age,
                    });
                }
                Step::Lengthen { key_id } => {
                    records.iter_mut().filter(|record| record.key_id == key_id).for_each(|r| r.lengthen(rules));
                }
                Step::Remove { key_id } => records.retain(|record| record.key_id != key_id),
            }
        }
        made
    }

    #[test]
    fn the_first_key_signs_at_once() {
        let mut records = Vec::new();
        assert_eq!(tend(&mut records, &rules(Some(DAY * 30)), at(0)), 1);
        assert_eq!(signer(&records, at(0)), records.first());
    }

    #[test]
    fn every_key_is_published_before_it_signs_until_its_last_token() {
        for every in [5, 60, 600, 86_400, 30 * 86_400].map(Duration::from_secs) {
            let rules = RotationRules { longest_ttl: every * 10, ..rules(Some(every)) };
            let tick = (every.as_secs() / 20).max(1);
            let mut records = Vec::new();
            let mut signed_last: Vec<(String, UnixTime)> = Vec::new();
            for tick in (0..2000).map(|number| number * tick) {
                let now = at(tick);
                tend(&mut records, &rules, now);
                let signer = signer(&records, now).unwrap();
                if signed_last.last().is_none_or(|(key_id, _)| *key_id != signer.key_id) {
                    let published = Duration::from_secs(now.seconds() - signer.made_at.seconds());
                    assert!(published > rules.max_age() || signed_last.is_empty(), "{every:?}: {published:?}");
                    signed_last.push((signer.key_id.clone(), now));
                }
                signed_last.last_mut().unwrap().1 = now;
                for (key_id, last) in &signed_last {
                    let lives = last.plus(rules.longest_ttl + Duration::from_secs(30)) >= now;
                    let published = records.iter().any(|record| record.key_id == *key_id);
                    assert!(published || !lives, "{every:?}: {key_id} went too early");
                }
                assert!(records.len() as u64 <= rules.published(), "{every:?}: {} keys", records.len());
            }
            assert!(signed_last.len() > 90, "{every:?}: {} rotations", signed_last.len());
        }
    }

    #[test]
    fn without_a_schedule_the_key_stays() {
        let mut records = Vec::new();
        tend(&mut records, &rules(None), at(0));
        assert_eq!(tend(&mut records, &rules(None), at(10 * 365 * 86_400)), 0);
        assert_eq!(records.len(), 1);
    }

    #[test]
    fn a_new_algorithm_signs_once_known_and_the_old_key_stays() {
        let mut records = Vec::new();
        tend(&mut records, &rules(None), at(0));
        let after = RotationRules { algorithm: Algorithm::EdDsa, ..rules(None) };
        assert_eq!(tend(&mut records, &after, at(1000)), 1);
        assert_eq!(signer(&records, at(1000)).unwrap().algorithm, Algorithm::Es256);
        assert_eq!(signer(&records, at(1000).plus(after.lead())).unwrap().algorithm, Algorithm::EdDsa);
        tend(&mut records, &after, at(1000).plus(after.lead() + HOUR));
        assert_eq!(records.len(), 2);
        tend(&mut records, &after, at(1000).plus(after.lead() + HOUR + AFTER_EXPIRY));
        assert_eq!(records.len(), 1);
    }

    #[test]
    fn a_key_of_longer_tokens_stays_when_the_ttl_is_shortened() {
        let mut records = Vec::new();
        let long = RotationRules { longest_ttl: DAY, ..rules(Some(DAY)) };
        tend(&mut records, &long, at(0));
        let short = rules(Some(DAY));
        let turn = at(0).plus(DAY);
        tend(&mut records, &short, turn);
        tend(&mut records, &short, turn.plus(DAY / 2));
        assert_eq!(records.len(), 2, "the old key went before its tokens");
    }

    #[test]
    fn a_new_algorithm_while_a_key_waits_makes_one_key_only() {
        let mut records = Vec::new();
        let long = rules(Some(DAY * 30));
        tend(&mut records, &long, at(0));
        let turn = at(0).plus(DAY * 30 - long.lead());
        assert_eq!(tend(&mut records, &long, turn), 1);
        let other = RotationRules { algorithm: Algorithm::EdDsa, ..rules(Some(Duration::from_secs(300))) };
        let made: usize =
            (0..2000).map(|second| tend(&mut records, &other, turn.plus(Duration::from_secs(second)))).sum();
        assert!((1..=8).contains(&made), "{made}");
        assert_eq!(signer(&records, turn.plus(HOUR)).unwrap().algorithm, Algorithm::EdDsa);
    }

    #[test]
    fn gateways_with_different_algorithms_make_few_keys() {
        let mut records = Vec::new();
        let one = rules(Some(DAY * 30));
        let other = RotationRules { algorithm: Algorithm::EdDsa, ..one };
        let each =
            |records: &mut Vec<KeyRecord>, second| tend(records, &one, at(second)) + tend(records, &other, at(second));
        let made: usize = (0..7200).map(|second| each(&mut records, second)).sum();
        assert!(made < 20, "{made} keys in two hours");
        assert!(records.len() < 16, "{} keys at once", records.len());
    }

    #[test]
    fn a_shortened_schedule_waits_for_the_published_cache_time() {
        let mut records = Vec::new();
        tend(&mut records, &rules(Some(DAY * 30)), at(0));
        let short = rules(Some(Duration::from_secs(300)));
        let turn = at(0).plus(DAY * 10);
        tend(&mut records, &short, turn);
        assert_eq!(signer(&records, turn.plus(Duration::from_secs(300))).unwrap().made_at, at(0));
        assert_eq!(signer(&records, turn.plus(Duration::from_secs(451))).unwrap().made_at, turn);
    }

    #[test]
    fn a_clock_that_was_ahead_for_a_moment_does_not_end_rotation() {
        let mut records = Vec::new();
        let rules = rules(Some(DAY));
        tend(&mut records, &rules, at(0));
        tend(&mut records, &rules, at(0).plus(DAY * 365));
        let back = at(0).plus(DAY * 2);
        records.retain(|record| record.made_at > at(0));
        assert_eq!(tend(&mut records, &rules, back), 1);
        assert_eq!(signer(&records, back.plus(HOUR)).unwrap().made_at, back);
    }

    #[test]
    fn a_full_ring_waits_for_room() {
        let mut records = Vec::new();
        let rules = RotationRules { longest_ttl: DAY, ..rules(Some(Duration::from_secs(60))) };
        let made: usize = (0..10_000).map(|second| tend(&mut records, &rules, at(second))).sum();
        assert!(made as u64 >= MAX_PUBLISHED);
        assert_eq!(records.len() as u64, MAX_PUBLISHED);
    }

    #[test]
    fn a_key_signs_longer_tokens_only_once_it_stays_for_them() {
        let mut records = Vec::new();
        tend(&mut records, &rules(None), at(0));
        let long = RotationRules { longest_ttl: DAY, ..rules(None) };
        tend(&mut records, &long, at(10));
        assert_eq!(records[0].token_ttl, DAY);
    }

    #[test]
    fn a_clock_that_was_set_back_leaves_a_key_that_signs() {
        let mut records = Vec::new();
        tend(&mut records, &rules(Some(DAY)), at(100_000));
        assert!(signer(&records, at(0)).is_some());
    }

    #[test]
    fn the_example_rotations_keep_their_sets_small() {
        for (every, ttl, most) in [(30 * 86_400, 3600, 3), (86_400, 86_400, 4), (5, 60, 64)] {
            let rules =
                RotationRules { longest_ttl: Duration::from_secs(ttl), ..rules(Some(Duration::from_secs(every))) };
            assert!(rules.published() <= most, "{every}: {}", rules.published());
        }
    }
}
