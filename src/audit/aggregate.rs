//! Aggregates decisions without a line of their own into a few lines with counts.
//!
//! A caller without valid credentials can cause any number of refusals. A limited number a second and address have a
//! line each; the others are counted. Any other decision is counted if there is no slot for its line. Counts are
//! written once a second, refusals by reason and answers by decision. Each worker aggregates its own decisions. The
//! number of addresses is bounded; the others share one count.

use std::net::IpAddr;

use foldhash::{HashMap, HashMapExt as _};

use super::batch::Batch;
use super::line::LineBuilder;
use super::reason::Reason;
use super::record::Decision;
use crate::clock::UnixTime;

/// A decision after its answer, as far as a count records it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decided<'r> {
    /// The client's address, or the network that counts as one address.
    pub(crate) address: IpAddr,
    pub(crate) kind: Kind,
    pub(crate) time: UnixTime,
    /// The digest of the configuration that decided.
    pub(crate) config: &'r str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A refusal of a caller without valid credentials. Its number has no bound.
    Unauthenticated(Reason),
    /// A refusal of a known caller.
    Refused(Reason),
    /// Not refused, however it ended.
    Answered(Decision),
    /// It corrects a line that was written before. It can wait until the log works again.
    Retracted(Decision),
}

#[derive(Debug)]
pub(super) struct RefusalAggregator {
    /// How many refusals of one address have their own line in a second; `None` is all.
    max_single: Option<u32>,
    addresses: HashMap<IpAddr, Bucket>,
    others: Bucket,
    /// Refusals with a line of their own in this second, over all addresses.
    single_lines: u32,
    config: String,
}

#[derive(Debug, Default)]
struct Bucket {
    /// Refusals with a line of their own in this second.
    single_lines: u32,
    refusals: Option<AggregatedLines>,
    answers: Option<AggregatedLines>,
}

#[derive(Debug, PartialEq, Eq)]
struct AggregatedLines {
    first: UnixTime,
    last: UnixTime,
    count: u64,
    /// By reason or decision: as many at most as these enums have variants.
    counts: Vec<(&'static str, u64)>,
}

/// The event of an aggregate line, and the prefix of its counts.
struct Heading {
    event: &'static str,
    counts: &'static str,
}

/// Addresses that a worker counts separately within a second.
const MAX_ADDRESSES: usize = 1024;
/// Refusals with a line of their own in a second, over all addresses.
const MAX_SINGLE_LINES: u32 = 1000;
const OTHERS: &str = "(others)";
/// The names of the events of aggregate lines.
pub(crate) const AGGREGATE_EVENTS: [&str; 2] = ["refusals_folded", "answers_folded"];
const REFUSALS: Heading = Heading { event: AGGREGATE_EVENTS[0], counts: "gateway.folded.reason" };
const ANSWERS: Heading = Heading { event: AGGREGATE_EVENTS[1], counts: "gateway.folded.decision" };

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Unauthenticated(reason) | Self::Refused(reason) => reason.as_str(),
            Self::Answered(decision) | Self::Retracted(decision) => decision.as_str(),
        }
    }
}

impl RefusalAggregator {
    pub(super) fn new(max_single: Option<u32>) -> Self {
        Self {
            max_single,
            addresses: HashMap::new(),
            others: Bucket::default(),
            single_lines: 0,
            config: String::new(),
        }
    }

    pub(super) fn set_max_single(&mut self, max_single: Option<u32>) {
        self.max_single = max_single;
    }

    /// Whether this refusal gets a line of its own.
    pub(super) fn within_budget(&mut self, address: IpAddr) -> bool {
        let Some(max_single) = self.max_single else { return true };
        let full = self.single_lines >= MAX_SINGLE_LINES;
        let bucket = self.bucket(address);
        if full || bucket.single_lines >= max_single {
            return false;
        }
        bucket.single_lines += 1;
        self.single_lines += 1;
        true
    }

    pub(super) fn add(&mut self, decided: &Decided<'_>) {
        if self.config != decided.config {
            decided.config.clone_into(&mut self.config);
        }
        let (time, name) = (decided.time, decided.kind.name());
        let bucket = self.bucket(decided.address);
        let lines = match decided.kind {
            Kind::Unauthenticated(_) | Kind::Refused(_) => &mut bucket.refusals,
            Kind::Answered(_) | Kind::Retracted(_) => &mut bucket.answers,
        };
        let lines =
            lines.get_or_insert_with(|| AggregatedLines { first: time, last: time, count: 0, counts: Vec::new() });
        lines.first = lines.first.min(time);
        lines.last = lines.last.max(time);
        lines.count += 1;
        match lines.counts.iter_mut().find(|(other, _)| *other == name) {
            Some((_, count)) => *count += 1,
            None => lines.counts.push((name, 1)),
        }
    }

    fn bucket(&mut self, address: IpAddr) -> &mut Bucket {
        if self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(&address) {
            return &mut self.others;
        }
        self.addresses.entry(address).or_default()
    }

