//! Lints that see the whole resolved configuration. Each gives its warnings, and reads no file.
//!
//! Messages quote the text of the file, as far as [`Source`] permits, and never a value that may come from a variable.

mod certificates;
mod clear_text_tokens;
mod hosts;
mod issuers;
mod limits;
mod proof_hosts;
mod reachable_routes;
mod scopes;
mod unused_clients;

use std::collections::HashMap;
use std::sync::Arc;

use super::file_places::FilePlaces;
use super::lint::Lint;
use super::source::{Source, Span};
use super::types::Config;
use super::warning::Warning;
use crate::pipeline::routing::access::{Access, AccessRule};

/// A valid configuration, with its places in the file.
pub(super) struct LintInput<'c> {
    pub(super) config: &'c Config,
    pub(super) places: &'c FilePlaces,
    pub(super) source: &'c Source,
}

/// Further warnings of one lint are only counted.
const SHOWN: usize = 50;

pub(super) fn warnings(input: &LintInput<'_>) -> Vec<Warning> {
    let lints = [
        reachable_routes::shadowed,
        hosts::overlapping,
        scopes::unknown,
        scopes::unused,
        unused_clients::unused,
        issuers::unbounded,
        limits::never_reached,
        clear_text_tokens::forwarded,
        certificates::never_presented,
        proof_hosts::unknown,
    ];
    lints.iter().flat_map(|lint| lint(input)).collect()
}

/// The first warnings of each lint in the order of the file, and the number of the others.
pub(super) fn bounded(source: &Source, mut warnings: Vec<Warning>) -> Vec<Warning> {
    warnings.sort_by_key(|Warning { diagnostic, .. }| (diagnostic.line.is_none(), diagnostic.line, diagnostic.column));
    let mut counts: HashMap<Lint, usize> = HashMap::new();
    warnings.retain(|warning| {
        let count = counts.entry(warning.lint).or_default();
        *count += 1;
        *count <= SHOWN
    });
    for lint in Lint::ALL {
        if let Some(more) = counts.get(lint).and_then(|count| count.checked_sub(SHOWN)).filter(|more| *more > 0) {
            warnings.push(Warning::new(source, *lint, None, format!("{more} more warnings of this kind")));
        }
    }
    warnings
}

impl LintInput<'_> {
    fn warning(&self, lint: Lint, span: Span, message: impl Into<String>) -> Warning {
        Warning::new(self.source, lint, Some(span), message)
    }

    /// The rules of the protected routes.
    fn rules(&self) -> impl Iterator<Item = &Arc<AccessRule>> {
        self.config.routes.routes().iter().filter_map(|route| match &route.access {
            Access::Public => None,
            Access::Protected(rule) => Some(rule),
        })
    }

    /// The text at this place, or `otherwise` if it may not be shown.
    fn quoted(&self, span: Span, otherwise: &str) -> String {
        self.source.quote(span).unwrap_or_else(|| otherwise.to_owned())
    }

    /// The label and the line of a route.
    fn route(&self, index: usize) -> String {
        let Some(route) = self.places.routes.get(index) else { return "a route".to_owned() };
        format!("{} (line {})", route.place.label(self.source), self.source.line(route.place.path))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn warnings_beyond_the_bound_are_counted() {
        let source = Source::new(Path::new("gateway.yaml"), "a: 1\n".to_owned());
        let warning = |lint| Warning::new(&source, lint, Some(Span::new(0, 1)), "unused");
        let many = std::iter::repeat_n(warning(Lint::UnusedScope), SHOWN + 3);
        let found = bounded(&source, many.chain([warning(Lint::UnusedClient)]).collect());
        let last: Vec<String> = found[SHOWN..].iter().map(ToString::to_string).collect();
        let expected =
            ["gateway.yaml:1:1: unused [unused-client]", "gateway.yaml: 3 more warnings of this kind [unused-scope]"];
        assert_eq!(last, expected);
    }
}
