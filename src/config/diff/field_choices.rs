//! The header fields by which two route tables choose among the routes of one place.
//!
//! A condition sees a field as absent or as one of the values that are named; any other value is as good as none. So
//! one request for each combination of those tells all choices.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, HeaderName};

use crate::pipeline::routing::field_conditions::value_for;
use crate::pipeline::routing::table::RouteTable;

#[derive(Debug)]
pub(super) struct FieldChoices {
    /// Names and values of both tables.
    fields: Vec<(HeaderName, Vec<String>)>,
    /// The new table has no condition on a field on which the old one has.
    pub(super) frees_fields: bool,
}

/// The requests that are looked up at one place.
const MAX_CHOICES: usize = 20_000;

impl FieldChoices {
    /// `places` are the routes of both tables at one place. `None`: there are too many choices.
    pub(super) fn of(tables: [&RouteTable; 2], places: [&[usize]; 2]) -> Option<Self> {
        let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut names: [BTreeSet<String>; 2] = Default::default();
        for ((table, place), names) in tables.into_iter().zip(places).zip(&mut names) {
            let routes = place.iter().filter_map(|index| table.routes().get(*index));
            for condition in routes.filter_map(|route| route.when.as_ref()).flat_map(|when| when.iter()) {
                let name = condition.name.as_str();
                names.insert(name.to_owned());
                fields.entry(name.to_owned()).or_default().extend(condition.values.iter().cloned());
            }
        }
        let count = fields.values().try_fold(1_usize, |count, values| count.checked_mul(values.len() + 1))?;
        if count > MAX_CHOICES {
            return None;
        }
        let fields = fields.into_iter().filter_map(|(name, values)| {
            Some((name.parse::<HeaderName>().ok()?, values.into_iter().collect::<Vec<_>>()))
        });
        let [old, new] = &names;
        Some(Self { fields: fields.collect(), frees_fields: !old.is_subset(new) })
    }

    /// The fields of one request for each choice. Without conditions one request without fields.
    pub(super) fn all(&self) -> Vec<HeaderMap> {
        let mut all = vec![HeaderMap::new()];
        for (name, values) in &self.fields {
            let with = |headers: &HeaderMap, value: &String| {
                let mut headers = headers.clone();
                headers.insert(name, value_for(value));
                headers
            };
            let more: Vec<HeaderMap> =
                all.iter().flat_map(|headers| values.iter().map(move |value| with(headers, value))).collect();
            all.extend(more);
        }
        all
    }

    /// The fields of a request, for the reader.
    pub(super) fn text(&self, headers: &HeaderMap) -> String {
        let named = self.fields.iter().filter_map(|(name, _)| Some((name, headers.get(name)?.to_str().ok()?)));
        let fields: Vec<String> = named.map(|(name, value)| format!("{name}: {value}")).collect();
        if fields.is_empty() { String::new() } else { format!(" with {}", fields.join(", ")) }
    }
}
