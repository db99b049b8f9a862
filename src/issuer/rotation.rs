//! When keys are made, begin to sign, and go: pure, so that a year of rotations is a test of milliseconds.
//!
//! A key is published before it signs, for longer than any verifier may keep an older JWK Set, and stays published after it
//! has signed its last token until that has expired everywhere.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::jose::algorithm::Algorithm;

/// What the configuration says of keys and of the tokens that they sign.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RotationRules {
    pub(crate) algorithm: Algorithm,
    /// `None`: only when told to.
    pub(crate) rotate_every: Option<Duration>,
    /// Of all clients' tokens.
    pub(crate) longest_ttl: Duration,
}

/// What is known of a key besides the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRecord {
    pub(crate) key_id: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) made_at: UnixTime,
    /// Signs from then on, until the next key does.
    pub(crate) signs_from: UnixTime,
    /// No token that it has signed lives longer.
    pub(crate) token_ttl: Duration,
    /// Verifiers may have kept a set without its successor for so long.
    pub(crate) max_age: Duration,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Make {
        signs_from: UnixTime,
    },
    /// Tokens live longer, or the set is kept longer, than when the key was made.
    Lengthen {
        key_id: String,
    },
    Remove {
        key_id: String,
    },
}

/// A key from further in the future was made by a wrong clock.
const CLOCK_STEP: Duration = Duration::from_secs(60);
/// More often makes no sense: a verifier could not follow.
pub(crate) const SHORTEST_ROTATION: Duration = Duration::from_secs(5);
/// Verifiers are known to read no more from a JWK Set.
pub(crate) const MAX_PUBLISHED: u64 = 64;
const MIN_MAX_AGE: Duration = Duration::from_secs(1);
const MAX_MAX_AGE: Duration = Duration::from_secs(300);
/// PyJWT and jose look for a missing key every 30 seconds at most.
const LOOK_AGAIN: Duration = Duration::from_secs(35);
/// For the key to be made, written and read by other processes that share the folder.
const MIN_SLACK: Duration = Duration::from_secs(3);
/// Verifiers' clocks, and ours, may be wrong by so much.
const AFTER_EXPIRY: Duration = Duration::from_secs(90);

impl KeyRecord {
    /// Stays as long as these rules want, and no shorter than before.
    pub(crate) fn lengthen(&mut self, rules: &RotationRules) {
        self.token_ttl = self.token_ttl.max(rules.longest_ttl);
        self.max_age = self.max_age.max(rules.max_age());
    }
}

impl RotationRules {
    /// How long verifiers may keep our JWK Set.
    pub(crate) fn max_age(&self) -> Duration {
        self.rotate_every.map_or(MAX_MAX_AGE, |every| (every / 10).clamp(MIN_MAX_AGE, MAX_MAX_AGE))
    }

    /// How long a key is published before it signs: longer than verifiers may keep our JWK Set, and where the schedule has room,
    /// longer than common ones wait before they look again for a key that they miss.
    pub(crate) fn lead(&self) -> Duration {
        let room = self.rotate_every.map_or(LOOK_AGAIN, |every| every * 4 / 5);
        (self.max_age() + (self.max_age() / 2).max(MIN_SLACK)).max(room.min(LOOK_AGAIN))
    }

    /// How many keys are published at once, at most, where nobody makes any by hand.
    pub(crate) fn published(&self) -> u64 {
        let Some(every) = self.rotate_every else { return 2 };
        let lives = self.lead() + self.longest_ttl + AFTER_EXPIRY;
        lives.as_secs().div_ceil(every.as_secs().max(1)) + 2
    }
}

/// The key that signs at `now`: the latest that may; the first to come where none may yet, since somebody has to sign.
pub(crate) fn signer(records: &[KeyRecord], now: UnixTime) -> Option<&KeyRecord> {
    let begun = in_line(records).into_iter().rev().find(|record| record.signs_from <= now);
    begun.or_else(|| in_line(records).into_iter().next())
}

