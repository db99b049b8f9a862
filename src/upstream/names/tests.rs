//! Addresses after answers, and their order.

use super::*;

fn rotated_text(addresses: &[&str], start: usize) -> Vec<String> {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    rotated(&addresses, start).iter().map(ToString::to_string).collect()
}

#[test]
fn connections_take_addresses_in_turn_and_alternate_families() {
    let all = ["10.0.0.1", "10.0.0.2", "::1", "::2"];
    assert_eq!(rotated_text(&all, 0), ["10.0.0.1", "::1", "10.0.0.2", "::2"]);
    assert_eq!(rotated_text(&all, 1), ["10.0.0.2", "::1", "10.0.0.1", "::2"]);
    assert_eq!(rotated_text(&all, 2), ["::1", "10.0.0.1", "::2", "10.0.0.2"]);
    assert_eq!(rotated_text(&all, 5), rotated_text(&all, 1));
    assert_eq!(rotated_text(&["10.0.0.1", "::1", "::2"], 0), ["10.0.0.1", "::1", "::2"]);
    assert_eq!(rotated_text(&["10.0.0.1"], 7), ["10.0.0.1"]);
    assert_eq!(rotated_text(&[], 7), [""; 0]);
}

/// The answers of a name server to one name, one after the other.
struct Asked {
    resolved: NameAddresses,
    now: Instant,
}

impl Asked {
    fn new() -> Self {
        Self { resolved: NameAddresses::default(), now: Instant::now() }
    }

    /// The known addresses, and whether the name is resolved again soon.
    fn answer(&mut self, answers: &[Answer; 2], after: Duration) -> (KnownAddresses, bool) {
        self.now += after;
        self.resolved.update(answers, self.now, STALE_FOR);
        (known(&self.resolved.families, failure(answers)), failure(answers).is_some())
    }
}

const STALE_FOR: Duration = Duration::from_secs(30);

fn found(address: IpAddr) -> Answer {
    Ok((vec![address], MIN_TTL))
}

fn none() -> Answer {
    Err(LookupFailure::NoAddress)
}

fn timeout_of_query() -> Answer {
    Err(LookupFailure::Timeout)
}

fn addresses(all: &[IpAddr]) -> KnownAddresses {
    KnownAddresses::Addresses(all.into())
}

fn one_of_each() -> (IpAddr, IpAddr) {
    ("10.0.0.1".parse().unwrap(), "::1".parse().unwrap())
}

#[test]
fn a_family_without_an_answer_keeps_its_addresses_for_a_while() {
    let ((v4, v6), mut name) = (one_of_each(), Asked::new());
    let timeout = timeout_of_query;
    assert_eq!(name.answer(&[found(v4), none()], MIN_TTL), (addresses(&[v4]), false));
    assert_eq!(name.answer(&[found(v4), found(v6)], MIN_TTL), (addresses(&[v4, v6]), false));
    assert_eq!(name.answer(&[timeout(), found(v6)], MIN_TTL), (addresses(&[v4, v6]), true));
    assert_eq!(name.answer(&[timeout(), timeout()], MIN_TTL), (addresses(&[v4, v6]), true));
    assert_eq!(name.answer(&[timeout(), none()], MIN_TTL), (addresses(&[v4]), true));
    assert_eq!(name.answer(&[none(), found(v6)], MIN_TTL), (addresses(&[v6]), false));
    assert_eq!(name.answer(&[found(v4), timeout()], MAX_STALE), (addresses(&[v4, v6]), true));
    assert_eq!(name.answer(&[found(v4), timeout()], MIN_TTL), (addresses(&[v4]), true));
}

#[test]
fn a_name_without_any_address_keeps_its_last_ones_for_a_time() {
    let ((v4, v6), mut name) = (one_of_each(), Asked::new());
    let second = Duration::from_secs(1);
    assert_eq!(name.answer(&[none(), none()], second), (KnownAddresses::NoAddress, true), "it never had one");
    assert_eq!(name.answer(&[found(v4), found(v6)], second), (addresses(&[v4, v6]), false));
    assert_eq!(name.answer(&[none(), none()], second), (addresses(&[v4, v6]), true));
    assert_eq!(name.answer(&[timeout_of_query(), none()], second), (addresses(&[v4]), true));
    assert_eq!(name.answer(&[none(), none()], STALE_FOR - second * 2), (addresses(&[v4]), true));
    assert_eq!(name.answer(&[none(), none()], second), (KnownAddresses::NoAddress, true));
    assert_eq!(name.answer(&[found(v4), none()], second), (addresses(&[v4]), false));
    assert_eq!(name.answer(&[none(), none()], STALE_FOR), (addresses(&[v4]), true), "the time begins anew");
    assert_eq!(name.answer(&[none(), timeout_of_query()], STALE_FOR).0, unanswered());
}

fn unanswered() -> KnownAddresses {
    KnownAddresses::Unanswered("the name cannot be resolved in time".into())
}

#[tokio::test(start_paused = true)]
async fn a_connection_attempt_waits_for_the_first_answer_only() {
    let name = Name::new("legacy.internal");
    assert!(timeout(Duration::from_secs(60), name.addresses()).await.is_err());
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    let (found, ()) = tokio::join!(name.addresses(), async {
        name.publish(KnownAddresses::Addresses([address].into()));
    });
    assert_eq!(found.unwrap(), [address]);
    assert!(name.has(address) && !name.has("10.0.0.2".parse().unwrap()));
    for (gone, has) in [(KnownAddresses::Unanswered("no answer".into()), true), (KnownAddresses::NoAddress, false)] {
        name.publish(gone);
        assert_eq!(name.addresses().await.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(name.has(address), has);
    }
}
