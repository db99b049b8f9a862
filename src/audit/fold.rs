//! A flood of refusals to strangers becomes a few counted lines.
//!
//! Who has not proved who they are can be refused as often as they like. Up to a number a second and address each refusal has
//! its line; beyond it they are counted, by reason, and told once a second. Each worker folds what it has refused itself. No more
//! addresses are told apart than there is room for; the rest share one count.

use std::net::IpAddr;

use foldhash::{HashMap, HashMapExt as _};

use super::ledger::Batch;
use super::line::Line;
use super::reason::Reason;
use crate::clock::UnixTime;

/// A refusal of someone who has proved nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal<'r> {
    /// Or the network that counts as one address.
    pub(crate) address: IpAddr,
    pub(crate) reason: Reason,
    pub(crate) time: UnixTime,
    /// Which configuration decided.
    pub(crate) config: &'r str,
}

#[derive(Debug)]
pub(super) struct Folder {
    /// How many refusals of one address have their own line in a second; `None` is all.
    singly: Option<u32>,
    addresses: HashMap<IpAddr, Bucket>,
    others: Bucket,
    /// Lines of their own in this second, over all addresses.
    told: u32,
    config: String,
}

#[derive(Debug, Default)]
struct Bucket {
    told: u32,
    folded: Option<Folded>,
}

#[derive(Debug, PartialEq, Eq)]
struct Folded {
    first: UnixTime,
    last: UnixTime,
    count: u64,
    /// No longer than there are reasons.
    reasons: Vec<(Reason, u64)>,
}

/// Addresses that a worker tells apart within a second.
const MAX_ADDRESSES: usize = 1024;
/// Lines of their own in a second, however many addresses there are.
const MAX_SINGLY: u32 = 1000;
const OTHERS: &str = "(others)";

impl Folder {
    pub(super) fn new(singly: Option<u32>) -> Self {
        Self { singly, addresses: HashMap::new(), others: Bucket::default(), told: 0, config: String::new() }
    }

    /// Whether this refusal is to have a line of its own.
    pub(super) fn tells_singly(&mut self, address: IpAddr) -> bool {
        let Some(singly) = self.singly else { return true };
        let full = self.told >= MAX_SINGLY;
        let bucket = self.bucket(address);
        if full || bucket.told >= singly {
            return false;
        }
        bucket.told += 1;
        self.told += 1;
        true
    }

    pub(super) fn fold(&mut self, refusal: &Refusal<'_>) {
        if self.config != refusal.config {
            refusal.config.clone_into(&mut self.config);
        }
        let time = refusal.time;
        let folded = self.bucket(refusal.address).folded.get_or_insert_with(|| Folded {
            first: time,
            last: time,
            count: 0,
            reasons: Vec::new(),
        });
        folded.first = folded.first.min(time);
        folded.last = folded.last.max(time);
        folded.count += 1;
        match folded.reasons.iter_mut().find(|(reason, _)| *reason == refusal.reason) {
            Some((_, count)) => *count += 1,
            None => folded.reasons.push((refusal.reason, 1)),
        }
    }

    fn bucket(&mut self, address: IpAddr) -> &mut Bucket {
        if self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(&address) {
            return &mut self.others;
        }
        self.addresses.entry(address).or_default()
    }

    /// A second is over: tells what was folded, each line if `has_room` says so, else in a later second. Says whether there is
    /// nothing left to come back for.
    pub(super) fn tell(&mut self, mut has_room: impl FnMut() -> bool, batch: &mut Batch) -> bool {
        self.told = 0;
        let config = &self.config;
        self.addresses.retain(|address, bucket| {
            bucket.told = 0;
            if bucket.folded.is_some() && has_room() {
                bucket.tell(&name(*address), config, batch);
            }
            bucket.folded.is_some()
        });
        self.others.told = 0;
        if self.others.folded.is_some() && has_room() {
            self.others.tell(OTHERS, config, batch);
        }
        self.addresses.is_empty() && self.others.folded.is_none()
    }
}

impl Bucket {
    fn tell(&mut self, address: &str, config: &str, batch: &mut Batch) {
        let Some(mut folded) = self.folded.take() else { return };
        folded.reasons.sort_unstable();
        batch.push(|bytes| {
            let mut line = Line::open(bytes);
            line.plain("time", folded.last)
                .plain("gateway.event", "refusals_folded")
                .plain("gateway.config", config)
                .text("client.address", address)
                .number("gateway.folded.count", folded.count)
                .plain("gateway.folded.first", folded.first)
                .plain("gateway.folded.last", folded.last);
            for (reason, count) in folded.reasons {
                line.number_of("gateway.folded.reason", reason.as_str(), count);
            }
            line.close();
        });
    }
}

/// IPv6 comes as a network: a stranger has all of it.
fn name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("{v6}/64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn refuse(folder: &mut Folder, number: u32, reason: Reason, seconds: u64) -> bool {
        let time = UnixTime::from_seconds(seconds);
        let singly = folder.tells_singly(address(number));
        if !singly {
            folder.fold(&Refusal { address: address(number), reason, time, config: "c" });
        }
        singly
    }

    fn told(folder: &mut Folder, has_room: bool) -> Vec<Value> {
        let mut batch = Batch::default();
        folder.tell(|| has_room, &mut batch);
        let text = String::from_utf8(batch.bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(&line.replacen(',', "{", 1)).unwrap()).collect()
    }

    #[test]
    fn beyond_the_number_refusals_are_counted_by_reason() {
        let mut folder = Folder::new(Some(2));
        for (seconds, reason) in (10..).zip([Reason::NoToken, Reason::NoToken, Reason::NoRoute, Reason::NoToken]) {
            refuse(&mut folder, 1, reason, seconds);
        }
        assert!(refuse(&mut folder, 2, Reason::NoRoute, 10));
        let line = json!({
            "time": "1970-01-01T00:00:13.000Z", "gateway.event": "refusals_folded", "gateway.config": "c",
            "client.address": "0.0.0.1", "gateway.folded.count": 2,
            "gateway.folded.first": "1970-01-01T00:00:12.000Z", "gateway.folded.last": "1970-01-01T00:00:13.000Z",
            "gateway.folded.reason.no_token": 1, "gateway.folded.reason.no_route": 1,
        });
        assert_eq!(told(&mut folder, true), [line]);
        assert!(refuse(&mut folder, 1, Reason::NoToken, 14), "a new second");
        assert_eq!(told(&mut folder, true), [] as [Value; 0]);
        assert!(folder.addresses.is_empty());
    }

    #[test]
    fn no_count_is_lost_for_want_of_room_and_memory_is_bounded() {
        let mut folder = Folder::new(Some(1));
        let strangers = 3000;
        for number in 0..strangers {
            refuse(&mut folder, number, Reason::NoRoute, 1);
            refuse(&mut folder, number, Reason::NoRoute, 1);
        }
        assert!(folder.addresses.len() <= MAX_ADDRESSES);
        assert_eq!(told(&mut folder, false), [] as [Value; 0]);
        let lines = told(&mut folder, true);
        let count: u64 = lines.iter().map(|line| line["gateway.folded.count"].as_u64().unwrap()).sum();
        assert_eq!(count, u64::from(2 * strangers - MAX_SINGLY));
        assert_eq!(lines.last().unwrap()["client.address"], OTHERS);
        assert!(lines.len() <= MAX_ADDRESSES + 1);
    }

    #[test]
    fn without_a_number_every_refusal_has_its_line() {
        let mut folder = Folder::new(None);
        assert!((0..10_000).all(|_| folder.tells_singly(address(1))));
    }
}
