//! The place of a route in the file, for messages about it.

use super::source::{Source, Span};

/// The places of a route's path, name and hosts in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoutePlace {
    pub(super) path: Span,
    pub(super) name: Option<Span>,
    pub(super) hosts: Option<Span>,
    /// Of `paths.allow`.
    pub(super) allow: Option<Span>,
}

impl RoutePlace {
    /// The name of the route, or its path, which is its name by default.
    pub(super) fn name(self) -> Span {
        self.name.unwrap_or(self.path)
    }

    /// The name of the route. If it has no name, its path and its hosts: two routes may have the same path.
    pub(super) fn label(self, source: &Source) -> String {
        // As the file writes them: a variable may hold a secret.
        let name = source.quote(self.name()).unwrap_or_else(|| "a route".to_owned());
        match (self.name, self.hosts) {
            (Some(_), _) => name,
            (None, Some(hosts)) => source.quote(hosts).map_or(name.clone(), |hosts| format!("{name} for {hosts}")),
            (None, None) => format!("{name} for any host"),
        }
    }
}
