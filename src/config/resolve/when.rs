//! `routes[].when`: the header fields that a route is for.

use http::HeaderName;
use http::header::COOKIE;

use super::super::decode::OneOrMore;
use super::super::lint::Lint;
use super::super::raw::route::RawRoute;
use super::super::raw::when::RawWhen;
use super::super::route_place::RoutePlace;
use super::super::source::At;
use super::{Resolved, Resolver};
use crate::pipeline::request::headers::is_protected;
use crate::pipeline::routing::field_conditions::FieldConditions;
use crate::pipeline::routing::laxity::Laxity;
use crate::pipeline::routing::table::RouteTable;

/// Each is looked for in every request of its place.
const MAX_FIELDS: usize = 8;

impl Resolver<'_> {
    /// `Err`: it has a fault, so that the route must not be compared with others.
    pub(super) fn when(&mut self, raw: &RawRoute) -> Resolved<Option<FieldConditions>> {
        let faults = self.faults.count();
        let Some(when) = &raw.when else { return Ok(None) };
        let when = when.as_ref().map_err(|reported| *reported)?;
        let is_read =
            when.value.headers.complete && when.value.headers.entries.iter().all(|(_, values)| values.is_ok());
        let conditions = self.conditions(raw, when);
        if self.faults.count() > faults || !is_read { Err(self.faults.reported_before()) } else { Ok(conditions) }
    }

    fn conditions(&mut self, raw: &RawRoute, when: &At<RawWhen>) -> Option<FieldConditions> {
        let At { value: RawWhen { headers, unverified }, span } = when;
        if headers.entries.is_empty() && headers.complete {
            let message = "`when` names no field: write `headers: {NAME: VALUE}`, or remove `when`";
            self.faults.at(*span, message);
        }
        if headers.entries.len() > MAX_FIELDS {
            self.faults.at(*span, format!("expected conditions on at most {MAX_FIELDS} fields"));
        }
        let mut fields: Vec<(HeaderName, Vec<String>)> = Vec::new();
        for (name, values) in &headers.entries {
            let field = self.condition_name(name);
            let values = values.as_ref().map(|values| self.condition_values(&values.value.0)).unwrap_or_default();
            let Some(field) = field else { continue };
            if fields.iter().any(|(known, _)| *known == field) {
                self.faults.at(name.span, "this field is named twice: field names are case-insensitive");
            }
            fields.push((field, values));
        }
        self.must_pass_fields(raw, &fields);
        if unverified.value {
            let message = "the service does not compare this field with what it acts on: a caller can send the value of \
                           the laxest rule of this path, and another one in the body; give all these routes the same \
                           rule, or use a service that compares";
            self.warn(Lint::UnverifiedWhen, unverified.span, message);
        }
        FieldConditions::new(fields)
    }

    fn condition_name(&mut self, name: &At<String>) -> Option<HeaderName> {
        let field = self.any_header_name(name)?;
        if is_protected(&field) || field == COOKIE || field == "dpop" || self.token_fields.contains(&field) {
            let quoted = self.source.quote_key(name.span).unwrap_or_else(|| "this name".to_owned());
            let message = format!(
                "{quoted} is a field of the gateway, of the connection or of a credential, and cannot choose a route: name a field that the service acts on"
            );
            self.faults.at(name.span, message);
            return None;
        }
        Some(field)
    }

    /// Values as requests may have them, decoded.
    fn condition_values(&mut self, list: &OneOrMore<String>) -> Vec<String> {
        for value in &list.items {
            if value.value.trim() != value.value || value.value.is_empty() {
                let message =
                    "no request has this value: a field value is not empty, and does not begin or end with a space";
                self.faults.at(value.span, message);
            } else if value.value.chars().any(char::is_control) {
                self.faults.at(value.span, "a field value cannot have control characters");
            } else if value.value.contains('*') {
                let message = "`*` has no meaning here: a field is compared exactly; list the values";
                self.faults.at(value.span, message);
            }
        }
        list.items.iter().map(|value| value.value.clone()).collect()
    }

    /// The service must get the fields as they chose the route.
    fn must_pass_fields(&mut self, raw: &RawRoute, fields: &[(HeaderName, Vec<String>)]) {
        let changed = [&raw.headers.set, &raw.headers.add];
        let names = changed.into_iter().flat_map(|named| named.entries.iter().map(|(name, _)| name));
        for name in names.chain(&raw.headers.remove) {
            let field: Option<HeaderName> = name.value.parse().ok();
            if field.is_some_and(|field| fields.iter().any(|(known, _)| *known == field)) {
                let message =
                    "`when` chooses the route by this field, so the service must get it unchanged: remove this";
                self.faults.at(name.span, message);
            }
        }
    }

    /// The service must get the fields as they chose the route, on the other routes of the place too.
    pub(super) fn places_pass_fields(&mut self, table: &RouteTable, places: &[RoutePlace]) {
        for (route, field) in table.changed_conditions() {
            let Some(place) = places.get(route).copied() else { continue };
            let label = self.route_label(place);
            let message = format!(
                "route {label} changes the field `{field}` in `headers`, and `when` chooses among the routes of this path by it: the service must get it as it came; remove the change"
            );
            self.faults.at(place.path, message);
        }
    }

    /// The route with fewer conditions, and the one that is stricter.
    pub(super) fn laxer_route(&mut self, laxity: &Laxity, [lax, strict]: [RoutePlace; 2]) {
        let lines = [lax, strict].map(|place| self.source.line(place.path));
        let [lax_label, strict_label] = [lax, strict].map(|place| self.route_label(place));
        let message = format!(
            "route {lax_label} (line {}) has fewer conditions in `when` than route {strict_label} (line {}), and takes requests {laxity} that this one refuses: a caller could leave a field out; make it at least as strict, or remove it",
            lines[0], lines[1],
        );
        self.faults.at(lax.path, message);
    }

    /// Two routes that one request may match, without an order.
    pub(super) fn unequal_routes(&mut self, [first, second]: [RoutePlace; 2]) {
        let lines = [first, second].map(|place| self.source.line(place.path));
        let labels = [first, second].map(|place| self.route_label(place));
        let message = format!(
            "one request may match routes {} (line {}) and {} (line {}), at least at a service that ignores case in values; they have equally many conditions in `when` and different rules: give both the same rules, or let one name all fields of the other and one more",
            labels[0], lines[0], labels[1], lines[1],
        );
        self.faults.at(second.path, message);
    }
}
