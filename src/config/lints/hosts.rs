//! `overlapping-hosts`

use super::LintInput;
use crate::config::lint::Lint;
use crate::config::warning::Warning;
use crate::pipeline::routing::reach::{HostOverlap, host_overlaps};

pub(super) fn overlapping(input: &LintInput<'_>) -> Vec<Warning> {
    host_overlaps(&input.config.routes).iter().filter_map(|found| warning(input, found)).collect()
}

fn warning(input: &LintInput<'_>, found: &HostOverlap) -> Option<Warning> {
    let [wildcard, exact] = [found.wildcard, found.exact].map(|index| input.places.routes.get(index));
    let (wildcard, exact) = (wildcard?.place, exact?.place);
    let hosts = exact.hosts?;
    let message = format!(
        "route {} also takes requests for {} of route {}, for paths that no route of that host takes, and it takes \
         requests {} that those refuse; give that host a route for the other paths, such as `/**`, or list the hosts here \
         one by one",
        wildcard.label(input.source),
        input.quoted(hosts, "the host"),
        input.route(found.exact),
        found.laxity,
    );
    Some(input.warning(Lint::OverlappingHosts, wildcard.hosts?, message))
}
