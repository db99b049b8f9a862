use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn rules(rotate_every: Option<Duration>) -> RotationRules {
    RotationRules { algorithm: Algorithm::Es256, rotate_every, longest_ttl: HOUR, fixed_ends: false }
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
                    signs_until: rules.signing_end(signs_from),
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
    let made: usize = (0..2000).map(|second| tend(&mut records, &other, turn.plus(Duration::from_secs(second)))).sum();
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
        let rules = RotationRules { longest_ttl: Duration::from_secs(ttl), ..rules(Some(Duration::from_secs(every))) };
        assert!(rules.published() <= most, "{every}: {}", rules.published());
    }
}

fn fixed(rotate_every: Option<Duration>) -> RotationRules {
    RotationRules { fixed_ends: true, ..rules(rotate_every) }
}

#[test]
fn a_key_with_a_fixed_end_never_signs_after_it() {
    let mut records = Vec::new();
    let rules = fixed(Some(Duration::from_secs(30)));
    tend(&mut records, &rules, at(0));
    assert!(signer(&records, at(59)).is_some());
    assert_eq!(signer(&records, at(60)), None);
    assert_eq!(signer(&[], at(0)), None);
    let waiting = KeyRecord { signs_from: at(100), signs_until: SigningEnd::At(at(200)), ..records.remove(0) };
    assert_eq!(signer(&[waiting], at(50)), None, "it signed before its time");
}

#[test]
fn a_key_is_published_until_the_last_token_of_its_fixed_end() {
    let mut records = Vec::new();
    let every = Duration::from_secs(30);
    let rules = RotationRules { longest_ttl: Duration::from_secs(60), ..fixed(Some(every)) };
    tend(&mut records, &rules, at(0));
    let first = records[0].key_id.clone();
    for second in 1..1000 {
        tend(&mut records, &rules, at(second));
        assert!(signer(&records, at(second)).is_some_and(|signer| signer.signs_from.plus(every) >= at(second)));
        assert!(records.iter().any(|record| record.key_id == first) || second >= 60 + 60 + 90, "{second}");
        assert!(records.len() as u64 <= rules.published(), "{second}: {}", records.len());
    }
}

#[test]
fn keys_that_have_all_ended_are_followed_at_once() {
    let mut records = Vec::new();
    let rules = fixed(Some(Duration::from_secs(300)));
    tend(&mut records, &rules, at(0));
    tend(&mut records, &rules, at(10_000));
    assert!(signer(&records, at(10_000)).is_some_and(|signer| signer.signs_from == at(10_000)));
}

#[test]
fn a_key_without_a_schedule_stays_until_it_is_retired() {
    let mut records = Vec::new();
    let rules = fixed(None);
    tend(&mut records, &rules, at(0));
    let next = at(10);
    records.push(KeyRecord { key_id: "next".to_owned(), signs_from: next, ..records[0].clone() });
    tend(&mut records, &rules, at(400 * 86_400));
    assert_eq!((records.len(), signer(&records, next).map(|signer| &*signer.key_id)), (2, Some("next")));
}
