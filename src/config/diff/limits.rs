//! Rate limits, of a route, of the token endpoint or of a client.

use super::bound::direction;
use super::change::Direction;
use crate::pipeline::routing::rate_limit::{LimitRate, RateLimit};
use crate::trust::request_key::RequestKey;

/// A change of the limits of one thing: the text is what stands before its name, and what stands after it.
pub(super) type LimitChange = (Direction, String, String);

/// Limits are compared by their name, which is unique in the list.
pub(super) fn compare_limits(old: &[RateLimit], new: &[RateLimit]) -> Vec<LimitChange> {
    let mut changes = Vec::new();
    for limit in new {
        match old.iter().find(|other| other.name == limit.name) {
            Some(other) => compare_limit(other, limit, &mut changes),
            None => changes.push((Direction::Narrower, before(limit), format!(" {}: new", rate(&limit.rate)))),
        }
    }
    for limit in old.iter().filter(|limit| !new.iter().any(|other| other.name == limit.name)) {
        changes.push((Direction::Wider, before(limit), format!(" {}: removed", rate(&limit.rate))));
    }
    changes
}

fn compare_limit(old: &RateLimit, new: &RateLimit, changes: &mut Vec<LimitChange>) {
    // The window follows from the rate, and the place from the order of the file.
    let RateLimit { name: _, rate: new_rate, per, window: _, place: _, shared } = new;
    let of_rate = direction(new_rate.is_at_most(&old.rate), old.rate.is_at_most(new_rate));
    if let Some(direction) = of_rate {
        changes.push((direction, before(new), format!(" {} → {}", rate(&old.rate), rate(new_rate))));
    }
    if old.per != *per {
        let text = format!(" counts by {per}, before by {}", old.per);
        changes.push((Direction::Unclear, before(new), text));
    }
    if old.shared != *shared {
        let text = match shared {
            Some(name) => format!(" counts together with others by `{name}`"),
            None => " counts by itself".to_owned(),
        };
        changes.push((Direction::Unclear, before(new), text));
    }
}

fn before(limit: &RateLimit) -> String {
    match &limit.per {
        // The limits of a client have no key of their own.
        RequestKey::Route if limit.name.starts_with('(') => "limit of ".to_owned(),
        per => format!("limit of {per} on "),
    }
}

fn rate(rate: &LimitRate) -> String {
    let LimitRate { amount, period, burst, over_replicas } = rate;
    let unit = match period.as_secs() {
        1 => "s".to_owned(),
        60 => "min".to_owned(),
        3600 => "h".to_owned(),
        86_400 => "d".to_owned(),
        seconds => format!("{seconds}s"),
    };
    let burst = if burst == amount { String::new() } else { format!(" (burst {burst})") };
    let over = if *over_replicas { " over all replicas" } else { "" };
    format!("{amount}/{unit}{burst}{over}")
}
