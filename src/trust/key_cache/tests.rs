use super::*;
use crate::jose::signing::SigningKey;

fn key() -> Arc<VerifyingKey> {
    Arc::new(SigningKey::generate(Algorithm::Es256).unwrap().0.verifying_key().unwrap())
}

fn publish(cache: &KeyCache, key: &Arc<VerifyingKey>) {
    publish_as_of(cache, key, Instant::now());
}

fn publish_as_of(cache: &KeyCache, key: &Arc<VerifyingKey>, requested_at: Instant) {
    let times = Times::new(requested_at, Duration::from_secs(600), Duration::from_secs(3000));
    cache.publish(KeySet::from_keys(vec![Arc::clone(key)]), times);
}

fn named(key: &VerifyingKey) -> KeyReference<'_> {
    KeyReference::Id(key.key_id.as_deref().unwrap())
}

async fn find(cache: &KeyCache, key: &VerifyingKey) -> KeyLookup {
    cache.find(named(key), Algorithm::Es256).await
}

#[tokio::test(start_paused = true)]
async fn a_young_set_is_believed_as_it_is() {
    let (cache, known, unknown) = (KeyCache::remote(), key(), key());
    publish(&cache, &known);
    assert!(matches!(find(&cache, &known).await, KeyLookup::Found(_)));
    let before = Instant::now();
    assert!(matches!(find(&cache, &unknown).await, KeyLookup::Unknown));
    assert_eq!(before, Instant::now());
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_waits_for_one_refetch_of_an_older_set() {
    let (cache, old, new) = (Arc::new(KeyCache::remote()), key(), key());
    publish(&cache, &old);
    tokio::time::advance(BELIEVED_FOR).await;
    let refresher = async {
        cache.wanted().await;
        publish(&cache, &new);
    };
    let ((), first, second) = tokio::join!(refresher, find(&cache, &new), find(&cache, &new));
    assert!(matches!((first, second), (KeyLookup::Found(_), KeyLookup::Found(_))));
    assert!(!cache.is_current(&old, Instant::now()), "a removed key is accepted");
}

#[tokio::test(start_paused = true)]
async fn a_refetch_is_waited_for_two_seconds_at_most() {
    let cache = KeyCache::remote();
    let before = Instant::now();
    assert!(matches!(find(&cache, &key()).await, KeyLookup::Unavailable));
    assert_eq!(before.elapsed(), MAX_WAIT);
}

#[tokio::test(start_paused = true)]
async fn a_refetch_that_fails_is_cannot_tell_and_never_unknown() {
    let (cache, known) = (KeyCache::remote(), key());
    publish(&cache, &known);
    tokio::time::advance(BELIEVED_FOR).await;
    let refresher = async {
        cache.wanted().await;
        cache.publish_failure(Instant::now());
    };
    let ((), lookup) = tokio::join!(refresher, cache.find(KeyReference::Id("other"), Algorithm::Es256));
    assert!(matches!(lookup, KeyLookup::Unavailable));
    assert!(matches!(find(&cache, &known).await, KeyLookup::Found(_)), "the last known good set is gone");
}

#[tokio::test(start_paused = true)]
async fn a_set_beyond_its_time_is_not_believed() {
    let (cache, known) = (KeyCache::remote(), key());
    publish(&cache, &known);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(!cache.is_current(&known, Instant::now()));
    assert!(matches!(find(&cache, &known).await, KeyLookup::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn the_1025th_waiter_is_not_kept() {
    let cache = KeyCache::remote();
    let places: Vec<_> = (0..MAX_WAITERS).map(|_| cache.waiters.try_acquire().unwrap()).collect();
    let before = Instant::now();
    assert!(matches!(find(&cache, &key()).await, KeyLookup::Unavailable));
    assert_eq!(before, Instant::now());
    drop(places);
}

#[tokio::test(start_paused = true)]
async fn a_key_missed_in_a_young_set_is_remembered_until_the_next_set() {
    let (cache, known) = (KeyCache::remote(), key());
    publish(&cache, &known);
    assert!(tokio::time::timeout(Duration::from_secs(60), cache.wanted()).await.is_err(), "no key was missed");
    publish(&cache, &known);
    assert!(matches!(find(&cache, &key()).await, KeyLookup::Unknown));
    cache.wanted().await;
    publish(&cache, &known);
    assert!(tokio::time::timeout(Duration::from_secs(60), cache.wanted()).await.is_err(), "the miss was handled");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_out_of_date_when_it_comes_is_not_the_last_word() {
    let (cache, old, new) = (Arc::new(KeyCache::remote()), key(), key());
    publish(&cache, &old);
    tokio::time::advance(Duration::from_secs(60)).await;
    let slow_then_quick = async {
        cache.wanted().await;
        publish_as_of(&cache, &old, Instant::now() - Duration::from_secs(6));
        cache.wanted().await;
        publish(&cache, &new);
    };
    let ((), lookup) = tokio::join!(slow_then_quick, find(&cache, &new));
    assert!(matches!(lookup, KeyLookup::Found(_)), "{lookup:?}");
}

#[tokio::test(start_paused = true)]
async fn known_keys_are_found_at_once_however_long_a_fetch_takes() {
    let (cache, known) = (KeyCache::remote(), key());
    publish(&cache, &known);
    for _ in 0..100 {
        tokio::time::advance(Duration::from_secs(6)).await;
        let before = Instant::now();
        assert!(matches!(find(&cache, &known).await, KeyLookup::Found(_)));
        assert_eq!(before, Instant::now());
    }
}

#[tokio::test(start_paused = true)]
async fn look_ups_in_a_stale_set_are_counted() {
    let (cache, known) = (KeyCache::remote(), key());
    publish(&cache, &known);
    tokio::time::advance(Duration::from_secs(599)).await;
    assert!(cache.is_current(&known, Instant::now()) && matches!(find(&cache, &known).await, KeyLookup::Found(_)));
    assert_eq!(cache.stale_served(), 0);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(cache.is_current(&known, Instant::now()) && matches!(find(&cache, &known).await, KeyLookup::Found(_)));
    assert_eq!(cache.stale_served(), 2);
}

#[tokio::test(start_paused = true)]
async fn missing_keys_of_a_restored_set_wait_for_the_first_fetch() {
    let (known, new) = (key(), key());
    let requested_at = Instant::now() - Duration::from_secs(700);
    let times = Times::new(requested_at, Duration::from_secs(600), Duration::from_secs(3000));
    let cache = KeyCache::restored(KeySet::from_keys(vec![Arc::clone(&known)]), times);
    assert!(matches!(find(&cache, &known).await, KeyLookup::Found(_)));
    let refresher = async {
        cache.wanted().await;
        publish(&cache, &new);
    };
    let ((), lookup) = tokio::join!(refresher, find(&cache, &new));
    assert!(matches!(lookup, KeyLookup::Found(_)), "{lookup:?}");
}

/// A key with the id and the algorithm of this one.
fn successor(of: &VerifyingKey) -> Arc<VerifyingKey> {
    let mut jwk = SigningKey::generate(Algorithm::Es256).unwrap().0.public_jwk().clone();
    jwk.insert("kid".to_owned(), of.key_id.as_deref().unwrap().into());
    Arc::new(VerifyingKey::from_jwk(&jwk.into(), &Algorithm::DEFAULT).unwrap())
}

async fn replacement(cache: &KeyCache, tried: &VerifyingKey) -> Option<Arc<VerifyingKey>> {
    cache.find_replacement(named(tried), Algorithm::Es256, tried).await
}

#[tokio::test(start_paused = true)]
async fn a_key_that_keeps_its_id_is_replaced_by_one_refetch() {
    let (cache, old) = (KeyCache::remote(), key());
    let new = successor(&old);
    publish(&cache, &old);
    tokio::time::advance(BELIEVED_FOR).await;
    let refresher = async {
        cache.wanted().await;
        publish(&cache, &new);
    };
    let ((), first, second) = tokio::join!(refresher, replacement(&cache, &old), replacement(&cache, &old));
    assert!(first.unwrap().is_same(&new) && second.unwrap().is_same(&new));
    let before = Instant::now();
    assert!(replacement(&cache, &old).await.unwrap().is_same(&new), "a set that came in between");
    assert_eq!(before, Instant::now());
}

#[tokio::test(start_paused = true)]
async fn the_same_key_again_is_no_replacement() {
    let (cache, known) = (KeyCache::remote(), key());
    publish(&cache, &known);
    tokio::time::advance(BELIEVED_FOR).await;
    let refresher = async {
        cache.wanted().await;
        publish(&cache, &known);
    };
    let ((), replaced) = tokio::join!(refresher, replacement(&cache, &known));
    assert!(replaced.is_none());
    assert!(tokio::time::timeout(Duration::from_secs(60), cache.wanted()).await.is_err(), "it is fetched again");
}

#[tokio::test(start_paused = true)]
async fn a_refetch_that_fails_or_never_ends_replaces_nothing() {
    let (cache, known) = (KeyCache::remote(), key());
    publish(&cache, &known);
    tokio::time::advance(BELIEVED_FOR).await;
    let before = Instant::now();
    assert!(replacement(&cache, &known).await.is_none());
    assert_eq!(before.elapsed(), MAX_WAIT);
    let refresher = async {
        cache.wanted().await;
        cache.publish_failure(Instant::now());
    };
    let ((), replaced) = tokio::join!(refresher, replacement(&cache, &known));
    assert!(replaced.is_none());
    let before = Instant::now();
    assert!(replacement(&cache, &known).await.is_none(), "an attempt has just failed");
    assert_eq!(before, Instant::now());
}

#[tokio::test(start_paused = true)]
async fn bad_signatures_keep_no_new_key_from_being_waited_for() {
    let (cache, known) = (KeyCache::remote(), key());
    publish(&cache, &known);
    let before = Instant::now();
    assert!(replacement(&cache, &known).await.is_none());
    assert_eq!(before, Instant::now(), "a young set was waited for");
    tokio::time::advance(BELIEVED_FOR).await;
    let places: Vec<_> = (0..MAX_SIGNATURE_WAITERS).map(|_| cache.signature_waiters.try_acquire().unwrap()).collect();
    let before = Instant::now();
    assert!(replacement(&cache, &known).await.is_none());
    assert_eq!(before, Instant::now());
    assert!(matches!(find(&cache, &known).await, KeyLookup::Found(_)));
    let new = key();
    let refresher = async {
        cache.wanted().await;
        publish(&cache, &new);
    };
    let ((), found) = tokio::join!(refresher, find(&cache, &new));
    assert!(matches!(found, KeyLookup::Found(_)), "forged tokens took the place of a request with a new key");
    drop(places);
}

#[tokio::test(start_paused = true)]
async fn own_keys_are_never_refetched() {
    let known = key();
    let cache = KeyCache::own(KeySet::from_keys(vec![Arc::clone(&known)]));
    let before = Instant::now();
    assert!(replacement(&cache, &known).await.is_none());
    assert_eq!(before, Instant::now());
    assert!(tokio::time::timeout(Duration::from_secs(60), cache.wanted()).await.is_err());
}