    /// A second is over: writes the counts, each line if `has_room` allows it, else in a later second. Returns whether
    /// all are written.
    pub(super) fn flush(&mut self, mut has_room: impl FnMut() -> bool, batch: &mut Batch) -> bool {
        self.single_lines = 0;
        let config = &self.config;
        self.addresses.retain(|address, bucket| {
            bucket.flush(|| name(*address), config, &mut has_room, batch);
            !bucket.is_flushed()
        });
        self.others.flush(|| OTHERS.to_owned(), config, &mut has_room, batch);
        self.addresses.is_empty() && self.others.is_flushed()
    }
}

impl Bucket {
    fn is_flushed(&self) -> bool {
        self.refusals.is_none() && self.answers.is_none()
    }

    fn flush(
        &mut self,
        address: impl Fn() -> String,
        config: &str,
        mut has_room: impl FnMut() -> bool,
        batch: &mut Batch,
    ) {
        self.single_lines = 0;
        for (heading, lines) in [(REFUSALS, &mut self.refusals), (ANSWERS, &mut self.answers)] {
            if let Some(lines) = lines.take_if(|_| has_room()) {
                lines.write(&heading, &address(), config, batch);
            }
        }
    }
}

impl AggregatedLines {
    fn write(mut self, heading: &Heading, address: &str, config: &str, batch: &mut Batch) {
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

/// An IPv6 address comes as its /64 network: one client can use all of it.
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

    fn refuse(aggregator: &mut RefusalAggregator, number: u32, reason: Reason, seconds: u64) -> bool {
        let time = UnixTime::from_seconds(seconds);
        let has_line = aggregator.within_budget(address(number));
        if !has_line {
            let kind = Kind::Unauthenticated(reason);
            aggregator.add(&Decided { address: address(number), kind, time, config: "c" });
        }
        has_line
    }

    fn flushed(aggregator: &mut RefusalAggregator, has_room: bool) -> Vec<Value> {
        let mut batch = Batch::default();
        aggregator.flush(|| has_room, &mut batch);
        let text = String::from_utf8(batch.bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(&line.replacen(',', "{", 1)).unwrap()).collect()
    }

    #[test]
    fn beyond_the_number_refusals_are_counted_by_reason() {
        let mut aggregator = RefusalAggregator::new(Some(2));
        for (seconds, reason) in (10..).zip([Reason::NoToken, Reason::NoToken, Reason::NoRoute, Reason::NoToken]) {
            refuse(&mut aggregator, 1, reason, seconds);
        }
        assert!(refuse(&mut aggregator, 2, Reason::NoRoute, 10));
        let line = json!({
            "time": "1970-01-01T00:00:13.000Z", "gateway.event": "refusals_folded", "gateway.config": "c",
            "client.address": "0.0.0.1", "gateway.folded.count": 2,
            "gateway.folded.first": "1970-01-01T00:00:12.000Z", "gateway.folded.last": "1970-01-01T00:00:13.000Z",
            "gateway.folded.reason.no_token": 1, "gateway.folded.reason.no_route": 1,
        });
        assert_eq!(flushed(&mut aggregator, true), [line]);
        assert!(refuse(&mut aggregator, 1, Reason::NoToken, 14), "a new second");
        assert_eq!(flushed(&mut aggregator, true), [] as [Value; 0]);
        assert!(aggregator.addresses.is_empty());
    }

    #[test]
    fn aggregated_lines_are_kept_by_kind_for_known_callers_too() {
        let mut aggregator = RefusalAggregator::new(Some(2));
        let kinds = [
            Kind::Refused(Reason::MissingScope),
            Kind::Answered(Decision::Allow),
            Kind::Answered(Decision::Allow),
            Kind::Retracted(Decision::Error),
        ];
        for (seconds, kind) in (10..).zip(kinds) {
            aggregator.add(&Decided { address: address(1), kind, time: UnixTime::from_seconds(seconds), config: "c" });
        }
        let [refusals, answers] = &flushed(&mut aggregator, true)[..] else { panic!("two lines") };
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
    fn no_count_is_lost_without_room_and_memory_is_bounded() {
        let mut aggregator = RefusalAggregator::new(Some(1));
        let clients = 3000;
        for number in 0..clients {
            refuse(&mut aggregator, number, Reason::NoRoute, 1);
            refuse(&mut aggregator, number, Reason::NoRoute, 1);
        }
        assert!(aggregator.addresses.len() <= MAX_ADDRESSES);
        assert_eq!(flushed(&mut aggregator, false), [] as [Value; 0]);
        let lines = flushed(&mut aggregator, true);
        let count: u64 = lines.iter().map(|line| line["gateway.folded.count"].as_u64().unwrap()).sum();
        assert_eq!(count, u64::from(2 * clients - MAX_SINGLE_LINES));
        assert_eq!(lines.last().unwrap()["client.address"], OTHERS);
        assert!(lines.len() <= MAX_ADDRESSES + 1);
    }

    #[test]
    fn without_a_number_every_refusal_has_its_line() {
        let mut aggregator = RefusalAggregator::new(None);
        assert!((0..10_000).all(|_| aggregator.within_budget(address(1))));
    }
}
