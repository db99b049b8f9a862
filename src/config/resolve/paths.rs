//! `paths.allow`: forms of paths that services read in different ways, and the proof that one rule covers them.

use super::super::lint::Lint;
use super::super::raw::route::RawRoute;
use super::super::route_place::RoutePlace;
use super::Resolver;
use super::overlaps::configured_server;
use crate::pipeline::request::path_forms::{PathForm, PathForms};
use crate::pipeline::routing::pattern::PathPattern;
use crate::pipeline::routing::rewrite::PathTemplate;
use crate::pipeline::routing::shared_subtree::shared_subtrees;
use crate::pipeline::routing::table::RouteTable;

impl Resolver<'_> {
    /// The forms that a route opts in to. They are taken in the match of `/**` only.
    pub(super) fn path_forms(
        &mut self,
        raw: &RawRoute,
        path: Option<&PathPattern>,
        rewrite: Option<&PathTemplate>,
    ) -> PathForms {
        let Some(Ok(allow)) = raw.paths.as_ref().map(|paths| &paths.value.allow) else {
            return PathForms::default();
        };
        let items = &allow.value.items;
        for (at, form) in items.iter().enumerate() {
            if items[..at].iter().any(|earlier| earlier.value == form.value) {
                self.faults.at(form.span, "this form is listed twice");
            }
        }
        let message = if path.is_some_and(|path| !path.subtree) {
            "these forms are taken only below a `/**` at the end of `path`, where one rule covers all that a service may read: end `path` in `/**`, or remove `paths`"
        } else if rewrite.is_some_and(|rewrite| !rewrite.inserts_subtree()) {
            "`rewrite` drops the match of `/**`, the only part of a path that may have these forms: end `rewrite` in `/**`, or remove `paths`"
        } else {
            return items.iter().map(|form| form.value).collect();
        };
        self.faults.at(allow.span, message);
        PathForms::default()
    }

    /// Reports routes that share a subtree in which a route opts in.
    pub(super) fn check_shared_subtrees(&mut self, table: &RouteTable, places: &[RoutePlace]) {
        for (own, shared) in shared_subtrees(table) {
            let Some(span) = places[own].allow else { continue };
            let other = self.route_label(places[shared.other]);
            let line = self.source.line(places[shared.other].path);
            let message = match &shared.server {
                Some(server) => format!(
                    "a service may read such a path as another path below this route's `/**`, and route {other} (line {line}) reaches the same server {} there under its own rule: remove `paths`, or keep all paths of that subtree in one route",
                    configured_server(table, own, server),
                ),
                None => format!(
                    "a service may read such a path as another path below this route's `/**`, and route {other} (line {line}) takes a part of those: remove `paths`, or keep all paths of that subtree in one route"
                ),
            };
            self.faults.at(span, message);
        }
    }

    /// Warns of the checks that a route gives up.
    pub(super) fn warn_of_path_forms(&mut self, table: &RouteTable, places: &[RoutePlace]) {
        for (route, place) in table.routes().iter().zip(places) {
            let Some(span) = place.allow else { continue };
            let forms: Vec<String> =
                route.path_forms.iter().map(|form| format!("`{}` ({})", form.as_str(), given_up(form))).collect();
            let message = format!(
                "route {} takes paths that services read in different ways: {}; only the rule of this route holds for them, and a rule of the service, or of a proxy before it, for some of these paths may be bypassed",
                self.route_label(*place),
                forms.join(", "),
            );
            self.warn(Lint::LenientPaths, span, message);
        }
    }
}

/// The uncertainty that comes with a form.
const fn given_up(form: PathForm) -> &'static str {
    match form {
        PathForm::Semicolon => {
            "some services cut off the text after `;`; session ids in paths get into the audit log and other logs"
        }
        PathForm::EncodedSlash => "`%2F` is a separator to some services, and a part of a name to others",
        PathForm::EncodedBackslash => "`%5C` is a separator to some services, and a part of a name to others",
        PathForm::EmptySegment => "some services read `//` as `/`",
    }
}
