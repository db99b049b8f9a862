use super::super::hash::SecretHash;
use super::super::kept_secret::Validity;
use super::*;
use argon2::password_hash::PasswordHasher as _;
use tokio::runtime::Runtime;

const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn secret(text: &str) -> ClientSecret {
    ClientSecret::new(text.to_owned())
}

/// Of the lowest cost: what is tested is who waits, not for how long.
fn slow(text: &str, validity: Validity) -> KeptSecret {
    let argon2 = argon2::Argon2::from(argon2::Params::new(8, 1, 1, None).unwrap());
    let hash = argon2.hash_password_with_salt(text.as_bytes(), b"somesaltsomesalt").unwrap();
    KeptSecret::new(SecretHash::parse(&hash.to_string()).unwrap(), validity)
}

fn fast(text: &str, validity: Validity) -> KeptSecret {
    KeptSecret::new(SecretHash::of(&secret(text)), validity)
}

fn over() -> Validity {
    Validity { expires_at: Some(NOW), ..Validity::default() }
}

/// With a thread of its own, which is dropped with it.
fn passwords() -> (Runtime, Passwords) {
    let runtime = Offload::runtime(1).unwrap();
    let passwords = Passwords::new(Offload::new(runtime.handle().clone(), 64));
    (runtime, passwords)
}

fn claim(kept: &[KeptSecret], from: IpAddr) -> SecretClaim<'_> {
    Claim { id: "app", standing: Standing::Good, kept, from }
}

fn ask(passwords: &Passwords, claim: SecretClaim<'_>, text: &str) -> Result<Option<usize>, Busy> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(passwords.matching(claim, vec![secret(text)], NOW))
}

#[test]
fn a_secret_is_found_at_its_place_among_hashes_of_both_kinds() {
    let (runtime, passwords) = passwords();
    let good = Validity::default();
    let kept = [slow("a", good), fast("b", good), slow("c", good), fast("d", over()), slow("e", over())];
    for (text, place) in
        [("a", Some(0)), ("b", Some(1)), ("c", Some(2)), ("a", Some(0)), ("d", None), ("e", None), ("f", None)]
    {
        assert_eq!(ask(&passwords, claim(&kept, HOME), text), Ok(place), "{text}");
    }
    runtime.shutdown_background();
}

#[test]
fn only_valid_secrets_that_matched_are_remembered() {
    let (runtime, passwords) = passwords();
    let mut kept = vec![slow("a", Validity::default())];
    assert_eq!(ask(&passwords, claim(&kept, HOME), "b"), Ok(None));
    assert_eq!(ask(&passwords, claim(&kept, HOME), "a"), Ok(Some(0)));
    // From here on, whatever has to be computed is refused.
    runtime.shutdown_background();
    assert_eq!(ask(&passwords, claim(&kept, HOME), "a"), Ok(Some(0)));
    assert_eq!(ask(&passwords, claim(&kept, HOME), "b"), Err(Busy));
    let stranger = Claim { standing: Standing::Unknown, ..claim(&kept, HOME) };
    assert_eq!(ask(&passwords, stranger, "a"), Err(Busy), "a stand-in's secret answers an unknown client faster");
    let elsewhere = Claim { standing: Standing::Elsewhere, ..claim(&kept, HOME) };
    assert_eq!(ask(&passwords, elsewhere, "a"), Err(Busy), "a right secret from elsewhere answers faster");
    kept[0].validity = over();
    assert_eq!(
        ask(&passwords, claim(&kept, HOME), "a"),
        Err(Busy),
        "an expired secret answers faster than a wrong one"
    );
}

#[test]
fn an_unknown_client_never_matches() {
    let (runtime, passwords) = passwords();
    let kept = [slow("a", Validity::default()), fast("b", Validity::default())];
    let stranger = Claim { standing: Standing::Unknown, ..claim(&kept, HOME) };
    for text in ["a", "b", "c"] {
        assert_eq!(ask(&passwords, stranger, text), Ok(None));
    }
    runtime.shutdown_background();
}

#[test]
fn a_right_secret_from_a_forbidden_address_costs_as_a_wrong_one() {
    let (runtime, passwords) = passwords();
    let kept = [slow("a", Validity::default()), fast("b", Validity::default())];
    let elsewhere = Claim { standing: Standing::Elsewhere, ..claim(&kept, AWAY) };
    assert_eq!(ask(&passwords, elsewhere, "a"), Ok(Some(0)));
    assert_eq!(ask(&passwords, elsewhere, "b"), Ok(Some(1)));
    let attempt = passwords.attempts.begin(AWAY, NOW);
    let counted = passwords.attempts.counts[attempt.0].load(Ordering::Relaxed);
    assert_eq!(in_minute(counted, NOW), 3, "both count as failures");
    runtime.shutdown_background();
    for text in ["a", "b"] {
        assert_eq!(ask(&passwords, elsewhere, text), Err(Busy), "{text} is told without the work of a wrong one");
    }
    assert_eq!(ask(&passwords, claim(&kept, AWAY), "a"), Err(Busy), "what matched elsewhere is remembered");
}

#[test]
fn a_flood_of_wrong_secrets_keeps_no_one_else_out() {
    let (runtime, passwords) = passwords();
    let known = [slow("a", Validity::default())];
    let new = [slow("b", Validity::default())];
    assert_eq!(ask(&passwords, claim(&known, HOME), "a"), Ok(Some(0)));
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let busy = runtime.spawn_blocking(move || wait.recv());
    let waker = std::task::Waker::noop();
    let mut flood = Vec::new();
    for _ in 0..1000 {
        let mut asked = Box::pin(passwords.matching(claim(&known, AWAY), vec![secret("wrong")], NOW));
        if asked.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending() {
            flood.push(asked);
        }
    }
    assert_eq!(
        flood.len() as u32,
        FAILURES_BEFORE_SUSPECT + SUSPECT_SLOTS as u32,
        "the rest of the flood is told to come back"
    );
    assert_eq!(
        ask(&passwords, claim(&known, AWAY), "a"),
        Ok(Some(0)),
        "a known secret does not wait, wherever it comes from"
    );
    drop(flood);
    assert_eq!(ask(&passwords, claim(&known, AWAY), "x"), Err(Busy), "hanging up makes room");
    go.send(()).unwrap();
    assert_eq!(ask(&passwords, claim(&new, HOME), "b"), Ok(Some(0)), "a first use has its place");
    drop(busy);
    runtime.shutdown_background();
}

#[test]
fn failures_are_counted_by_network_and_expire_after_a_minute() {
    let attempts = Attempts::new();
    let ask = |from: &str, now| {
        let attempt = attempts.begin(from.parse().unwrap(), now);
        attempts.is_suspect(attempt, now)
    };
    let suspect_slots: Vec<bool> = (0..6).map(|host| ask(&format!("2001:db8::{host}"), NOW)).collect();
    assert_eq!(suspect_slots, [false, false, false, false, true, true]);
    assert!(ask("2001:db8::ffff", NOW) && !ask("2001:db8:0:1::", NOW));
    assert!(!ask("2001:db8::", NOW.plus(std::time::Duration::from_secs(60))));
    let attempt = attempts.begin(HOME, NOW);
    for _ in 0..10_000 {
        attempts.begin(HOME, NOW);
    }
    assert!(attempts.is_suspect(attempt, NOW), "a count does not overflow");
    (0..1 << COUNT_BITS).for_each(|_| attempts.uncount(attempt, NOW));
    assert!(!attempts.is_suspect(attempt, NOW));
}
