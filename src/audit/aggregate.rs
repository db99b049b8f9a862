//! Decisions without a line of their own become a few counted lines.
//!
//! A caller without valid credentials can be refused as often as it likes. Up to a number a second and address each such refusal
//! has its line; beyond it they are counted. Any other decision is counted if its line finds no room. Counts are told once a
//! second, refusals by reason and answers by decision. Each worker folds what it has decided itself. No more addresses are told
//! apart than there is room for; the rest share one count.

use std::net::IpAddr;

use foldhash::{HashMap, HashMapExt as _};

use super::ledger::Batch;
use super::line::LineBuilder;
use super::reason::Reason;
use super::record::Decision;
use crate::clock::UnixTime;

/// A decision after its answer, as far as a count can tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decided<'r> {
    /// Or the network that counts as one address.
    pub(crate) address: IpAddr,
    pub(crate) kind: Kind,
    pub(crate) time: UnixTime,
    /// Which configuration decided.
    pub(crate) config: &'r str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A refusal of a caller without valid credentials, which floods.
    Unauthenticated(Reason),
    /// A refusal of a known caller.
    Refused(Reason),
    /// Not refused, however it ended.
    Answered(Decision),
    /// It takes back a line that was written before: it can wait until the log works again.
    Retracted(Decision),
}

#[derive(Debug)]
pub(super) struct RefusalAggregator {
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
    refusals: Option<AggregatedLines>,
    answers: Option<AggregatedLines>,
}

#[derive(Debug, PartialEq, Eq)]
struct AggregatedLines {
    first: UnixTime,
    last: UnixTime,
    count: u64,
    /// By reason or decision: no more than there are.
    counts: Vec<(&'static str, u64)>,
}

/// The event of a folded line, and what its counts are by.
struct Heading {
    event: &'static str,
    counts: &'static str,
}

/// Addresses that a worker tells apart within a second.
const MAX_ADDRESSES: usize = 1024;
/// Lines of their own in a second, however many addresses there are.
const MAX_SINGLY: u32 = 1000;
const OTHERS: &str = "(others)";
const REFUSALS: Heading = Heading { event: "refusals_folded", counts: "gateway.folded.reason" };
const ANSWERS: Heading = Heading { event: "answers_folded", counts: "gateway.folded.decision" };

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Unauthenticated(reason) | Self::Refused(reason) => reason.as_str(),
            Self::Answered(decision) | Self::Retracted(decision) => decision.as_str(),
        }
    }
}

impl RefusalAggregator {
    pub(super) fn new(singly: Option<u32>) -> Self {
        Self { singly, addresses: HashMap::new(), others: Bucket::default(), told: 0, config: String::new() }
    }

    /// Whether this refusal is to have a line of its own.
    pub(super) fn within_budget(&mut self, address: IpAddr) -> bool {
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

    pub(super) fn fold(&mut self, decided: &Decided<'_>) {
        if self.config != decided.config {
            decided.config.clone_into(&mut self.config);
        }
        let (time, name) = (decided.time, decided.kind.name());
        let bucket = self.bucket(decided.address);
        let folded = match decided.kind {
            Kind::Unauthenticated(_) | Kind::Refused(_) => &mut bucket.refusals,
            Kind::Answered(_) | Kind::Retracted(_) => &mut bucket.answers,
        };
        let folded =
            folded.get_or_insert_with(|| AggregatedLines { first: time, last: time, count: 0, counts: Vec::new() });
        folded.first = folded.first.min(time);
        folded.last = folded.last.max(time);
        folded.count += 1;
        match folded.counts.iter_mut().find(|(other, _)| *other == name) {
            Some((_, count)) => *count += 1,
            None => folded.counts.push((name, 1)),
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
            bucket.tell(|| name(*address), config, &mut has_room, batch);
            !bucket.is_told()
        });
        self.others.tell(|| OTHERS.to_owned(), config, &mut has_room, batch);
        self.addresses.is_empty() && self.others.is_told()
    }
}

impl Bucket {
    fn is_told(&self) -> bool {
        self.refusals.is_none() && self.answers.is_none()
    }

    fn tell(
        &mut self,
        address: impl Fn() -> String,
        config: &str,
        mut has_room: impl FnMut() -> bool,
        batch: &mut Batch,
    ) {
        self.told = 0;
        for (heading, folded) in [(REFUSALS, &mut self.refusals), (ANSWERS, &mut self.answers)] {
            if let Some(folded) = folded.take_if(|_| has_room()) {
                folded.tell(&heading, &address(), config, batch);
            }
        }
    }
}

impl AggregatedLines {
    fn tell(mut self, heading: &Heading, address: &str, config: &str, batch: &mut Batch) {
        self.counts.sort_unstable();
        batch.push(|bytes| {
            let mut line = LineBuilder::open(bytes);
            line.plain("time", self.last)
                .plain("gateway.event", heading.event)
                .plain("gateway.config", config)
                .text("client.address", address)
                .number("gateway.folded.count", self.count)
                .plain("gateway.folded.first", self.first)
                .plain("gateway.folded.last", self.last);
            for (name, count) in self.counts {
                line.number_of(heading.counts, name, count);
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

    fn refuse(folder: &mut RefusalAggregator, number: u32, reason: Reason, seconds: u64) -> bool {
        let time = UnixTime::from_seconds(seconds);
        let singly = folder.within_budget(address(number));
        if !singly {
            let kind = Kind::Unauthenticated(reason);
            folder.fold(&Decided { address: address(number), kind, time, config: "c" });
        }
        singly
    }

    fn told(folder: &mut RefusalAggregator, has_room: bool) -> Vec<Value> {
        let mut batch = Batch::default();
        folder.tell(|| has_room, &mut batch);
        let text = String::from_utf8(batch.bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(&line.replacen(',', "{", 1)).unwrap()).collect()
    }

    #[test]
    fn beyond_the_number_refusals_are_counted_by_reason() {
        let mut folder = RefusalAggregator::new(Some(2));
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
    fn refusals_of_known_callers_and_answers_are_counted_too_each_in_a_line_of_its_kind() {
        let mut folder = RefusalAggregator::new(Some(2));
        let kinds = [
            Kind::Refused(Reason::MissingScope),
            Kind::Answered(Decision::Allow),
            Kind::Answered(Decision::Allow),
            Kind::Retracted(Decision::Error),
        ];
        for (seconds, kind) in (10..).zip(kinds) {
            folder.fold(&Decided { address: address(1), kind, time: UnixTime::from_seconds(seconds), config: "c" });
        }
        let [refusals, answers] = &told(&mut folder, true)[..] else { panic!("two lines") };
        assert_eq!(refusals["gateway.folded.reason.missing_scope"], 1);
        assert_eq!(
            (&refusals["gateway.event"], &refusals["gateway.folded.count"]),
            (&json!("refusals_folded"), &json!(1))
        );
        assert_eq!(
            (&answers["gateway.event"], &answers["gateway.folded.count"]),
            (&json!("answers_folded"), &json!(3))
        );
        assert_eq!(
            (&answers["gateway.folded.decision.allow"], &answers["gateway.folded.decision.error"]),
            (&json!(2), &json!(1))
        );
    }

    #[test]
    fn no_count_is_lost_for_want_of_room_and_memory_is_bounded() {
        let mut folder = RefusalAggregator::new(Some(1));
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
        let mut folder = RefusalAggregator::new(None);
        assert!((0..10_000).all(|_| folder.within_budget(address(1))));
    }
}
