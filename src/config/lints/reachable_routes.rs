//! `shadowed-route`

use super::LintInput;
use crate::config::lint::Lint;
use crate::config::warning::Warning;
use crate::pipeline::routing::reach::{ShadowedRoute, shadowed_routes};

/// The routes that one message names.
const NAMED: usize = 5;

pub(super) fn shadowed(input: &LintInput<'_>) -> Vec<Warning> {
    let shadowed = shadowed_routes(&input.config.routes);
    shadowed.iter().filter_map(|found| warning(input, found)).collect()
}

fn warning(input: &LintInput<'_>, found: &ShadowedRoute) -> Option<Warning> {
    let place = input.places.routes.get(found.route)?.place;
    let label = place.label(input.source);
    let message = if found.by.is_empty() {
        format!(
            "no request reaches route {label}: its paths differ from those of other routes in upper and lower case only, \
             so they are not found; spell them alike, or remove the route"
        )
    } else {
        let (first, more) = found.by.split_at(found.by.len().min(NAMED));
        let names: Vec<String> = first.iter().map(|index| input.route(*index)).collect();
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        format!(
            "no request reaches route {label}: a more specific path takes precedence, whatever its methods, and {}{more} \
             take all paths of this one; remove it, or change its `path`",
            names.join(", "),
        )
    };
    Some(input.warning(Lint::ShadowedRoute, place.path, message))
}
