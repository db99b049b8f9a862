//! Copies of requests, and answers that pages of other origins may read.

use super::{RouteChanges, compare_lists};
use crate::config::diff::bound::of_bounds;
use crate::config::diff::change::Direction;
use crate::pipeline::routing::cors::{Cors, Origins};
use crate::pipeline::routing::mirror_rule::MirrorRule;

pub(super) fn compare_mirrors(old: Option<&MirrorRule>, new: Option<&MirrorRule>, changes: &mut RouteChanges) {
    match (old, new) {
        (None, None) => {}
        (None, Some(rule)) => {
            let text = format!("copies {} % of its requests to the upstream `{}`", rule.percent, rule.upstream.name);
            changes.add(Direction::Wider, text);
        }
        (Some(old), None) => {
            let text = format!("no longer copies requests to the upstream `{}`", old.upstream.name);
            changes.add(Direction::Narrower, text);
        }
        (Some(old), Some(MirrorRule { upstream, percent, timeout })) => {
            let is_other = old.upstream.name != upstream.name;
            let text = format!("copies requests to the upstream `{}`, before `{}`", upstream.name, old.upstream.name);
            changes.add(is_other.then_some(Direction::Wider), text);
            let direction = of_bounds(Some(&old.percent), Some(percent), |one, other| one <= other);
            changes.add(direction, format!("copies {percent} % of its requests, before {} %", old.percent));
            changes.changed(old.timeout != *timeout, "copies requests with another timeout");
        }
    }
}

pub(super) fn compare_cors(old: Option<&Cors>, new: Option<&Cors>, changes: &mut RouteChanges) {
    match (old, new) {
        (None, None) => {}
        (None, Some(_)) => changes.add(Direction::Wider, "lets pages of other origins read its answers"),
        (Some(_), None) => {
            changes.add(Direction::Narrower, "no longer lets pages of other origins read its answers");
        }
        (Some(old), Some(Cors { origins, methods, headers, expose, credentials, max_age })) => {
            let patterns = |origins: &'_ Origins| match origins {
                Origins::Any => None,
                Origins::Listed(list) => Some(list.clone()),
            };
            let is_within = |one: &Vec<_>, other: &Vec<_>| one.iter().all(|origin| other.contains(origin));
            let (before, after) = (patterns(&old.origins), patterns(origins));
            let direction = of_bounds(before.as_ref(), after.as_ref(), is_within);
            changes.add(direction, "lets pages of other origins than before read its answers");
            let [methods_before, methods] = [&old.methods, methods].map(|set| set.names().collect::<Vec<_>>());
            let texts = ["lets pages of other origins send", "no longer lets pages of other origins send"];
            compare_lists(&methods_before, &methods, texts, changes);
            let [headers_before, headers] =
                [&old.headers, headers].map(|list| list.iter().map(|name| name.as_str()).collect::<Vec<_>>());
            let texts = ["lets pages of other origins set", "no longer lets pages of other origins set"];
            compare_lists(&headers_before, &headers, texts, changes);
            let [expose_before, expose] =
                [&old.expose, expose].map(|list| list.iter().map(|name| name.as_str()).collect::<Vec<_>>());
            let texts = ["lets pages of other origins read", "no longer lets pages of other origins read"];
            compare_lists(&expose_before, &expose, texts, changes);
            let direction = of_bounds(Some(&old.credentials), Some(credentials), |one, other| one <= other);
            changes.add(direction, "lets pages of other origins send cookies in another way");
            changes.changed(old.max_age != *max_age, "lets browsers keep preflights for another time");
        }
    }
}
