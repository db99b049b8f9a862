//! `report_until`: the time until which a route records what its rule refuses.

use std::time::Duration;

use super::super::lint::Lint;
use super::super::source::At;
use super::Resolver;
use super::secrets::remaining;
use crate::clock::UnixTime;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A rule that is never enforced protects nothing.
const FURTHEST: Duration = DAY.saturating_mul(90);
/// Before the end.
const WARN_WITHIN: Duration = DAY.saturating_mul(7);

impl Resolver<'_> {
    /// `is_public` is about the route's access.
    pub(super) fn report_until(&mut self, raw: &At<UnixTime>, is_public: bool) -> Option<UnixTime> {
        let At { value: until, span } = *raw;
        if is_public {
            let message = "`report_until` is about the rule of a route, and this route is public: remove one of them";
            self.faults.at(span, message);
        }
        let left = until.since(self.now);
        if left > FURTHEST {
            let latest = self.now.plus(FURTHEST).to_the_second();
            self.faults.at(span, format!("expected a time at most 90 days ahead, that is until `{latest}`"));
        } else if until <= self.now {
            let message = "the time is over: the rule of this route is enforced; remove `report_until`";
            self.warn(Lint::EndingReport, span, message);
        } else if left <= WARN_WITHIN {
            let message = format!(
                "in {} the rule of this route is enforced: `portcullis report` shows which callers would be refused",
                remaining(left)
            );
            self.warn(Lint::EndingReport, span, message);
        }
        Some(until)
    }
}
