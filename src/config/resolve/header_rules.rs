//! `headers` and `response_headers`: the header changes of a route.

use http::HeaderValue;
use http::header::HeaderName;

use super::super::decode::Named;
use super::super::raw::route::RawHeaders;
use super::super::source::At;
use super::Resolver;
use crate::pipeline::routing::cors::is_cors;
use crate::pipeline::routing::header_rules::{HeaderRules, is_protected_in_answers};

impl Resolver<'_> {
    pub(super) fn header_rules(
        &mut self,
        raw: &RawHeaders,
        is_protected: impl Fn(&HeaderName) -> bool + Copy,
    ) -> HeaderRules {
        let set = self.header_values(&raw.set, is_protected);
        let add = self.header_values(&raw.add, is_protected);
        let remove = raw.remove.iter().filter_map(|name| self.header_name(name, is_protected)).collect();
        HeaderRules { set, add, remove }
    }

    /// `None` if there are none.
    pub(super) fn response_headers(&mut self, raw: &RawHeaders, has_cors: bool) -> Option<HeaderRules> {
        let rules = self.header_rules(raw, is_protected_in_answers);
        let written = raw.set.entries.iter().chain(&raw.add.entries).map(|(name, _)| name).chain(&raw.remove);
        for name in written.filter(|_| has_cors) {
            if name.value.parse().is_ok_and(|name| is_cors(&name)) {
                self.faults.at(name.span, "the route's `cors` sets this header: remove it here");
            }
        }
        (!rules.is_empty()).then_some(rules)
    }

    fn header_values(
        &mut self,
        raw: &Named<String>,
        is_protected: impl Fn(&HeaderName) -> bool + Copy,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut values = Vec::new();
        for (name, value) in &raw.entries {
            let header = self.header_name(name, is_protected);
            let Ok(value) = value else { continue };
            match HeaderValue::try_from(&value.value) {
                Ok(value) => values.extend(header.map(|name| (name, value))),
                Err(_) => {
                    self.faults.at(value.span, "expected a header value without line breaks and control characters");
                }
            }
        }
        values
    }

    fn header_name(
        &mut self,
        name: &At<String>,
        is_protected: impl Fn(&HeaderName) -> bool + Copy,
    ) -> Option<HeaderName> {
        let header = self.any_header_name(name)?;
        if is_protected(&header) {
            let name_of = self.source.quote_key(name.span).unwrap_or_else(|| "this header".to_owned());
            self.faults.at(name.span, format!("{name_of} is managed by the gateway: a route cannot change it"));
            return None;
        }
        Some(header)
    }

    pub(super) fn any_header_name(&mut self, name: &At<String>) -> Option<HeaderName> {
        let header = name.value.parse().ok();
        if header.is_none() {
            self.faults.at(name.span, "a header's name is made of letters, digits and `-`");
        }
        header
    }
}