/// When a key that does not sign any more goes; `None` while it signs or is still to sign.
pub(crate) fn retires_at(records: &[KeyRecord], key_id: &str) -> Option<UnixTime> {
    let line = in_line(records);
    let at = line.iter().position(|record| record.key_id == key_id)?;
    Some(line.get(at + 1)?.signs_from.plus(line[at].token_ttl + AFTER_EXPIRY))
}

/// The first of the steps that are due, until there are none.
pub(crate) fn next_step(records: &[KeyRecord], rules: &RotationRules, now: UnixTime) -> Option<Step> {
    let line = in_line(records);
    if let Some(signs_from) = due(&line, rules, now) {
        return Some(Step::Make { signs_from });
    }
    let signs_on = |record: &KeyRecord| !is_succeeded(&line, record, now);
    let shorter = |record: &KeyRecord| record.token_ttl < rules.longest_ttl || record.max_age < rules.max_age();
    if let Some(record) = line.iter().find(|record| signs_on(record) && shorter(record)) {
        return Some(Step::Lengthen { key_id: record.key_id.clone() });
    }
    let over = |record: &&&KeyRecord| retires_at(records, &record.key_id).is_some_and(|at| at <= now);
    line.iter().find(over).map(|record| Step::Remove { key_id: record.key_id.clone() })
}

/// When a key that has to be made now is to sign; `None` where the keys at hand will do. A ring that is full waits for room, which
/// comes with every key that goes.
fn due(line: &[&KeyRecord], rules: &RotationRules, now: UnixTime) -> Option<UnixTime> {
    if line.len() as u64 >= MAX_PUBLISHED {
        return None;
    }
    // What a clock that was ahead has made must not stand for a rotation that never came.
    let Some(newest) = line.iter().rev().find(|record| record.made_at <= now.plus(CLOCK_STEP)) else {
        return Some(now);
    };
    // The set may be kept as long as its last publisher said, which was under other rules if they have changed.
    let published_first = now.plus(rules.lead().max(newest.max_age * 3 / 2));
    if newest.algorithm != rules.algorithm {
        // What is still to sign goes first. So gateways that disagree, as while a change is rolled out, make a key now and then
        // and not one after the other.
        return (newest.signs_from <= now).then_some(published_first);
    }
    let due = newest.signs_from.plus(rules.rotate_every?);
    (due <= published_first).then(|| due.max(published_first))
}

/// When a key signs that is made now by hand: at once, or as soon as verifiers can know it.
pub(crate) fn signs_from(records: &[KeyRecord], rules: &RotationRules, now: UnixTime, at_once: bool) -> UnixTime {
    if at_once || records.is_empty() { now } else { now.plus(rules.lead()) }
}

/// In the order in which they sign.
fn in_line(records: &[KeyRecord]) -> Vec<&KeyRecord> {
    let mut line: Vec<_> = records.iter().collect();
    // Stable: of two keys from the same second, the one made later comes later.
    line.sort_by_key(|record| record.signs_from);
    line
}

fn is_succeeded(line: &[&KeyRecord], record: &KeyRecord, now: UnixTime) -> bool {
    let next = line.iter().skip_while(|other| other.key_id != record.key_id).nth(1);
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
                    records.push(KeyRecord { key_id, algorithm, made_at: now, signs_from, token_ttl, max_age });
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
    fn every_key_is_known_before_it_signs_and_until_its_last_token_has_expired() {
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
    fn another_algorithm_signs_once_its_key_is_known_and_the_old_one_stays_for_its_tokens() {
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
    fn a_key_that_signed_longer_tokens_stays_for_them_when_the_configuration_shortens() {
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
    fn a_change_of_algorithm_while_a_key_waits_makes_one_key_and_no_more() {
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
    fn gateways_that_disagree_about_the_algorithm_make_a_key_now_and_then() {
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
    fn a_schedule_that_was_shortened_waits_for_those_who_keep_the_set_as_they_were_told_before() {
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
